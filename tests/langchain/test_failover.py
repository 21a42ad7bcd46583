"""When a model fails: who is asked next, and when nobody is."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from functools import reduce
from operator import add
from typing import Any

import httpx
import pytest
from fakes_langchain import (
    BOTH,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    USAGE,
    WAYS,
    Recorder,
    ScriptedChatModel,
    State,
    Teller,
    answer_of,
    changed,
    cheap,
    chunks_of,
    decision_of,
    output_of,
)
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import (
    ModelAPIError,
    ModelInvalidRequestError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableGenerator
from langchain_core.tracers import ConsoleCallbackHandler
from langchain_core.tracers._streaming import _V2StreamingCallbackHandler
from langgraph.graph import START, StateGraph

from crossroute import CrossRouter
from langchain_crossroute import CostLedger, CrossRouteRunnable

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

TOOL_CALL: Any = {"name": "weather", "args": "", "id": "1", "index": 0}
REFUSALS: list[dict[str, Any]] = [
    {"additional_kwargs": {"refusal": "I cannot."}},
    {"response_metadata": {"finish_reason": "content_filter"}},
    {"response_metadata": {"stop_reason": "refusal"}},
]


@BOTH
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "error",
    [
        ModelRateLimitError,
        ModelAPIError,
        ModelTimeoutError,
        TimeoutError,
        ConnectionResetError,
        httpx.RemoteProtocolError,
    ],
)
async def test_the_next_best_answers(kind: Any, way: str, error: type[Exception]) -> None:
    recorder = Recorder()
    models = changed({SMALL: {"error": error("busy")}, MINI: {"error": error("busy too")}})
    chat = kind(models=models, willingness_to_pay=0)
    answer = await output_of(way, chat, QUESTION, {"callbacks": [recorder]})

    assert answer.text == f"I am {LARGE}."
    found = decision_of(answer)
    assert found["model"] == LARGE
    scores = {candidate["model"]: candidate for candidate in found["candidates"]}
    assert list(scores) == [SMALL, MINI, LARGE]
    assert found["cost_usd"] == scores[LARGE]["cost_usd"]
    assert found["attempts"] == [
        {"model": SMALL, "error": f"{error.__name__}: busy"},
        {"model": MINI, "error": f"{error.__name__}: busy too"},
    ]
    failed = [(data["model"], data["next"]) for name, data, _ in recorder.events if "fail" in name]
    assert failed == [(SMALL, MINI), (MINI, LARGE)]
    named = [recorder.runs[run].metadata["crossroute_model"] for run in recorder.of_kind("model")]
    assert named == [SMALL, MINI, LARGE]
    assert [*recorder.errors] == recorder.of_kind("model")[:2]


@pytest.mark.parametrize("way", ["generate", "agenerate", "v3", "av3"])
async def test_the_next_best_answers_in_the_other_ways(way: str) -> None:
    models = changed({SMALL: {"error": ModelAPIError("down")}})
    answer = await answer_of(way, cheap(models), QUESTION)
    assert answer.text == f"I am {MINI}."
    assert decision_of(answer)["attempts"] == [{"model": SMALL, "error": "ModelAPIError: down"}]


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_the_number_of_attempts_is_bounded(kind: Any, way: str) -> None:
    recorder = Recorder()
    models = changed({model: {"error": ModelRateLimitError(model)} for model in MODELS})
    chat = kind(models=models, willingness_to_pay=0, attempts=2)
    with pytest.raises(ModelRateLimitError, match=MINI) as raised:
        await output_of(way, chat, QUESTION, {"callbacks": [recorder]})
    (note,) = raised.value.__notes__
    assert SMALL in note
    assert MINI in note
    assert not models[LARGE].asked
    assert [data["next"] for name, data, _ in recorder.events if "fail" in name] == [MINI, None]


@BOTH
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [ModelInvalidRequestError, ValueError, KeyError])
async def test_other_errors_are_raised_at_once(kind: Any, way: str, error: type[Exception]) -> None:
    models = changed({SMALL: {"error": error("wrong")}})
    with pytest.raises(error, match="wrong") as raised:
        await output_of(way, kind(models=models, willingness_to_pay=0), QUESTION)
    assert not hasattr(raised.value, "__notes__")
    assert not models[MINI].asked


@pytest.mark.parametrize("way", WAYS)
async def test_a_later_error_names_what_was_tried(way: str) -> None:
    models = changed({SMALL: {"error": ModelAPIError("down")}, MINI: {"error": ValueError("no")}})
    with pytest.raises(ValueError, match="no") as raised:
        await answer_of(way, cheap(models), QUESTION)
    assert raised.value.__notes__ == [
        f"CrossRoute tried, in this order: {SMALL}: ModelAPIError: down."
    ]
    assert not models[LARGE].asked


@pytest.mark.parametrize("way", WAYS)
async def test_a_forced_model_is_not_left(way: str) -> None:
    models = changed({LARGE: {"error": ModelAPIError("down")}})
    config = {"configurable": {"crossroute_model": LARGE}}
    with pytest.raises(ModelAPIError, match="down"):
        await answer_of(way, cheap(models), QUESTION, config)
    assert not models[SMALL].asked


# Streams: what was shown is not taken back


@BOTH
@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_has_emitted_is_not_restarted(kind: Any, way: str) -> None:
    models = changed({SMALL: {"error": ModelAPIError("dropped"), "drops_after": 2}})
    chat = kind(models=models, willingness_to_pay=0)
    seen = []

    async def read() -> None:
        if way == "stream":
            for chunk in chat.stream(QUESTION):
                seen.append(chunk.text)  # noqa: PERF401
        else:
            async for chunk in chat.astream(QUESTION):
                seen.append(chunk.text)  # noqa: PERF401

    with pytest.raises(ModelAPIError, match="dropped"):
        await read()
    assert seen == ["I a", "m M"]
    assert not models[MINI].asked


class TellerOfEvents(BaseCallbackHandler, _V2StreamingCallbackHandler):
    """The same with the events of version v3."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_stream_event(self, event: Any, **kwargs: Any) -> None:
        if event["event"] == "content-block-delta":
            self.told.append(event["delta"]["text"])


class Streaming(ScriptedChatModel):
    streaming: bool = True


@BOTH
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("teller_class", [Teller, TellerOfEvents])
@pytest.mark.parametrize("of_the_model", [False, True])
async def test_an_answer_whose_tokens_were_told_is_not_restarted(
    kind: Any, way: str, teller_class: type[Any], of_the_model: bool
) -> None:
    teller = teller_class()
    models = {m: Streaming(model_name=m, streaming=True) for m in MODELS}
    models[SMALL].error, models[SMALL].drops_after = ModelAPIError("dropped"), 2
    config = {"callbacks": [teller]}
    if of_the_model:
        models[SMALL].callbacks, config = [teller], {}
    chat = kind(models=models, willingness_to_pay=0, pass_refusals=True)
    with pytest.raises(ModelAPIError, match="dropped"):
        await output_of(way, chat, QUESTION, config)
    assert teller.told == ["I a", "m M"]
    assert not models[MINI].asked

    # What was told may be read once more, but a refusal is not replaced by another answer.
    models[SMALL].error = models[SMALL].drops_after = None
    models[SMALL].refusal = REFUSALS[1]
    assert (await output_of(way, chat, QUESTION, config)).text == f"I am {SMALL}."
    assert not models[MINI].asked


@BOTH
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("silent", [CostLedger, ConsoleCallbackHandler])
async def test_who_only_counts_or_records_prevents_no_restart(
    kind: Any, way: str, silent: type[Any], router: CrossRouter
) -> None:
    models = {m: Streaming(model_name=m, streaming=True) for m in MODELS}
    models[SMALL].error, models[SMALL].drops_after = ModelAPIError("dropped"), 2
    handler = CostLedger(router) if silent is CostLedger else silent()
    chat = kind(models=models, willingness_to_pay=0)
    answer = await output_of(way, chat, QUESTION, {"callbacks": [handler]})
    assert answer.text == f"I am {MINI}."


@BOTH
@pytest.mark.parametrize("way", ["invoke", "stream"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_node_of_a_graph_emits_no_token_twice(kind: Any, way: str, is_async: bool) -> None:
    models = changed({SMALL: {"error": ModelAPIError("dropped"), "drops_after": 2}})
    chat = kind(models=models, willingness_to_pay=0)

    async def ask(state: State) -> Any:
        return {"messages": [await output_of(f"a{way}", chat, state["messages"])]}

    def ask_now(state: State) -> Any:
        found = chat.invoke if way == "invoke" else lambda m: reduce(add, chat.stream(m))
        return {"messages": [found(state["messages"])]}

    graph = StateGraph(State)
    graph.add_node("ask", ask if is_async else ask_now)
    graph.add_edge(START, "ask")
    app: Any = graph.compile()
    start = {"messages": [HumanMessage(QUESTION)]}
    seen = []

    async def read() -> None:
        if is_async:
            async for chunk, _ in app.astream(start, stream_mode="messages"):
                seen.append(chunk.text)
        else:
            for chunk, _ in app.stream(start, stream_mode="messages"):
                seen.append(chunk.text)

    with pytest.raises(ModelAPIError, match="dropped"):
        await read()
    assert seen == ["I a", "m M"]
    assert not models[MINI].asked
    # A failure before the first token is nobody's to see.
    seen.clear()
    models[SMALL].drops_after = None
    await read()
    assert "".join(seen) == f"I am {MINI}."


@pytest.mark.parametrize("way", ["stream", "astream", "v3", "av3"])
async def test_a_stream_that_fails_before_its_first_chunk_goes_on(way: str) -> None:
    models = changed({SMALL: {"error": ModelAPIError("early"), "drops_after": 0}})
    answer = await answer_of(way, cheap(models), QUESTION)
    assert answer.text == f"I am {MINI}."


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize(
    ("first", "shows"),
    [
        ("", False),
        (AIMessageChunk(""), False),
        (AIMessageChunk("", usage_metadata=USAGE), False),
        (AIMessageChunk([{"type": "text", "text": "", "index": 0}]), False),
        (AIMessageChunk("", additional_kwargs={"refusal": None}), False),
        ({"raw": AIMessageChunk("")}, False),
        ("a", True),
        (AIMessageChunk("a"), True),
        (AIMessageChunk([{"type": "text", "text": "a", "index": 0}]), True),
        (AIMessageChunk(["a"]), True),
        (AIMessageChunk([{"type": "thinking", "thinking": ""}]), True),
        (AIMessageChunk("", additional_kwargs={"reasoning_content": "Hm"}), True),
        (AIMessageChunk("", tool_call_chunks=[TOOL_CALL]), True),
        ({"answer": ""}, True),
        (0, True),
    ],
)
async def test_a_stream_begins_with_its_first_content(way: str, first: Any, shows: bool) -> None:
    def parts(_: Any) -> Any:
        yield first
        raise ModelAPIError("dropped")

    async def aparts(_: Any) -> Any:
        yield first
        raise ModelAPIError("dropped")

    models: Any = {model: RunnableGenerator(parts, aparts) for model in (SMALL, MINI)}
    models[MINI] = ScriptedChatModel(model_name=MINI)
    chat = CrossRouteRunnable(models=models, willingness_to_pay=0)
    if shows:
        with pytest.raises(ModelAPIError, match="dropped"):
            await chunks_of(way, chat, QUESTION)
    else:
        assert (await output_of(way, chat, QUESTION)).text == f"I am {MINI}."
    assert bool(models[MINI].asked) != shows
