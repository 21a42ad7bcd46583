"""A shorter conversation as an arm: for models whose context window is too small for all of it.

Only where the call allows it (`Constraints.shorten`). What of it is kept is up to
`crossroute.context.fit_context`, when the model is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from crossroute.constraints import Constraints, shortened_to
from crossroute.models.descriptor import ModelDescriptor
from crossroute.query import Query
from crossroute.serving import Predictions

KEPT_POWER = 0.2
"""A share s of a conversation's tokens is taken to hold s to this power of what the answer needs:
in `benchmarks/context.py`, with usual names, 68 % at 13 % of the tokens, 77 % at 27 %, 86 % at
53 %."""


def with_shortening(
    found: Predictions,
    queries: Sequence[Query],
    limits: Sequence[Constraints],
    pool: Mapping[str, ModelDescriptor],
) -> tuple[Predictions, list[Mapping[str, int]]]:
    """What is predicted where requests are shortened for models that have no room for them.

    Args:
        found: What is predicted of the requests as they are.
        queries: The n queries.
        limits: What each call demands.
        pool: The m models by their ids.

    Returns:
        The predictions, and for each query the input tokens that it is shortened to, by the ids of
        the models.
    """
    rooms: list[Mapping[str, int]] = [{}] * len(queries)
    quality, cost_usd = found.quality, found.cost_usd
    for i, (query, limit) in enumerate(zip(queries, limits, strict=True)):
        if not limit.shorten or query.least_tokens is None:
            continue
        rooms[i] = {
            id_: room for id_, one in pool.items() if (room := shortened_to(one, query)) is not None
        }
        # Of nearly all queries nothing changes.
        if rooms[i] and quality is found.quality:
            quality, cost_usd = quality.copy(), cost_usd.copy()
        for j, id_ in enumerate(found.models):
            if id_ in rooms[i]:
                share = rooms[i][id_] / query.input_tokens
                quality[i, j] *= share**KEPT_POWER
                output = np.nan_to_num(found.output_tokens[i, j])
                # What an agent's descriptor states is of a call, whatever is sent.
                if (price := pool[id_].price) and pool[id_].learned:
                    whole = price.cost_usd(query.input_tokens, output)
                    cost_usd[i, j] -= whole - price.cost_usd(float(rooms[i][id_]), output)
    if quality is found.quality:
        return found, rooms
    return replace(found, quality=quality, cost_usd=np.maximum(cost_usd, 0.0)), rooms
