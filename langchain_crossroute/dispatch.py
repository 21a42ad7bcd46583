"""The way of a call through a router: decide, try the candidates in order, mark the answer.

`CrossRouteRunnable`, `ChatCrossRoute` and `CrossRouteMiddleware` share it, and so do invoke, stream
and their async forms.
"""

# ruff: noqa: ANN401  # What passes through is whatever the models take and give.

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from inspect import Parameter, Signature
from types import TracebackType
from typing import Any

from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableConfig

from crossroute import (
    ConstraintError,
    Constraints,
    CrossRouter,
    Decision,
    NoAnswerError,
    NoCandidateError,
    Query,
    Stay,
)
from crossroute.errors import alike
from crossroute.failures import REFUSED, Failure, RefusedError, after, describe, mask_error, note
from crossroute.live import FollowedPool
from crossroute.query import output_limit
from langchain_crossroute.demands import LateCall, demands_of
from langchain_crossroute.failures import RequestTooLongError, is_refusal, passes, secrets_in
from langchain_crossroute.lazy import Candidates, LazyChatModel, aload_model, load_model
from langchain_crossroute.marks import DECISION, Marks, answered_by
from langchain_crossroute.messages import for_provider, to_messages, to_query
from langchain_crossroute.streams import (
    Watch,
    alead,
    answers,
    aopen_events,
    aopen_stream,
    is_answer,
    lead,
    open_events,
    open_stream,
    shows_tokens,
)

DECISION_EVENT = "crossroute_decision"
FAILURE_EVENT = "crossroute_attempt_failed"

DEFAULT_ATTEMPTS = 3
"""How many candidates are tried at most, the chosen one included."""

CALL_SETTINGS = [
    # The same for every router: those of one chain share them.
    ConfigurableFieldSpec(id=name, annotation=kind, description=text, is_shared=True)
    for name, kind, text in (
        ("willingness_to_pay", float | None, "USD a unit of quality; the router's own if None."),
        ("crossroute_model", str | None, "Id of the one model that may answer."),
        ("crossroute_allowed", list[str] | None, "Ids of the models that may answer."),
        ("crossroute_excluded", list[str] | None, "Ids of the models that may not answer."),
        ("crossroute_max_cost_usd", float | None, "The most that the call may cost, predicted."),
        ("crossroute_regions", list[str] | None, "Where the model may run, by its descriptor."),
        ("crossroute_max_data_retention_days", int | None, "How long the vendor may keep it."),
        ("crossroute_max_latency_seconds", float | None, "How long an answer usually may take."),
    )
]
"""What a call's `config["configurable"]` may say."""

PREFIX = "crossroute_"
KNOWN = [setting.id for setting in CALL_SETTINGS]
LIKENESS = 0.85
"""Names of others that are as like to one of these are misspelt, by difflib's ratio."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """How a router answers a call; the classes of this package make one from their fields.

    Attributes:
        router: Decides; its pool holds exactly `models`.
        models: The candidates by their ids.
        willingness_to_pay: lambda of calls that do not set their own, USD a unit of quality.
        attempts: How many candidates are tried at most.
        query: What to route by, a function of the input; None is the input itself.
        stay_margin: Margin of `Stay` in a conversation; None routes each turn by itself.
        pass_refusals: Whether the next candidate is asked where one refuses.
        strict_streams: Whether a stream that ends without a finish reason is an error.
        forced: Id of the one model that may answer; None leaves it to the config and the router.
        late: What is applied to the chosen model before it is called.
        live: The folder where router and models are taken from, for each call as it is then; None
            if they stay.
    """

    router: CrossRouter
    models: Mapping[str, Runnable[Any, Any]]
    willingness_to_pay: float
    attempts: int
    query: Callable[[Any], Any] | None = None
    stay_margin: float | None = None
    pass_refusals: bool = False
    strict_streams: bool = False
    forced: str | None = None
    late: LateCall | None = None
    live: FollowedPool[Candidates] | None = None

    def invoke(self, value: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        """Answer a call, in the config of the router's run."""
        call = self.decide(value, config, kwargs)
        for attempt in call.attempts():
            with attempt:
                model, request, settings = attempt.request()
                output = model.invoke(request, attempt.config, **settings)
                attempt.accept([output], output, answers(output) or not attempt.streamed)
                return attempt.marks().whole(output, streamed=attempt.streamed)
        return call.refusal()

    async def ainvoke(self, value: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        """`invoke` without blocking the event loop."""
        call = await self.adecide(value, config, kwargs)
        for attempt in call.attempts():
            async with attempt:
                model, request, settings = await attempt.arequest()
                output = await model.ainvoke(request, attempt.config, **settings)
                attempt.accept([output], output, answers(output) or not attempt.streamed)
                return attempt.marks().whole(output, streamed=attempt.streamed)
        return call.refusal()

    def stream(self, values: Iterator[Any], config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
        """Answer in chunks, in the config of the router's run; `values` holds the one input."""
        return self._stream(open_stream, values, config, **kwargs)

    def events(self, values: Iterator[Any], config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
        """Answer in the events of LangChain's protocol v3."""
        return self._stream(open_events, values, config, **kwargs)

    def astream(
        self, values: AsyncIterator[Any], config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """`stream` without blocking the event loop."""
        return self._astream(aopen_stream, values, config, **kwargs)

    def aevents(
        self, values: AsyncIterator[Any], config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """`events` without blocking the event loop."""
        return self._astream(aopen_events, values, config, **kwargs)

    def decide(
        self, value: Any, config: RunnableConfig, kwargs: dict[str, Any], **beside: Any
    ) -> Call:
        """What the router decides for a call; whoever listens is told.

        Args:
            value: Input of the call.
            config: Config of the router's run.
            kwargs: Keyword arguments of the call.
            **beside: `demands`, keyword arguments that say what a model must be able to do, if the
                call's own do not; `last`, id of the model that answered before, if the messages do
                not name it; `keep`, whether to stay with that one wherever it may serve.
        """
        asked, keep = self._asked(value, config, kwargs, **beside)
        now = self if self.live is None else self._with(self.live.current)
        try:
            decision = now.router.route(**asked)
        except NoCandidateError as error:
            raise now._unservable(asked, error) from None
        call = Call(now, value, config, kwargs, _kept(decision, keep))
        _emit(config, DECISION_EVENT, call.decided)
        return call

    async def adecide(
        self, value: Any, config: RunnableConfig, kwargs: dict[str, Any], **beside: Any
    ) -> Call:
        """`decide` without blocking the event loop."""
        asked, keep = self._asked(value, config, kwargs, **beside)
        now = self if self.live is None else self._with(await self.live.acurrent())
        try:
            decision = await now.router.aroute(**asked)
        except NoCandidateError as error:
            raise now._unservable(asked, error) from None
        call = Call(now, value, config, kwargs, _kept(decision, keep))
        await _aemit(config, DECISION_EVENT, call.decided)
        return call

    def _with(self, candidates: Candidates) -> Dispatch:
        return replace(self, router=candidates.router, models=candidates.models)

    def _unservable(self, asked: dict[str, Any], error: NoCandidateError) -> NoCandidateError:
        """The error that says whether a shorter request could be served."""
        shorter = {**asked, "query": replace(asked["query"], input_tokens=0.0)}
        try:
            self.router.route(**shorter)
        except NoCandidateError:
            return error
        return RequestTooLongError(error.reasons)

    def _stream(
        self,
        opened: Callable[..., Any],
        values: Iterator[Any],
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Iterator[Any]:
        (value,) = values
        call = self.decide(value, config, kwargs)
        for attempt in call.attempts():
            # Only up to the first chunk with content: what was emitted is not taken back.
            with attempt:
                model, request, settings = attempt.request()
                chunks = opened(model, request, attempt.config, **settings)
                held = lead(chunks, pass_refusals=self.pass_refusals)
                attempt.accept(held, (held, chunks), is_answer(held))
                break
        else:
            attempt, (held, chunks) = call.refused
        marks = attempt.marks()
        try:
            for chunk in held:
                yield marks.of(chunk)
            for chunk in chunks:
                yield marks.of(chunk)
            yield from marks.rest()
        except Exception as error:
            mask_error(error, attempt.secrets)
            raise
        finally:
            # A stream that is abandoned ends its run now, not when it is collected.
            if hasattr(chunks, "close"):
                chunks.close()

    async def _astream(
        self,
        opened: Callable[..., Any],
        values: AsyncIterator[Any],
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        (value,) = [value async for value in values]
        call = await self.adecide(value, config, kwargs)
        for attempt in call.attempts():
            async with attempt:
                model, request, settings = await attempt.arequest()
                chunks = opened(model, request, attempt.config, **settings)
                held = await alead(chunks, pass_refusals=self.pass_refusals)
                attempt.accept(held, (held, chunks), is_answer(held))
                break
        else:
            attempt, (held, chunks) = call.refused
        marks = attempt.marks()
        try:
            for chunk in held:
                yield marks.of(chunk)
            async for chunk in chunks:
                yield marks.of(chunk)
            for chunk in marks.rest():
                yield chunk
        except Exception as error:
            mask_error(error, attempt.secrets)
            raise
        finally:
            if hasattr(chunks, "aclose"):
                await chunks.aclose()

    def _asked(
        self,
        value: Any,
        config: RunnableConfig,
        kwargs: Mapping[str, Any],
        *,
        demands: Mapping[str, Any] | None = None,
        last: str | None = None,
        keep: bool = False,
    ) -> tuple[dict[str, Any], str | None]:
        """What the router is asked, and the model to keep wherever it may serve."""
        messages = to_messages(value if self.query is None else self.query(value))
        needs, text = demands_of(kwargs if demands is None else demands)
        if self.late is not None:
            late_needs, late_text = self.late.demands
            needs, text = needs | late_needs, text + late_text
        settings = config.get("configurable") or {}
        for name in settings:
            if wrong := _misspelt(name):
                raise ConstraintError(f"configurable: {wrong} The settings are {', '.join(KNOWN)}.")
        willingness = settings.get("willingness_to_pay")
        stay = None
        if last is None:
            last = answered_by(messages)
        if self.stay_margin is not None and last:
            stay = Stay(last, self.stay_margin)
        asked = {
            "query": Query.of(
                to_query(messages), needs=needs, tools=text, output_tokens=output_limit(kwargs)
            ),
            "willingness_to_pay": self.willingness_to_pay if willingness is None else willingness,
            "constraints": Constraints(
                model=settings.get("crossroute_model") if self.forced is None else self.forced,
                allowed=settings.get("crossroute_allowed"),
                excluded=settings.get("crossroute_excluded") or (),
                max_cost_usd=settings.get("crossroute_max_cost_usd"),
                regions=settings.get("crossroute_regions"),
                max_data_retention_days=settings.get("crossroute_max_data_retention_days"),
                max_latency_seconds=settings.get("crossroute_max_latency_seconds"),
            ),
            "stay": stay,
        }
        return asked, last if keep else None


class Entry:
    """A method of `Dispatch` as LangChain calls it.

    It looks for `config` in the signature of what it calls, in every call; finding it here takes
    no time, inspecting a bound method takes longer than all of a router's own work.
    """

    __signature__ = Signature([Parameter("config", Parameter.KEYWORD_ONLY)])

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self._method(*args, **kwargs)


class Call:
    """One call while its candidates are tried.

    Attributes:
        decided: The decision as plain values.
        failures: The model and the error of each attempt that failed.
        left: How many candidates may still be asked.
        refused: The first attempt that was refused, and what came of it; None if none was.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        value: Any,
        config: RunnableConfig,
        kwargs: dict[str, Any],
        decision: Decision,
    ) -> None:
        self.dispatch = dispatch
        self.value = value
        self.config = config
        self.kwargs = kwargs
        self.decision = decision
        self.decided = decision.to_dict()
        self.failures: list[Failure] = []
        self.left = dispatch.attempts
        self.refused: Any = None

    def attempts(self) -> Iterator[Attempt]:
        """One for each candidate that may be tried, the preferred first."""
        for position in range(len(self.decision.candidates)):
            if self.left:
                yield Attempt(self, position)

    def refusal(self) -> Any:
        """The first refusal, where no candidate answered."""
        attempt, output = self.refused
        return attempt.marks().whole(output)


class Attempt:
    """One candidate's try; as a context manager it decides what becomes of an error in it.

    A failure that another candidate may not share is noted and suppressed, as long as there is
    another candidate and nothing was emitted, which is not taken back; every other error passes.

    Attributes:
        id: Id of the candidate.
        told: The decision as plain values, with this candidate as its model.
        config: The config of the candidate's run.
        watch: Sees what the candidate emits to callbacks; None if none of them shows tokens.
    """

    def __init__(self, call: Call, position: int) -> None:
        chosen = call.decision.candidates[position]
        self.call = call
        self.id = chosen.model
        self._position = position
        self._candidate = call.dispatch.models[chosen.model]
        self._is_built = False
        self.told = after(call.decision, chosen.model, call.failures)
        metadata = {
            **call.config.get("metadata", {}),
            "crossroute_model": chosen.model,
            DECISION: self.told,
        }
        self.config: RunnableConfig = {**call.config, "metadata": metadata}
        self.watch: Watch | None = None

    @property
    def next(self) -> str | None:
        """Id of the candidate to try after this one; None if there is none."""
        rest = self.call.decision.candidates[self._position + 1 :]
        return rest[0].model if rest and self.call.left and not self._has_emitted else None

    @property
    def secrets(self) -> list[str]:
        """What the candidate's clients hold as secret."""
        return secrets_in(self._candidate)

    @property
    def _has_emitted(self) -> bool:
        return self.watch is not None and self.watch.shown

    def request(self) -> tuple[Runnable[Any, Any], Any, dict[str, Any]]:
        """The candidate as it is called, its input and its keyword arguments."""
        return self._request(load_model(self._candidate))

    async def arequest(self) -> tuple[Runnable[Any, Any], Any, dict[str, Any]]:
        """`request` without blocking the event loop."""
        return self._request(await aload_model(self._candidate))

    @property
    def streamed(self) -> bool:
        """Whether the model streamed within `invoke`."""
        return bool(self.watch.streamed if self.watch else self.call.kwargs.get("stream"))

    def accept(self, outputs: Sequence[Any], whole: Any, answered: bool) -> None:
        """See that the outputs are an answer, and no refusal, unless they were emitted already.

        Args:
            outputs: Messages, chunks or events.
            whole: What to keep in case that no other candidate does better.
            answered: Whether they are more than a stream with nothing in it.

        Raises:
            RefusedError: If one is a refusal, and refusals pass to the next candidate.
            NoAnswerError: If they are no answer.
        """
        if self._has_emitted:
            return
        if self.call.dispatch.pass_refusals and any(map(is_refusal, outputs)):
            if self.call.refused is None:
                self.call.refused = self, whole
            raise RefusedError
        if not answered:
            raise NoAnswerError(
                f"The stream of {self.id!r} ended with nothing in it, not even a finish reason."
            )

    def marks(self) -> Marks:
        """What the answer is marked with."""
        dispatch = self.call.dispatch
        price = dispatch.router.pool[self.id].price
        return Marks(self.told, price, strict=dispatch.strict_streams)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if failure := self._failure(error):
            _emit(self.call.config, FAILURE_EVENT, failure)
        return self._goes_on(failure)

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if failure := self._failure(error):
            await _aemit(self.call.config, FAILURE_EVENT, failure)
        return self._goes_on(failure)

    def _request(self, model: Runnable[Any, Any]) -> tuple[Runnable[Any, Any], Any, dict[str, Any]]:
        self._is_built = True
        self.call.left -= 1
        # Also what a model shows within `invoke`, which streams if a handler wants it to.
        callbacks: Any = self.config["callbacks"]
        own = getattr(model, "callbacks", None)
        if any(map(shows_tokens, (*callbacks.handlers, *(getattr(own, "handlers", own) or ())))):
            self.watch = Watch()
            callbacks = callbacks.copy()
            callbacks.add_handler(self.watch)
            self.config["callbacks"] = callbacks
        value, settings = for_provider(model, self.call.value, self.call.kwargs)
        late = self.call.dispatch.late
        return model if late is None else late.on(self.id, model), value, settings

    def _failure(self, error: BaseException | None) -> dict[str, Any] | None:
        """What to tell of an error that another candidate may not share; None for others."""
        if error is None:
            return None
        # One that cannot be built was not asked: a package or a key of it is missing.
        unbuilt = not self._is_built and isinstance(error, Exception)
        passing = unbuilt or passes(error, refusals=self.call.dispatch.pass_refusals)
        failures, secrets = self.call.failures, self.secrets
        refused = isinstance(error, RefusedError)
        if passing:
            told = REFUSED if refused else describe(error, secrets)
            failures.append({"model": self.id, "error": told})
            if unbuilt and isinstance(self._candidate, LazyChatModel):
                self._candidate.tell(told)
        mask_error(error, secrets)
        if not refused:
            note(error, failures)
        return {**failures[-1], "next": self.next} if passing else None

    def _goes_on(self, failure: Mapping[str, Any] | None) -> bool:
        return (
            failure is not None
            and not self._has_emitted
            and (self.next is not None or self.call.refused is not None)
        )


@lru_cache(maxsize=256)
def _misspelt(name: str) -> str | None:
    """What is wrong with the name of a setting; None if it is known, or that of somebody else."""
    if name in KNOWN:
        return None
    if name.startswith(PREFIX):
        bare = {known.removeprefix(PREFIX): known for known in KNOWN}
        meant = [bare[one] for one in alike(name.removeprefix(PREFIX), bare)]
    # Who names a setting of the own after one of these means no other.
    elif any(known in name for known in KNOWN) or not (
        meant := get_close_matches(name.lower().replace("-", "_"), KNOWN, n=1, cutoff=LIKENESS)
    ):
        return None
    return f"there is no {name!r}" + (f"; did you mean {meant[0]!r}?" if meant else ".")


def _kept(decision: Decision, model: str | None) -> Decision:
    """The decision with that model before all others, if it is a candidate."""
    kept = next((c for c in decision.candidates if c.model == model), None)
    if kept is None or model == decision.model:
        return decision
    return replace(
        decision,
        model=kept.model,
        quality=kept.quality,
        cost_usd=kept.cost_usd,
        candidates=(kept, *(c for c in decision.candidates if c is not kept)),
        kept=True,
    )


def _emit(config: RunnableConfig, name: str, data: dict[str, Any]) -> None:
    manager: Any = config["callbacks"]
    if manager.handlers:
        manager.on_custom_event(name, data, run_id=manager.parent_run_id)


async def _aemit(config: RunnableConfig, name: str, data: dict[str, Any]) -> None:
    manager: Any = config["callbacks"]
    if manager.handlers:
        await manager.on_custom_event(name, data, run_id=manager.parent_run_id)
