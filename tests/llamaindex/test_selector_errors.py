"""What CrossRouteSelector leaves out and refuses: by select, aselect and a query engine alike."""

# LlamaIndex's own signatures say Any.

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence

import pytest
from fakes_llamaindex import (
    LARGE,
    MINI,
    MODELS,
    SMALL,
    decision_of_the_core,
    metadata,
    query_engine,
    router_retriever,
)
from llama_index.core.base.base_selector import BaseSelector

from crossroute import (
    CrossRouter,
    ModelPool,
    NoCandidateError,
    PoolError,
    UnknownModelError,
    WillingnessToPayError,
)
from llamaindex_crossroute import CrossRouteSelector, call_settings

NAMES = {"thorough": LARGE, "quick": SMALL, "middle": MINI}
QUERY = "Prove that there are infinitely many primes, and explain every step."
Models = Mapping[str, str] | Sequence[str] | None
Run = Callable[..., object]


@pytest.fixture(params=["select", "aselect", "query", "aquery", "retrieve", "aretrieve"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a selector over tools with these names, in one of six ways."""

    def run(selector: BaseSelector, names: list[str], query: str = QUERY) -> object:
        way = request.param
        if way.endswith("select"):
            outcome = getattr(selector, way)(metadata(names), query)
        elif way.endswith("query"):
            outcome = getattr(query_engine(selector, names)[0], way)(query)
        else:
            outcome = getattr(router_retriever(selector, names)[0], way)(query)
        return asyncio.run(outcome) if way.startswith("a") else outcome

    return run


def test_a_model_without_room_for_the_query_is_left_out() -> None:
    # 20,000 words are more than the 16,385 tokens of the cheap one.
    names = [SMALL, LARGE]
    shipped = CrossRouter.default()
    small = shipped.pool[SMALL].model_copy(update={"context_window_tokens": 16_385})
    router = shipped.over(ModelPool([small, shipped.pool[LARGE]]))
    selector = CrossRouteSelector(router, willingness_to_pay=0)
    assert selector.select(metadata(names), "word").ind == 0
    result = selector.select(metadata(names), "word " * 20_000)
    assert result.ind == 1
    assert list(result.decision.removed) == names[:1]
    assert f"there is no other choice; {SMALL} was removed: its context" in result.reason


@pytest.mark.parametrize("names", [[SMALL], [SMALL, MINI]])
def test_no_tool_can_serve_the_query(run: Run, names: list[str]) -> None:
    with pytest.raises(NoCandidateError, match="context window") as caught:
        run(CrossRouteSelector(), names, "word " * 200_000)
    assert list(caught.value.removed) == names


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_the_settings_of_a_call(mode: str) -> None:
    engine, engines = query_engine(CrossRouteSelector(willingness_to_pay=0), MODELS)
    for settings, expected in (
        ({"willingness_to_pay": math.inf}, decision_of_the_core(QUERY, math.inf).model),
        ({"model": MINI}, MINI),
        ({"allowed": [LARGE, "gpt-4o"]}, LARGE),
        ({"excluded": [SMALL, LARGE, "gpt-4o"]}, MINI),
        ({"max_cost_usd": 1e-3}, decision_of_the_core(QUERY, 0).model),
    ):
        with call_settings(**settings):
            response = engine.query(QUERY) if mode == "sync" else await engine.aquery(QUERY)
        assert response.metadata["selector_result"].decision.model == expected
    assert engines[0].calls == [QUERY] * 2
    assert decision_of_the_core(QUERY, 0).model == SMALL
    assert engine.query(QUERY).metadata["selector_result"].decision == decision_of_the_core(
        QUERY, 0
    )


@pytest.mark.parametrize("names", [[SMALL], [SMALL, MINI]])
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model": LARGE}, f"forces {LARGE}"),
        ({"allowed": [LARGE]}, "not among the models that the call allows"),
        ({"excluded": [SMALL, MINI]}, "excluded by the call"),
        ({"max_cost_usd": 0}, r"limit is \$0.00"),
    ],
)
def test_settings_that_leave_no_tool(
    names: list[str], settings: dict[str, object], reason: str
) -> None:
    with call_settings(**settings), pytest.raises(NoCandidateError, match=reason) as caught:
        CrossRouteSelector().select(metadata(names), QUERY)
    assert list(caught.value.removed) == names


def test_settings_with_a_model_that_nobody_knows() -> None:
    with call_settings(excluded=["no-such-model"]), pytest.raises(UnknownModelError):
        CrossRouteSelector().select(metadata(MODELS), QUERY)


def test_a_name_that_is_no_model_id(run: Run) -> None:
    with pytest.raises(UnknownModelError, match="'docs' is not in the pool") as caught:
        run(CrossRouteSelector(), [SMALL, "docs"])
    assert type(caught.value) is UnknownModelError
    [note] = caught.value.__notes__
    assert "models={'docs': <model id>, ...}" in note


def test_a_close_name_is_suggested(run: Run) -> None:
    with pytest.raises(UnknownModelError, match=f"did you mean '{MINI}'"):
        run(CrossRouteSelector(), [SMALL, MINI[:-1]])


@pytest.mark.parametrize("names", [[MINI], ["quick", MINI]])
def test_a_tool_that_the_mapping_does_not_name(run: Run, names: list[str]) -> None:
    # That its name is a model id does not count: there is one way of tying at a time.
    selector = CrossRouteSelector(models={"quick": SMALL, "thorough": LARGE})
    with pytest.raises(PoolError, match=rf"'{MINI}'\) is tied to no model. .*quick, thorough"):
        run(selector, names)


def test_a_choice_without_a_name() -> None:
    # RouterQueryEngine tools can be without a name too.
    for models in (None, NAMES):
        selector = CrossRouteSelector(models=models)
        with pytest.raises(PoolError, match=r"Choice 0 \('An engine'\) .*models=\[\.\.\.\]"):
            selector.select(["An engine", "Another"], QUERY)
    with pytest.raises(PoolError, match=r"Choice 0 \('Long words .{0,60}\[\.\.\.\]'\)"):
        CrossRouteSelector().select(["Long\n  words " * 50], QUERY)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_sequence_of_another_length(run: Run, count: int) -> None:
    selector = CrossRouteSelector(models=[*MODELS, "gpt-5.5"][:count])
    with pytest.raises(PoolError, match=f"models has {count} ids for 3 choices"):
        run(selector, list(NAMES))


def test_two_tools_on_one_model(run: Run) -> None:
    selector = CrossRouteSelector(models=NAMES | {"twin": LARGE})
    with pytest.raises(PoolError, match=f"'thorough'.*'twin'.*{LARGE!r}"):
        run(selector, ["thorough", "quick", "twin"])


def test_nothing_to_select_from(run: Run) -> None:
    with pytest.raises(PoolError, match="at least one tool"):
        run(CrossRouteSelector(), [])


@pytest.mark.parametrize("names", [MODELS, [SMALL]], ids=["three tools", "one tool"])
@pytest.mark.parametrize("query", ["", " \n"])
def test_a_query_without_text_is_routed_by_the_fixed_order(
    run: Run, names: list[str], query: str
) -> None:
    run(CrossRouteSelector(), names, query)
    result = CrossRouteSelector().select(metadata(names), query)
    assert result.decision.blank
    assert "no text" in result.reason


@pytest.mark.parametrize("models", [{"docs": "no-such-model"}, [SMALL, "no-such-model"]])
def test_unknown_id_in_models_shows_at_construction(models: Models) -> None:
    with pytest.raises(UnknownModelError, match="'no-such-model' is not in the pool"):
        CrossRouteSelector(models=models)


def test_a_model_that_the_given_router_does_not_hold() -> None:
    router = CrossRouter.default().subset([SMALL, MINI])
    with pytest.raises(UnknownModelError, match=LARGE):
        CrossRouteSelector(router, models=NAMES)


@pytest.mark.parametrize("models", [SMALL, {SMALL, LARGE}, NAMES.values(), 3])
def test_models_of_another_form(models: object) -> None:
    with pytest.raises(PoolError, match=r"mapping \{tool name: model id\} or a list"):
        CrossRouteSelector(models=models)


@pytest.mark.parametrize("willingness", [math.nan, -0.01, -math.inf, "0.01", None, True])
def test_willingness_to_pay_is_checked_at_construction(willingness: float) -> None:
    with pytest.raises(WillingnessToPayError):
        CrossRouteSelector(willingness_to_pay=willingness)
