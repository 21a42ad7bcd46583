"""Examples of what models were sent and what they should say, made of ranked traces."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crossroute.query import Message, estimate_tokens
from crossroute.traces.messages import LeftOutError, learnable, tools_of
from crossroute.traces.rank import Ranked
from crossroute.traffic.records import CallRecord, RecordedAsk


@dataclass(frozen=True, slots=True)
class Example:
    """What a model was sent, and what came back.

    Attributes:
        call_id: Id of the call.
        role: What it was asked for; `answer` is the whole call, whoever was asked in it.
        prompt: Messages, as TRL reads them.
        completion: Messages after them.
        tools: What it may call, in OpenAI's dict form.
        quality: Of the trace.
        reward: Of the trace.
    """

    call_id: str
    role: str
    prompt: list[dict[str, Any]]
    completion: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    quality: float
    reward: float

    @property
    def key(self) -> str:
        """What examples of the same prompt have in common."""
        return json.dumps([self.role, self.prompt, self.tools], sort_keys=True)

    @property
    def said(self) -> str:
        """All of the completion as a text."""
        return as_text(self.completion)

    @property
    def length(self) -> float:
        """Estimated tokens of the completion: models count in tokens of their own."""
        return estimate_tokens(self.said)


def as_text(messages: Iterable[Message]) -> str:
    """What messages say and call, to compare or to count them."""
    parts: list[str] = []
    for message in messages:
        parts.append(message["content"])
        calls = (call["function"] for call in message.get("tool_calls", ()))
        parts += [json.dumps(call, sort_keys=True, ensure_ascii=False) for call in calls]
    return "\n".join(part for part in parts if part)


def examples_of(
    traces: Iterable[Ranked], roles: frozenset[str], skipped: Counter[str]
) -> Iterator[Example]:
    """The examples in traces.

    Of the role `answer`, the caller's conversation and the answer that was handed on, whatever
    strategy it came of; of any other role, what each such ask was sent and what it said.

    Args:
        traces: As `rank` gives them.
        roles: Whose examples are wanted.
        skipped: Counts those that cannot be learned from, by the reason.
    """
    for trace in traces:
        record = trace.record
        wanted = [(ask.role, ask) for ask in record.asks if ask.role in roles - {"answer"}]
        pairs: list[tuple[str, RecordedAsk | None]] = [*wanted]
        if "answer" in roles:
            pairs.append(("answer", None))
        for role, ask in pairs:
            try:
                prompt, said, tools = _answer(record) if ask is None else _ask(record, ask)
                parts = learnable(prompt), learnable(said), tools_of(tools)
            except LeftOutError as error:
                skipped[f"{role}: {error}"] += 1
                continue
            if not parts[0]:
                skipped[f"{role}: without a prompt"] += 1
            elif as_text(parts[1]).strip():
                yield Example(record.id, role, *parts, trace.quality, trace.reward)
            else:
                skipped[f"{role}: in which nothing was said"] += 1


_Parts = tuple[list[Message], list[Message], list[Mapping[str, Any]]]


def _answer(record: CallRecord) -> _Parts:
    """The caller's conversation, what was handed on, and the caller's tools."""
    shown = [ask for ask in record.asks if ask.handed_on]
    if not shown:
        raise LeftOutError("in which nothing was handed on")
    for one in shown:
        _see_that_a_model_said_it(one)
    # A strategy may have handed on parts of several; of those before the last one, their text.
    said: list[Message] = [*(shown[-1].said or ())]
    text = record.answer or ""
    if len(shown) > 1 or (len(said) == 1 and said[0].get("content") != text):
        calls = [call for message in said[-1:] for call in message.get("tool_calls") or ()]
        said = [{"role": "assistant", "content": text, "tool_calls": calls}]
    if shown[-1].tools:
        # What it called are tools of its strategy, which the caller has not got.
        said = [{**message, "tool_calls": None} for message in said]
    return _messages(record), said, [*(record.tools or ())]


def _ask(record: CallRecord, ask: RecordedAsk) -> _Parts:
    """What an ask was sent, what it said, and the tools that it had."""
    if ask.error is not None:
        raise LeftOutError("which failed or were refused")
    _see_that_a_model_said_it(ask)
    messages = _messages(record)
    if ask.keep is not None:
        if not all(0 <= place < len(messages) for place in ask.keep):
            raise LeftOutError("with positions of messages that are not there")
        messages = [messages[place] for place in ask.keep]
    prompt = [*messages, *(ask.then or ())]
    if prompt and prompt[-1].get("role") == "assistant":
        raise LeftOutError("which go on with the words of another model")
    tools = record.tools if ask.tools is None else ask.tools
    return prompt, [*(ask.said or ())], [*(tools or ())]


def _see_that_a_model_said_it(ask: RecordedAsk) -> None:
    if ask.kind in ("retriever", "tool"):
        raise LeftOutError(f"of a {ask.kind}, whose words are not those of a model")


def _messages(record: CallRecord) -> list[Message]:
    if isinstance(record.query, str):
        return [{"role": "user", "content": record.query}]
    return [*(record.query or ())]
