"""ChatCrossRoute: a chat model that sends each call to the candidate that suits it best."""

# ruff: noqa: ANN401, A002  # The signatures are LangChain's.

from __future__ import annotations

import asyncio
import builtins
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal, cast

from langchain_core.callbacks import CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_model_stream import AsyncChatModelStream, ChatModelStream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, get_buffer_string
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult, RunInfo
from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, get_config_list, merge_configs
from langchain_core.runnables.schema import StreamEvent
from langchain_core.runnables.utils import get_unique_config_specs
from langchain_core.tools import BaseTool
from pydantic import BaseModel, ConfigDict, PrivateAttr, SecretStr, SkipValidation
from typing_extensions import override

from crossroute import DEFAULT_WILLINGNESS_TO_PAY, CrossRouter
from crossroute.budget.pacer import BudgetPacer
from crossroute.candidates import Candidates, FromYaml, check_models_only
from crossroute.constraints import check_settings
from crossroute.cooldown import DEFAULT_COOLDOWN, Cooldown
from crossroute.exploration import Exploration
from crossroute.guard import Guard
from crossroute.models.followed_folder import FollowedFolder
from crossroute.policy import USUAL_WILLINGNESS_TO_PAY, Policy, settle
from crossroute.query import estimate_tokens
from crossroute.router import Ranking
from crossroute.spend import DailySpend
from crossroute.strategies import Strategy, check_strategy
from langchain_crossroute.demands import LateCall, schema_text
from langchain_crossroute.dispatch import (
    BATCH_SETTINGS,
    CALL_SETTINGS,
    DEFAULT_ATTEMPTS,
    Dispatch,
)
from langchain_crossroute.lazy import LazyChatModel
from langchain_crossroute.profiles import (
    common_llm_type,
    common_ls_params,
    common_profile,
    over_models,
)
from langchain_crossroute.wishes import sets_effort

_LATE = "_crossroute_late"
"""The argument by which `bind_tools` and `with_structured_output` reach the call."""

_OF_THE_CANDIDATES = ("cache", "rate_limiter", "disable_streaming")


class ChatCrossRoute(FromYaml, BaseChatModel):
    """A chat model that asks, for each call, the candidate where quality and cost fit best.

    It stands wherever a LangChain chat model stands. A call makes one run of the chosen model
    under a run of the router. The answer is the chosen model's own, with the decision in
    `response_metadata["crossroute"]`: in a stream on the first chunk, what it really cost on the
    last one. Tools and schemas are bound to the model that is chosen, by its own methods.

    A candidate that fails in a way that others may not (a rate limit, a timeout, an error of its
    server, a wrong or missing key) is followed by the next best one, until the first content is
    out.

    A call is controlled by `config["configurable"]`, each of these being optional:
    `willingness_to_pay`, `crossroute_model`, `crossroute_allowed`, `crossroute_excluded`,
    `crossroute_max_cost_usd`, `crossroute_hard_max_cost_usd`. In that of `batch` and `abatch`,
    `crossroute_budget_usd` is what all of its calls may cost together, as predicted: who answers
    which is decided for all at once (`CrossRouter.allocate`).

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> chat = ChatCrossRoute(
        ...     models={
        ...         "gpt-4o-2024-08-06": FakeListChatModel(responses=["gpt-4o answers"]),
        ...         "gpt-4o-mini-2024-07-18": FakeListChatModel(responses=["gpt-4o-mini answers"]),
        ...     },
        ...     willingness_to_pay=0,
        ... )
        >>> chat.invoke("Translate: Guten Tag").text
        'gpt-4o-mini answers'
        >>> config = {"configurable": {"crossroute_model": "gpt-4o-2024-08-06"}}
        >>> chat.invoke("Translate: Guten Tag", config).text
        'gpt-4o answers'

    Args:
        models: A chat model, or a Runnable around one, for each candidate's id; at least two.
            With `policy`, None makes them of the descriptors beside it.
        router: Predicts quality and cost; the shipped router if None. It is narrowed to `models`,
            and what they can take is completed by their profiles.
        willingness_to_pay: lambda, USD a unit of quality; 0 takes the cheapest model, `math.inf`
            the best one.
        ranking: By what candidates are ordered: `exponential`, `linear`, `topsis` or a
            `crossroute.Topsis` (`docs/agents.md`); None is as the router has it.
        attempts: How many candidates are tried at most.
        stay_margin: Keep a conversation on the model of its last answer, unless another one gains
            more than this, in units of utility (0.05 is about five points of quality), beside the
            prompt cache that the change would lose. None routes each turn by itself.
        pass_refusals: Whether the next candidate is asked where one refuses; if not, the refusal is
            the answer, as LangChain has it.
        strict_streams: Whether a stream that ends without a finish reason is an error; if not, its
            answer is marked as unfinished.
        strategy: How a call is answered (`crossroute.strategies`); None asks one candidate, and
            where it fails the next one. So is every call with tools or a schema, unless the
            strategy has `takes_tools`.
        cooldown: When a candidate that fails rests (`crossroute.Cooldown`); None is never.
        daily_spend: Ceilings on what is spent a day (`crossroute.DailySpend`); None is none.
        pacer: A budget that sets the willingness to pay of every call (`crossroute.BudgetPacer`);
            None is none.
        name: Name of the router's run in a trace.
        policy: Path of the file that `crossroute plan --write` leaves (`docs/traffic/policy.md`);
            afterwards the `Policy` in it. It says the models, their router and the willingness to
            pay and the strategy, or the one model that answers everything: `router`,
            `willingness_to_pay`, `shadow`, `strategy` and `live` stay unset. None is none.
        shadow: Id of the model that answers every call in the router's place; the decision says
            what the router would have done (`docs/traffic/recorder.md`). None is none.
        explore: With this probability, 0..1, a candidate is drawn at random and asked; the decision
            says the probability of its model. Not where the call forces a model, stays with one, or
            is within a tool loop.
        random: Where the draws come from, a `random.Random(seed)`; the system's if None.
        live: The folder that `from_yaml(folder, follow=True)` follows; why its present state is not
            taken over is its `error`. `router` and `models` are then those of the start.
        max_retries: LangChain's name for `attempts` less one; wins over it.
        **settings: `temperature`, `max_tokens`, `timeout` (seconds) and `stop` are given to the
            chosen model with each call, None of them by default; `streaming` lets it stream within
            `invoke` too. `callbacks`, `tags`, `metadata`, `verbose` and `profile` are those of
            every LangChain chat model. `api_key` is accepted as LangChain's standard argument and
            never used: every candidate has its own.

    Raises:
        UnknownModelError: If the router's pool does not hold an id of `models`, or `models` not the
            one of `shadow`.
        PoolError: If there are fewer than two models, one is none by its descriptor, or they are
            not exactly those of the policy.
        WillingnessToPayError: If the willingness to pay is not a number, NaN or negative.
        ConstraintError: If another setting makes no sense, or breaks what the policy promises.
        DataError: If the file of the policy cannot be read, or is none.
        ValueError: If a setting is given that can only be a candidate's own: `cache`,
            `rate_limiter`, `disable_streaming`.
        pydantic.ValidationError: If an argument is unknown or has the wrong type.
    """

    lazy_client: ClassVar = LazyChatModel
    # No input in errors: it may be a constructor argument that nobody should see.
    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True
    )

    router: CrossRouter
    models: Mapping[str, Runnable[Any, Any]]
    willingness_to_pay: SkipValidation[float] = DEFAULT_WILLINGNESS_TO_PAY
    ranking: SkipValidation[Ranking | None] = None
    attempts: int = DEFAULT_ATTEMPTS
    stay_margin: float | None = None
    pass_refusals: bool = False
    strict_streams: bool = False
    strategy: SkipValidation[Strategy | None] = None
    cooldown: SkipValidation[Cooldown | None] = DEFAULT_COOLDOWN
    daily_spend: SkipValidation[DailySpend | None] = None
    pacer: SkipValidation[BudgetPacer | None] = None
    policy: SkipValidation[Policy | None] = None
    shadow: SkipValidation[str | None] = None
    explore: SkipValidation[float] = 0.0
    random: SkipValidation[Random | None] = None
    live: SkipValidation[FollowedFolder[Candidates[LazyChatModel]] | None] = None
    temperature: float | None = None
    max_tokens: int | None = None
    timeout: float | None = None
    stop: list[str] | None = None
    streaming: bool = False
    api_key: SecretStr | None = None
    _guard: Guard = PrivateAttr()

    def __init__(
        self,
        *,
        models: Mapping[str, Runnable[Any, Any]] | None = None,
        router: CrossRouter | None = None,
        willingness_to_pay: float = USUAL_WILLINGNESS_TO_PAY,
        ranking: Ranking | None = None,
        attempts: int = DEFAULT_ATTEMPTS,
        stay_margin: float | None = None,
        pass_refusals: bool = False,
        strict_streams: bool = False,
        strategy: Strategy | None = None,
        cooldown: Cooldown | None = DEFAULT_COOLDOWN,
        daily_spend: DailySpend | None = None,
        pacer: BudgetPacer | None = None,
        policy: str | Path | Policy | None = None,
        shadow: str | None = None,
        explore: float = 0.0,
        random: Random | None = None,
        live: FollowedFolder[Candidates[LazyChatModel]] | None = None,
        name: str | None = None,
        max_retries: int | None = None,
        **settings: Any,
    ) -> None:
        if max_retries is not None:
            attempts = max_retries + 1 if isinstance(max_retries, int) else max_retries
        # Here and not in a validator, where pydantic would wrap CrossRoute's errors in its own.
        settled = settle(
            policy,
            LazyChatModel.of,
            sets_effort=sets_effort,
            models=models,
            router=router,
            willingness_to_pay=willingness_to_pay,
            ranking=ranking,
            shadow=shadow,
            explore=explore,
            random=random,
            attempts=attempts,
            pass_refusals=pass_refusals,
            strategy=strategy,
            live=live,
            pacer=pacer,
        )
        willingness = check_settings(settled.willingness_to_pay, attempts, stay_margin)
        # mypy knows only the fields of the base class here.
        super().__init__(  # type: ignore[call-arg]
            router=settled.router,
            models=settled.models,
            willingness_to_pay=willingness,
            ranking=ranking,
            attempts=attempts,
            stay_margin=stay_margin,
            pass_refusals=pass_refusals,
            strict_streams=strict_streams,
            strategy=check_strategy(settled.strategy),
            cooldown=cooldown,
            daily_spend=daily_spend,
            pacer=pacer,
            policy=settled.policy,
            shadow=settled.exploration.shadow,
            explore=settled.exploration.explore,
            random=random,
            live=live,
            name=name,
            **settings,
        )
        for setting in _OF_THE_CANDIDATES:
            if settings.get(setting):
                raise ValueError(
                    f"{setting} has no effect on a router; give it to the candidates instead."
                )
        self.router = over_models(self.router, self.models)
        check_models_only(
            self.router.pool, "ChatCrossRoute", "CrossRouteRunnable, which takes both"
        )
        self._guard = Guard(cooldown, daily_spend, self.router.pool, pacer)
        if self.profile is None:
            self.profile = cast("ModelProfile", common_profile(self.router.pool, self.models))

    @property
    @override
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        specs = [spec for model in self.models.values() for spec in model.config_specs]
        return get_unique_config_specs([*CALL_SETTINGS, *BATCH_SETTINGS, *specs])

    # The outer methods: an LLM run of the router's own would count every token twice.

    @override
    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        dispatch, kwargs = self._opened(stop, kwargs)
        if self.streaming:
            kwargs.setdefault("stream", True)
        answer: AIMessage = self._call_with_config(
            dispatch.invoke, input, self._config(config), **kwargs
        )
        return answer

    @override
    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        dispatch, kwargs = self._opened(stop, kwargs)
        if self.streaming:
            kwargs.setdefault("stream", True)
        answer: AIMessage = await self._acall_with_config(
            dispatch.ainvoke, input, self._config(config), **kwargs
        )
        return answer

    @override
    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        dispatch, kwargs = self._opened(stop, kwargs)
        chunks: Any = self._transform_stream_with_config(
            iter([input]), dispatch.stream, self._config(config), **kwargs
        )
        yield from chunks

    @override
    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        dispatch, kwargs = self._opened(stop, kwargs)
        chunks: Any = self._atransform_stream_with_config(
            _one(input), dispatch.astream, self._config(config), **kwargs
        )
        # One that is left ends now, not when it is collected.
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    @override
    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        decided = self._batched(inputs, config, **kwargs)
        return super().batch(inputs, decided, return_exceptions=return_exceptions, **kwargs)

    @override
    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        decided = await asyncio.to_thread(self._batched, inputs, config, **kwargs)
        return await super().abatch(inputs, decided, return_exceptions=return_exceptions, **kwargs)

    @override
    def stream_events(  # type: ignore[override]
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        version: Literal["v1", "v2", "v3"] = "v2",
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[StreamEvent] | ChatModelStream:
        if version != "v3":
            return super().stream_events(input, config, version=version, stop=stop, **kwargs)
        dispatch, kwargs = self._opened(stop, kwargs)
        events: Any = self._transform_stream_with_config(
            iter([input]), dispatch.events, self._config(config), **kwargs
        )
        stream = ChatModelStream()

        def pump() -> bool:
            try:
                event = next(events, None)
            except BaseException as error:
                stream.fail(error)
                return False
            if event is None:
                return False
            stream.dispatch(event)
            if stream.done:
                # Nobody asks for more than the whole message, but the runs have to end.
                for _ in events:
                    pass
            return True

        stream.bind_pump(pump)
        return stream

    @override
    def astream_events(  # type: ignore[override]
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        version: Literal["v1", "v2", "v3"] = "v2",
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[StreamEvent] | Awaitable[AsyncChatModelStream]:
        if version != "v3":
            return super().astream_events(input, config, version=version, stop=stop, **kwargs)
        return self._astream_protocol(input, config, stop, kwargs)

    async def _astream_protocol(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None,
        stop: list[str] | None,
        kwargs: dict[str, Any],
    ) -> AsyncChatModelStream:
        dispatch, kwargs = self._opened(stop, kwargs)
        stream = AsyncChatModelStream()

        async def produce() -> None:
            events: Any = self._atransform_stream_with_config(
                _one(input), dispatch.aevents, self._config(config), **kwargs
            )
            try:
                async for event in events:
                    stream.dispatch(event)
            except asyncio.CancelledError as error:
                stream.fail(error)
                raise
            except BaseException as error:
                stream.fail(error)

        async def start() -> None:
            if stream._producer_task is None:
                stream._producer_task = asyncio.create_task(produce())

        stream.set_start(start)
        return stream

    @override
    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: builtins.dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        configs = _configs(len(messages), callbacks, tags, metadata, run_name, run_id)
        return _result(self.batch([*messages], configs, stop=stop, **kwargs), configs)

    @override
    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: builtins.dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        configs = _configs(len(messages), callbacks, tags, metadata, run_name, run_id)
        return _result(await self.abatch([*messages], configs, stop=stop, **kwargs), configs)

    # The annotations of the next two are read at run time: `with_fallbacks` binds the fallbacks
    # too only where a Runnable is returned.

    @override
    def bind_tools(
        self,
        tools: Sequence[builtins.dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        given = {"tool_choice": tool_choice, "parallel_tool_calls": parallel_tool_calls}
        kwargs |= {name: value for name, value in given.items() if value is not None}
        late = LateCall("bind_tools", tools, kwargs)
        # Agents look in the binding for what is bound already.
        return self.bind(**late.shown, **{_LATE: late})

    @override
    def with_structured_output(
        self,
        schema: builtins.dict[str, Any] | type,
        *,
        include_raw: bool = False,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, builtins.dict[str, Any] | BaseModel]:
        if include_raw:
            kwargs["include_raw"] = True
        bound = self.bind(**{_LATE: LateCall("with_structured_output", schema, kwargs)})
        return cast("Runnable[LanguageModelInput, builtins.dict[str, Any] | BaseModel]", bound)

    # The candidates have different tokenizers, and the inherited one asks the network for GPT-2's.

    @override
    def get_num_tokens(self, text: str) -> int:
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return math.ceil(estimate_tokens(text))

    @override
    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        texts = [get_buffer_string([message]) for message in messages]
        return sum(self.get_num_tokens(text) for text in (*texts, schema_text(tools or ())) if text)

    @override
    def get_token_ids(self, text: str) -> list[int]:
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        raise NotImplementedError(
            "The candidates have different tokenizers: use get_num_tokens, or ask a candidate."
        )

    @property
    @override
    def _llm_type(self) -> str:
        # Such as Anthropic's, by which others know that cache markers may be left in a request.
        return common_llm_type(self.models) or "crossroute"

    @property
    @override
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"models": list(self.models), "willingness_to_pay": self.willingness_to_pay}

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        found = super()._get_ls_params(stop=stop or self.stop or None, **kwargs)
        shared = common_ls_params(self.models)
        found["ls_provider"] = shared.pop("ls_provider", found.get("ls_provider", ""))
        return cast("LangSmithParams", {"ls_model_name": self.get_name()} | shared | found)

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        # Only for callers that go round `invoke` and `generate`.
        answer = self.invoke(messages, stop=stop, **kwargs)
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _batched(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> list[RunnableConfig]:
        """The configs of a batch, under a budget with a decision each."""
        dispatch, kwargs = self._opened(stop, kwargs)
        return dispatch.batched(
            inputs, get_config_list(config, len(inputs)) if inputs else [], kwargs
        )

    def _opened(
        self, stop: list[str] | None, kwargs: builtins.dict[str, Any]
    ) -> tuple[Dispatch, builtins.dict[str, Any]]:
        """How this call is answered, and the arguments that its model gets."""
        given = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "timeout": self.timeout,
            "stop": self.stop if stop is None else stop,
        }
        settings = {name: value for name, value in given.items() if value is not None} | kwargs
        late: LateCall | None = settings.pop(_LATE, None)
        if late is not None:
            settings = late.beside(settings)
        dispatch = Dispatch(
            self.router,
            self.models,
            self.willingness_to_pay,
            self.attempts,
            stay_margin=self.stay_margin,
            pass_refusals=self.pass_refusals,
            strict_streams=self.strict_streams,
            strategy=self.strategy,
            exploration=Exploration(self.shadow, self.explore, self.random),
            # LangChain's way to ask another model for one call.
            forced=settings.pop("model", None),
            late=late,
            live=self.live,
            guard=self._guard,
        )
        return dispatch, settings

    def _config(self, config: RunnableConfig | None) -> RunnableConfig | None:
        """The config of a call with the callbacks, tags and metadata of the constructor."""
        metadata = self.metadata or {}
        # LangChain writes its versions into the metadata of every model, the candidates too.
        if not (self.callbacks or self.tags or metadata.keys() - {"lc_versions"}):
            return config
        own: RunnableConfig = {
            "callbacks": self.callbacks,
            "tags": self.tags or [],
            "metadata": metadata,
        }
        return merge_configs(own, ensure_config(config))

    @override
    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        # The ids only: the repr of a model may show what is secret.
        return [("models", list(self.models)), ("willingness_to_pay", self.willingness_to_pay)]


async def _one(value: Any) -> AsyncIterator[Any]:
    yield value


def _configs(
    count: int,
    callbacks: Callbacks,
    tags: list[str] | None,
    metadata: dict[str, Any] | None,
    run_name: str | None,
    run_id: uuid.UUID | None,
) -> list[RunnableConfig]:
    """A config for each of several prompts; a given run id is the first one's."""
    config: RunnableConfig = {
        "callbacks": callbacks,
        "tags": tags or [],
        "metadata": metadata or {},
    }
    if run_name is not None:
        config["run_name"] = run_name
    return [
        {**config, "run_id": run_id if run_id and not position else uuid.uuid4()}
        for position in range(count)
    ]


def _result(answers: Sequence[AIMessage], configs: Sequence[RunnableConfig]) -> LLMResult:
    return LLMResult(
        generations=[[ChatGeneration(message=answer)] for answer in answers],
        run=[RunInfo(run_id=cast("uuid.UUID", config["run_id"])) for config in configs],
    )
