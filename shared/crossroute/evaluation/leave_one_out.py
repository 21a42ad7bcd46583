"""Out of domain: train without a data set, onboard its models from a few answers, test on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from crossroute.errors import DataError
from crossroute.evaluation.evaluate import Evaluation, evaluate
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.pool import ModelPool
from crossroute.network.encoders import QueryEncoder, StaticEncoder
from crossroute.onboarding.embedding import onboard
from crossroute.onboarding.scores import ScoredAnswer
from crossroute.training.data import RoutingData
from crossroute.training.train import train

ANSWERS = 100


def leave_one_out(
    data: RoutingData,
    *,
    known: Mapping[str, ModelDescriptor] | None = None,
    encoder: QueryEncoder | None = None,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> list[Evaluation]:
    """For each data set, train on the others, onboard its models from `ANSWERS` rows, test on it.

    A model that the others have, too, is onboarded all the same: its quality and the length of its
    answers hang on how it was asked.

    Raises:
        DataError: If there are fewer than two data sets.
    """
    encoder = encoder or StaticEncoder()
    names = [name for name, _ in data.by_dataset()]
    if len(names) < 2:
        raise DataError(f"Leaving one out needs two data sets at least, here is {names[0]!r} only.")
    # What the set that is left out asks in its test rows is in no other set's training rows either.
    clean = data.without_test()
    results = []
    for name in names:
        on_step(f"{name}: left out")
        others = clean.select(clean.dataset != name)
        router = train(others, known=known, encoder=encoder, seed=seed)
        part = data.select(data.dataset == name)
        scored = part.of_split("train").complete(name)
        drawn = np.random.default_rng(seed).permutation(len(scored))[:ANSWERS]
        new = [
            onboard(
                router,
                (known or {}).get(model) or ModelDescriptor(id=model),
                [
                    ScoredAnswer(
                        prompt=scored.prompts[i],
                        score=scored.score[i, j],
                        cost_usd=float(scored.cost_usd[i, j]),
                    )
                    for i in drawn
                ],
            )
            for j, model in enumerate(scored.models)
        ]
        (evaluation,) = evaluate(router.over(ModelPool(new)), part.of_split("test"))
        results.append(evaluation)
    return results
