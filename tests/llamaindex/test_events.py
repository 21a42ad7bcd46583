"""Events of a call, and tokens that are counted once."""

# LlamaIndex's own signatures say Any.

import json

import pytest
from fakes_llamaindex import (
    QUESTION,
    TOOL_CHATS,
    WAYS,
    Recorder,
    answer_of,
    answers_of,
    scripted,
    user,
)
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

from llamaindex_crossroute import CrossRouteAnswerEvent, CrossRouteDecisionEvent, CrossRouteLLM


@pytest.mark.parametrize("way", WAYS)
async def test_decision_and_answer_are_events(
    way: str, events: Recorder, spans: SimpleSpanHandler
) -> None:
    answer = await answer_of(way, CrossRouteLLM(models=scripted()))
    [decided], [answered] = events.of(CrossRouteDecisionEvent), events.of(CrossRouteAnswerEvent)
    found = answer.additional_kwargs["crossroute"]
    assert {**decided.decision, "realised": found["realised"], "bill": answered.bill} == found
    assert answered.model == found["model"]
    assert (answered.quality, answered.cost_usd) == (found["quality"], found["cost_usd"])
    assert answered.attempts == []
    assert answered.realised == found["realised"]
    assert answered.span_id == decided.span_id
    for event in (decided, answered):
        assert json.loads(event.model_dump_json(), parse_constant=pytest.fail)
        assert event.class_name() == type(event).__name__
    if way not in TOOL_CHATS:  # LlamaIndex makes no span of these.
        [span] = [span for span in spans.completed_spans if span.id_ == decided.span_id]
        assert span.id_.startswith(f"CrossRouteLLM.{way}-")
        [inner] = [span for span in spans.completed_spans if span.parent_id == decided.span_id]
        assert inner.id_.startswith(f"ScriptedLLM.{way}-")


def test_an_abandoned_stream_is_no_answer(events: Recorder) -> None:
    stream = CrossRouteLLM(models=scripted()).stream_chat(user(QUESTION))
    next(stream)
    stream.close()
    assert len(events.of(CrossRouteDecisionEvent)) == 1
    assert not events.of(CrossRouteAnswerEvent)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", ["argument", "settings", "candidates"])
async def test_tokens_are_counted_once(
    settings: None, events: Recorder, way: str, given: str
) -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    manager = CallbackManager([counter])
    if given == "argument":
        llm = CrossRouteLLM(models=scripted(), callback_manager=manager)
    elif given == "candidates":
        llm = CrossRouteLLM(models=scripted(callback_manager=manager))
    else:
        Settings.callback_manager = manager
        Settings.llm = CrossRouteLLM(models=scripted())
        llm = Settings.llm
    await answers_of(way, llm)
    assert counter.total_llm_token_count == 120
    assert len(counter.llm_token_counts) == 1
    kinds = [event.class_name() for event in events.found]
    assert sum(kind.endswith("StartEvent") for kind in kinds) == 1
    assert sum(kind.endswith("EndEvent") for kind in kinds) == 1


def test_without_usage_nothing_is_realised(events: Recorder) -> None:
    answer = CrossRouteLLM(models=scripted(raw=None)).complete(QUESTION)
    assert "realised" not in answer.additional_kwargs["crossroute"]
    [answered] = events.of(CrossRouteAnswerEvent)
    assert answered.realised is None
