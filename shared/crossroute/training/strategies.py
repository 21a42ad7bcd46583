"""Choose strategies for a router, from rows that it may have learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import DataError, MissingExtraError
from crossroute.evaluation.references import predicted
from crossroute.router import CrossRouter
from crossroute.strategies.panel import Panels
from crossroute.training.answers import Answers
from crossroute.training.data import RoutingData, normalised
from crossroute.training.panels import AnsweredRows, Chosen, choose_panels

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]

HALVES = 2
MOST_ROWS = 4_000
"""Of a data set; with more, the choice hardly changes and takes longer."""


def choose_strategies(
    router: CrossRouter,
    data: RoutingData,
    answers: Answers,
    *,
    among: Collection[str] | None = None,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> dict[str, Chosen]:
    """Choose strategies for each data set.

    Routing alone looks better on rows that the router has learned from than it is, and strategies
    look worse beside it. So the rows of such data sets are predicted by two other routers, each
    trained on the half that it does not predict.

    Args:
        router: For which they are chosen.
        data: Rows to choose on.
        answers: From `load_answers`.
        among: Names of the data sets; None is all.
        seed: Of everything random.
        on_step: Called with what is being done.

    Returns:
        What was chosen, by the names of data sets; nothing of those without answers, or without two
        models that the router knows.

    Raises:
        MissingExtraError: If what chooses or trains is not installed.
    """
    has_answers = np.array([row_id in answers for row_id in data.ids], np.bool_)
    names = {*data.select(has_answers).names} if has_answers.any() else set()
    names &= names if among is None else {*among}
    if not names:
        return {}
    data = data.select(np.isin(data.dataset, list(names))).priced(router.pool)
    beside, note = [router] * HALVES, ""
    learned = names & set(router.checkpoint.training.get("rows", ()))
    if learned:
        known_rows = data.select(np.isin(data.dataset, list(learned)))
        half = _halves(known_rows)
        try:
            beside = [
                _trained(router, known_rows.select(half != i), seed, on_step) for i in range(HALVES)
            ]
        except DataError as error:
            note = f" (The router has learned from these rows, and no other could: {error})"
    found = {}
    for name, part in data.by_dataset():
        routers = beside if name in learned else [router]
        known = [model for model in part.models if all(model in one.pool for one in routers)]
        if len(known) > 1:
            on_step(f"{name}: choosing strategies")
            try:
                rows = _sampled(part.of_models(known), answers, seed).comparable(name)
            except DataError as error:
                found[name] = Chosen(Panels(), None, str(error))
                continue
            answered = AnsweredRows.of(rows, *_predicted(routers, rows), answers)
            chosen = choose_panels(answered, router.reward, seed=seed)
            found[name] = replace(chosen, why=chosen.why + note)
    return found


def _halves(data: RoutingData) -> IntArray:
    """[n] in which half a row is, by what it asks alone."""
    return np.array(
        [
            hashlib.sha256(normalised(question).encode()).digest()[0] % HALVES
            for question in data.questions
        ]
    )


def _trained(
    router: CrossRouter, data: RoutingData, seed: int, on_step: Callable[[str], None]
) -> CrossRouter:
    """A router like the given one that has learned from some rows alone.

    Raises:
        DataError: If they are too few.
        MissingExtraError: If what trains is not installed.
    """
    try:
        from crossroute.training.fit import Settings
        from crossroute.training.train import train
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train") from error
    on_step("training a router on half of the rows, to predict the others")
    names = {field.name for field in fields(Settings)}
    used = router.checkpoint.training.get("settings", {})
    settings = Settings(**{name: value for name, value in used.items() if name in names})
    return train(data, known=router.pool, encoder=router.encoder, settings=settings, seed=seed)


def _sampled(data: RoutingData, answers: Answers, seed: int) -> RoutingData:
    """The rows whose answers are known, not more than it takes."""
    rows = np.flatnonzero([row_id in answers for row_id in data.ids])
    if not len(rows):
        return data
    drawn = np.random.default_rng(seed).permutation(rows)[:MOST_ROWS]
    return data.select(np.isin(np.arange(len(data)), drawn))


def _predicted(routers: Sequence[CrossRouter], data: RoutingData) -> tuple[FloatArray, FloatArray]:
    """Quality and cost in USD [n, m], of each row by the router that has not learned from it."""
    found = [predicted(router, data) for router in routers]
    if len(found) == 1:
        return found[0]
    at, half = np.arange(len(data)), _halves(data)
    quality, cost = (np.stack(tables)[half, at] for tables in zip(*found, strict=True))
    return quality, cost
