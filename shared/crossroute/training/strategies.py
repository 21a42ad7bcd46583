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
ENOUGH = 0.6
"""Share of the rows that a router has learned from, of which half is enough to learn from again."""
MOST_ROWS = 6_000
"""Of a data set, which bounds the time that it takes."""


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
    data = data.select(np.isin(data.dataset, list(names)))
    learned = _learned(router, data)
    data = _sampled(data, answers, seed).priced(router.pool)
    beside, note = [router] * HALVES, ""
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
        known = [model for model in part.models if all(model in one.predicted for one in routers)]
        if len(known) > 1:
            on_step(f"{name}: choosing strategies")
            try:
                rows = part.of_models(known).comparable(name)
            except DataError as error:
                found[name] = Chosen(Panels(), None, str(error))
                continue
            answered = AnsweredRows.of(rows, *_predicted(routers, rows), answers)
            chosen = choose_panels(answered, router.reward, seed=seed)
            panels = tuple(
                panel.model_copy(update={"dataset": name}) for panel in chosen.panels.panels
            )
            found[name] = replace(chosen, panels=Panels(panels=panels), why=chosen.why + note)
    return found


def _learned(router: CrossRouter, data: RoutingData) -> set[str]:
    """The data sets that the router has learned from, and of which others can learn about as well.

    By few rows, another router would predict worse, and strategies would look better beside it than
    they are; beside the router itself they look worse, which is the safer error.
    """
    rows = router.checkpoint.training.get("rows", {})
    return {
        name
        for name in data.names
        if name in rows and (data.dataset == name).sum() >= ENOUGH * rows[name]
    }


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
    """Not more rows of a data set than it takes, those first to which answers are known."""
    random = np.random.default_rng(seed).random(len(data))
    order = random + np.array([row_id not in answers for row_id in data.ids])
    kept = np.zeros(len(data), np.bool_)
    for name in data.names:
        rows = np.flatnonzero(data.dataset == name)
        kept[rows[np.argsort(order[rows])[:MOST_ROWS]]] = True
    return data.select(kept)


def _predicted(routers: Sequence[CrossRouter], data: RoutingData) -> tuple[FloatArray, FloatArray]:
    """Quality and cost in USD [n, m], of each row by the router that has not learned from it."""
    found = [predicted(router, data) for router in routers]
    if len(found) == 1:
        return found[0]
    at, half = np.arange(len(data)), _halves(data)
    quality, cost = (np.stack(tables)[half, at] for tables in zip(*found, strict=True))
    return quality, cost
