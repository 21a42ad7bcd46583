"""CrossRouteSelector in a RouterQueryEngine and a RouterRetriever: which engine ran, and why."""

import asyncio
import doctest
import json
import math
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.base_selector import BaseSelector, SelectorResult
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.retrievers import BaseRetriever, RouterRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from pydantic import Field
from workflows.context.serializers import JsonSerializer

import llamaindex_crossroute.selector
from crossroute import (
    DEFAULT_WILLINGNESS_TO_PAY,
    CrossRouter,
    Decision,
    NoCandidateError,
    PoolError,
    UnknownModelError,
    WillingnessToPayError,
)
from llamaindex_crossroute import (
    CrossRouteDecisionEvent,
    CrossRouteSelector,
    CrossRouteSelectorResult,
    call_settings,
)

SMALL = "Meta-Llama-3.1-8B-Instruct"
MEDIUM = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
MODELS = [LARGE, SMALL, MEDIUM]  # neither by name nor by cost: an index is not right by accident
NAMES = {"thorough": LARGE, "quick": SMALL, "middle": MEDIUM}
WILLINGNESS = [0, 0.001, DEFAULT_WILLINGNESS_TO_PAY, 0.3, math.inf]
QUERY = "Prove that there are infinitely many primes, and explain every step."
QUERIES = [
    QUERY,
    "What is the capital of France?",
    "Write a Python function that merges two sorted lists.",
    "yes",
]
Models = Mapping[str, str] | Sequence[str] | None
Run = Callable[..., object]
EXAMPLE = Path(__file__).parent.parent / "examples" / "llamaindex_query_engine.py"


class Engine(CustomQueryEngine):
    """Answers with its name, and counts its queries."""

    name: str
    calls: list[str] = Field(default_factory=list)

    def custom_query(self, query_str: str) -> str:
        self.calls.append(query_str)
        return f"{self.name} answers"


class Retriever(BaseRetriever):
    """Retrieves one node with its name as text, and counts its queries."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.calls: list[str] = []

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.calls.append(query_bundle.query_str)
        return [NodeWithScore(node=TextNode(text=self.name), score=1.0)]


def metadata(names: Iterable[str | None]) -> list[ToolMetadata]:
    return [ToolMetadata(name=name, description=f"Useful for {name} things") for name in names]


def query_engine(
    selector: BaseSelector, names: Iterable[str]
) -> tuple[RouterQueryEngine, list[Engine]]:
    engines = [Engine(name=name) for name in names]
    tools = [
        QueryEngineTool(engine, meta) for engine, meta in zip(engines, metadata(names), strict=True)
    ]
    return RouterQueryEngine(selector, tools, llm=MockLLM()), engines


def router_retriever(
    selector: BaseSelector, names: Iterable[str]
) -> tuple[RouterRetriever, list[Retriever]]:
    retrievers = [Retriever(name) for name in names]
    tools = [
        RetrieverTool(retriever, meta)
        for retriever, meta in zip(retrievers, metadata(names), strict=True)
    ]
    return RouterRetriever(selector, tools, llm=MockLLM()), retrievers


def core_decision(
    query: str, willingness: float = DEFAULT_WILLINGNESS_TO_PAY, models: Sequence[str] = MODELS
) -> Decision:
    return CrossRouter.default().subset(models).route(query, willingness)


@pytest.fixture
def spans() -> Iterator[SimpleSpanHandler]:
    handler = SimpleSpanHandler()
    dispatcher = get_dispatcher()
    before = list(dispatcher.span_handlers)
    dispatcher.add_span_handler(handler)
    yield handler
    dispatcher.span_handlers[:] = before


# End to end


def test_the_ends_of_the_scale_choose_different_models() -> None:
    # Otherwise the comparisons with the core below would hold for a constant selector.
    assert len({core_decision(QUERY, willingness).model for willingness in WILLINGNESS}) > 1


@pytest.mark.parametrize("willingness", WILLINGNESS)
@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_query_engine_runs_the_engine_that_the_core_chooses(
    willingness: float, mode: str
) -> None:
    selector = CrossRouteSelector(models=NAMES, willingness_to_pay=willingness)
    engine, engines = query_engine(selector, NAMES)

    response = engine.query(QUERY) if mode == "sync" else await engine.aquery(QUERY)

    expected = core_decision(QUERY, willingness)
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

    chosen = core_decision(QUERY, willingness).model
    assert [NAMES[node.text] for node in nodes] == [chosen]
    assert [NAMES[r.name] for r in retrievers if r.calls] == [chosen]


def test_from_defaults_takes_the_selector() -> None:
    tool = QueryEngineTool(Engine(name=SMALL), metadata([SMALL])[0])
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
    expected = core_decision(query)
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
        assert result.decision == core_decision(QUERY)


def test_only_the_offered_models_are_candidates() -> None:
    selector = CrossRouteSelector(models=NAMES, willingness_to_pay=math.inf)
    for names in (["thorough", "quick"], ["quick", "middle"], ["thorough", "quick"]):
        models = [NAMES[name] for name in names]
        result = selector.select(metadata(names), QUERY)
        assert result.decision == core_decision(QUERY, math.inf, models)
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
    assert result.decision == core_decision(QUERY)


def test_reason_says_model_numbers_and_runner_up() -> None:
    result = CrossRouteSelector(willingness_to_pay=0.02).select(metadata(MODELS), QUERY)
    best, second, last = core_decision(QUERY, 0.02).candidates
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
    expected = [core_decision(query) for query in QUERIES]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda q: selector.select(metadata(MODELS), q), QUERIES * 10))
    assert [result.decision for result in results] == expected * 10


async def test_aselect_does_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    loop_is_free = threading.Event()
    seen = []

    def route(router: CrossRouter, query: str, willingness: float, **limits: Any) -> Decision:  # noqa: ANN401
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
    expected = core_decision(QUERY, willingness)
    assert result.decision == expected
    assert result.ind == MODELS.index(expected.model)


def test_plain_strings_are_tied_in_order() -> None:
    selector = CrossRouteSelector(models=MODELS, willingness_to_pay=0)
    result = selector.select(["one engine", "another", "a third"], QUERY)
    assert MODELS[result.ind] == result.decision.model == core_decision(QUERY, 0).model


def test_models_are_copied() -> None:
    names = dict(NAMES)
    selector = CrossRouteSelector(models=names)
    names.clear()
    assert selector.select(metadata(NAMES), QUERY).decision == core_decision(QUERY)


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
        assert result.decision == core_decision(QUERY, math.inf, [SMALL, LARGE])


# What a model can take, and the settings of a call


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


def test_a_model_without_room_for_the_query_is_left_out() -> None:
    # 20,000 words are more than the 16,385 tokens of the cheap one.
    names = ["gpt-3.5-turbo-0125", LARGE]
    selector = CrossRouteSelector(willingness_to_pay=0)
    assert selector.select(metadata(names), "word").ind == 0
    result = selector.select(metadata(names), "word " * 20_000)
    assert result.ind == 1
    assert list(result.decision.removed) == names[:1]
    assert "there is no other choice; gpt-3.5-turbo-0125 was removed: its context" in result.reason


@pytest.mark.parametrize("names", [["gpt-3.5-turbo-0125"], ["gpt-3.5-turbo-0125", "claude-v1"]])
def test_no_tool_can_serve_the_query(run: Run, names: list[str]) -> None:
    with pytest.raises(NoCandidateError, match="context window") as caught:
        run(CrossRouteSelector(), names, "word " * 200_000)
    assert list(caught.value.removed) == names


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_the_settings_of_a_call(mode: str) -> None:
    engine, engines = query_engine(CrossRouteSelector(willingness_to_pay=0), MODELS)
    for settings, expected in (
        ({"willingness_to_pay": math.inf}, core_decision(QUERY, math.inf).model),
        ({"model": MEDIUM}, MEDIUM),
        ({"allowed": [LARGE, "claude-v1"]}, LARGE),
        ({"excluded": [SMALL, LARGE, "claude-v1"]}, MEDIUM),
        ({"max_cost_usd": 1e-3}, core_decision(QUERY, 0).model),
    ):
        with call_settings(**settings):
            response = engine.query(QUERY) if mode == "sync" else await engine.aquery(QUERY)
        assert response.metadata["selector_result"].decision.model == expected
    assert engines[0].calls == [QUERY] * 2
    assert core_decision(QUERY, 0).model == SMALL
    assert engine.query(QUERY).metadata["selector_result"].decision == core_decision(QUERY, 0)


@pytest.mark.parametrize("names", [[SMALL], [SMALL, MEDIUM]])
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model": LARGE}, f"forces {LARGE}"),
        ({"allowed": [LARGE]}, "not among the models that the call allows"),
        ({"excluded": [SMALL, MEDIUM]}, "excluded by the call"),
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


# Errors. They come through select, aselect and a query engine as they are.


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


def test_a_name_that_is_no_model_id(run: Run) -> None:
    with pytest.raises(UnknownModelError, match="'docs' is not in the pool") as caught:
        run(CrossRouteSelector(), [SMALL, "docs"])
    assert type(caught.value) is UnknownModelError
    [note] = caught.value.__notes__
    assert "models={'docs': <model id>, ...}" in note


def test_a_close_name_is_suggested(run: Run) -> None:
    with pytest.raises(UnknownModelError, match=f"did you mean '{MEDIUM}'"):
        run(CrossRouteSelector(), [SMALL, MEDIUM[:-1]])


@pytest.mark.parametrize("names", [[MEDIUM], ["quick", MEDIUM]])
def test_a_tool_that_the_mapping_does_not_name(run: Run, names: list[str]) -> None:
    # That its name is a model id does not count: there is one way of tying at a time.
    selector = CrossRouteSelector(models={"quick": SMALL, "thorough": LARGE})
    with pytest.raises(PoolError, match=rf"'{MEDIUM}'\) is tied to no model. .*quick, thorough"):
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
    selector = CrossRouteSelector(models=[*MODELS, "gpt-4-1106-preview"][:count])
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
    router = CrossRouter.default().subset([SMALL, MEDIUM])
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


# The package


def test_exports() -> None:
    assert llamaindex_crossroute.__all__ == [
        "CostLedger",
        "CrossRouteAnswerEvent",
        "CrossRouteDecisionEvent",
        "CrossRouteLLM",
        "CrossRouteSelector",
        "CrossRouteSelectorResult",
        "CrossRouteTextSelector",
        "CrossRouteTextSelectorResult",
        "call_settings",
    ]
    assert issubclass(CrossRouteSelector, BaseSelector)
    assert issubclass(CrossRouteSelectorResult, SelectorResult)


def test_docstring_example_runs() -> None:
    outcome = doctest.testmod(llamaindex_crossroute.selector)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_example_runs_without_a_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "simulated" in printed
    assert len({line for line in printed.splitlines() if line.startswith("  engine:")}) > 1


def test_selecting_imports_neither_torch_nor_the_other_integration() -> None:
    code = f"""
import sys
from llamaindex_crossroute import CrossRouteSelector
CrossRouteSelector(models=[{SMALL!r}, {LARGE!r}]).select(["a", "b"], "What is 1 + 1?")
unwanted = "torch sentence_transformers transformers langchain_core langchain_crossroute".split()
print([name for name in unwanted if name in sys.modules])
"""
    assert _python(code) == "[]"


def test_without_llama_index_the_error_names_the_extra() -> None:
    code = """
import sys
sys.modules["llama_index"] = None
try:
    import llamaindex_crossroute
except ImportError as error:
    print(type(error).__name__, error)
"""
    assert _python(code) == (
        "MissingExtraError This needs the package 'llama-index-core', which is not installed: "
        "pip install 'crossroute[llamaindex]'."
    )


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
