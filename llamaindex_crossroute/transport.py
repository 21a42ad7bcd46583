"""How LlamaIndex's models are asked: one exchange for each ask of a strategy."""

# ruff: noqa: ANN401  # What passes through is whatever the candidates take and give.

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.llms import LLM
from llama_index_instrumentation.span import active_span_id
from pydantic import ValidationError

from crossroute import NoAnswerError, UnfinishedAnswerError
from crossroute.candidates import Candidates
from crossroute.failures import describe, mask_error, may_pass
from crossroute.models.efforts import arm_of
from crossroute.models.provider_arguments import effort_in, without_effort
from crossroute.query import given_limit
from crossroute.strategies import Ask, Charge, Reply, Task, bill, charge
from crossroute.strategies.base import begun
from crossroute.strategies.base import has_words as up_to_words
from llamaindex_crossroute.answers import (
    Response,
    has_words,
    is_answer,
    is_finished,
    is_refusal,
    logprobs_of,
    realised,
    text_of,
    to_completion,
    usage_of,
    with_text,
)
from llamaindex_crossroute.closing import aclose, close, close_what_failed
from llamaindex_crossroute.events import (
    CrossRouteAnswerEvent,
    CrossRouteDecisionEvent,
    dispatcher,
    overheard,
)
from llamaindex_crossroute.lazy import LazyLLM, aload_llm, load_llm, secrets_in
from llamaindex_crossroute.ledger import open_ledgers
from llamaindex_crossroute.limits import within
from llamaindex_crossroute.request import ANSWERED_BY, OWN_CHOICE, PromptRequest, Request
from llamaindex_crossroute.tools import calls_in, check_calls_tools, has_calls
from llamaindex_crossroute.wishes import at_effort, beside_effort, tell_without_effort, wished

if TYPE_CHECKING:
    from llamaindex_crossroute.llm import CrossRouteLLM

DECISION = "crossroute"
"""The key of the decision in a response's `additional_kwargs`."""

UNFINISHED = "unfinished"
"""The key in the decision on a stream's last chunk that says that nothing said why it ended."""

# Where LlamaIndex dispatches the event of a stream's end.
_ENDS = {"llama_index.core.llms.callbacks", "llama_index.core.llms.llm"}

_logger = logging.getLogger(__name__)


class Part(NamedTuple):
    """What an exchange has given, and which of its text is new.

    Attributes:
        exchange: The exchange.
        output: A response, a chunk of a stream, a text, or an object.
        start: Position in all of its text so far, where that of this part begins.
        end: Position there; None is all.
        is_cut: Whether it was made of a longer part.
    """

    exchange: Exchange
    output: Any
    start: int = 0
    end: int | None = None
    is_cut: bool = False

    @property
    def text(self) -> str:
        """Its text."""
        return text_of(self.output)[self.start : self.end]


class Transport:
    """Asks the candidates of one call.

    Attributes:
        llm: What was called.
        candidates: The router and the models of the time of the call.
        exploration: Whom to ask beside the router's choice.
        method: Name of the method that was called, which the candidates have, too.
        request: What it was called with.
        streams: Whether the caller gets a stream.
        span_id: Id of LlamaIndex's span of the call.
        is_joined: Whether what was handed on is not of one answer alone, whole and from its start.
    """

    def __init__(
        self,
        llm: CrossRouteLLM,
        candidates: Candidates[Any],
        method: str,
        request: Request,
        task: Task,
    ) -> None:
        self.llm = llm
        self.candidates = candidates
        self.exploration = llm.exploration
        self.ledgers = open_ledgers(llm.ledger)
        self.method = method
        self.request = request
        self.streams = "stream" in method
        self.span_id = active_span_id.get()
        self.query = task.query
        self._asked: list[Exchange] = []
        self._shown: Exchange | None = None
        self.is_joined = False
        self._text = ""
        dispatcher.event(CrossRouteDecisionEvent(decision=task.decision.to_dict()))

    def exchange(self, ask: Ask, decision: dict[str, Any]) -> Exchange:
        """One ask, not opened yet."""
        self._asked.append(Exchange(self, ask, decision))
        return self._asked[-1]

    def bill(self) -> dict[str, Any]:
        """What all asks of the call have cost so far."""
        return bill(one.charge for one in self._asked if one.reply.was_asked)

    def report(self, failure: dict[str, Any]) -> None:
        """Log that a candidate failed."""
        _logger.warning("Candidate %s failed: %s", failure["model"], failure["error"])

    async def areport(self, failure: dict[str, Any]) -> None:
        """Log that a candidate failed."""
        self.report(failure)

    def output(self, part: Part) -> Any:
        """What the caller gets for a part: with the decision on it, if it is a response.

        What a strategy shows of several asks is one answer, and LlamaIndex's chunks hold all of
        the text so far.
        """
        is_other = self._shown not in (None, part.exchange)
        self._shown = part.exchange
        is_later = part.start > len(self._text)
        self.is_joined = self.is_joined or is_other or is_later or part.is_cut
        new = part.text
        self._text += new
        output = part.output
        if self.is_joined:
            output = with_text(output, self._text, new if self.streams else None)
        return part.exchange.decided(output) if isinstance(output, Response) else output


class Exchange:
    """One candidate that is asked, and what comes back.

    Attributes:
        reply: What the strategy sees of it.
    """

    def __init__(self, transport: Transport, ask: Ask, decision: dict[str, Any]) -> None:
        self.reply = Reply(ask.model, was_asked=False)
        self._transport = transport
        self._ask = ask
        self._decision = decision
        self._candidate = transport.candidates.models[ask.model]
        self._descriptor = transport.candidates.router.pool[ask.model]
        self._price = self._descriptor.price
        # A candidate that is no model, asked once.
        self._agent: Any = None
        arm = arm_of(self._descriptor)
        # A candidate's own effort: a model at several of them may be one client.
        self._effort = None if arm is None else arm.effort
        # What nobody sees while it is made is asked whole: no events of its tokens, and providers
        # count the tokens of whole answers in any case.
        looks_into = ask.until not in (None, begun, up_to_words)
        self._streams = looks_into or (transport.streams and ask.role == "answer")
        # Up to the first words: afterwards it is an answer.
        self._lead: list[Any] = []
        # Characters that have come.
        self._length = 0
        # Whether log-probabilities are none of the caller's business.
        self._hides_logprobs = False
        self._overheard: list[Response] = []
        self._realised: dict[str, float] | None = None
        self._finished: bool | None = None
        self._last: Response | None = None
        self._model: LLM | None = None
        # What has calls of tools in it, of the ask's own or of the caller's.
        self._calls: ChatResponse | None = None

    @property
    def charge(self) -> Charge:
        """What it has cost so far."""
        a_call, query = self._descriptor.cost_usd_a_call, self._transport.query
        return charge(
            self._ask,
            self.reply,
            self._price,
            query,
            cost_usd_a_call=a_call,
            shortened=self._decision.get("shortened", {}),
        )

    def open(self) -> Iterator[Part]:
        """Ask; the parts of the answer as they come."""
        with self._masking():
            method, arguments, options = self._call(load_llm(self._candidate))
            if self._streams:
                chunks = iter(method(*arguments, **options))
                try:
                    with self._empty_is_no_error():
                        for chunk in chunks:
                            yield self._part(chunk)
                except Exception as error:
                    close_what_failed(error)
                    raise
                finally:
                    # Left to the garbage collector, it may be closed while its client holds a lock.
                    close(chunks)
            else:
                with overheard() as self._overheard:
                    output = method(*arguments, **options)
                yield self._part(output)
            self._check()

    async def aopen(self) -> AsyncIterator[Part]:
        """`open` without blocking the event loop."""
        with self._masking():
            method, arguments, options = self._call(await aload_llm(self._candidate))
            if self._streams:
                chunks = await method(*arguments, **options)
                try:
                    with self._empty_is_no_error():
                        async for chunk in chunks:
                            yield self._part(chunk)
                finally:
                    await aclose(chunks)
            else:
                with overheard() as self._overheard:
                    output = await method(*arguments, **options)
                yield self._part(output)
            self._check()

    def read(self, part: Part) -> None:
        """Note in the reply what a part says."""
        reply, said = self.reply, self._said(part.output)
        reply.refused = reply.refused or is_refusal(said)
        if not reply.has_words:
            self._lead.append(said)
            # A refusal is none, so that all of it is read before another candidate is asked.
            reply.has_words = not reply.refused and has_words(said)
        reply.text = text_of(part.output) if isinstance(said, Response) else reply.text + str(said)
        if not isinstance(said, Response):
            return
        reply.logprobs += logprobs_of(said)
        if not self._finished and (finished := is_finished(said)) is not None:
            self._finished = finished
        if usage := usage_of(said):
            reply.usage, self._realised = usage, realised(said, self._price)
            if self._realised is not None:
                reply.cost_usd = self._realised["cost_usd"]

    @property
    def shown(self) -> bool:
        """Whether something of the answer was shown within the call: LlamaIndex shows no tokens."""
        return False

    def failure(self, error: Exception) -> str | None:
        """A failure in a line of text, where another candidate may not share it."""
        # One that cannot be built was not asked: a package or a key of it is missing.
        unbuilt = not self.reply.was_asked
        refusals, own = self._transport.llm.pass_refusals, self._ask.is_own
        if not unbuilt and not may_pass(error, refusals=refusals, own=own):
            return None
        text = describe(error, secrets_in(self._candidate))
        if unbuilt and isinstance(self._candidate, LazyLLM):
            self._candidate.warn(text)
        return text

    def cut(self, part: Part, start: int, end: int | None) -> Part | None:
        """A part with some of its text only; None if there is nothing in it any more."""
        last = part.end if end is None else part.start + end
        found = part._replace(start=part.start + start, end=last, is_cut=True)
        is_left = found.text or (end is None and is_finished(self._said(part.output)))
        return found if is_left else None

    def with_metadata(self, part: Part) -> Part:
        """A part as it is: `Transport.output` marks all, also what a `Show` hands on."""
        return part

    def rest(self) -> Iterator[Part]:
        """Say how it ended; there is no part after the last.

        Raises:
            UnfinishedAnswerError: If nothing said why a stream ended, and streams are strict.
        """
        spent = self._transport.bill()
        unfinished = self._streams and self._finished is False
        if unfinished and self._transport.llm.strict_streams:
            raise UnfinishedAnswerError(self.reply.model)
        if self._last is not None:
            # Held back until now, each chunk would have come one later.
            last = self._last.additional_kwargs[DECISION]
            last |= {"bill": spent, **({UNFINISHED: True} if unfinished else {})}
        dispatcher.event(
            CrossRouteAnswerEvent(
                span_id=self._transport.span_id,
                model=self.reply.model,
                quality=self._decision["quality"],
                cost_usd=self._decision["cost_usd"],
                attempts=self._decision.get("attempts", []),
                realised=self._realised,
                unfinished=unfinished,
                bill=spent,
            )
        )
        return iter(())

    def decided(self, response: Response) -> Response:
        """A response with the decision on it."""
        # On a copy: the candidate's own events hold the response as it was.
        # A copy for each chunk: the last one may be marked once more.
        decision = {**self._decision}
        if self._realised is not None:
            decision["realised"] = self._realised
        update: dict[str, Any] = {
            "additional_kwargs": {**response.additional_kwargs, DECISION: decision}
        }
        if self._hides_logprobs:
            update["logprobs"] = None
        if self._streams != self._transport.streams and not self._transport.is_joined:
            # The last chunk without its delta is a whole answer.
            update["delta"] = None if self._streams else self.reply.text
        exploration = self._transport.exploration
        keeps = self._transport.llm.stay_margin is not None or exploration.is_on
        if keeps and isinstance(response, ChatResponse):
            of_message = {**response.message.additional_kwargs, ANSWERED_BY: self.reply.model}
            own = exploration.stays_with(self._decision)
            if own != self.reply.model:
                of_message[OWN_CHOICE] = own
            update["message"] = response.message.model_copy(
                update={"additional_kwargs": of_message}
            )
        decided = response.model_copy(update=update)
        self._last = decided
        return decided

    def _call(self, model: LLM) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The candidate's method, its positional and its keyword arguments."""
        request, name = self._transport.request, self._transport.method
        if isinstance(self._candidate, LazyLLM):
            self._transport.llm._adopt(self._ask.model, self._candidate, model)
        self.reply.was_asked = True
        if self._descriptor.kind != "model":
            self._agent = model = model.once()  # type: ignore[attr-defined]
        if self._streams != self._transport.streams:
            way = "a" if name.startswith("a") else ""
            name = name.removeprefix(way).removeprefix("stream_")
            name = f"{way}{'stream_' if self._streams else ''}{name}"
        if request.becomes_chat(self._ask):
            name = name.replace("complete", "chat")
        if self._ask.tools:
            check_calls_tools(model, self._ask)
            self._model = model
            name = f"{name.removesuffix('_with_tools')}_with_tools"
        # The caller's stream asks for its usage as the caller says.
        usage = self._streams and not (self._transport.streams and self._ask.role == "answer")
        ask = self._ask
        if usage or ask.settings:
            given = request.settings_in(request.options) or {}
            told, self._hides_logprobs = wished(model, given, ask.settings, usage=usage)
            ask = replace(ask, settings=told)
        arguments, options = request.arguments(ask)
        model, options = self._at_effort(model, options)
        most = ask.max_tokens or given_limit(ask.settings)
        if most is not None:
            settings = request.settings_in(options)
            model, changed = within(model, settings, most, exactly=ask.max_tokens is None)
            options = request.with_settings(options, changed)
        return getattr(model, name), arguments, options

    def _at_effort(self, model: LLM, options: dict[str, Any]) -> tuple[LLM, dict[str, Any]]:
        """The LLM at the effort of the ask, of the call, or of the candidate, in this order."""
        request, effort = self._transport.request, self._ask.effort
        settings = request.settings_in(options)
        effort = effort or effort_in(settings or {}) or self._effort
        if effort is None:
            return model, options
        found = at_effort(model, effort)
        if found is None and self._ask.effort is not None:
            tell_without_effort(type(model).__name__)
        if settings is not None and found is not None:
            # One that is set is not sent a second time, in words that its class may not know.
            schema = isinstance(request, PromptRequest)
            told = beside_effort(found, settings, effort, schema=schema)
            options = request.with_settings(options, told) if told or settings else options
        elif settings and self._ask.effort is not None:
            options = request.with_settings(options, dict(without_effort(settings)))
        return found or model, options

    def _part(self, output: Any) -> Part:
        tools = self._ask.tools or "tools" in self._transport.query.needs
        if tools and isinstance(output, ChatResponse) and has_calls(output):
            self._calls = output
        if self._transport.request.becomes_chat(self._ask):
            output = to_completion(output)
        # Chunks hold all of the text so far.
        start = self._length if self._streams and isinstance(output, Response) else 0
        self._length = len(text_of(output))
        return Part(self, output, min(start, self._length), self._length)

    def _said(self, output: Any) -> Any:
        """Of a text or an object, the response that it was made of, if one was overheard."""
        if isinstance(output, Response) or not self._overheard:
            return output
        return self._overheard[-1]

    def _check(self) -> None:
        """See that what has ended was an answer, and which tools it calls.

        Raises:
            NoAnswerError: If there was nothing in it.
        """
        if self._agent is not None:
            self.reply.messages = self._agent.course
        if self._calls is not None:
            self.reply.tool_calls = calls_in(self._model, self._calls)
            self.reply.has_words = True
        if self.reply.has_words or self.reply.refused or is_answer(self._lead):
            return
        if self._streams or isinstance(self._lead[0], Response):
            raise NoAnswerError(
                f"{self.reply.model} answered with nothing: no words, no tool call, and no word of "
                "why it ended."
            )

    @contextmanager
    def _empty_is_no_error(self) -> Iterator[None]:
        """LlamaIndex's own code fails on a stream without a chunk, in the event of its end."""
        try:
            yield
        except (ValidationError, UnboundLocalError) as error:
            modules = [frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__)]
            if self._lead or not _ENDS.intersection(modules[-2:]):
                raise

    @contextmanager
    def _masking(self) -> Iterator[None]:
        failed = False
        try:
            yield
        except Exception as error:
            failed = True
            masked = mask_error(error, secrets_in(self._candidate))
            if masked is error:
                raise
            raise masked from None
        finally:
            if self.reply.was_asked:
                self._count(failed=failed)

    def _count(self, *, failed: bool) -> None:
        """Tell the ledgers that it has ended, however it did."""
        pool = self._transport.candidates.router.pool
        for ledger in self._transport.ledgers:
            ledger.count(self.charge, self.reply, self._decision["cost_usd"], pool, failed=failed)
