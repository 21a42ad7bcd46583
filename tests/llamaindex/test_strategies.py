"""A strategy of one's own, in every form in which LlamaIndex calls an LLM."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fakes_llamaindex import (
    ASK_STREAMS,
    ASKS,
    CHATS,
    COMPLETIONS,
    LARGE,
    MAKES_AN_AGENT,
    MINI,
    MODELS,
    OBJECTS,
    PROMPT,
    QUESTION,
    SMALL,
    TEXTS,
    TOOL_CHATS,
    NativeLLM,
    Recorder,
    ScriptedLLM,
    StatusError,
    answer_of,
    answers_of,
    expected_of,
    multiply,
    outputs,
    result_of,
    scripted,
    text_of,
    user,
)
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatInProgressEvent,
    LLMCompletionEndEvent,
    LLMCompletionInProgressEvent,
)
from llama_index.core.llms import ChatMessage

from crossroute import ConstraintError, QueryError, UnfinishedAnswerError
from crossroute.strategies import Ask, Flow, GoOn, PickOne, Reply, Show, Task
from llamaindex_crossroute import CrossRouteAnswerEvent, CrossRouteDecisionEvent, CrossRouteLLM


def routed(strategy: Any, models: dict[str, Any] | None = None, **settings: Any) -> CrossRouteLLM:
    # From the cheapest: SMALL, MINI, LARGE.
    given = {"willingness_to_pay": 0, **settings}
    return CrossRouteLLM(models=models or scripted(), strategy=strategy, **given)


def times_asked(models: dict[str, Any]) -> list[int]:
    return [len(models[model]._asked) for model in (SMALL, MINI, LARGE)]


@dataclass(frozen=True)
class Own:
    """A strategy from a function."""

    flow: Callable[[Task], Flow]

    def answer(self, task: Task) -> Flow:
        return self.flow(task)


@dataclass(frozen=True)
class Unsure:
    """Drafts with the cheap model, and asks the good one where the draft has a text in it."""

    text: str
    takes_tools: bool = False

    def answer(self, task: Task) -> Flow:
        reply = yield Ask(SMALL, role="draft")
        if reply.failed or self.text in reply.text:
            reply = yield Ask(LARGE)
        return reply


@pytest.mark.parametrize("way", ASKS)
@pytest.mark.parametrize("unsure", [True, False])
async def test_a_draft_is_kept_or_dropped(way: str, unsure: bool, events: Recorder) -> None:
    models = scripted()
    chosen = LARGE if unsure else SMALL
    found = await answers_of(way, routed(Unsure("am" if unsure else "?"), models))
    assert text_of(found[-1]) == f"I am {chosen}."
    assert times_asked(models) == [1, 0, int(unsure)]
    for answer in found:
        decision = answer.additional_kwargs["crossroute"]
        assert decision["model"] == chosen
        assert "attempts" not in decision
    assert decision["realised"]["input_tokens"] == 50
    if way in ASK_STREAMS:
        assert "".join(chunk.delta for chunk in found) == f"I am {chosen}."
    else:
        assert [answer.delta for answer in found] == [None]
    [decided], [answered] = events.of(CrossRouteDecisionEvent), events.of(CrossRouteAnswerEvent)
    assert (decided.decision["model"], answered.model) == (SMALL, chosen)
    assert answered.realised == decision["realised"]
    # The draft's run is seen, its tokens are not.
    ends = [*events.of(LLMChatEndEvent), *events.of(LLMCompletionEndEvent)]
    assert len(ends) == 1 + unsure
    shown = [*events.of(LLMChatInProgressEvent), *events.of(LLMCompletionInProgressEvent)]
    assert not any(SMALL[:4] in str(event.response) for event in shown)
    assert bool(shown) == (unsure and way in ASK_STREAMS)


@pytest.mark.parametrize("way", ASKS)
async def test_a_draft_that_fails_is_an_attempt(way: str, caplog: pytest.LogCaptureFixture) -> None:
    models = scripted()
    object.__setattr__(models[SMALL], "error", TimeoutError("slow"))
    answer = await answer_of(way, routed(Unsure("?"), models))
    assert text_of(answer) == f"I am {LARGE}."
    attempt = {"model": SMALL, "error": "TimeoutError: slow"}
    assert answer.additional_kwargs["crossroute"]["attempts"] == [attempt]
    assert f"Candidate {SMALL} failed: TimeoutError: slow" in caplog.text


@pytest.mark.parametrize("way", ASKS)
async def test_a_bug_is_no_failed_draft(way: str) -> None:
    models = scripted()
    object.__setattr__(models[SMALL], "error", StatusError(400))
    with pytest.raises(StatusError):
        await answer_of(way, routed(Unsure("?"), models))
    assert times_asked(models) == [1, 0, 0]


# What an ask says


def judged(task: Task) -> Flow:
    yield Ask(
        MINI,
        keep=[0],
        then=[{"role": "user", "content": "Who answers?"}],
        settings={"temperature": 0.5, "seed": 1},
        role="judge",
    )
    return (yield Ask(LARGE))


@pytest.mark.parametrize("way", CHATS)
async def test_an_ask_may_keep_messages_and_add_its_own(way: str) -> None:
    models = scripted()
    system = ChatMessage("Be brief.", role="system", additional_kwargs={"cache": 1})
    conversation = [system, *user(QUESTION)]
    llm = routed(Own(judged), models)
    answer = await answer_of(way, llm, conversation, temperature=0, top_p=1)
    assert text_of(answer) == f"I am {LARGE}."
    assert models[MINI]._asked == [[system, ChatMessage("Who answers?")]]
    assert models[MINI]._given == [{"temperature": 0.5, "seed": 1, "top_p": 1}]
    assert models[LARGE]._asked == [conversation]
    assert models[LARGE]._given == [{"temperature": 0, "top_p": 1}]


@pytest.mark.parametrize("way", COMPLETIONS)
async def test_a_prompt_becomes_a_conversation_where_an_ask_adds_to_it(way: str) -> None:
    models = scripted()
    answer = await answer_of(way, routed(Own(judged), models))
    assert text_of(answer) == f"I am {LARGE}."
    assert models[MINI]._asked == [[*user(QUESTION), ChatMessage("Who answers?")]]
    assert models[MINI]._given == [{"temperature": 0.5, "seed": 1}]
    assert models[LARGE]._asked == [QUESTION]
    assert models[LARGE]._given == [{"formatted": False}]


def test_a_task_holds_the_conversation() -> None:
    seen: list[Task] = []

    def look(task: Task) -> Flow:
        seen.append(task)
        return (yield Ask(SMALL))

    llm = routed(Own(look))
    llm.complete(QUESTION)
    llm.chat([ChatMessage("Hello.", role="model"), *user(QUESTION)])
    first, second = ([(m["role"], m["content"]) for m in task.messages] for task in seen)
    assert first == [("user", QUESTION)]
    text = [{"type": "text", "text": "Hello."}]
    assert second == [("assistant", text), ("user", [{"type": "text", "text": QUESTION}])]
    assert [c.model for c in seen[0].decision.candidates] == [SMALL, MINI, LARGE]
    assert seen[0].query.text == QUESTION


def test_messages_of_a_strategy_are_texts() -> None:
    models = scripted()

    def then(content: Any) -> CrossRouteLLM:
        return routed(
            Own(lambda task: (yield Ask(SMALL, then=[{"role": "user", "content": content}]))),
            models,
        )

    then([{"type": "text", "text": "Why?"}]).chat(user(QUESTION))
    assert models[SMALL]._asked[0][-1] == ChatMessage("Why?")
    with pytest.raises(QueryError, match="'image_url'"):
        then([{"type": "image_url", "image_url": "https://a.b/c.png"}]).chat(user(QUESTION))


@pytest.mark.parametrize("way", ASKS)
async def test_a_strategy_sees_words_tokens_and_cost(way: str) -> None:
    seen: list[Reply] = []
    logprobs = {"content": [{"logprob": -0.5}, {"logprob": -1}]}
    raw = {
        "usage": {"prompt_tokens": 50, "completion_tokens": 70},
        "choices": [{"finish_reason": "stop", "logprobs": logprobs}],
    }

    def look(task: Task) -> Flow:
        seen.append((yield Ask(SMALL)))
        return seen[0]

    llm = routed(Own(look), scripted(raw=raw))
    await answers_of(way, llm)
    [reply] = seen
    assert (reply.text, reply.done, reply.has_words) == (f"I am {SMALL}.", True, True)
    assert reply.usage == (50, 70, 0, 0)
    assert reply.cost_usd == pytest.approx(llm.router.pool[SMALL].price.cost_usd(50, 70))
    assert reply.logprobs == [-0.5, -1]


# Looking into a stream


def handed_over(task: Task) -> Flow:
    """Begins with one model, and goes on with another, and with a third."""
    for model in (SMALL, MINI):
        begun = yield Ask(model, until=lambda reply: len(reply.text) >= 6)
        yield Show(begun)
    return (yield Ask(LARGE, then=[{"role": "assistant", "content": begun.text}]))


@pytest.mark.parametrize("way", ASKS)
async def test_what_is_shown_and_what_follows_are_one_answer(way: str, events: Recorder) -> None:
    models = scripted()
    found = await answers_of(way, routed(Own(handed_over), models, stay_margin=0.1))
    text = f"{f'I am {SMALL}'[:8]}{f'I am {MINI}'[:8]}I am {LARGE}."
    assert text_of(found[-1]) == text
    assert models[LARGE]._asked[0][-1].content == f"I am {MINI}"[:8]
    by = [answer.additional_kwargs["crossroute"]["model"] for answer in found]
    if way in ASK_STREAMS:
        # Each chunk holds all of the text so far, and the model that wrote its words.
        texts = [text_of(chunk) for chunk in found]
        assert texts == ["".join(chunk.delta for chunk in found[: n + 1]) for n in range(len(by))]
        assert by[:4] == [SMALL, SMALL, MINI, MINI]
        assert set(by[4:]) == {LARGE}
    else:
        assert by == [LARGE]
        assert found[0].delta is None
    [answered] = events.of(CrossRouteAnswerEvent)
    assert answered.model == LARGE


def spliced(task: Task) -> Flow:
    """Shows the beginning of one model's stream, and goes on within another's."""
    begun = yield Ask(SMALL, role="draft", until=lambda reply: len(reply.text) >= 4)
    yield Show(begun, end=2, close=False)
    (begun,) = yield GoOn((begun,), lambda reply: len(reply.text) >= 7)
    yield Show(begun, end=5)
    goes_on = yield Ask(LARGE, role="draft", until=lambda reply: len(reply.text) >= 8)
    yield Show(goes_on, start=5, close=False)
    return goes_on


@pytest.mark.parametrize("way", ASKS)
async def test_parts_of_two_streams(way: str, events: Recorder) -> None:
    found = await answers_of(way, routed(Own(spliced), scripted(), stay_margin=0.1))
    assert text_of(found[-1]) == f"I am {LARGE}."
    decision = found[-1].additional_kwargs["crossroute"]
    assert decision["model"] == LARGE
    assert [ask["model"] for ask in decision["bill"]["asks"]] == [SMALL, LARGE]
    if way in ASK_STREAMS:
        texts = [text_of(chunk) for chunk in found]
        assert texts == ["".join(c.delta for c in found[: n + 1]) for n in range(len(found))]
    else:
        assert found[0].delta is None
    [answered] = events.of(CrossRouteAnswerEvent)
    assert answered.model == LARGE


@pytest.mark.parametrize("way", ASKS)
@pytest.mark.parametrize("end", [0, 2, 5, 40])
async def test_what_is_shown_of_a_whole_answer(way: str, end: int) -> None:
    def cut(task: Task) -> Flow:
        draft = yield Ask(SMALL, role="draft")
        yield Show(draft, start=1, end=end, close=False)
        return draft

    found = await answers_of(way, routed(Own(cut), scripted()))
    assert text_of(found[-1]) == f"I am {SMALL}."[1 if end else 0 :]
    if way in ASK_STREAMS:
        assert "".join(chunk.delta for chunk in found) == text_of(found[-1])


@pytest.mark.parametrize("way", ASKS)
@pytest.mark.parametrize("until", [None, bool])
async def test_what_was_shown_as_a_whole_may_be_the_answer(way: str, until: Any) -> None:
    def shown(task: Task) -> Flow:
        draft = yield Ask(SMALL, role="draft", until=until)
        (draft,) = yield GoOn((draft,))
        yield Show(draft)
        return draft

    found = await answers_of(way, routed(Own(shown), scripted()))
    assert text_of(found[-1]) == f"I am {SMALL}."
    if way in ASK_STREAMS:
        assert "".join(chunk.delta for chunk in found) == text_of(found[-1])
    decision = found[-1].additional_kwargs["crossroute"]
    assert [ask["model"] for ask in decision["bill"]["asks"]] == [SMALL]


@pytest.mark.parametrize("way", ASKS)
@pytest.mark.parametrize("start", [1, 2, 4])
async def test_a_beginning_that_is_dropped_is_in_no_chunk(way: str, start: int) -> None:
    """Be it a part of a chunk, or chunks as they came."""

    def dropped(task: Task) -> Flow:
        begun = yield Ask(SMALL, role="draft", until=lambda reply: len(reply.text) >= 5)
        yield Show(begun, start=start, close=False)
        return begun

    found = await answers_of(way, routed(Own(dropped), scripted()))
    assert text_of(found[-1]) == f"I am {SMALL}."[start:]
    if way in ASK_STREAMS:
        texts = [text_of(chunk) for chunk in found]
        assert texts == ["".join(c.delta for c in found[: n + 1]) for n in range(len(found))]


@pytest.mark.parametrize("way", CHATS)
async def test_the_rest_of_what_is_shown_is_dropped(way: str) -> None:
    # Without recorded events, which hold the generator in the traceback of its end.
    models = scripted()
    await answers_of(way, routed(Own(handed_over), models))
    await asyncio.sleep(0.01)  # The loop closes what LlamaIndex's own wrappers left.
    assert models[SMALL]._closed == models[MINI]._closed == [True]


@pytest.mark.parametrize("way", ASKS)
@pytest.mark.parametrize("raw", [{"finish_reason": "stop"}, {"finish_reason": None}])
async def test_a_whole_answer_of_a_stream(way: str, raw: Any, events: Recorder) -> None:
    def look(task: Task) -> Flow:
        reply = yield Ask(SMALL, until=lambda reply: "am" in reply.text)
        assert not reply.done
        return reply

    found = await answers_of(way, routed(Own(look), scripted(raw=raw)))
    assert text_of(found[-1]) == f"I am {SMALL}."
    if way not in ASK_STREAMS:
        assert [answer.delta for answer in found] == [None]
    # Here, too, it is known only at its end.
    unfinished = raw["finish_reason"] is None
    decision = found[-1].additional_kwargs["crossroute"]
    assert decision.get("unfinished", False) is unfinished
    [answered] = events.of(CrossRouteAnswerEvent)
    assert answered.unfinished is unfinished
    if unfinished:
        with pytest.raises(UnfinishedAnswerError, match=SMALL):
            await answers_of(way, routed(Own(look), scripted(raw=raw), strict_streams=True))


@pytest.mark.parametrize("way", ["stream_chat", "astream_chat"])
async def test_a_reader_that_leaves_closes_all_that_was_asked(way: str) -> None:
    models = scripted()

    def look(task: Task) -> Flow:
        yield Ask(SMALL, until=lambda reply: "am" in reply.text, role="draft")
        return (yield Ask(LARGE, until=lambda reply: "am" in reply.text))

    llm = routed(Own(look), models)
    if way == "stream_chat":
        stream = llm.stream_chat(user(QUESTION))
        # Before it returns, it is decided who answers, and the first words are there.
        assert times_asked(models) == [1, 0, 1]
        next(stream)
        stream.close()
    else:
        astream = await llm.astream_chat(user(QUESTION))
        assert times_asked(models) == [1, 0, 1]
        await anext(astream)
        await astream.aclose()
        await asyncio.sleep(0.01)  # The loop closes what is left.
    assert models[SMALL]._closed == models[LARGE]._closed == [True]


# Several at once


def longest(task: Task) -> Flow:
    replies = yield tuple(Ask(model, role="draft") for model in MODELS)
    return max((one for one in replies if not one.failed), key=lambda one: len(one.text))


@pytest.mark.parametrize("way", ASKS)
async def test_several_are_asked_at_once(
    way: str, events: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    models = scripted()
    object.__setattr__(models[MINI], "error", ConnectionError("gone"))
    answer = await answer_of(way, routed(Own(longest), models))
    assert text_of(answer) == f"I am {SMALL}."
    assert times_asked(models) == [1, 1, 1]
    assert answer.additional_kwargs["crossroute"]["model"] == SMALL
    assert [event.model for event in events.of(CrossRouteAnswerEvent)] == [SMALL]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in warnings] == [
        f"Candidate {MINI} failed: ConnectionError: gone"
    ]


@pytest.mark.parametrize("way", ASKS)
async def test_a_bug_in_one_of_several_is_raised(way: str) -> None:
    models = scripted()
    object.__setattr__(models[MINI], "error", StatusError(400))
    with pytest.raises(StatusError, match="status 400"):
        await answers_of(way, routed(Own(longest), models))


def test_at_once_is_in_threads_in_the_span_of_the_call(events: Recorder) -> None:
    threads: set[int] = set()

    class Threaded(ScriptedLLM):
        def _ask(self, what: Any, given: dict[str, Any]) -> None:
            threads.add(threading.get_ident())
            super()._ask(what, given)

    llm = routed(Own(longest), {model: Threaded(name=model) for model in MODELS})
    llm.chat(user(QUESTION))
    assert threads
    assert threading.get_ident() not in threads
    assert len(events.of(LLMChatEndEvent)) == 3


# Tools, schemas, prompts


@pytest.mark.parametrize("takes_tools", [True, False])
@pytest.mark.parametrize("way", TOOL_CHATS)
async def test_with_tools_one_model_answers_unless_the_strategy_takes_them(
    way: str, takes_tools: bool
) -> None:
    models = scripted(raw=None)
    strategy = Own(lambda task: Unsure("").answer(task))
    llm = routed(Unsure("", takes_tools=True) if takes_tools else strategy, models)
    answer = await answer_of(way, llm, "What is 6 * 7?", tool_required=True)
    chosen = LARGE if takes_tools else answer.additional_kwargs["crossroute"]["model"]
    assert sum(times_asked(models)) == 1 + takes_tools
    [call] = llm.get_tool_calls_from_response(answer)
    assert call.tool_id == f"{chosen}:multiply"
    assert models[chosen]._given == [{"flags": (False, False, True)}]


@pytest.mark.parametrize("way", CHATS)
async def test_with_a_schema_one_model_answers(way: str) -> None:
    models = scripted()
    llm = routed(Unsure("am"), models)
    form = {"type": "json_schema", "json_schema": {}}
    await answer_of(way, llm, response_format=form)
    assert sum(times_asked(models)) == 1
    await answer_of(way, llm, response_format={"type": "json_object"})
    assert sum(times_asked(models)) == 3


@pytest.mark.parametrize("way", TEXTS)
async def test_a_prompt_is_answered_by_the_strategy(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # LlamaIndex writes an output parser into the prompt that all tests share.
    monkeypatch.setattr(PROMPT, "output_parser", None)
    models = scripted()
    llm = routed(Unsure("am"), models)
    assert "".join(await outputs(way, llm)) == f"I am {LARGE}."
    assert times_asked(models) == [1, 0, 1]


@pytest.mark.parametrize("way", [*TEXTS, *OBJECTS])
async def test_a_candidates_own_way_with_a_prompt_is_one_candidates(way: str) -> None:
    models = {model: NativeLLM(name=model) for model in MODELS}
    llm = routed(Unsure("am", takes_tools=True), models)
    found = await outputs(way, llm)
    assert result_of(way, found) == expected_of(way, SMALL)
    assert times_asked(models) == [1, 0, 0]


# Where a strategy stands


@MAKES_AN_AGENT
async def test_in_an_agent() -> None:
    models = scripted()
    agent = FunctionAgent(tools=[multiply], llm=routed(Unsure("am", takes_tools=True), models))
    assert str(await agent.run("What is 6 * 7?")) == f"I am {LARGE}."
    # The call of the tool is a draft without a text.
    assert times_asked(models) == [2, 0, 1]


def test_the_arguments_of_the_default_are_its_own() -> None:
    models = scripted(error=TimeoutError("slow"))
    with pytest.raises(TimeoutError):
        routed(PickOne(attempts=2), models, attempts=1).chat(user(QUESTION))
    assert times_asked(models) == [1, 1, 0]


@pytest.mark.parametrize("wrong", ["cascade", PickOne, 7, lambda task: None])
def test_what_is_no_strategy_is_named(wrong: object) -> None:
    with pytest.raises(ConstraintError, match="answer\\(task\\)"):
        routed(wrong)


def test_a_strategy_is_not_in_dumps() -> None:
    llm = routed(Unsure("?"))
    assert "strategy" not in llm.to_dict()
    assert "Unsure" not in llm.to_json()
    assert llm.predict(PromptTemplate("Who?")) == f"I am {SMALL}."
