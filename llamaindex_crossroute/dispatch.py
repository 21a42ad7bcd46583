"""The way of a call through `CrossRouteLLM`: try the candidates in order, mark the answer.

Sync, async and streamed calls share it.
"""

# ruff: noqa: ANN401  # What passes through is whatever the candidates take and give.

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.tools import BaseTool
from llama_index_instrumentation.span import active_span_id

from crossroute import Decision, Price, Query
from crossroute.failures import (
    REFUSED,
    Failure,
    RefusedError,
    after,
    describe,
    may_pass_elsewhere,
    note,
)
from llamaindex_crossroute.events import (
    CrossRouteAnswerEvent,
    CrossRouteDecisionEvent,
    dispatcher,
)
from llamaindex_crossroute.messages import to_query

if TYPE_CHECKING:
    from llamaindex_crossroute.llm import CrossRouteLLM

Response = TypeVar("Response", ChatResponse, CompletionResponse)

DECISION = "crossroute"
"""The key of the decision in a response's `additional_kwargs`."""

ANSWERED_BY = "crossroute_model"
"""The key of a model's id in the `additional_kwargs` of its message, where stickiness is on."""

_INPUT_TOKENS = ("prompt_tokens", "input_tokens", "prompt_token_count")
_OUTPUT_TOKENS = ("completion_tokens", "output_tokens", "candidates_token_count")


@dataclass(frozen=True, slots=True)
class Request:
    """What a candidate is asked.

    Attributes:
        conversation: A prompt, or messages.
        options: Keyword arguments of the call.
        tools: The tools of a `*_with_tools` call; None for the other methods.
    """

    conversation: str | Sequence[ChatMessage]
    options: dict[str, Any]
    tools: Sequence[BaseTool] | None = None

    def query(self) -> Query:
        """The request, as far as it is routed by."""
        return to_query(self.conversation, self.tools or (), self.options)

    def arguments(self) -> tuple[Any, dict[str, Any]]:
        """The positional argument and the keyword arguments of a candidate's method."""
        conversation = self.conversation
        if not isinstance(conversation, str):
            # A list of its own, because some candidates append to it.
            conversation = [_unmarked(message) for message in conversation]
        if self.tools is None:
            return conversation, self.options
        return self.tools, {**self.options, "chat_history": conversation}


class Call:
    """One call while its candidates are tried."""

    def __init__(self, llm: CrossRouteLLM, decision: Decision) -> None:
        self.llm = llm
        self.decision = decision
        self.limit = min(llm.attempts, len(decision.candidates))
        self.decided = decision.to_dict()
        self.failures: list[Failure] = []
        # The first refusal: its attempt, itself, and the rest of its stream.
        self.refused: Any = None
        self.span_id = active_span_id.get()
        dispatcher.event(CrossRouteDecisionEvent(decision=self.decided))

    def attempts(self) -> Iterator[Attempt]:
        """One for each candidate that may be tried, the preferred first."""
        for position in range(self.limit):
            yield Attempt(self, position)


class Attempt:
    """One candidate's try; as a context manager it decides what becomes of an error in it.

    A failure that another candidate may not share is noted and suppressed, as long as there is
    another candidate; every other error passes.

    Attributes:
        model: The candidate.
    """

    def __init__(self, call: Call, position: int) -> None:
        chosen = call.decision.candidates[position]
        self.model = call.llm.models[chosen.model]
        self._call = call
        self._chosen = chosen
        self._is_last = position + 1 == call.limit
        self._price = call.llm.router.pool[chosen.model].price
        self._realised: dict[str, float] | None = None
        self._told = after(call.decision, call.failures) if position else call.decided

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            return False
        failures = self._call.failures
        is_refusal = isinstance(error, RefusedError)
        passing = may_pass_elsewhere(error, refusals=True)
        if passing:
            text = REFUSED if is_refusal else describe(error)
            failures.append({"model": self._chosen.model, "error": text})
        note(error, failures)
        return passing and (not self._is_last or self._call.refused is not None)

    def accepted(self, response: Response | None, rest: Any = None) -> Any:
        """The answer, or the first chunk of it, unless it is a refusal.

        Raises:
            RefusedError: If it is one; the first is kept, for no other candidate may do better.
        """
        if _is_refusal(response):
            if self._call.refused is None:
                self._call.refused = self, response, rest
            raise RefusedError
        return response

    def whole(self, response: Response) -> Response:
        """The answer with the decision on it."""
        marked = self._marked(response)
        self._answered()
        return marked

    def chunks(
        self, first: Response | None, rest: Generator[Response, None, None]
    ) -> Generator[Response, None, None]:
        """A stream whose first chunk is taken, with the decision on each chunk."""
        if first is not None:
            yield self._marked(first)
        for chunk in rest:
            yield self._marked(chunk)
        self._answered()

    async def achunks(
        self, first: Response | None, rest: AsyncGenerator[Response, None]
    ) -> AsyncGenerator[Response, None]:
        """`chunks` of an async stream."""
        if first is not None:
            yield self._marked(first)
        async for chunk in rest:
            yield self._marked(chunk)
        self._answered()

    def _marked(self, response: Response) -> Response:
        # On a copy: the candidate's own events hold the response as it was.
        told = self._told
        self._realised = realised(response, self._price) or self._realised
        if self._realised is not None:
            told = {**told, "realised": self._realised}
        update: dict[str, Any] = {
            "additional_kwargs": {**response.additional_kwargs, DECISION: told}
        }
        if self._call.llm.stay_margin is not None and isinstance(response, ChatResponse):
            of_message = {**response.message.additional_kwargs, ANSWERED_BY: self._chosen.model}
            update["message"] = response.message.model_copy(
                update={"additional_kwargs": of_message}
            )
        return response.model_copy(update=update)

    def _answered(self) -> None:
        dispatcher.event(
            CrossRouteAnswerEvent(
                span_id=self._call.span_id,
                model=self._chosen.model,
                quality=self._chosen.quality,
                cost_usd=self._chosen.cost_usd,
                attempts=self._told.get("attempts", []),
                realised=self._realised,
            )
        )


def realised(response: ChatResponse | CompletionResponse, price: Price | None) -> Any:
    """What an answer really took: tokens, and USD by the price table.

    None without a price, or if the answer does not say its usage.
    """
    usage = _usage(response)
    tokens_in = next((usage[name] for name in _INPUT_TOKENS if usage.get(name)), None)
    tokens_out = next((usage[name] for name in _OUTPUT_TOKENS if name in usage), 0) or 0
    if price is None or tokens_in is None:
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _get(details, "cached_tokens") or usage.get("cached_content_token_count") or 0
    # Anthropic counts the prompt cache, and Gemini the thoughts, beside the other tokens.
    if read := usage.get("cache_read_input_tokens"):
        cached, tokens_in = read, tokens_in + read
    tokens_in += usage.get("cache_creation_input_tokens") or 0
    spent = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    thoughts = usage.get("thoughts_token_count") or 0
    tokens_out += thoughts
    reasoning = _get(spent, "reasoning_tokens") or thoughts
    return {
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "cached_tokens": cached,
        "cost_usd": float(price.cost_usd(tokens_in, tokens_out, cached, reasoning)),
    }


def _usage(response: ChatResponse | CompletionResponse) -> Mapping[str, Any]:
    """Where LlamaIndex's own token counter finds it: in the raw answer, or beside it."""
    usage = _get(response.raw, "usage") or _get(response.raw, "usage_metadata")
    if usage is None:
        return response.additional_kwargs
    return usage if isinstance(usage, Mapping) else dict(usage)


def _is_refusal(response: ChatResponse | CompletionResponse | None) -> bool:
    raw = _get(response, "raw")
    choices = _get(raw, "choices")
    choice = choices[0] if choices else None
    return bool(
        _get(_get(choice, "message"), "refusal")
        or _get(choice, "finish_reason") == "content_filter"
        or _get(raw, "stop_reason") == "refusal"
    )


def _get(value: Any, name: str) -> Any:
    """A field of a raw answer, which is a mapping or an object of its provider."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _unmarked(message: ChatMessage) -> ChatMessage:
    """The message without our mark, which some providers would get as it is."""
    if ANSWERED_BY not in message.additional_kwargs:
        return message
    rest = {name: v for name, v in message.additional_kwargs.items() if name != ANSWERED_BY}
    return message.model_copy(update={"additional_kwargs": rest})
