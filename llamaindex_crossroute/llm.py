"""CrossRouteLLM: an LLM that sends each call to the candidate that suits it best."""

# ruff: noqa: ANN401  # The signatures are LlamaIndex's.

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from inspect import getattr_static
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.program.utils import FlexibleModel
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.tools import BaseTool
from llama_index.core.types import Model, PydanticProgramMode, TokenAsyncGen, TokenGen
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SkipValidation
from typing_extensions import override

from crossroute import (
    DEFAULT_WILLINGNESS_TO_PAY,
    CrossRouter,
    FollowedFolder,
    ModelDescriptor,
    ModelPool,
    QueryError,
)
from crossroute.budget.pacer import BudgetPacer
from crossroute.candidates import Candidates, FromYaml, check_models_only
from crossroute.constraints import check_settings
from crossroute.cooldown import DEFAULT_COOLDOWN, Cooldown
from crossroute.exploration import Exploration
from crossroute.guard import Guard
from crossroute.policy import USUAL_WILLINGNESS_TO_PAY, Policy, settle
from crossroute.router import Ranking
from crossroute.spend import DailySpend
from crossroute.strategies import Strategy, check_strategy
from llamaindex_crossroute.dispatch import aanswer, answer, astream, stream
from llamaindex_crossroute.lazy import LazyLLM, load_llm, sets_effort
from llamaindex_crossroute.ledger import CostLedger
from llamaindex_crossroute.messages import conversation_of
from llamaindex_crossroute.request import PromptRequest, Request
from llamaindex_crossroute.transport import DECISION

DEFAULT_ATTEMPTS = 3
"""How many candidates are tried at most, the chosen one included."""


class CrossRouteLLM(FromYaml, FunctionCallingLLM):
    """An LLM that asks, for each call, the candidate where quality and cost fit best.

    It stands wherever a LlamaIndex LLM stands: as `Settings.llm`, in query engines, agents and
    workflows. The response is the chosen model's own, with the decision in
    `additional_kwargs["crossroute"]`, on each chunk of a stream. Events and token counts are those
    of the chosen model, once; calls with tools are its own too.

    A candidate that fails in a way that others may not (a rate limit, a timeout, an error of its
    server, an answer with nothing in it) is followed by the next best one, until the first words
    are out.

    `call_settings` controls single calls: willingness to pay, forced, allowed and excluded models,
    the highest cost.

    Args:
        models: An LLM for each candidate's id; at least two.
            With `policy`, None makes them of the descriptors beside it.
        router: Predicts quality and cost; the shipped router if None. It is narrowed to `models`,
            and what they can take is completed by their metadata.
        willingness_to_pay: lambda, USD a unit of quality; 0 takes the cheapest model, `math.inf`
            the best one.
        ranking: By what candidates are ordered: `exponential`, `linear`, `topsis` or a
            `crossroute.Topsis` (`docs/agents.md`); None is as the router has it.
        attempts: How many candidates are tried at most.
        stay_margin: Keep a conversation on the model of its last answer, unless another one gains
            more than this, in units of utility (0.05 is about five points of quality), beside the
            prompt cache that the change would lose. None routes each turn by itself.
        strict_streams: Raise an `UnfinishedAnswerError` at the end of a stream that ended without
            saying why; otherwise its last chunk is marked as unfinished.
        pass_refusals: Ask the next candidate where one refuses to answer. The first refusal is the
            answer if all refuse, or without this.
        strategy: How a call is answered (`crossroute.strategies`); None asks one candidate, and
            where it fails the next one. So is every call with tools or a schema, unless the
            strategy has `takes_tools`, and every call of a candidate's own way with a prompt.
        cooldown: When a candidate that fails rests (`crossroute.Cooldown`); None is never.
        daily_spend: Ceilings on what is spent a day (`crossroute.DailySpend`); None is none.
        pacer: A budget that sets the willingness to pay of every call (`crossroute.BudgetPacer`);
            None is none.
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
        ledger: Counts what all calls cost, beside the ledgers in whose `with` block they are made.
        **settings: Those of every LlamaIndex LLM: `system_prompt`, `output_parser`,
            `pydantic_program_mode`, `messages_to_prompt`, `completion_to_prompt`, and
            `callback_manager`, which the candidates get too.

    Raises:
        UnknownModelError: If the router's pool does not hold an id of `models`, or `models` not the
            one of `shadow`.
        PoolError: If there are fewer than two models, one is none by its descriptor, or they are
            not exactly those of the policy.
        WillingnessToPayError: If the willingness to pay is not a number, NaN or negative.
        ConstraintError: If another setting makes no sense, or breaks what the policy promises.
        DataError: If the file of the policy cannot be read, or is none.
        ValueError: If `rate_limiter` is given, which can only be a candidate's own.
        pydantic.ValidationError: If an argument is unknown or has the wrong type.

    Example:
        >>> from llama_index.core.llms import MockLLM
        >>> from llamaindex_crossroute import CrossRouteLLM, call_settings
        >>> llm = CrossRouteLLM(
        ...     models={"gpt-4o-2024-08-06": MockLLM(), "gpt-4o-mini-2024-07-18": MockLLM()},
        ...     willingness_to_pay=0,
        ... )
        >>> llm.complete("Translate: Guten Tag").additional_kwargs["crossroute"]["model"]
        'gpt-4o-mini-2024-07-18'
        >>> with call_settings(model="gpt-4o-2024-08-06"):
        ...     llm.complete("Translate: Guten Tag").additional_kwargs["crossroute"]["model"]
        'gpt-4o-2024-08-06'
    """

    lazy_client: ClassVar = LazyLLM
    # No input in errors: it may be a constructor argument that nobody should see.
    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True
    )

    # Not in dumps: what the candidates dump may hold keys.
    models: Mapping[str, LLM | LazyLLM] = Field(exclude=True)
    router: CrossRouter = Field(exclude=True)
    willingness_to_pay: SkipValidation[float] = DEFAULT_WILLINGNESS_TO_PAY
    ranking: SkipValidation[Ranking | None] = Field(default=None, exclude=True)
    attempts: int = DEFAULT_ATTEMPTS
    stay_margin: float | None = None
    strict_streams: bool = False
    pass_refusals: bool = False
    strategy: SkipValidation[Strategy | None] = Field(default=None, exclude=True)
    cooldown: SkipValidation[Cooldown | None] = Field(default=DEFAULT_COOLDOWN, exclude=True)
    daily_spend: SkipValidation[DailySpend | None] = Field(default=None, exclude=True)
    pacer: SkipValidation[BudgetPacer | None] = Field(default=None, exclude=True)
    policy: SkipValidation[Policy | None] = Field(default=None, exclude=True)
    shadow: SkipValidation[str | None] = None
    explore: SkipValidation[float] = 0.0
    random: SkipValidation[Random | None] = Field(default=None, exclude=True)
    live: SkipValidation[FollowedFolder[Candidates[LazyLLM]] | None] = Field(
        default=None, exclude=True
    )
    ledger: SkipValidation[CostLedger | None] = Field(default=None, exclude=True)
    # A model that has answered may have left its folder when its tool calls are read.
    _asked: dict[str, LazyLLM] = PrivateAttr(default_factory=dict)
    _guard: Guard = PrivateAttr()

    def __init__(
        self,
        *,
        models: Mapping[str, LLM | LazyLLM] | None = None,
        router: CrossRouter | None = None,
        willingness_to_pay: float = USUAL_WILLINGNESS_TO_PAY,
        ranking: Ranking | None = None,
        attempts: int = DEFAULT_ATTEMPTS,
        stay_margin: float | None = None,
        strict_streams: bool = False,
        pass_refusals: bool = False,
        strategy: Strategy | None = None,
        cooldown: Cooldown | None = DEFAULT_COOLDOWN,
        daily_spend: DailySpend | None = None,
        pacer: BudgetPacer | None = None,
        policy: str | Path | Policy | None = None,
        shadow: str | None = None,
        explore: float = 0.0,
        random: Random | None = None,
        live: FollowedFolder[Candidates[LazyLLM]] | None = None,
        ledger: CostLedger | None = None,
        **settings: Any,
    ) -> None:
        # Here and not in a validator, where pydantic would wrap CrossRoute's errors in its own.
        settled = settle(
            policy,
            LazyLLM.of,
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
        super().__init__(
            router=settled.router,
            models=settled.models,
            willingness_to_pay=willingness,
            ranking=ranking,
            attempts=attempts,
            stay_margin=stay_margin,
            strict_streams=strict_streams,
            pass_refusals=pass_refusals,
            strategy=check_strategy(settled.strategy),
            cooldown=cooldown,
            daily_spend=daily_spend,
            pacer=pacer,
            policy=settled.policy,
            shadow=settled.exploration.shadow,
            explore=settled.exploration.explore,
            random=random,
            live=live,
            ledger=ledger,
            **settings,
        )
        if self.rate_limiter is not None:
            raise ValueError(
                "rate_limiter has no effect on a router; give it to the candidates instead."
            )
        self.router = self.router.over(
            ModelPool(_completed(self.router.pool[name], llm) for name, llm in self.models.items())
        )
        if not self.takes_agents:
            check_models_only(self.router.pool, "CrossRouteLLM", "CrossRouteAgents")
        self._guard = Guard(cooldown, daily_spend, self.router.pool, pacer)
        if settings.get("callback_manager") is not None:
            self.callback_manager = settings["callback_manager"]

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # LlamaIndex sets it on the LLM that it knows, but the candidates dispatch the events.
        if name == "callback_manager":
            for model in self.models.values():
                if isinstance(model, LLM):
                    model.callback_manager = value

    @property
    def candidates(self) -> Candidates[Any]:
        """The router and the models of now: a call keeps those with which it begins."""
        return Candidates(self.router, self.models) if self.live is None else self.live.current

    @property
    def exploration(self) -> Exploration:
        """Whom to ask beside the router's choice."""
        return Exploration(self.shadow, self.explore, self.random)

    def _adopt(self, name: str, candidate: LazyLLM, model: LLM) -> None:
        """Give an LLM that was built from its descriptor what the others have got."""
        if model.callback_manager is not self.callback_manager:
            model.callback_manager = self.callback_manager
        self._asked[name] = candidate

    @override
    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        yield "models", list(self.models)
        yield "willingness_to_pay", self.willingness_to_pay

    @classmethod
    @override
    def class_name(cls) -> str:
        return "CrossRouteLLM"

    @property
    @override
    def metadata(self) -> LLMMetadata:
        """What all candidates have in common: a prompt that fits it fits each of them."""
        router, models = self.candidates
        # Whether an agent gets a prompt depends on what it says, not on its length.
        found = [
            model.metadata for id_, model in models.items() if router.pool[id_].kind == "model"
        ] or [LLMMetadata(is_chat_model=True)]
        windows = [
            descriptor.context_window_tokens
            for descriptor in router.pool.values()
            if descriptor.context_window_tokens is not None
        ]
        roles = {metadata.system_role for metadata in found}
        return LLMMetadata(
            context_window=min([*windows, *(metadata.context_window for metadata in found)]),
            # Some say -1 for the provider's own limit.
            num_output=min((m.num_output for m in found if m.num_output > 0), default=-1),
            is_chat_model=all(metadata.is_chat_model for metadata in found),
            is_function_calling_model=all(m.is_function_calling_model for m in found),
            model_name="crossroute",
            system_role=roles.pop() if len(roles) == 1 else MessageRole.SYSTEM,
        )

    # None of these has LlamaIndex's callback decorators: every token would be counted twice.

    @override
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        response: ChatResponse = answer(self, "chat", Request(messages, kwargs))
        return response

    @override
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        response: ChatResponse = await aanswer(self, "achat", Request(messages, kwargs))
        return response

    @override
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        chunks: ChatResponseGen = stream(self, "stream_chat", Request(messages, kwargs))
        return chunks

    @override
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        chunks: ChatResponseAsyncGen = await astream(
            self, "astream_chat", Request(messages, kwargs)
        )
        return chunks

    @override
    def complete(
        self, prompt: str | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        request = _completion(prompt, formatted, kwargs)
        response: CompletionResponse = answer(self, "complete", request)
        return response

    @override
    async def acomplete(
        self, prompt: str | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        request = _completion(prompt, formatted, kwargs)
        response: CompletionResponse = await aanswer(self, "acomplete", request)
        return response

    @override
    def stream_complete(
        self, prompt: str | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        request = _completion(prompt, formatted, kwargs)
        chunks: CompletionResponseGen = stream(self, "stream_complete", request)
        return chunks

    @override
    async def astream_complete(
        self, prompt: str | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        request = _completion(prompt, formatted, kwargs)
        chunks: CompletionResponseAsyncGen = await astream(self, "astream_complete", request)
        return chunks

    # Whole to one candidate: each prepares tools, and reads tool calls, in its own way.

    @override
    def chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        flags = _flags(
            verbose=verbose,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            tool_required=tool_required,
        )
        request = Request(conversation_of(chat_history, user_msg), {**kwargs, **flags}, tools)
        response: ChatResponse = answer(self, "chat_with_tools", request)
        return response

    @override
    async def achat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        flags = _flags(
            verbose=verbose,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            tool_required=tool_required,
        )
        request = Request(conversation_of(chat_history, user_msg), {**kwargs, **flags}, tools)
        response: ChatResponse = await aanswer(self, "achat_with_tools", request)
        return response

    @override
    def stream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponseGen:
        flags = _flags(
            verbose=verbose,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            tool_required=tool_required,
        )
        request = Request(conversation_of(chat_history, user_msg), {**kwargs, **flags}, tools)
        chunks: ChatResponseGen = stream(self, "stream_chat_with_tools", request)
        return chunks

    @override
    async def astream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponseAsyncGen:
        flags = _flags(
            verbose=verbose,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            tool_required=tool_required,
        )
        request = Request(conversation_of(chat_history, user_msg), {**kwargs, **flags}, tools)
        chunks: ChatResponseAsyncGen = await astream(self, "astream_chat_with_tools", request)
        return chunks

    @override
    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tool calls of a response, as the model that gave it reads them."""
        decision = response.additional_kwargs.get(DECISION)
        if decision is None:
            raise ValueError(
                "This response has no decision in additional_kwargs['crossroute']: it is not of a "
                "CrossRouteLLM. Ask the LLM that gave it."
            )
        name = decision["model"]
        model: Any = load_llm(self._asked.get(name) or self.candidates.models[name])
        calls: list[ToolSelection] = model.get_tool_calls_from_response(
            response, error_on_no_tool_call=error_on_no_tool_call, **kwargs
        )
        return calls

    @override
    def _prepare_chat_with_tools(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError(
            "Tools are prepared by the candidate that is chosen; call chat_with_tools instead."
        )

    # A prompt is the candidate's business where it has a way of its own with it, such as a native
    # structured answer. LlamaIndex's own way with it ends in the methods above.

    @override
    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        if not self._have_own("predict"):
            return str(super().predict(prompt, **prompt_args))
        return str(answer(self, "predict", self._prompted(prompt, prompt_args)))

    @override
    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        if not await self._have_own_async("apredict"):
            return str(await super().apredict(prompt, **prompt_args))
        return str(await aanswer(self, "apredict", self._prompted(prompt, prompt_args)))

    @override
    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        if not self._have_own("stream"):
            return super().stream(prompt, **prompt_args)
        tokens: TokenGen = stream(self, "stream", self._prompted(prompt, prompt_args))
        return tokens

    @override
    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        if not await self._have_own_async("astream"):
            return await super().astream(prompt, **prompt_args)
        tokens: TokenAsyncGen = await astream(self, "astream", self._prompted(prompt, prompt_args))
        return tokens

    @override
    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        if not self._have_own("structured_predict"):
            found: Model = super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        else:
            request = self._prompted(prompt, prompt_args, output_cls, llm_kwargs)
            found = answer(self, "structured_predict", request)
        return found

    @override
    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        if not await self._have_own_async("astructured_predict"):
            found: Model = await super().astructured_predict(
                output_cls, prompt, llm_kwargs, **prompt_args
            )
        else:
            request = self._prompted(prompt, prompt_args, output_cls, llm_kwargs)
            found = await aanswer(self, "astructured_predict", request)
        return found

    @override
    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        if not self._have_own("stream_structured_predict", "_structured_stream_call"):
            return super().stream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        request = self._prompted(prompt, prompt_args, output_cls, llm_kwargs)
        found: Generator[Any, None, None] = stream(self, "stream_structured_predict", request)
        return found

    @override
    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        if not await self._have_own_async("astream_structured_predict", "_structured_astream_call"):
            return await super().astream_structured_predict(
                output_cls, prompt, llm_kwargs, **prompt_args
            )
        request = self._prompted(prompt, prompt_args, output_cls, llm_kwargs)
        found: AsyncGenerator[Any, None] = await astream(
            self, "astream_structured_predict", request
        )
        return found

    @override
    def predict_and_call(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        error_on_no_tool_call: bool = True,
        error_on_tool_error: bool = False,
        **kwargs: Any,
    ) -> AgentChatResponse:
        kwargs |= _flags(verbose=verbose, allow_parallel_tool_calls=allow_parallel_tool_calls)
        kwargs |= _flags(error_on_tool_error=error_on_tool_error)
        if not error_on_no_tool_call:
            kwargs["error_on_no_tool_call"] = False
        if self._have_own("predict_and_call"):
            request = Request(conversation_of(chat_history, user_msg), kwargs, tools)
            found: AgentChatResponse = answer(self, "predict_and_call", request)
        else:
            found = super().predict_and_call(tools, user_msg, chat_history, **kwargs)
        return found

    @override
    async def apredict_and_call(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        error_on_no_tool_call: bool = True,
        error_on_tool_error: bool = False,
        **kwargs: Any,
    ) -> AgentChatResponse:
        kwargs |= _flags(verbose=verbose, allow_parallel_tool_calls=allow_parallel_tool_calls)
        kwargs |= _flags(error_on_tool_error=error_on_tool_error)
        if not error_on_no_tool_call:
            kwargs["error_on_no_tool_call"] = False
        if await self._have_own_async("apredict_and_call"):
            request = Request(conversation_of(chat_history, user_msg), kwargs, tools)
            found: AgentChatResponse = await aanswer(self, "apredict_and_call", request)
        else:
            found = await super().apredict_and_call(tools, user_msg, chat_history, **kwargs)
        return found

    def _have_own(self, *methods: str) -> bool:
        """Whether a candidate has its own way with prompts, and the router none that it must obey.

        Args:
            methods: Those of `LLM` that would be another's.
        """
        if self.system_prompt or self.output_parser or self.query_wrapper_prompt:
            return False
        if self.pydantic_program_mode != PydanticProgramMode.DEFAULT:
            return False
        return any(
            getattr_static(kind, method)
            not in (getattr_static(LLM, method), getattr_static(FunctionCallingLLM, method))
            for kind in self._kinds()
            for method in methods
        )

    def _kinds(self) -> list[type[LLM]]:
        return [
            model.kind if isinstance(model, LazyLLM) else type(model)
            for model in self.candidates.models.values()
        ]

    async def _have_own_async(self, *methods: str) -> bool:
        models = self.candidates.models.values()
        if any(isinstance(model, LazyLLM) and "kind" not in vars(model) for model in models):
            # Importing a provider's package takes seconds.
            await asyncio.to_thread(self._kinds)
        return self._have_own(*methods)

    def _prompted(
        self,
        prompt: BasePromptTemplate,
        prompt_args: dict[str, Any],
        output_cls: type[BaseModel] | None = None,
        llm_kwargs: dict[str, Any] | None = None,
    ) -> PromptRequest:
        messages = prompt.format_messages(llm=self, **prompt_args)
        if output_cls is None:
            return PromptRequest(messages, prompt_args, given=(prompt,))
        return PromptRequest(
            messages,
            prompt_args,
            given=(output_cls, prompt),
            settings=llm_kwargs,
            schema=json.dumps(output_cls.model_json_schema(), default=str),
        )


def _completion(prompt: str | None, formatted: bool, kwargs: dict[str, Any]) -> Request:
    # LlamaIndex's decorators raise a ValueError for it, not Python a TypeError.
    if prompt is None:
        raise QueryError("There is no prompt to complete; give one.")
    return Request(prompt, {**kwargs, "formatted": formatted})


def _flags(**flags: bool) -> dict[str, bool]:
    """Those that are set: not every candidate knows all of them."""
    return {name: value for name, value in flags.items() if value}


def _completed(descriptor: ModelDescriptor, llm: LLM | LazyLLM) -> ModelDescriptor:
    """The descriptor, with what the LLM says where the descriptor does not."""
    update: dict[str, Any] = {}
    if descriptor.retired is not None and not isinstance(llm, LazyLLM):
        # Who brings a client of their own says that it is served, by whomever.
        update["retired"] = None
    metadata = llm.metadata
    # A plain LLM has no `chat_with_tools`, whatever its model could do, unless it says so.
    tools = metadata.is_function_calling_model or (
        isinstance(llm, FunctionCallingLLM) and "tools" in descriptor.capabilities
    )
    if tools != ("tools" in descriptor.capabilities):
        others = (name for name in descriptor.capabilities if name != "tools")
        update["capabilities"] = (*others, "tools") if tools else tuple(others)
    # LlamaIndex's default stands for "not said".
    if descriptor.context_window_tokens is None and metadata.context_window not in (
        DEFAULT_CONTEXT_WINDOW,
        -1,
    ):
        update["context_window_tokens"] = metadata.context_window
    return descriptor.model_copy(update=update) if update else descriptor
