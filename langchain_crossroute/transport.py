"""How LangChain's models are asked: one exchange for each ask of a strategy."""

# ruff: noqa: ANN401  # What passes through is whatever the models take and give.

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from crossroute import CrossRouter, NoAnswerError, Query, QueryError
from crossroute.errors import StrategyError
from crossroute.failures import describe, is_pause, mask_error, secrets_in_values
from crossroute.models.efforts import arm_of
from crossroute.query import given_limit
from crossroute.strategies import Ask, Charge, Reply, Usage, bill, charge
from crossroute.strategies.base import begun, has_words
from langchain_crossroute.demands import LateCall
from langchain_crossroute.failures import is_refusal, passes, secrets_in
from langchain_crossroute.lazy import LazyChatModel, aload_model, load_model
from langchain_crossroute.limits import within
from langchain_crossroute.messages import for_provider, from_dicts, to_messages
from langchain_crossroute.metadata import (
    DECISION,
    AnswerMetadata,
    cut,
    is_whole,
    message_of,
    text_and_usage,
    tokens_of,
    without_logprobs,
)
from langchain_crossroute.streams import (
    LogprobObserver,
    StreamObserver,
    UsageObserver,
    answers,
    muted,
    shows,
    shows_tokens,
    told_by,
)
from langchain_crossroute.tools import OF_TOOLS, call_in_event, calls_in, with_tools
from langchain_crossroute.wishes import LOGPROBS, Wishes

if TYPE_CHECKING:
    from langchain_crossroute.agents import Adapted

FAILURE_EVENT = "crossroute_attempt_failed"


@dataclass(frozen=True, slots=True)
class Form:
    """The form in which a candidate is called, and in which its answer comes.

    Attributes:
        open: Calls it; gives the parts of its answer.
        aopen: The same without blocking the event loop.
        is_whole: Whether the answer is one part.
        each: Applies a function to every output in a part.
    """

    open: Callable[..., Iterator[Any]]
    aopen: Callable[..., AsyncIterator[Any]]
    is_whole: bool = False
    each: Callable[[Any, Callable[[Any], Any]], Any] = lambda part, change: change(part)


def _whole(model: Any, value: Any, config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
    yield model.invoke(value, config, **kwargs)


async def _awhole(
    model: Any, value: Any, config: RunnableConfig, **kwargs: Any
) -> AsyncIterator[Any]:
    yield await model.ainvoke(value, config, **kwargs)


def _chunks(model: Any, value: Any, config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
    yield from model.stream(value, config, **kwargs)


async def _achunks(
    model: Any, value: Any, config: RunnableConfig, **kwargs: Any
) -> AsyncIterator[Any]:
    chunks = model.astream(value, config, **kwargs)
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        if hasattr(chunks, "aclose"):
            await chunks.aclose()


def _events(model: Any, value: Any, config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
    yield from model.stream_events(value, config, version="v3", **kwargs)


async def _aevents(
    model: Any, value: Any, config: RunnableConfig, **kwargs: Any
) -> AsyncIterator[Any]:
    async with await model.astream_events(value, config, version="v3", **kwargs) as stream:
        async for event in stream:
            yield event


WHOLE = Form(_whole, _awhole, is_whole=True)
CHUNKS = Form(_chunks, _achunks)
EVENTS = Form(_events, _aevents)
"""Of LangChain's protocol v3."""


@dataclass(slots=True)
class Transport:
    """Asks the candidates of one call.

    Attributes:
        router: Its pool has the prices.
        models: The candidates by their ids.
        query: What was routed.
        said: The conversation that it was read of.
        value: Input of the call.
        config: Config of the router's run.
        kwargs: Keyword arguments of the call.
        form: The form of the call.
        late: What is applied to a candidate before it is called.
        pass_refusals: Whether an error that stands for a refusal passes to another candidate.
        strict_streams: Whether a stream that ends without a finish reason is an error.
        asked: All exchanges so far.
        answered: The exchange that the answer is from, as soon as there is one.
        muted: Ids of messages whose tokens nobody was shown.
    """

    router: CrossRouter
    models: Mapping[str, Runnable[Any, Any]]
    query: Query
    said: str | list[BaseMessage]
    value: Any
    config: RunnableConfig
    kwargs: Mapping[str, Any]
    form: Form
    late: LateCall | None
    pass_refusals: bool
    strict_streams: bool
    asked: list[Exchange] = field(default_factory=list)
    answered: Any = None
    muted: set[str] = field(default_factory=set)

    def exchange(self, ask: Ask, decision: dict[str, Any]) -> Exchange:
        """One ask, not opened yet."""
        self.asked.append(Exchange(self, ask, decision))
        return self.asked[-1]

    def form_of(self, ask: Ask) -> Form:
        """The form in which an ask is made, before it is an exchange."""
        looks_into = ask.until not in (None, begun, has_words)
        if self.form is WHOLE:
            # A whole answer is made of a stream only where the strategy looks into it.
            return CHUNKS if looks_into else WHOLE
        if self.form is EVENTS:
            # What may be one of several parts of the answer is made events of with the others.
            is_alone = ask.role == "answer" and all(map(_gave_nothing, self.asked))
            return EVENTS if is_alone and not looks_into and not ask.tools else CHUNKS
        return self.form

    def bill(self) -> dict[str, Any]:
        """What all asks of the call have cost so far."""
        return bill(one.charge for one in self.asked if one.reply.was_asked)

    def report(self, failure: dict[str, Any]) -> None:
        """Dispatch the event that a candidate failed."""
        emit(self.config, FAILURE_EVENT, lambda: failure)

    async def areport(self, failure: dict[str, Any]) -> None:
        """`report` without blocking the event loop."""
        await aemit(self.config, FAILURE_EVENT, lambda: failure)


class Exchange:
    """One candidate that is asked, and what comes back.

    Attributes:
        reply: What the strategy sees of it.
        decision: The decision as plain values, with this candidate as its model.
        config: The config of the candidate's run.
        has_come: Whether a part has come of it, which may be shown.
    """

    def __init__(self, transport: Transport, ask: Ask, decision: dict[str, Any]) -> None:
        self.reply = Reply(ask.model, was_asked=False)
        self.decision = decision
        self.has_come = False
        metadata = {
            **transport.config.get("metadata", {}),
            "crossroute_model": ask.model,
            "crossroute_role": ask.role,
            "crossroute_kind": transport.router.pool[ask.model].kind,
            DECISION: decision,
        }
        self.config: RunnableConfig = {**transport.config, "metadata": metadata}
        self._transport = transport
        self._ask = ask
        self._candidate = transport.models[ask.model]
        self._descriptor = transport.router.pool[ask.model]
        self._price = self._descriptor.price
        self._adapted: Adapted | None = None
        arm = arm_of(self._descriptor)
        # A candidate's own effort: a model at several of them may be one client.
        self._effort = None if arm is None else arm.effort
        self._metadata = AnswerMetadata(
            decision, self._price, strict=transport.strict_streams, bill=transport.bill
        )
        self._observer: StreamObserver | None = None
        self._usage: UsageObserver | None = None
        self._is_answer = False
        # Whether the log-probabilities on the answer are none of the caller's business.
        self._hides_logprobs = False
        self._form = transport.form_of(ask)
        # What may hold calls of tools, of the ask's own or of the caller's.
        self._said: list[AIMessage] = []

    @property
    def charge(self) -> Charge:
        """What it has cost so far."""
        reply, seen = self.reply, self._usage
        if reply.usage is None and seen is not None and seen.tokens is not None:
            reply.usage = Usage(*seen.tokens)
            if self._price is not None:
                reply.cost_usd = 0.0 if seen.is_free else float(self._price.cost_usd(*reply.usage))
        a_call = self._descriptor.cost_usd_a_call
        return charge(
            self._ask,
            reply,
            self._price,
            self._transport.query,
            cost_usd_a_call=a_call,
            shortened=self.decision.get("shortened", {}),
        )

    @property
    def shown(self) -> bool:
        """Whether handlers have passed on something of the answer."""
        return self._observer is not None and self._observer.shown

    def open(self) -> Iterator[Any]:
        """Ask; the parts of the answer as they come."""
        with self._masking():
            request = self._request(load_model(self._candidate))
            parts: Any = self._form.open(*request[:2], self.config, **request[2])
            yield from self._hiding(parts) if self._hides_logprobs else parts
            self._check()

    async def aopen(self) -> AsyncIterator[Any]:
        """`open` without blocking the event loop."""
        with self._masking():
            request = self._request(await aload_model(self._candidate))
            parts: Any = self._form.aopen(*request[:2], self.config, **request[2])
            try:
                async for part in parts:
                    hides = self._hides_logprobs
                    yield self._form.each(part, without_logprobs) if hides else part
            finally:
                await parts.aclose()
            self._check()

    def read(self, part: Any) -> None:
        """Note in the reply what a part says."""
        self.has_come = True
        if self._ask.role != "answer" and isinstance(part, BaseMessage) and part.id is not None:
            self._transport.muted.add(part.id)
        self._form.each(part, self._read)

    def failure(self, error: Exception) -> str | None:
        """A failure in a line of text, where another candidate may not share it."""
        # One that cannot be built was not asked: a package or a key of it is missing.
        unbuilt = not self.reply.was_asked
        refusals, own = self._transport.pass_refusals, self._ask.is_own
        if self._adapted is not None and self._adapted.cannot(error):
            return describe(error, self._secrets)
        if not unbuilt and not passes(error, refusals=refusals, own=own):
            return None
        text = describe(error, self._secrets)
        if unbuilt and isinstance(self._candidate, LazyChatModel):
            self._candidate.warn(text)
        return text

    def cut(self, part: Any, start: int, end: int | None) -> Any:
        """A part with some of its text only; None if there is nothing in it any more."""
        found = self._form.each(part, lambda output: cut(output, start, end))
        message = message_of(found)
        if not (found if message is None else answers(found) or text_and_usage(found)[1]):
            return None
        return found

    def with_metadata(self, part: Any) -> Any:
        """A part with what belongs on it: the decision, what it really cost."""
        self._transport.answered = self
        if self._form.is_whole:
            return self._form.each(part, self._whole)
        return self._metadata.of(part)

    def rest(self) -> Iterator[Any]:
        """A last chunk, where none of the candidate's was marked as last."""
        return self._metadata.rest()

    @property
    def _secrets(self) -> list[str]:
        """What the candidate's clients hold as secret, and the headers of the call."""
        return [*secrets_in(self._candidate), *secrets_in_values(self._transport.kwargs)]

    @property
    def _streamed(self) -> bool:
        """Whether the model streamed, be it within `invoke`."""
        if self._adapted is not None:
            return False
        if not self._form.is_whole:
            return True
        return (
            self._observer.streamed
            if self._observer
            else bool(self._transport.kwargs.get("stream"))
        )

    def _whole(self, output: Any) -> Any:
        return self._metadata.whole(output, streamed=self._streamed)

    def _read(self, output: Any) -> Any:
        reply = self.reply
        found = answers(output) or (not self._form.is_whole and is_whole(output))
        self._is_answer = self._is_answer or found
        if self._form.is_whole:
            reply.has_words = reply.has_words or answers(output) or not self._streamed
        else:
            reply.has_words = reply.has_words or shows(output)
        # What handlers have passed on is not taken back, be it a refusal.
        reply.refused = reply.refused or (is_refusal(output) and not self.shown)
        if self._ask.tools or "tools" in self._transport.query.needs:
            message = message_of(output) or call_in_event(output)
            self._said += [message] if isinstance(message, AIMessage) else []
        text, usage = text_and_usage(output)
        reply.text += text
        if tokens := tokens_of(usage):
            counted = zip(reply.usage or (0, 0, 0, 0), tokens, strict=True)
            reply.usage = Usage(*map(sum, counted))
            if self._price is not None:
                reply.cost_usd = float(self._price.cost_usd(*reply.usage))
        if usage and usage.get("total_cost") == 0:
            # So LangChain's own cache marks an answer.
            reply.cost_usd = 0.0
        return output

    def _check(self) -> None:
        """See that a stream that has ended was an answer, and which tools it calls.

        Raises:
            NoAnswerError: If there was nothing in it.
        """
        if self._streamed and not self._is_answer and not self.shown:
            raise NoAnswerError(
                f"The stream of {self._ask.model!r} ended with nothing in it, not even a finish "
                "reason."
            )
        self.reply.tool_calls = calls_in(self._said)
        if self._adapted is not None:
            self.reply.messages = self._adapted.course

    def _request(self, model: Runnable[Any, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """The candidate as it is called, its input and its keyword arguments."""
        transport, ask = self._transport, self._ask
        self.reply.was_asked = True
        own = {name: value for name, value in ask.settings.items() if name != LOGPROBS}
        wishes = Wishes(
            logprobs=bool(ask.settings.get(LOGPROBS)),
            # A whole answer says its usage, and of what is no answer the bill alone is told.
            usage=not self._form.is_whole and (ask.role != "answer" or transport.form.is_whole),
            fresh=ask.fresh,
            muted=ask.role != "answer",
            effort=ask.effort or self._effort,
            effort_wins=ask.effort is not None,
        )
        self._listen(model, logprobs=wishes.logprobs or bool(transport.kwargs.get(LOGPROBS)))
        value, late = transport.value, transport.late
        if self._descriptor.kind not in ("model", "chain"):
            # Retrievers and tools take a while to import, and most calls need none.
            from langchain_crossroute.agents import Adapted

            said = transport.said
            if ask.keep is not None or ask.then:
                said = _chosen(said, ask)
            self._adapted = Adapted(ask.model, self._descriptor.kind, model, said)
            return self._adapted, value, {**transport.kwargs}
        if ask.keep is not None or ask.then:
            value = _chosen(value, ask)
        given = transport.kwargs
        if ask.is_own:
            # The form is one of the answer to the caller.
            given = {name: value for name, value in given.items() if name != "response_format"}
        if ask.tools:
            # In the place of the caller's, bound or given.
            given = {name: value for name, value in given.items() if name not in OF_TOOLS}
            called = with_tools(model, ask)
        else:
            called = model if late is None else late.on(ask.model, model)
        value, settings = for_provider(model, value, dict(wishes.settings({**given, **own})))
        called, self._hides_logprobs = wishes.of(called, settings)
        if wishes.muted:
            called = told_by(called, self.config["callbacks"])
        if ask.max_tokens is not None:
            called, settings = within(called, settings, ask.max_tokens)
        elif limit := given_limit(own):
            called, settings = within(called, settings, limit, exactly=True)
        return called, value, settings

    def _listen(self, model: Runnable[Any, Any], *, logprobs: bool) -> None:
        """Set who is told of the candidate's run: the caller's handlers, and our own."""
        callbacks: Any = self.config["callbacks"]
        of_model = getattr(model, "callbacks", None)
        late = self._transport.late
        # Of a chain, which may end in whatever, and where a schema is parsed.
        if (late is not None and late.hides_usage) or not hasattr(model, "_llm_type"):
            self._usage = UsageObserver()
            callbacks = callbacks.copy()
            callbacks.add_handler(self._usage)
            self.config["callbacks"] = callbacks
        of_model = getattr(of_model, "handlers", of_model) or ()
        if any(map(shows_tokens, (*callbacks.handlers, *of_model))):
            callbacks = callbacks.copy()
            if self._ask.role == "answer":
                # Also what a model shows within `invoke`, which streams if a handler wants it to.
                self._observer = StreamObserver()
                callbacks.add_handler(self._observer)
            else:
                callbacks = muted(callbacks)
                # What LangGraph goes by, also for a message that was not streamed.
                callbacks.add_tags(["nostream"])
            self.config["callbacks"] = callbacks
        if logprobs:
            callbacks = callbacks.copy()
            callbacks.add_handler(LogprobObserver(self.reply.logprobs))
            self.config["callbacks"] = callbacks

    def _hiding(self, parts: Any) -> Iterator[Any]:
        """The parts of an answer without their log-probabilities."""
        with closing(parts):
            for part in parts:
                yield self._form.each(part, without_logprobs)

    @contextmanager
    def _masking(self) -> Iterator[None]:
        failed = False
        try:
            yield
        except Exception as error:
            failed = not is_pause(error)
            masked = mask_error(error, self._secrets)
            if masked is error:
                raise
            raise masked from None
        finally:
            if self.reply.was_asked and self._descriptor.kind != "model":
                self._tell_ledgers(failed=failed)

    def _tell_ledgers(self, *, failed: bool) -> None:
        """Tell the ledgers among the callback handlers what a candidate that is no model cost.

        They see the runs of models, of which it may have made none, one or many.
        """
        handlers: Any = getattr(self._transport.config["callbacks"], "handlers", ())
        for handler in handlers:
            if hasattr(type(handler), "on_crossroute_ask"):
                handler.on_crossroute_ask(
                    self.charge, self.reply, self.decision["cost_usd"], failed=failed
                )


def _gave_nothing(one: Exchange) -> bool:
    return one.reply.failed and not one.has_come


def _chosen(value: Any, ask: Ask) -> list[BaseMessage]:
    """The caller's messages that an ask keeps, and its own after them.

    Raises:
        StrategyError: If the input of the call is no conversation, as of a chain that takes a dict.
    """
    try:
        found = to_messages(value)
    except QueryError as error:
        raise StrategyError(
            f"A strategy asks {ask.model!r} with messages of its own or with some of the caller's, "
            f"but the input of the call is of type {type(value).__name__}. Give candidates that "
            "take messages, or a strategy that asks with the input as it is: one without a "
            "question on a draft, a word of refusal, or brief answers."
        ) from error
    if isinstance(found, str):
        found = from_dicts([{"role": "user", "content": found}])
    kept = found if ask.keep is None else [found[position] for position in ask.keep]
    return [*kept, *from_dicts(ask.then)]


def emit(config: RunnableConfig, name: str, data: Callable[[], dict[str, Any]]) -> None:
    """Dispatch a custom event in a run, if anybody listens."""
    manager: Any = config["callbacks"]
    if manager.handlers:
        manager.on_custom_event(name, data(), run_id=manager.parent_run_id)


async def aemit(config: RunnableConfig, name: str, data: Callable[[], dict[str, Any]]) -> None:
    """`emit` without blocking the event loop."""
    manager: Any = config["callbacks"]
    if manager.handlers:
        await manager.on_custom_event(name, data(), run_id=manager.parent_run_id)
