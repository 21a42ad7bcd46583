"""CrossRouteSelector in a RouterQueryEngine and a RouterRetriever: who is selected, and why."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

import asyncio
import json
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fakes_llamaindex import (
    LARGE,
    MINI,
    MODELS,
    SMALL,
    NamedEngine,
    decision_of_the_core,
    metadata,
    query_engine,
    router_retriever,
)
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.schema import QueryBundle
from llama_index.core.tools import QueryEngineTool
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from workflows.context.serializers import JsonSerializer

from crossroute import DEFAULT_WILLINGNESS_TO_PAY, CrossRouter, Decision
from llamaindex_crossroute import (
    CrossRouteDecisionEvent,
    CrossRouteSelector,
    CrossRouteSelectorResult,
)

NAMES = {"thorough": LARGE, "quick": SMALL, "middle": MINI}
WILLINGNESS = [0, 0.001, DEFAULT_WILLINGNESS_TO_PAY, 0.3, math.inf]
QUERY = "Prove that there are infinitely many primes, and explain every step."
QUERIES = [
    QUERY,
    "What is the capital of France?",
    "Write a Python function that merges two sorted lists.",
    "yes",
]
Models = Mapping[str, str] | Sequence[str] | None


def test_the_ends_of_the_scale_choose_different_models() -> None:
    # Otherwise the comparisons with the core below would hold for a constant selector.
    assert len({decision_of_the_core(QUERY, willingness).model for willingness in WILLINGNESS}) > 1


@pytest.mark.parametrize("willingness", WILLINGNESS)
@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_query_engine_runs_the_engine_that_the_core_chooses(
    willingness: float, mode: str
) -> None:
    selector = CrossRouteSelector(models=NAMES, willingness_to_pay=willingness)
    engine, engines = query_engine(selector, NAMES)

    response = engine.query(QUERY) if mode == "sync" else await engine.aquery(QUERY)

    expected = decision_of_the_core(QUERY, willingness)
    chosen = [name for name, model in NAMES.items() if model == expected.model]
    assert [e.name for e in engines if e.calls] == chosen
    assert [e.calls for e in engines if e.calls] == [[QUERY]]
    assert str(response) == f"{chosen[0]} answers"
    result = response.metadata["selector_result"]
    assert isinstance(result, CrossRouteSelectorResult)
    assert result.decision == expected
    assert result.inds == [list(NAMES).index(chosen[0])]


@pytest.mark.parametrize("willingness", [0, math.inf])
@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_retriever_runs_the_retriever_that_the_core_chooses(
    willingness: float, mode: str
) -> None:
    selector = CrossRouteSelector(models=NAMES, willingness_to_pay=willingness)
    router, retrievers = router_retriever(selector, NAMES)

    nodes = router.retrieve(QUERY) if mode == "sync" else await router.aretrieve(QUERY)

    chosen = decision_of_the_core(QUERY, willingness).model
    assert [NAMES[node.text] for node in nodes] == [chosen]
    assert [NAMES[r.name] for r in retrievers if r.calls] == [chosen]


def test_from_defaults_takes_the_selector() -> None:
    tool = QueryEngineTool(NamedEngine(name=SMALL), metadata([SMALL])[0])
    engine = RouterQueryEngine.from_defaults([tool], llm=MockLLM(), selector=CrossRouteSelector())
    assert str(engine.query(QUERY)) == f"{SMALL} answers"


def test_prompts_of_the_engine_can_be_read_and_updated() -> None:
    engine, _ = query_engine(CrossRouteSelector(models=NAMES), NAMES)
    prompts = engine.get_prompts()
    assert not [name for name in prompts if name.startswith("selector:")]
    engine.update_prompts(prompts)


# The decision


@pytest.mark.parametrize("query", QUERIES)
def test_select_and_aselect_give_the_decision_of_the_core(query: str) -> None:
    selector = CrossRouteSelector()
    expected = decision_of_the_core(query)
    for result in (
        selector.select(metadata(MODELS), query),
        asyncio.run(selector.aselect(metadata(MODELS), query)),
    ):
        assert result.decision == expected
        assert result.ind == MODELS.index(expected.model)


def test_the_order_of_the_choices_does_not_matter_to_the_decision() -> None:
    selector = CrossRouteSelector()
    for order in (MODELS, MODELS[::-1], sorted(MODELS)):
        result = selector.select(metadata(order), QUERY)
        assert order[result.ind] == result.decision.model
        assert result.decision == decision_of_the_core(QUERY)


def test_only_the_offered_models_are_candidates() -> None:
    selector = CrossRouteSelector(models=NAMES, willingness_to_pay=math.inf)
    for names in (["thorough", "quick"], ["quick", "middle"], ["thorough", "quick"]):
        models = [NAMES[name] for name in names]
        result = selector.select(metadata(names), QUERY)
        assert result.decision == decision_of_the_core(QUERY, math.inf, models)
        assert {candidate.model for candidate in result.decision.candidates} == set(models)


def test_the_router_given_is_the_one_asked() -> None:
    shipped = CrossRouter.default()
    linear = CrossRouter(shipped.checkpoint, shipped.pool.subset([SMALL, LARGE]), reward="linear")
    result = CrossRouteSelector(linear).select(metadata([LARGE, SMALL]), QUERY)
    assert result.decision == linear.route(QUERY)
    assert result.decision.reward == "linear"


def test_custom_embedding_strings_are_not_routed_by() -> None:
    bundle = QueryBundle(query_str=QUERY, custom_embedding_strs=["What is 1 + 1?"])
    result = CrossRouteSelector().select(metadata(MODELS), bundle)
    assert result.decision == decision_of_the_core(QUERY)


def test_reason_says_model_numbers_and_runner_up() -> None:
    result = CrossRouteSelector(willingness_to_pay=0.02).select(metadata(MODELS), QUERY)
    best, second, last = decision_of_the_core(QUERY, 0.02).candidates
    assert result.reason.startswith(f"{best.model} (predicted quality {best.quality:.3f} for $")
    assert "willingness to pay of $0.020 a unit of quality" in result.reason
    assert f"runner-up is {second.model} (predicted quality {second.quality:.3f}" in result.reason
    assert last.model not in result.reason
    assert not result.reason.endswith(".")
    assert "\n" not in result.reason


@pytest.mark.parametrize("willingness", [0, DEFAULT_WILLINGNESS_TO_PAY, math.inf])
def test_result_survives_json_and_the_serializer_of_workflows(willingness: float) -> None:
    engine, _ = query_engine(CrossRouteSelector(willingness_to_pay=willingness), MODELS)
    response = engine.query(QUERY)
    result = response.metadata["selector_result"]

    text = json.dumps(result.model_dump(), allow_nan=False)
    assert json.loads(text)["decision"] == result.decision.to_dict()
    assert CrossRouteSelectorResult.model_validate_json(text) == result
    assert CrossRouteSelectorResult.model_validate_json(result.model_dump_json()) == result

    serializer = JsonSerializer()
    again = serializer.deserialize(serializer.serialize(response.metadata))
    assert again["selector_result"] == result
    assert isinstance(again["selector_result"].decision, Decision)


def test_concurrent_selections_do_not_mix() -> None:
    selector = CrossRouteSelector()
    expected = [decision_of_the_core(query) for query in QUERIES]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda q: selector.select(metadata(MODELS), q), QUERIES * 10))
    assert [result.decision for result in results] == expected * 10


async def test_aselect_does_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    loop_is_free = threading.Event()
    seen = []

    def route(router: CrossRouter, query: str, willingness: float, **limits: Any) -> Decision:
        # Only a loop that runs meanwhile can set the event.
        seen.append(loop_is_free.wait(timeout=5))
        return original(router, query, willingness, **limits)

    original = CrossRouter.route
    monkeypatch.setattr(CrossRouter, "route", route)
    task = asyncio.create_task(CrossRouteSelector().aselect(metadata(MODELS), QUERY))
    while not task.done() and not seen:
        await asyncio.sleep(0)
        loop_is_free.set()
    assert (await task).decision.model in MODELS
    assert seen == [True]


def test_the_router_of_a_set_of_models_is_narrowed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    narrowed = []

    def subset(router: CrossRouter, models: Iterable[str]) -> CrossRouter:
        narrowed.append(frozenset(models))
        return original(router, models)

    original = CrossRouter.subset
    monkeypatch.setattr(CrossRouter, "subset", subset)
    selector = CrossRouteSelector()
    for models in (MODELS, MODELS[::-1], MODELS, MODELS[:2], MODELS):
        selector.select(metadata(models), QUERY)
    assert narrowed == [frozenset(MODELS), frozenset(MODELS[:2])]


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_selection_is_a_span_of_the_query(spans: SimpleSpanHandler, mode: str) -> None:
    engine, _ = query_engine(CrossRouteSelector(), MODELS)
    await engine.aquery(QUERY) if mode == "async" else engine.query(QUERY)
    name = "_select" if mode == "sync" else "_aselect"
    parent = "_query" if mode == "sync" else "_aquery"
    [span] = [s for s in spans.completed_spans if s.id_.startswith("CrossRouteSelector.")]
    assert span.id_.startswith(f"CrossRouteSelector.{name}-")
    assert span.parent_id.startswith(f"RouterQueryEngine.{parent}-")


@pytest.fixture
def decisions() -> Iterator[list[CrossRouteDecisionEvent]]:
    """The decision events that are dispatched."""
    found: list[CrossRouteDecisionEvent] = []

    class Handler(BaseEventHandler):
        def handle(self, event: BaseEvent, **kwargs: object) -> None:
            if isinstance(event, CrossRouteDecisionEvent):
                found.append(event)

    dispatcher = get_dispatcher()
    before = list(dispatcher.event_handlers)
    dispatcher.add_event_handler(Handler())
    yield found
    dispatcher.event_handlers[:] = before


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_each_selection_is_an_event_in_its_span(
    decisions: list[CrossRouteDecisionEvent], spans: SimpleSpanHandler, mode: str
) -> None:
    selector = CrossRouteSelector(willingness_to_pay=math.inf)
    if mode == "sync":
        result = selector.select(metadata(MODELS), QUERY)
    else:
        result = await selector.aselect(metadata(MODELS), QUERY)
    [event] = decisions
    assert event.decision == result.decision.to_dict()
    assert json.loads(event.model_dump_json())["decision"] == event.decision
    assert event.span_id in {span.id_ for span in spans.completed_spans}


# Tying tools to models


@pytest.mark.parametrize(
    ("models", "names"),
    [(NAMES, list(NAMES)), (None, MODELS), (MODELS, list(NAMES)), (tuple(MODELS), [None] * 3)],
    ids=["mapping", "name is the id", "sequence", "sequence, no names"],
)
@pytest.mark.parametrize("willingness", [0, math.inf])
def test_ways_of_tying(models: Models, names: list[str | None], willingness: float) -> None:
    selector = CrossRouteSelector(models=models, willingness_to_pay=willingness)
    result = selector.select(metadata(names), QUERY)
    expected = decision_of_the_core(QUERY, willingness)
    assert result.decision == expected
    assert result.ind == MODELS.index(expected.model)


def test_plain_strings_are_tied_in_order() -> None:
    selector = CrossRouteSelector(models=MODELS, willingness_to_pay=0)
    result = selector.select(["one engine", "another", "a third"], QUERY)
    assert MODELS[result.ind] == result.decision.model == decision_of_the_core(QUERY, 0).model


def test_models_are_copied() -> None:
    names = dict(NAMES)
    selector = CrossRouteSelector(models=names)
    names.clear()
    assert selector.select(metadata(NAMES), QUERY).decision == decision_of_the_core(QUERY)


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_single_tool_is_selected_with_its_numbers(mode: str) -> None:
    engine, engines = query_engine(CrossRouteSelector(willingness_to_pay=0), [LARGE])
    response = engine.query(QUERY) if mode == "sync" else await engine.aquery(QUERY)
    assert engines[0].calls == [QUERY]
    result = response.metadata["selector_result"]
    whole = CrossRouter.default().route(QUERY, 0)
    [score] = [c for c in whole.candidates if c.model == LARGE]
    assert whole.model != LARGE
    assert result.ind == 0
    assert result.decision.candidates == (score,)
    assert (result.decision.model, result.decision.quality) == (LARGE, score.quality)
    assert result.decision.cost_usd == score.cost_usd
    assert "there is no other choice" in result.reason
    assert LARGE in result.decision.explain()


def test_one_model_may_have_a_tool_in_each_of_two_engines() -> None:
    names = {"search": SMALL, "search in depth": LARGE, "ask": SMALL, "ask in depth": LARGE}
    selector = CrossRouteSelector(models=names, willingness_to_pay=math.inf)
    for offered in (["search", "search in depth"], ["ask", "ask in depth"]):
        result = selector.select(metadata(offered), QUERY)
        assert result.decision == decision_of_the_core(QUERY, math.inf, [SMALL, LARGE])
