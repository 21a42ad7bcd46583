"""The way of a call through a router: decide, try the candidates in order, mark the answer.

`CrossRouteRunnable` and `ChatCrossRoute` share it, and so do invoke, stream and their async forms.
"""

# ruff: noqa: ANN401  # What passes through is whatever the models take and give.

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from types import TracebackType
from typing import Any

from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableConfig

from crossroute import (
    ConstraintError,
    Constraints,
    CrossRouter,
    Decision,
    ModelDescriptor,
    ModelPool,
    Price,
    Query,
    Stay,
)
from crossroute.query import Capability
from crossroute.reward import check_willingness_to_pay
from langchain_crossroute.lazy import LazyChatModel
from langchain_crossroute.messages import for_provider, to_messages, to_query

DECISION = "crossroute"
"""The key of the decision in an answer's `response_metadata` and in the metadata of its run."""

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
    )
]
"""What a call's `config["configurable"]` may say."""

_PROFILE_CAPABILITIES: dict[str, Capability] = {
    "tool_calling": "tools",
    "structured_output": "structured_output",
    "image_inputs": "image_input",
    "image_url_inputs": "image_input",
    "audio_inputs": "audio_input",
    "pdf_inputs": "file_input",
}

_PROFILE_NUMBERS = {
    # LangChain means the context window by it, which holds the answer too.
    "context_window_tokens": "max_input_tokens",
    "max_output_tokens": "max_output_tokens",
}

_PASSING_ERRORS = {
    # A dropped connection, which clients of OpenAI and Anthropic let through in a stream.
    "httpx.TransportError",
    # Refusals.
    "langchain_core.exceptions.ModelRefusalError",
    "langchain_openai.chat_models.base.OpenAIRefusalError",
}
"""By name, because these classes may not be installed."""

_NOTHING = object()
"""What an empty stream begins with."""


class LateCall:
    """A `bind_tools` or `with_structured_output` that waits for the model that is chosen.

    Every provider converts tools and schemas in its own way, so the candidate itself does it, once.
    """

    def __init__(self, method: str, argument: Any, settings: dict[str, Any]) -> None:
        self._method = method
        self._argument = argument
        self._settings = settings
        self._applied: dict[str, Runnable[Any, Any]] = {}
        self._demands: tuple[frozenset[Capability], str] | None = None

    def on(self, name: str, model: Runnable[Any, Any]) -> Runnable[Any, Any]:
        """The model of that id with it applied."""
        found = self._applied.get(name)
        if found is None:
            argument, settings = self._argument, self._settings
            if (llm_type := _llm_type(model)) is not None:
                is_tools = self._method == "bind_tools"
                _, settings = for_provider(
                    llm_type, "", {**settings, "tools": argument} if is_tools else settings
                )
                argument = settings.pop("tools") if is_tools else argument
            found = getattr(model, self._method)(argument, **settings)
            self._applied[name] = found
        return found

    @property
    def demands(self) -> tuple[frozenset[Capability], str]:
        """What the model must be able to do, and the schemas it gets, as a text."""
        if self._demands is None:
            needs, text = _demands(self._settings)
            if self._method == "bind_tools":
                text += schema_text(self._argument)
                if self._argument:
                    needs.add("tools")
            elif (method := self._settings.get("method")) != "json_mode":
                # Without a method most providers call a function.
                needs |= {"structured_output" if method == "json_schema" else "tools"}
                text += schema_text([self._argument])
            self._demands = frozenset(needs), text
        return self._demands


@dataclass(frozen=True, slots=True)
class Dispatch:
    """How a router answers a call; the two classes make one from their fields.

    Attributes:
        router: Decides; its pool holds exactly `models`.
        models: The candidates by their ids.
        willingness_to_pay: lambda of calls that do not set their own, USD a unit of quality.
        attempts: How many candidates are tried at most.
        query: What to route by, a function of the input; None is the input itself.
        stay_margin: Margin of `Stay` in a conversation; None routes each turn by itself.
        forced: Id of the one model that may answer; None leaves it to the config and the router.
        late: What is applied to the chosen model before it is called.
    """

    router: CrossRouter
    models: Mapping[str, Runnable[Any, Any]]
    willingness_to_pay: float
    attempts: int
    query: Callable[[Any], Any] | None = None
    stay_margin: float | None = None
    forced: str | None = None
    late: LateCall | None = None

    def invoke(self, value: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        """Answer a call, in the config of the router's run."""
        query, willingness, limits, stay = self._request(value, config, kwargs)
        decision = self.router.route(query, willingness, constraints=limits, stay=stay)
        call = _Call(self, value, config, kwargs, decision)
        _emit(config, DECISION_EVENT, call.decided)
        for attempt in call.attempts():
            with attempt:
                model, request, settings = attempt.request(_load(attempt.model))
                output = model.invoke(request, attempt.config, **settings)
                return attempt.marks().whole(attempt.accepted(output))
        return call.refusal()

    async def ainvoke(self, value: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        """`invoke` without blocking the event loop."""
        query, willingness, limits, stay = self._request(value, config, kwargs)
        decision = await self.router.aroute(query, willingness, constraints=limits, stay=stay)
        call = _Call(self, value, config, kwargs, decision)
        await _aemit(config, DECISION_EVENT, call.decided)
        for attempt in call.attempts():
            async with attempt:
                model, request, settings = attempt.request(await _aload(attempt.model))
                output = await model.ainvoke(request, attempt.config, **settings)
                return attempt.marks().whole(attempt.accepted(output))
        return call.refusal()

    def stream(self, values: Iterator[Any], config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
        """Answer in chunks, in the config of the router's run; `values` holds the one input."""
        return self._stream(_open_stream, values, config, **kwargs)

    def events(self, values: Iterator[Any], config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
        """Answer in the events of LangChain's protocol v3."""
        return self._stream(_open_events, values, config, **kwargs)

    def astream(
        self, values: AsyncIterator[Any], config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """`stream` without blocking the event loop."""
        return self._astream(_aopen_stream, values, config, **kwargs)

    def aevents(
        self, values: AsyncIterator[Any], config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """`events` without blocking the event loop."""
        return self._astream(_aopen_events, values, config, **kwargs)

    def _stream(
        self,
        opened: Callable[..., Any],
        values: Iterator[Any],
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Iterator[Any]:
        (value,) = values
        query, willingness, limits, stay = self._request(value, config, kwargs)
        decision = self.router.route(query, willingness, constraints=limits, stay=stay)
        call = _Call(self, value, config, kwargs, decision)
        _emit(config, DECISION_EVENT, call.decided)
        for attempt in call.attempts():
            # Only up to the first chunk: what was emitted is not taken back.
            with attempt:
                model, request, settings = attempt.request(_load(attempt.model))
                chunks = opened(model, request, attempt.config, **settings)
                first = next(chunks, _NOTHING)
                marks = attempt.marks()
                first = attempt.accepted(first, (marks, chunks))
                break
        else:
            first, (marks, chunks) = call.refused
        try:
            if first is not _NOTHING:
                yield marks.of(first)
            for chunk in chunks:
                yield marks.of(chunk)
            yield from marks.rest()
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
        query, willingness, limits, stay = self._request(value, config, kwargs)
        decision = await self.router.aroute(query, willingness, constraints=limits, stay=stay)
        call = _Call(self, value, config, kwargs, decision)
        await _aemit(config, DECISION_EVENT, call.decided)
        for attempt in call.attempts():
            async with attempt:
                model, request, settings = attempt.request(await _aload(attempt.model))
                chunks = opened(model, request, attempt.config, **settings)
                first = await anext(chunks, _NOTHING)
                marks = attempt.marks()
                first = attempt.accepted(first, (marks, chunks))
                break
        else:
            first, (marks, chunks) = call.refused
        try:
            if first is not _NOTHING:
                yield marks.of(first)
            async for chunk in chunks:
                yield marks.of(chunk)
            for chunk in marks.rest():
                yield chunk
        finally:
            if hasattr(chunks, "aclose"):
                await chunks.aclose()

    def _request(
        self, value: Any, config: RunnableConfig, kwargs: Mapping[str, Any]
    ) -> tuple[Query, float, Constraints, Stay | None]:
        """What the router is asked: the query, and the settings of this call."""
        messages = to_messages(value if self.query is None else self.query(value))
        needs, text = _demands(kwargs)
        if self.late is not None:
            late_needs, late_text = self.late.demands
            needs, text = needs | late_needs, text + late_text
        limit = next((kwargs[name] for name in _OUTPUT_LIMITS if kwargs.get(name)), None)
        query = Query.of(to_query(messages), needs=needs, tools=text, output_tokens=limit)
        settings = config.get("configurable") or {}
        willingness = settings.get("willingness_to_pay")
        model = settings.get("crossroute_model") if self.forced is None else self.forced
        limits = Constraints(
            model=model,
            allowed=settings.get("crossroute_allowed"),
            excluded=settings.get("crossroute_excluded") or (),
            max_cost_usd=settings.get("crossroute_max_cost_usd"),
        )
        stay = None
        if self.stay_margin is not None and (last := _answered_by(messages)):
            stay = Stay(last, self.stay_margin)
        return query, self.willingness_to_pay if willingness is None else willingness, limits, stay


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


class _Call:
    """One call while its candidates are tried."""

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
        self.failures: list[dict[str, Any]] = []
        self.refused: Any = None

    def attempts(self) -> Iterator[_Attempt]:
        """One for each candidate that may be tried, the preferred first."""
        for position in range(min(self.dispatch.attempts, len(self.decision.candidates))):
            yield _Attempt(self, position)

    def refusal(self) -> Any:
        """The first refusal, where no candidate answered."""
        output, (marks, _) = self.refused
        return marks.whole(output)


class _Attempt:
    """One candidate's try; as a context manager it decides what becomes of an error in it.

    A failure that another candidate may not share is noted and suppressed, as long as there is
    another candidate; every other error passes.
    """

    def __init__(self, call: _Call, position: int) -> None:
        candidates = call.decision.candidates
        chosen = candidates[position]
        self.call = call
        self.id = chosen.model
        self.model = call.dispatch.models[chosen.model]
        self.next = (
            candidates[position + 1].model
            if position + 1 < min(call.dispatch.attempts, len(candidates))
            else None
        )
        self.told = call.decided
        if position:
            self.told = {
                **call.decided,
                "model": chosen.model,
                "quality": chosen.quality,
                "cost_usd": chosen.cost_usd,
                "kept": False,
                "attempts": list(call.failures),
            }
        metadata = {
            **call.config.get("metadata", {}),
            "crossroute_model": chosen.model,
            DECISION: self.told,
        }
        self.config: RunnableConfig = {**call.config, "metadata": metadata}

    def request(self, model: Runnable[Any, Any]) -> tuple[Runnable[Any, Any], Any, dict[str, Any]]:
        """The candidate as it is called, its input and its keyword arguments."""
        value, settings, late = self.call.value, self.call.kwargs, self.call.dispatch.late
        if (llm_type := _llm_type(model)) is not None:
            value, settings = for_provider(llm_type, value, settings)
        return model if late is None else late.on(self.id, model), value, settings

    def accepted(self, output: Any, rest: Any = None) -> Any:
        """The output, unless it is a refusal.

        Raises:
            _RefusedError: If it is one; the first is kept, for no other candidate may do better.
        """
        message = _message(output)
        if message is not None and _is_refusal(message):
            if self.call.refused is None:
                self.call.refused = output, rest or (self.marks(), None)
            raise _RefusedError
        return output

    def marks(self) -> _Marks:
        """What the answer is marked with."""
        return _Marks(self.told, self.call.dispatch.router.pool[self.id].price)

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

    def _failure(self, error: BaseException | None) -> dict[str, Any] | None:
        """What to tell of an error that another candidate may not share; None for others."""
        if error is None:
            return None
        failures = self.call.failures
        passing = _may_pass_elsewhere(error)
        if passing:
            text = "refused" if isinstance(error, _RefusedError) else _shorten(error)
            failures.append({"model": self.id, "error": text})
        if not isinstance(error, _RefusedError) and failures:
            tried = "; ".join(f"{failure['model']}: {failure['error']}" for failure in failures)
            error.add_note(f"CrossRoute tried, in this order: {tried}.")
        return {**failures[-1], "next": self.next} if passing else None

    def _goes_on(self, failure: Mapping[str, Any] | None) -> bool:
        return failure is not None and (self.next is not None or self.call.refused is not None)


class _RefusedError(Exception):
    """A candidate refused to answer; never leaves this module."""


class _Marks:
    """Puts the decision on an answer, and what the answer really cost.

    On copies, because caches share messages. In a stream the decision is on the first chunk, the
    realised cost on the last one, and nothing twice: adding chunks up concatenates strings, adds
    integers, and refuses two different floats.
    """

    def __init__(self, told: dict[str, Any], price: Price | None) -> None:
        self._told: dict[str, Any] | None = told
        self._price = price
        self._usage: UsageMetadata | None = None
        self._open = False

    def whole(self, output: Any) -> Any:
        """An answer with both."""
        message = _message(output)
        if message is None or self._told is None:
            return output
        if isinstance(message, AIMessage):
            self._usage = message.usage_metadata
        return _with_metadata(output, message, {**self._told, **self._realised()})

    def of(self, chunk: Any) -> Any:
        """A chunk or an event with what belongs on it."""
        if isinstance(chunk, dict) and chunk.get("event") == "message-finish":
            return self._finished(chunk)
        message = _message(chunk)
        if message is None:
            return chunk
        found = {}
        if self._told is not None:
            found, self._told = self._told, None
        if isinstance(message, AIMessage) and message.usage_metadata:
            self._usage = add_usage(self._usage, message.usage_metadata)
        # A model that cannot stream yields its answer whole, which is no chunk.
        if not isinstance(message, AIMessageChunk) or message.chunk_position == "last":
            found = {**found, **self._realised()}
        self._open = message is chunk
        return _with_metadata(chunk, message, found) if found else chunk

    def rest(self) -> Iterator[AIMessageChunk]:
        """A last chunk with the realised cost, where none of the candidate's was marked as last."""
        if self._open and (found := self._realised()):
            yield AIMessageChunk(content="", response_metadata={DECISION: found})

    def _finished(self, event: dict[str, Any]) -> dict[str, Any]:
        self._usage = event.get("usage")
        found = {**(self._told or {}), **self._realised()}
        return {**event, "metadata": {**event.get("metadata", {}), DECISION: found}}

    def _realised(self) -> dict[str, Any]:
        usage, self._usage = self._usage, None
        if not usage or self._price is None:
            return {}
        # LangChain's own cache sets a total cost of 0, if need be as all of the usage.
        is_free = usage.get("total_cost") == 0
        cached = (usage.get("input_token_details") or {}).get("cache_read") or 0
        tokens = usage.get("input_tokens", 0), usage.get("output_tokens", 0), cached
        return {
            "realised": {
                "input_tokens": tokens[0],
                "output_tokens": tokens[1],
                "cached_tokens": cached,
                "cost_usd": 0.0 if is_free else float(self._price.cost_usd(*tokens)),
            }
        }


def over_models(router: CrossRouter, models: Mapping[str, Any]) -> CrossRouter:
    """The router over exactly these models, what they can take completed by their profiles.

    A number in a descriptor wins over the profile's; capabilities are those of both. Only the
    profiles of chat models that are built already are read.

    Raises:
        UnknownModelError: If the router's pool does not hold an id.
        PoolError: If there are fewer than two models.
    """
    pool = [_completed(router.pool[name], profile_of(model)) for name, model in models.items()]
    if len(pool) == len(router.pool) and all(found is router.pool[found.id] for found in pool):
        return router
    return router.over(ModelPool(pool))


def common_profile(pool: ModelPool, models: Mapping[str, Any]) -> dict[str, Any]:
    """What every candidate offers, as LangChain's model profile.

    A flag holds if it holds of all, a number is the least; what only some say is left out.
    """
    profiles = []
    for name, model in models.items():
        descriptor = pool[name]
        own = {
            key: capability in descriptor.capabilities
            for key, capability in _PROFILE_CAPABILITIES.items()
        }
        numbers = {
            key: getattr(descriptor, field)
            for field, key in _PROFILE_NUMBERS.items()
            if getattr(descriptor, field) is not None
        }
        profiles.append({**own, **profile_of(model), **numbers})
    found: dict[str, Any] = {}
    for key in set(profiles[0]).intersection(*profiles[1:]):
        values = [profile[key] for profile in profiles]
        if all(isinstance(value, bool) for value in values):
            found[key] = all(values)
        elif all(type(value) is int for value in values):
            found[key] = min(values)
    return found


def profile_of(model: Any) -> Mapping[str, Any]:
    """The profile of a chat model, also of one with arguments bound; empty for others."""
    profile = getattr(model, "profile", None)
    return profile if isinstance(profile, Mapping) else {}


def check_settings(
    willingness_to_pay: float, attempts: int, stay_margin: float | None = None
) -> None:
    """See that a router's settings make sense.

    Raises:
        WillingnessToPayError: If the willingness to pay is NaN, negative or no number.
        ConstraintError: If fewer than one attempt is allowed, or the margin is no margin.
    """
    check_willingness_to_pay(willingness_to_pay)
    if attempts < 1:
        raise ConstraintError(f"attempts is {attempts!r}; at least one model has to be tried.")
    if stay_margin is not None:
        Stay("", stay_margin)


def _completed(descriptor: ModelDescriptor, profile: Mapping[str, Any]) -> ModelDescriptor:
    update: dict[str, Any] = {}
    extra = {
        capability for name, capability in _PROFILE_CAPABILITIES.items() if profile.get(name)
    }.difference(descriptor.capabilities)
    if extra:
        update["capabilities"] = (*descriptor.capabilities, *sorted(extra))
    for name, key in _PROFILE_NUMBERS.items():
        if getattr(descriptor, name) is None and profile.get(key):
            update[name] = profile[key]
    return descriptor.model_copy(update=update) if update else descriptor


_OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def _demands(settings: Mapping[str, Any]) -> tuple[set[Capability], str]:
    """What the keyword arguments of a call need of a model, and the schemas in them."""
    needs: set[Capability] = set()
    text = ""
    if tools := settings.get("tools") or settings.get("functions"):
        needs.add("tools")
        text = schema_text(tools)
    form = settings.get("response_format")
    if form and not (isinstance(form, Mapping) and form.get("type") in ("json_object", "text")):
        needs.add("structured_output")
        text += schema_text([form])
    return needs, text


def schema_text(tools: Sequence[Any]) -> str:
    """Tools or schemas as the JSON that a provider gets, about."""
    from langchain_core.utils.function_calling import convert_to_openai_tool

    return "".join(
        json.dumps(tool if isinstance(tool, Mapping) else convert_to_openai_tool(tool), default=str)
        for tool in tools
    )


def _answered_by(messages: str | list[BaseMessage]) -> str | None:
    """Id of the model that gave the last answer of a conversation."""
    if not isinstance(messages, str):
        for message in reversed(messages):
            if isinstance(message, AIMessage):
                decision = message.response_metadata.get(DECISION)
                return decision.get("model") if isinstance(decision, Mapping) else None
    return None


def _may_pass_elsewhere(error: BaseException) -> bool:
    """Whether another model may succeed where this one failed."""
    if isinstance(error, ModelError) and error.is_retryable:
        return True
    if isinstance(error, (TimeoutError, ConnectionError, _RefusedError)):
        return True
    names = {f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__}
    return not names.isdisjoint(_PASSING_ERRORS)


def _is_refusal(message: BaseMessage) -> bool:
    metadata = message.response_metadata
    return bool(
        message.additional_kwargs.get("refusal")
        or metadata.get("finish_reason") == "content_filter"
        or metadata.get("stop_reason") == "refusal"
    )


def _message(output: Any) -> BaseMessage | None:
    """The message in an output; that of a structured one is under `raw`."""
    if isinstance(output, dict):
        output = output.get("raw")
    return output if isinstance(output, BaseMessage) else None


def _with_metadata(output: Any, message: BaseMessage, found: dict[str, Any]) -> Any:
    metadata = {**message.response_metadata, DECISION: found}
    marked = message.model_copy(update={"response_metadata": metadata})
    return marked if output is message else type(output)({**output, "raw": marked})


def _llm_type(model: Runnable[Any, Any]) -> str | None:
    """The kind of a chat model, also of one with arguments bound; None for other Runnables."""
    found = getattr(model, "_llm_type", None)
    return found if isinstance(found, str) else None


def _load(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    return model.load() if isinstance(model, LazyChatModel) else model


async def _aload(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    return await model.aload() if isinstance(model, LazyChatModel) else model


def _open_stream(model: Any, value: Any, config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
    return iter(model.stream(value, config, **kwargs))


def _open_events(model: Any, value: Any, config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
    yield from model.stream_events(value, config, version="v3", **kwargs)


def _aopen_stream(
    model: Any, value: Any, config: RunnableConfig, **kwargs: Any
) -> AsyncIterator[Any]:
    found: AsyncIterator[Any] = aiter(model.astream(value, config, **kwargs))
    return found


async def _aopen_events(
    model: Any, value: Any, config: RunnableConfig, **kwargs: Any
) -> AsyncIterator[Any]:
    async with await model.astream_events(value, config, version="v3", **kwargs) as stream:
        async for event in stream:
            yield event


def _emit(config: RunnableConfig, name: str, data: dict[str, Any]) -> None:
    manager: Any = config["callbacks"]
    if manager.handlers:
        manager.on_custom_event(name, data, run_id=manager.parent_run_id)


async def _aemit(config: RunnableConfig, name: str, data: dict[str, Any]) -> None:
    manager: Any = config["callbacks"]
    if manager.handlers:
        await manager.on_custom_event(name, data, run_id=manager.parent_run_id)


def _shorten(error: BaseException, limit: int = 200) -> str:
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= limit else f"{text[:limit]}..."
