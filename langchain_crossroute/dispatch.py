"""The way of a call through a router: decide, then let a strategy say whom to ask.

`CrossRouteRunnable`, `ChatCrossRoute` and `CrossRouteMiddleware` share it, and so do invoke, stream
and their async forms.
"""

# ruff: noqa: ANN401  # What passes through is whatever the models take and give.

from __future__ import annotations

import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache, partial, reduce
from inspect import Parameter, Signature
from operator import add
from typing import Any, NamedTuple

from langchain_core.messages import AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config

from crossroute import (
    ConstraintError,
    CrossRouteError,
    CrossRouter,
    Decision,
    InfeasibleError,
    NoCandidateError,
    Query,
    Stay,
)
from crossroute.call_settings import SETTINGS, limits_of
from crossroute.candidates import Candidates, buildable
from crossroute.ceiling import Ceiling
from crossroute.errors import alike
from crossroute.exploration import ROUTERS_CHOICE, Exploration
from crossroute.guard import Guard
from crossroute.models.followed_folder import FollowedFolder
from crossroute.query import Message, output_limit
from crossroute.strategies import Ended, Flow, Listener, PickOne, Strategy, Task, adrive, drive
from crossroute.strategies.wrappers import flow_of, for_call
from langchain_crossroute.demands import LateCall, demands_of, openai_tools
from langchain_crossroute.failures import RequestTooLongError
from langchain_crossroute.graphs import ashown, readers, shown
from langchain_crossroute.lazy import LazyChatModel
from langchain_crossroute.messages import to_messages, to_query
from langchain_crossroute.metadata import as_chunk, last_decision
from langchain_crossroute.protocol import aas_events, as_events
from langchain_crossroute.transport import CHUNKS, EVENTS, WHOLE, Form, Transport, aemit, emit

DECISION_EVENT = "crossroute_decision"

DEFAULT_ATTEMPTS = 3
"""How many candidates are tried at most, the chosen one included."""

# JSON has no other collection.
_LISTS: dict[Any, Any] = {Collection[str] | None: list[str] | None}

PREFIX = "crossroute_"
IDS = {
    one.name: one.name if one.name == "willingness_to_pay" else PREFIX + one.name
    for one in SETTINGS
}
"""What the settings of a call are named in `config["configurable"]`."""

CALL_SETTINGS = [
    # The same for every router: those of one chain share them.
    ConfigurableFieldSpec(
        id=IDS[name], annotation=_LISTS.get(kind, kind), description=text, is_shared=True
    )
    for name, kind, text in SETTINGS
]
"""What a call's `config["configurable"]` may say."""

BUDGET = PREFIX + "budget_usd"
"""What the config of a batch may say: the most that its calls may cost together, in USD."""
BATCH_SETTINGS = [
    ConfigurableFieldSpec(
        id=BUDGET,
        annotation=float | None,
        description="The most that a batch may cost in all, as predicted, in USD.",
        is_shared=True,
    )
]

_DECIDED = "__crossroute_decided"
"""Where a batch that is decided together has the decision of each of its calls."""

KNOWN = [setting.id for setting in (*CALL_SETTINGS, *BATCH_SETTINGS)]
LIKENESS = 0.85
"""Names of others that are as like to one of these are misspelt, by difflib's ratio."""


_SELF = Parameter("self", Parameter.POSITIONAL_ONLY)
_CONFIG = Parameter("config", Parameter.KEYWORD_ONLY)


def _taking_config(method: Callable[..., Any]) -> Callable[..., Any]:
    """Say that a method takes `config`, for which LangChain looks twice in every call.

    To find it here takes it a fifth of the time that it takes to inspect the method.
    """
    method.__signature__ = Signature([_SELF, _CONFIG])  # type: ignore[attr-defined]
    return method


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
        strategy: How calls are answered; None asks one candidate after the other.
        exploration: Whom to ask beside the router's choice.
        forced: Id of the one model that may answer; None leaves it to the config and the router.
        late: What is applied to the chosen model before it is called.
        live: The folder where router and models are taken from, for each call as it is then; None
            if they stay.
        guard: Keeps calls from models that rest, and under the ceilings of a day; None does not.
    """

    router: CrossRouter
    models: Mapping[str, Runnable[Any, Any]]
    willingness_to_pay: float
    attempts: int
    query: Callable[[Any], Any] | None = None
    stay_margin: float | None = None
    pass_refusals: bool = False
    strict_streams: bool = False
    strategy: Strategy | None = None
    exploration: Exploration = ROUTERS_CHOICE
    forced: str | None = None
    late: LateCall | None = None
    live: FollowedFolder[Candidates[LazyChatModel]] | None = None
    guard: Guard | None = None

    @_taking_config
    def invoke(self, value: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        """Answer a call, in the config of the router's run."""
        call = self.decide(value, config, kwargs, WHOLE)
        return joined([*shown(drive(*call), call.transport)])

    @_taking_config
    async def ainvoke(self, value: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        """`invoke` without blocking the event loop."""
        call = await self.adecide(value, config, kwargs, WHOLE)
        return joined([part async for part in ashown(adrive(*call), call.transport)])

    @_taking_config
    def stream(self, values: Iterator[Any], config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
        """Answer in chunks, in the config of the router's run; `values` holds the one input."""
        (value,) = values
        call = self.decide(value, config, kwargs, CHUNKS)
        with closing(drive(*call)) as parts:
            yield from shown(parts, call.transport)

    @_taking_config
    def events(self, values: Iterator[Any], config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
        """Answer in the events of LangChain's protocol v3."""
        (value,) = values
        with closing(drive(*self.decide(value, config, kwargs, EVENTS))) as parts:
            yield from as_events(parts)

    @_taking_config
    def astream(
        self, values: AsyncIterator[Any], config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """`stream` without blocking the event loop."""
        return self._astream(values, config, kwargs, CHUNKS)

    @_taking_config
    def aevents(
        self, values: AsyncIterator[Any], config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """`events` without blocking the event loop."""
        return self._aevents(values, config, kwargs)

    async def _aevents(
        self, values: AsyncIterator[Any], config: RunnableConfig, kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        async with aclosing(self._astream(values, config, kwargs, EVENTS)) as parts:
            async for event in aas_events(parts):
                yield event

    async def _astream(
        self, values: AsyncIterator[Any], config: RunnableConfig, kwargs: dict[str, Any], form: Form
    ) -> AsyncGenerator[Any, None]:
        (value,) = [value async for value in values]
        call = await self.adecide(value, config, kwargs, form)
        parts = adrive(*call)
        async with aclosing(parts), aclosing(ashown(parts, call.transport)) as told:
            async for part in told:
                yield part

    def decide(
        self, value: Any, config: RunnableConfig, kwargs: dict[str, Any], form: Form, **beside: Any
    ) -> Call:
        """What the router decides for a call, and how it is answered; whoever listens is told.

        Args:
            value: Input of the call.
            config: Config of the router's run.
            kwargs: Keyword arguments of the call.
            form: The form of the call.
            **beside: `demands`, keyword arguments that say what a model must be able to do, if the
                call's own do not; `last`, the decision of the last answer, if the messages do not
                hold it; `keep`, whether to stay with its model wherever that may serve; `call_id`,
                if it is not the id of the run.
        """
        asked, turn = self._asked(value, config, kwargs, **beside)
        now = self if self.live is None else self._with(self.live.current)
        decided, config = self._decided(config)
        try:
            decision = decided or now.router.route(**asked)
        except NoCandidateError as error:
            raise now._unservable(asked, error) from None
        ended = _recorders(config)
        if ended is not None:
            decision = replace(decision, call_id=turn.call_id)
        task = now._task(decision, asked, turn)
        emit(config, DECISION_EVENT, task.decision.to_dict)
        return now._call(task, value, turn.said, config, kwargs, form)._replace(ended=ended)

    async def adecide(
        self, value: Any, config: RunnableConfig, kwargs: dict[str, Any], form: Form, **beside: Any
    ) -> Call:
        """`decide` without blocking the event loop."""
        asked, turn = self._asked(value, config, kwargs, **beside)
        now = self if self.live is None else self._with(await self.live.acurrent())
        decided, config = self._decided(config)
        try:
            decision = decided or await now.router.aroute(**asked)
        except NoCandidateError as error:
            raise now._unservable(asked, error) from None
        ended = _recorders(config)
        if ended is not None:
            decision = replace(decision, call_id=turn.call_id)
        task = now._task(decision, asked, turn)
        await aemit(config, DECISION_EVENT, task.decision.to_dict)
        return now._call(task, value, turn.said, config, kwargs, form)._replace(ended=ended)

    def batched(
        self, values: Sequence[Any], configs: Sequence[RunnableConfig], kwargs: dict[str, Any]
    ) -> list[RunnableConfig]:
        """The configs of a batch: under a budget, with the decisions that were taken together.

        An input that cannot be routed gets none: its own call says why.

        Args:
            values: Inputs of the calls.
            configs: Their configs.
            kwargs: Keyword arguments of the calls.

        Raises:
            ConstraintError: If the budget makes no sense, or is not the same for all.
            InfeasibleError: If it does not pay for all of them.
        """
        budgets = [(config.get("configurable") or {}).get(BUDGET) for config in configs]
        if all(budget is None for budget in budgets):
            return [*configs]
        # The same NaN is refused by what says why.
        if any(budget is not budgets[0] and budget != budgets[0] for budget in budgets):
            raise ConstraintError(
                f"{BUDGET} differs within one batch; it is the budget of all of its calls "
                "together: give it once, in a config for all."
            )
        if self.guard is not None and self.guard.pacer is not None:
            raise ConstraintError(
                f"{BUDGET} and the router's pacer would both decide who answers; give the batch to "
                "a router without a pacer, or leave its budget to that."
            )
        configs = [_without(config, BUDGET) for config in configs]
        now = self if self.live is None else self._with(self.live.current)
        asked = {}
        for i, (value, config) in enumerate(zip(values, configs, strict=True)):
            # Of any kind: `query` is the caller's own.
            with suppress(Exception):
                asked[i], _ = self._asked(value, ensure_config(config), kwargs)
        while asked:
            try:
                decisions = now.router.allocate(
                    [one["query"] for one in asked.values()],
                    budget_usd=budgets[0],
                    constraints=[one["constraints"] for one in asked.values()],
                ).decisions
            except InfeasibleError:
                raise
            except CrossRouteError:
                routed = {i: one for i, one in asked.items() if now._can_route(one)}
                if len(routed) == len(asked):
                    raise
                asked = routed
                continue
            for i, decision in zip(asked, decisions, strict=True):
                decided = {_DECIDED: _Decided(self.models, decision)}
                configurable = {**(configs[i].get("configurable") or {}), **decided}
                configs[i] = {**configs[i], "configurable": configurable}
            break
        return configs

    def _can_route(self, asked: dict[str, Any]) -> bool:
        with suppress(CrossRouteError):
            self.router.route(asked["query"], constraints=asked["constraints"])
            return True
        return False

    def _decided(self, config: RunnableConfig) -> tuple[Decision | None, RunnableConfig]:
        """The decision that a batch has taken for a call, and the config without it."""
        found: _Decided | None = (config.get("configurable") or {}).get(_DECIDED)
        # LangChain hands the config on to whatever `query` calls, which may be another router.
        if found is None or found.models is not self.models:
            return None, config
        return found.decision, _without(config, _DECIDED)

    def _call(
        self,
        task: Task,
        value: Any,
        said: str | list[BaseMessage],
        config: RunnableConfig,
        kwargs: dict[str, Any],
        form: Form,
    ) -> Call:
        # Tools and schemas are bound to one model, unless a strategy says that it can take them.
        has_schema = self.late is not None and self.late.has_schema
        is_bound = has_schema or bool(task.query.needs & {"tools", "structured_output"})
        alone = PickOne(self.attempts, self.pass_refusals)
        strategy = for_call(self.strategy, alone, is_bound=is_bound, is_agent=task.kind != "model")
        # A graph shows what is handed on of a whole answer while it is made.
        task = replace(task, is_whole=form.is_whole and not (form is WHOLE and readers(config)))
        transport = Transport(
            self.router,
            self.models,
            task.query,
            said,
            value,
            config,
            kwargs,
            form,
            self.late,
            self.pass_refusals,
            self.strict_streams,
        )
        return Call(task, flow_of(strategy, task), transport)

    def _task(self, decision: Decision, asked: dict[str, Any], turn: Turn) -> Task:
        query, limits = asked["query"], asked["constraints"]
        ceiling = Ceiling.of(limits, self.router.pool, query)
        choose = partial(
            self.exploration.chosen,
            messages=turn.messages,
            forced=limits.model is not None,
            stay=asked["stay"],
            last=turn.last,
            keep=turn.keep,
        )
        decision, watch = buildable(decision, self.models), None
        if self.guard is None:
            decision = choose(decision)
        else:
            decision, watch = self.guard.admit(decision, choose, self.router.pool)
        return Task(
            decision,
            query,
            turn.messages,
            ceiling,
            watch,
            self.router.pool,
            limits,
            tools=turn.tools,
        )

    def _with(self, candidates: Candidates[LazyChatModel]) -> Dispatch:
        return replace(self, router=candidates.router, models=candidates.models)

    def _unservable(self, asked: dict[str, Any], error: NoCandidateError) -> NoCandidateError:
        """The error that says whether a shorter request could be served."""
        shorter = {**asked, "query": replace(asked["query"], input_tokens=0.0)}
        try:
            self.router.route(**shorter)
        except NoCandidateError:
            return error
        return RequestTooLongError(error.reasons)

    def _asked(
        self,
        value: Any,
        config: RunnableConfig,
        kwargs: Mapping[str, Any],
        *,
        demands: Mapping[str, Any] | None = None,
        last: Mapping[str, Any] | None = None,
        keep: bool = False,
        call_id: str | None = None,
    ) -> tuple[dict[str, Any], Turn]:
        """What the router is asked, and the conversation that it is asked of."""
        messages = to_messages(value if self.query is None else self.query(value))
        read = to_query(messages)
        demands = kwargs if demands is None else demands
        needs, text = demands_of(demands)
        if self.late is not None:
            late_needs, late_text = self.late.demands
            needs, text = needs | late_needs, text + late_text
            demands = {**demands, **self.late.shown}
        settings = config.get("configurable") or {}
        if settings.get(BUDGET) is not None:
            raise ConstraintError(
                f"{BUDGET} is the budget of a batch: give it to batch or abatch. What one call may "
                f"cost is {IDS['max_cost_usd']}, or {IDS['hard_max_cost_usd']}."
            )
        for name in settings:
            if wrong := _misspelt(name):
                raise ConstraintError(f"configurable: {wrong} The settings are {', '.join(KNOWN)}.")
        given = {name: settings.get(id_) for name, id_ in IDS.items()}
        if self.forced is not None:
            given["model"] = self.forced
        if given["shorten"] and self.query is not None:
            raise ConstraintError(
                f"{IDS['shorten']} is for inputs that are messages; the router's `query` says that "
                "they are something else. Shorten them before (langchain_crossroute.fit_messages)."
            )
        willingness = given.pop("willingness_to_pay")
        last = last or last_decision(messages) or {}
        stays_with = self.exploration.stays_with(last)
        margin = math.inf if keep else self.stay_margin
        asked = {
            "query": Query.of(read, needs=needs, tools=text, output_tokens=output_limit(kwargs)),
            "willingness_to_pay": self.willingness_to_pay if willingness is None else willingness,
            "constraints": limits_of(given),
            "stay": Stay(stays_with, margin) if stays_with and margin is not None else None,
        }
        if isinstance(read, str):
            read = [{"role": "user", "content": read}]
        # That of the router's run, which the caller may have chosen.
        run_id = getattr(config["callbacks"], "parent_run_id", None)
        tools = partial(openai_tools, demands.get("tools") or ())
        last_model = last.get("model")
        turn = Turn(messages, read, call_id or str(run_id), last_model, keep, tools)
        return asked, turn


class Turn(NamedTuple):
    """Where a conversation stands.

    Attributes:
        said: A text, or LangChain's messages.
        messages: In OpenAI's dict form.
        call_id: Id of the call that is made now.
        last: Id of the model that gave the last answer, if that is known.
        keep: Whether the caller keeps that model.
        tools: Gives the caller's tools in OpenAI's dict form.
    """

    said: str | list[BaseMessage]
    messages: Sequence[Message]
    call_id: str
    last: str | None
    keep: bool
    tools: Callable[[], list[Any]]


class _Decided(NamedTuple):
    """A decision that a batch has taken for a call, and the candidates of the router it is of."""

    models: Mapping[str, Runnable[Any, Any]]
    decision: Decision


class Call(NamedTuple):
    """One call, as `drive` takes it."""

    task: Task
    flow: Flow
    transport: Transport
    ended: Listener | None = None


def _without(config: RunnableConfig, setting: str) -> RunnableConfig:
    configurable = config.get("configurable") or {}
    kept = {name: value for name, value in configurable.items() if name != setting}
    return {**config, "configurable": kept}


def _recorders(config: RunnableConfig) -> Listener | None:
    """What tells the recorders among the callback handlers of a call; None if there are none."""
    handlers = getattr(config["callbacks"], "handlers", ())
    # By the type: some handlers have every attribute.
    found = [one for one in handlers if hasattr(type(one), "on_crossroute_call")]
    if not found:
        return None

    def ended(call: Ended) -> None:
        for recorder in found:
            recorder.on_crossroute_call(call)

    return ended


def joined(parts: Sequence[Any]) -> Any:
    """The parts of an answer as one output."""
    if len(parts) == 1:
        return parts[0]
    # A whole answer of which something was made of a stream.
    output = reduce(add, map(as_chunk, parts))
    return message_chunk_to_message(output) if isinstance(output, AIMessageChunk) else output


@lru_cache(maxsize=256)
def _misspelt(name: str) -> str | None:
    """What is wrong with the name of a setting; None if it is known, or that of somebody else."""
    if name in KNOWN:
        return None
    if name.startswith(PREFIX):
        bare = {known.removeprefix(PREFIX): known for known in KNOWN}
        # Of those that hold it, the one with the least beside it.
        meant = [bare[one] for one in sorted(alike(name.removeprefix(PREFIX), bare), key=len)]
    # Who names a setting of the own after one of these means no other.
    elif any(known in name for known in KNOWN) or not (
        meant := get_close_matches(name.lower().replace("-", "_"), KNOWN, n=1, cutoff=LIKENESS)
    ):
        return None
    return f"there is no {name!r}" + (f"; did you mean {meant[0]!r}?" if meant else ".")
