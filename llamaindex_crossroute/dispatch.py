"""The way of a call through `CrossRouteLLM`: try the candidates in order, mark the answer.

Sync, async and streamed calls share it.
"""

# ruff: noqa: ANN401  # What passes through is whatever the candidates take and give.

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import walk_tb
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.tools import BaseTool
from llama_index_instrumentation.span import active_span_id
from pydantic import ValidationError

from crossroute import Decision, NoAnswerError, Query, Stay, UnfinishedAnswerError
from crossroute.failures import (
    REFUSED,
    Failure,
    RefusedError,
    after,
    describe,
    mask_error,
    may_pass_elsewhere,
    note,
    secrets_of,
)
from llamaindex_crossroute.answers import (
    Response,
    has_words,
    is_answer,
    is_finished,
    is_refusal,
    realised,
)
from llamaindex_crossroute.events import (
    CrossRouteAnswerEvent,
    CrossRouteDecisionEvent,
    dispatcher,
    overheard,
)
from llamaindex_crossroute.messages import is_from_model, to_query
from llamaindex_crossroute.settings import current_settings

if TYPE_CHECKING:
    from llamaindex_crossroute.llm import CrossRouteLLM

DECISION = "crossroute"
"""The key of the decision in a response's `additional_kwargs`."""

ANSWERED_BY = "crossroute_model"
"""The key of a model's id in the `additional_kwargs` of its message, where stickiness is on."""

UNFINISHED = "unfinished"
"""The key in the decision on a stream's last chunk that says that nothing said why it ended."""

# Where LlamaIndex dispatches the event of a stream's end.
_ENDS = {"llama_index.core.llms.callbacks", "llama_index.core.llms.llm"}

_logger = logging.getLogger(__name__)


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

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and the keyword arguments of a candidate's method."""
        conversation = self.conversation
        if not isinstance(conversation, str):
            # A list of its own, because some candidates append to it.
            conversation = [_unmarked(message) for message in conversation]
        if self.tools is None:
            return (conversation,), self.options
        return (self.tools,), {**self.options, "chat_history": conversation}


@dataclass(frozen=True, slots=True)
class PromptRequest(Request):
    """What a candidate's own `predict` or `structured_predict` is asked.

    Attributes:
        conversation: The messages that the prompt makes, to route by.
        options: Arguments of the prompt.
        given: The positional arguments of the method.
        settings: What `llm_kwargs` holds; None for methods without it.
        schema: The form that is asked for, as text.
    """

    given: tuple[Any, ...] = ()
    settings: Mapping[str, Any] | None = None
    schema: str = ""

    def query(self) -> Query:
        """The request, as far as it is routed by."""
        return to_query(self.conversation, (), self.settings, self.schema)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and the keyword arguments of a candidate's method."""
        if self.settings is None:
            return self.given, self.options
        # Some candidates write into it.
        return self.given, {**self.options, "llm_kwargs": dict(self.settings)}


class Call:
    """One call while its candidates are tried."""

    def __init__(self, llm: CrossRouteLLM, decision: Decision) -> None:
        self.llm = llm
        self.decision = decision
        self.limit = min(llm.attempts, len(decision.candidates))
        self.decided = decision.to_dict()
        self.failures: list[Failure] = []
        # The first refusal: its attempt and its outputs.
        self.refused: Any = None
        self.span_id = active_span_id.get()
        dispatcher.event(CrossRouteDecisionEvent(decision=self.decided))

    def attempts(self) -> Iterator[Attempt]:
        """One for each candidate that may be tried, the preferred first."""
        for position in range(self.limit):
            yield Attempt(self, position)


class Attempt:
    """One candidate's try; as a context manager it decides what becomes of an error in it.

    A failure that another candidate may not share is told and suppressed, as long as there is
    another candidate; every other error passes. What the candidate holds as secret is masked in
    both.

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
        self._finished: bool | None = None
        self._told = after(call.decision, chosen.model, call.failures)
        self._overheard = overheard()

    def __enter__(self) -> None:
        self._responses = self._overheard.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._overheard.__exit__(None, None, None)
        if not isinstance(error, Exception):
            return False
        call, secrets = self._call, secrets_of(self.model)
        mask_error(error, secrets)
        passing = may_pass_elsewhere(error, refusals=call.llm.pass_refusals)
        goes_on = passing and (not self._is_last or call.refused is not None)
        if passing:
            text = REFUSED if isinstance(error, RefusedError) else describe(error, secrets)
            call.failures.append({"model": self._chosen.model, "error": text})
        if goes_on:
            _logger.warning("Candidate %s failed: %s", self._chosen.model, text)
        else:
            note(error, call.failures)
        return goes_on

    def accept(self, outputs: Sequence[Any], *, streamed: bool = False) -> None:
        """See that the candidate answered.

        Args:
            outputs: The whole answer, or what `lead` read of a stream.
            streamed: Whether it is a stream.

        Raises:
            RefusedError: If it refused, and refusals pass to the next candidate; the first is
                kept, for no other candidate may do better.
            NoAnswerError: If it gave nothing that is an answer.
        """
        judged = outputs
        if not streamed and not isinstance(outputs[0], Response):
            # Of a text or an object, it is known what it was made of, if anything.
            judged = self._responses[-1:]
            if not judged:
                return
        if self._call.llm.pass_refusals and any(map(is_refusal, judged)):
            if self._call.refused is None:
                self._call.refused = self, outputs
            raise RefusedError
        if not is_answer(judged):
            raise NoAnswerError(
                f"{self._chosen.model} answered with nothing: no words, no tool call, and no word "
                "of why it ended."
            )

    def whole(self, output: Any) -> Any:
        """The answer, with the decision on it if it is a response."""
        if isinstance(output, Response):
            output = self._marked(output)
        elif self._responses:
            self._realised = realised(self._responses[-1], self._price)
        self._answered()
        return output

    def chunks(
        self, held: Sequence[Any], rest: Iterator[Any] | None = None
    ) -> Generator[Any, None, None]:
        """A stream that `lead` has begun to read, with the decision on each chunk that holds one.

        Args:
            held: What was read of it.
            rest: What comes after that; None if it was read to its end.
        """
        last: Any = None
        try:
            with self._masking():
                for chunks in (held, rest or ()):
                    for chunk in chunks:
                        last = self._marked(chunk) if isinstance(chunk, Response) else chunk
                        yield last
            self._end(last)
        finally:
            # Left to the garbage collector, it may be closed while its client holds a lock.
            if isinstance(rest, Generator):
                rest.close()

    async def achunks(
        self, held: Sequence[Any], rest: AsyncIterator[Any] | None = None
    ) -> AsyncGenerator[Any, None]:
        """`chunks` of an async stream."""
        last: Any = None
        try:
            with self._masking():
                for chunk in held:
                    last = self._marked(chunk) if isinstance(chunk, Response) else chunk
                    yield last
                if rest is not None:
                    async for chunk in rest:
                        last = self._marked(chunk) if isinstance(chunk, Response) else chunk
                        yield last
            self._end(last)
        finally:
            if isinstance(rest, AsyncGenerator):
                await rest.aclose()

    def _marked(self, response: Response) -> Response:
        # On a copy: the candidate's own events hold the response as it was.
        self._realised = realised(response, self._price) or self._realised
        if not self._finished and (finished := is_finished(response)) is not None:
            self._finished = finished
        # A copy for each chunk: the last one may be marked once more.
        told = {**self._told}
        if self._realised is not None:
            told["realised"] = self._realised
        update: dict[str, Any] = {
            "additional_kwargs": {**response.additional_kwargs, DECISION: told}
        }
        if self._call.llm.stay_margin is not None and isinstance(response, ChatResponse):
            of_message = {**response.message.additional_kwargs, ANSWERED_BY: self._chosen.model}
            update["message"] = response.message.model_copy(
                update={"additional_kwargs": of_message}
            )
        return response.model_copy(update=update)

    def _end(self, last: Any) -> None:
        """What there is to say at the end of a stream, whose last chunk is out.

        Raises:
            UnfinishedAnswerError: If nothing said why it ended, and streams are strict.
        """
        unfinished = self._finished is False
        if unfinished and self._call.llm.strict_streams:
            raise UnfinishedAnswerError(self._chosen.model)
        if unfinished:
            # Held back until now, each chunk would have come one later.
            last.additional_kwargs[DECISION][UNFINISHED] = True
        self._answered(unfinished=unfinished)

    def _answered(self, *, unfinished: bool = False) -> None:
        dispatcher.event(
            CrossRouteAnswerEvent(
                span_id=self._call.span_id,
                model=self._chosen.model,
                quality=self._chosen.quality,
                cost_usd=self._chosen.cost_usd,
                attempts=self._told.get("attempts", []),
                realised=self._realised,
                unfinished=unfinished,
            )
        )

    @contextmanager
    def _masking(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            mask_error(error, secrets_of(self.model))
            raise


# Past its loop comes only a call that every candidate refused: the first refusal answers it.


def answer(llm: CrossRouteLLM, method: str, request: Request) -> Any:
    """A candidate's answer by that method, the next one's where it fails."""
    call = Call(llm, llm.router.route(**_asked(llm, request)))
    for attempt in call.attempts():
        with attempt:
            arguments, options = request.arguments()
            output = getattr(attempt.model, method)(*arguments, **options)
            attempt.accept([output])
            return attempt.whole(output)
    attempt, [output] = call.refused
    return attempt.whole(output)


async def aanswer(llm: CrossRouteLLM, method: str, request: Request) -> Any:
    """`answer` without blocking the event loop."""
    call = Call(llm, await llm.router.aroute(**_asked(llm, request)))
    for attempt in call.attempts():
        with attempt:
            arguments, options = request.arguments()
            output = await getattr(attempt.model, method)(*arguments, **options)
            attempt.accept([output])
            return attempt.whole(output)
    attempt, [output] = call.refused
    return attempt.whole(output)


def stream(llm: CrossRouteLLM, method: str, request: Request) -> Any:
    """A candidate's stream by that method, the next one's where it fails before its first words."""
    call = Call(llm, llm.router.route(**_asked(llm, request)))
    for attempt in call.attempts():
        # Only up to the first words: what was emitted is not taken back.
        with attempt:
            arguments, options = request.arguments()
            chunks = iter(getattr(attempt.model, method)(*arguments, **options))
            held = lead(chunks)
            attempt.accept(held, streamed=True)
            return attempt.chunks(held, chunks)
    attempt, held = call.refused
    return attempt.chunks(held)


async def astream(llm: CrossRouteLLM, method: str, request: Request) -> Any:
    """`stream` without blocking the event loop."""
    call = Call(llm, await llm.router.aroute(**_asked(llm, request)))
    for attempt in call.attempts():
        with attempt:
            arguments, options = request.arguments()
            chunks = await getattr(attempt.model, method)(*arguments, **options)
            held = await alead(chunks)
            attempt.accept(held, streamed=True)
            return attempt.achunks(held, chunks)
    attempt, held = call.refused
    return attempt.achunks(held)


def _asked(llm: CrossRouteLLM, request: Request) -> dict[str, Any]:
    """What the router is asked: the query, and the settings of this call."""
    query = request.query()
    willingness, limits = current_settings(llm.willingness_to_pay)
    stay = None
    if llm.stay_margin is not None and not isinstance(request.conversation, str):
        answers = [message for message in request.conversation if is_from_model(message)]
        if answers and (model := answers[-1].additional_kwargs.get(ANSWERED_BY)):
            stay = Stay(model, llm.stay_margin)
    return {
        "query": query,
        "willingness_to_pay": willingness,
        "constraints": limits,
        "stay": stay,
    }


def lead(chunks: Iterator[Any]) -> list[Any]:
    """The chunks of a stream up to the first with words; all of them, if there are none.

    A refusal is read to its end too, so that nothing is left open where the next candidate is
    asked.
    """
    held: list[Any] = []
    with _empty_is_no_error(held):
        for chunk in chunks:
            held.append(chunk)
            if has_words(chunk) and not any(map(is_refusal, held)):
                break
    return held


async def alead(chunks: AsyncIterator[Any]) -> list[Any]:
    """`lead` of an async stream."""
    held: list[Any] = []
    with _empty_is_no_error(held):
        async for chunk in chunks:
            held.append(chunk)
            if has_words(chunk) and not any(map(is_refusal, held)):
                break
    return held


@contextmanager
def _empty_is_no_error(held: Sequence[Any]) -> Iterator[None]:
    """LlamaIndex's own code fails on a stream without a chunk, in the event of its end."""
    try:
        yield
    except (ValidationError, UnboundLocalError) as error:
        modules = [frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__)]
        if held or not _ENDS.intersection(modules[-2:]):
            raise


def _unmarked(message: ChatMessage) -> ChatMessage:
    """The message without our mark, which some providers would get as it is."""
    if ANSWERED_BY not in message.additional_kwargs:
        return message
    rest = {name: v for name, v in message.additional_kwargs.items() if name != ANSWERED_BY}
    return message.model_copy(update={"additional_kwargs": rest})
