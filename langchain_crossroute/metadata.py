"""What an answer is marked with: the decision, what it really cost, and the bill of the call."""

# ruff: noqa: ANN401  # An answer is whatever the candidates give.

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, BaseMessageChunk
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, LLMResult

from crossroute import Price, UnfinishedAnswerError
from crossroute.logprobs import of_answer

DECISION = "crossroute"
"""The key of the decision in an answer's `response_metadata` and in the metadata of its run."""

_FINISH_REASONS = (
    *("finish_reason", "stop_reason", "done_reason", "finishReason", "stopReason"),
    # That of OpenAI's Responses API.
    "status",
)


# OpenAI's and Ollama's, Google's.
_LOGPROBS = ("logprobs", "logprobs_result")


class AnswerMetadata:
    """Puts the decision on an answer, and what the answer really cost.

    On copies, because caches share messages. In a stream the decision is on the first chunk, the
    realised cost and the bill on the last one, and nothing twice: adding chunks up concatenates
    strings, adds integers, and refuses two different floats. A chat model's stream in which no
    chunk had a finish reason is marked as unfinished on its last one; with `strict` it is an
    UnfinishedAnswerError.
    """

    def __init__(
        self,
        decision: dict[str, Any],
        price: Price | None,
        *,
        strict: bool = False,
        bill: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._decision: dict[str, Any] | None = decision
        self._price = price
        self._strict = strict
        self._bill = bill
        self._model: str = decision["model"]
        self._usage: UsageMetadata | None = None
        self._open = False
        self._is_finished = False

    def whole(self, output: Any, *, streamed: bool = False) -> Any:
        """An answer with both.

        Args:
            output: The answer.
            streamed: Whether the model streamed it.
        """
        message = message_of(output)
        if message is None or self._decision is None:
            return output
        found = self._decision
        if isinstance(message, AIMessage):
            self._usage = message.usage_metadata
            self._is_finished = not streamed or has_finish_reason(message)
            found = {**found, **self._spent(), **self._unfinished()}
        return _with_metadata(output, message, found)

    def of(self, chunk: Any) -> Any:
        """A chunk or an event with what belongs on it."""
        self._is_finished = self._is_finished or has_finish_reason(chunk)
        if isinstance(chunk, dict) and chunk.get("event") == "message-finish":
            return self._finished(chunk)
        message = message_of(chunk)
        if message is None:
            return chunk
        found = {}
        if self._decision is not None:
            found, self._decision = self._decision, None
        if isinstance(message, AIMessage) and message.usage_metadata:
            self._usage = add_usage(self._usage, message.usage_metadata)
        # A model that cannot stream yields its answer whole, which is no chunk.
        if not isinstance(message, AIMessageChunk):
            found = {**found, **self._spent()}
        elif message.chunk_position == "last":
            found = {**found, **self._spent(), **self._unfinished()}
        self._open = isinstance(chunk, AIMessageChunk) and chunk.chunk_position != "last"
        return _with_metadata(chunk, message, found) if found else chunk

    def rest(self) -> Iterator[AIMessageChunk]:
        """A last chunk with the realised cost, where none of the candidate's was marked as last."""
        if self._open and self._usage and (found := self._spent()):
            yield AIMessageChunk(content="", response_metadata={DECISION: found})

    def _finished(self, event: dict[str, Any]) -> dict[str, Any]:
        self._usage = event.get("usage")
        found = {**(self._decision or {}), **self._spent(), **self._unfinished()}
        return {**event, "metadata": {**event.get("metadata", {}), DECISION: found}}

    def _unfinished(self) -> dict[str, Any]:
        if self._is_finished:
            return {}
        if self._strict:
            raise UnfinishedAnswerError(self._model)
        return {"unfinished": True}

    def _spent(self) -> dict[str, Any]:
        """What the answer took, and the bill of the whole call."""
        found = self._bill()
        return {**self._realised(), **({"bill": found} if found else {})}

    def _realised(self) -> dict[str, Any]:
        usage, self._usage = self._usage, None
        if not usage or self._price is None:
            return {}
        # LangChain's own cache sets a total cost of 0, if need be as all of the usage.
        is_free = usage.get("total_cost") == 0
        tokens = (0, 0, 0, 0) if is_free and "input_tokens" not in usage else tokens_of(usage)
        if tokens is None:
            return {}
        return {
            "realised": {
                "input_tokens": tokens[0],
                "output_tokens": tokens[1],
                "cached_tokens": tokens[2],
                "cost_usd": 0.0 if is_free else float(self._price.cost_usd(*tokens)),
            }
        }


MOST_TOKENS = 10**9
"""Of one answer; a server that says more counts nothing."""


def tokens_of(usage: Mapping[str, Any] | None) -> tuple[int, int, int, int] | None:
    """Input, output, cached and reasoning tokens of LangChain's usage, as a price takes them.

    None where there is no usage, or a number in it is none that tokens can have.
    """
    if not usage or "input_tokens" not in usage:
        return None
    cached = (usage.get("input_token_details") or {}).get("cache_read") or 0
    reasoning = (usage.get("output_token_details") or {}).get("reasoning") or 0
    found = usage["input_tokens"], usage.get("output_tokens") or 0, cached, reasoning
    if all(isinstance(n, (int, float)) and 0 <= n <= MOST_TOKENS for n in found):
        return found
    return None


def usage_of(response: LLMResult) -> Mapping[str, Any]:
    """The usage of a run; empty where it has none, such as that of a text completion."""
    match response.generations:
        case [[ChatGeneration(message=message), *_], *_]:
            return getattr(message, "usage_metadata", None) or {}
    return {}


def text_and_usage(output: Any) -> tuple[str, Mapping[str, Any] | None]:
    """The text in an answer, a chunk of one, or an event of version v3, and the usage it says."""
    message = message_of(output)
    if message is not None:
        return str(message.text), getattr(message, "usage_metadata", None)
    if isinstance(output, str):
        return output, None
    # A structured answer is a dict, too.
    kind = output.get("event") if isinstance(output, dict) else None
    if kind == "content-block-delta":
        return str(output["delta"].get("text") or ""), None
    return "", output.get("usage") if kind == "message-finish" else None


def logprobs_of(generation: Any) -> list[float]:
    """Log-probabilities of the tokens of an answer, or of a chunk of one.

    Args:
        generation: LangChain's generation or chunk of one; of a refusal, and of a text completion,
            there are none.
    """
    message = getattr(generation, "message", None)
    if not isinstance(message, AIMessage):
        return []
    # A stream of events is made before the one is put into the other.
    said = {**(generation.generation_info or {}), **message.response_metadata}
    found = next((said[name] for name in _LOGPROBS if said.get(name)), None)
    if isinstance(found, Mapping):
        # Together's are in lists of their own.
        texts, values = found.get("tokens") or (), found.get("token_logprobs") or ()
        tokens = [*zip(texts, values, strict=False)]
        found = found.get("content") or ()
    else:
        tokens = []
    tokens += [(one.get("token"), one.get("logprob")) for one in found or ()]
    return of_answer(tokens, str(message.text) if _reasons(message) else None)


def without_logprobs(output: Any) -> Any:
    """An answer, a chunk of one, or an event of version v3, without its log-probabilities."""
    message = message_of(output)
    if message is not None:
        metadata: Mapping[str, Any] = message.response_metadata
        if not any(name in metadata for name in _LOGPROBS):
            return output
        rest = {name: value for name, value in metadata.items() if name not in _LOGPROBS}
        return _replaced(output, message, rest)
    if isinstance(output, dict) and output.get("event") == "message-finish":
        metadata = output.get("metadata") or {}
        rest = {name: value for name, value in metadata.items() if name not in _LOGPROBS}
        return {**output, "metadata": rest}
    return output


def cut(output: Any, start: int, end: int | None) -> Any:
    """A text, an answer or a chunk of one with some of its text only.

    Args:
        output: What has no text, such as an event of version v3, stays as it is.
        start: Position in its text.
        end: Position there; then nothing is in it of how its stream ended. None is all.
    """
    if isinstance(output, str):
        return output[start:end]
    message = as_chunk(output)
    if not isinstance(message, AIMessageChunk):
        return output
    content: Any = message.content
    if isinstance(content, str):
        content = content[start:end]
    else:
        content = [*_cut_blocks(content, start, end)]
    update: dict[str, Any] = {"content": content}
    if end is not None:
        nothing: dict[str, Any] = {"response_metadata": {}, "additional_kwargs": {}}
        update |= nothing | {"usage_metadata": None, "chunk_position": None}
        update |= {"tool_call_chunks": [], "tool_calls": []}
    elif is_whole(output):
        update["chunk_position"] = "last"
    return message.model_copy(update=update)


def as_chunk(output: Any) -> Any:
    """A whole message of a model as a chunk; anything else as it is."""
    if not is_whole(output) or not isinstance(output, AIMessage):
        return output
    return AIMessageChunk(**output.model_dump(exclude={"type"}))


def is_whole(output: Any) -> bool:
    """Whether it is a message and no chunk: a model that cannot stream yields its answer so."""
    message = message_of(output)
    return message is not None and not isinstance(message, BaseMessageChunk)


def _cut_blocks(content: Sequence[Any], start: int, end: int | None) -> Iterator[Any]:
    """Blocks of which the text ones together have only the text from start to end."""
    at = 0
    for block in content:
        text = block if isinstance(block, str) else block.get("text")
        if not isinstance(text, str) or not (isinstance(block, str) or block["type"] == "text"):
            # What is no text, such as reasoning, stands before it.
            if at >= start and (end is None or at < end):
                yield block
            continue
        kept = text[max(start - at, 0) : None if end is None else max(end - at, 0)]
        at += len(text)
        if kept:
            yield kept if isinstance(block, str) else {**block, "text": kept}


def _reasons(message: BaseMessage) -> bool:
    """Whether there is reasoning in a message, or it is a chunk of it."""
    blocks = message.content if isinstance(message.content, list) else ()
    kinds = [block.get("type") for block in blocks if isinstance(block, dict)]
    return bool(
        message.additional_kwargs.get("reasoning_content")
        or "reasoning" in kinds
        or "thinking" in kinds
    )


def has_finish_reason(output: Any) -> bool:
    """Whether an answer, a chunk of one, or an event of version v3 says why the answer ends."""
    message = message_of(output)
    if message is not None:
        metadata: Mapping[str, Any] = message.response_metadata
    elif isinstance(output, dict) and output.get("event") == "message-finish":
        metadata = output.get("metadata") or {}
    else:
        return False
    return any(metadata.get(name) for name in _FINISH_REASONS)


def message_of(output: Any) -> BaseMessage | None:
    """The message in an output; that of a structured one is under `raw`."""
    if isinstance(output, dict):
        output = output.get("raw")
    return output if isinstance(output, BaseMessage) else None


def last_decision(messages: str | list[BaseMessage]) -> Mapping[str, Any] | None:
    """The decision on the last answer of a conversation."""
    if not isinstance(messages, str):
        for message in reversed(messages):
            if isinstance(message, AIMessage):
                decision = message.response_metadata.get(DECISION)
                return decision if isinstance(decision, Mapping) else None
    return None


def _with_metadata(output: Any, message: BaseMessage, found: dict[str, Any]) -> Any:
    return _replaced(output, message, {**message.response_metadata, DECISION: found})


def _replaced(output: Any, message: BaseMessage, metadata: dict[str, Any]) -> Any:
    """An output whose message has other metadata."""
    marked = message.model_copy(update={"response_metadata": metadata})
    return marked if output is message else type(output)({**output, "raw": marked})
