"""One descriptor that stands for all of a pool, so that a decision need not look at each."""

from __future__ import annotations

import pytest

from crossroute import CrossRouter, ModelPool, NoCandidateError, Query
from crossroute.constraints import shortcomings, tightest
from crossroute.models.descriptor import ModelDescriptor

CHANGES = [
    {},
    {"disabled": True},
    {"context_window_tokens": 50},
    {"max_output_tokens": 20},
    {"capabilities": ("tools", "structured_output")},
    {"context_window_tokens": None, "max_output_tokens": None},
]
QUERIES = [
    Query.of("Why?"),
    Query.of("Why? " * 40),
    Query.of("Why?", output_tokens=21),
    Query.of("Why?", output_tokens=45),
    Query.of("Why?", needs=["tools"]),
    Query.of("Why?", needs=["audio_input"]),
]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("first", CHANGES)
@pytest.mark.parametrize("second", CHANGES)
def test_what_it_can_serve_all_can(
    router: CrossRouter, first: dict[str, object], second: dict[str, object], query: Query
) -> None:
    a, b, *_ = router.pool.values()
    models: list[ModelDescriptor] = [a.model_copy(update=first), b.model_copy(update=second)]
    hindered = [model.id for model in models if shortcomings(model, query)]
    assert bool(shortcomings(tightest(models), query)) == bool(hindered)
    over = router.over(ModelPool(models))
    if len(hindered) == 2:
        with pytest.raises(NoCandidateError):
            over.route(query)
    else:
        assert [*over.route(query).removed] == sorted(hindered)
