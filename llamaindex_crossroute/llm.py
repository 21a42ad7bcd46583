"""CrossRouteLLM: an LLM that sends each call to the candidate that suits it best."""

# ruff: noqa: ANN401  # The signatures are LlamaIndex's.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import BaseTool
from pydantic import ConfigDict, Field, SkipValidation
from typing_extensions import override

from crossroute import (
    DEFAULT_WILLINGNESS_TO_PAY,
    CrossRouter,
    ModelDescriptor,
    ModelPool,
    QueryError,
)
from crossroute.policy import check_settings
from llamaindex_crossroute.dispatch import (
    DECISION,
    Request,
    aanswer,
    answer,
    astream,
    stream,
)
from llamaindex_crossroute.messages import conversation_of

DEFAULT_ATTEMPTS = 3
"""How many candidates are tried at most, the chosen one included."""


class CrossRouteLLM(FunctionCallingLLM):
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
        router: Predicts quality and cost; the shipped router if None. It is narrowed to `models`,
            and what they can take is completed by their metadata.
        willingness_to_pay: lambda, USD a unit of quality; 0 takes the cheapest model, `math.inf`
            the best one.
        attempts: How many candidates are tried at most.
        stay_margin: Keep a conversation on the model of its last answer, unless another one gains
            more than this, in units of utility (0.05 is about five points of quality), beside the
            prompt cache that the change would lose. None routes each turn by itself.
        strict_streams: Raise an `UnfinishedAnswerError` at the end of a stream that ended without
            saying why; otherwise its last chunk is marked as unfinished.
        pass_refusals: Ask the next candidate where one refuses to answer. The first refusal is the
            answer if all refuse, or without this.
        **settings: Those of every LlamaIndex LLM: `system_prompt`, `output_parser`,
            `pydantic_program_mode`, `messages_to_prompt`, `completion_to_prompt`, and
            `callback_manager`, which the candidates get too.

    Raises:
        UnknownModelError: If the router's pool does not hold an id of `models`.
        PoolError: If there are fewer than two models.
        WillingnessToPayError: If the willingness to pay is not a number, NaN or negative.
        ConstraintError: If `attempts` or `stay_margin` makes no sense.
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

    # No input in errors: it may be a constructor argument that nobody should see.
    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True
    )

    # Not in dumps: what the candidates dump may hold keys.
    models: Mapping[str, LLM] = Field(exclude=True)
    router: CrossRouter = Field(exclude=True)
    willingness_to_pay: SkipValidation[float] = DEFAULT_WILLINGNESS_TO_PAY
    attempts: int = DEFAULT_ATTEMPTS
    stay_margin: float | None = None
    strict_streams: bool = False
    pass_refusals: bool = False

    def __init__(
        self,
        *,
        models: Mapping[str, LLM],
        router: CrossRouter | None = None,
        willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY,
        attempts: int = DEFAULT_ATTEMPTS,
        stay_margin: float | None = None,
        strict_streams: bool = False,
        pass_refusals: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            models=models,
            router=CrossRouter.default() if router is None else router,
            willingness_to_pay=willingness_to_pay,
            attempts=attempts,
            stay_margin=stay_margin,
            strict_streams=strict_streams,
            pass_refusals=pass_refusals,
            **settings,
        )
        # Here and not in a validator, where pydantic would wrap CrossRoute's errors in its own.
        self.willingness_to_pay = check_settings(
            self.willingness_to_pay, self.attempts, self.stay_margin
        )
        if self.rate_limiter is not None:
            raise ValueError(
                "rate_limiter has no effect on a router; give it to the candidates instead."
            )
        self.router = self.router.over(
            ModelPool(_completed(self.router.pool[name], llm) for name, llm in self.models.items())
        )
        if settings.get("callback_manager") is not None:
            self.callback_manager = settings["callback_manager"]

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # LlamaIndex sets it on the LLM that it knows, but the candidates dispatch the events.
        if name == "callback_manager":
            for model in self.models.values():
                model.callback_manager = value

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
        found = [model.metadata for model in self.models.values()]
        windows = [
            descriptor.context_window_tokens
            for descriptor in self.router.pool.values()
            if descriptor.context_window_tokens is not None
        ]
        roles = {metadata.system_role for metadata in found}
        return LLMMetadata(
            context_window=min([*windows, *(metadata.context_window for metadata in found)]),
            # Some say -1 for the provider's own limit.
            num_output=min((m.num_output for m in found if m.num_output > 0), default=-1),
            is_chat_model=all(metadata.is_chat_model for metadata in found),
            is_function_calling_model=all(
                isinstance(model, FunctionCallingLLM) and metadata.is_function_calling_model
                for model, metadata in zip(self.models.values(), found, strict=True)
            ),
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
        model: Any = self.models[decision["model"]]
        calls: list[ToolSelection] = model.get_tool_calls_from_response(
            response, error_on_no_tool_call=error_on_no_tool_call, **kwargs
        )
        return calls

    @override
    def _prepare_chat_with_tools(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError(
            "Tools are prepared by the candidate that is chosen; call chat_with_tools instead."
        )


def _completion(prompt: str | None, formatted: bool, kwargs: dict[str, Any]) -> Request:
    # LlamaIndex's decorators raise a ValueError for it, not Python a TypeError.
    if prompt is None:
        raise QueryError("There is no prompt to complete; give one.")
    return Request(prompt, {**kwargs, "formatted": formatted})


def _flags(**flags: bool) -> dict[str, bool]:
    """Those that are set: not every candidate knows all of them."""
    return {name: value for name, value in flags.items() if value}


def _completed(descriptor: ModelDescriptor, llm: LLM) -> ModelDescriptor:
    """The descriptor, with what the LLM says where the descriptor does not."""
    update: dict[str, Any] = {}
    metadata = llm.metadata
    # A plain LLM has no `chat_with_tools`, whatever its model could do.
    tools = isinstance(llm, FunctionCallingLLM) and (
        metadata.is_function_calling_model or "tools" in descriptor.capabilities
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
