"""CrossRouteAgents: agents, query engines, retrievers and tools behind one door with LLMs."""

# ruff: noqa: ANN401  # The signatures are LlamaIndex's.

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, ClassVar, Self

from llama_index.core.agent.workflow import (
    AgentOutput,
    AgentWorkflow,
    BaseWorkflowAgent,
    ToolCallResult,
)
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
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
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.llms import LLM
from llama_index.core.tools import AsyncBaseTool, BaseTool, ToolOutput
from llama_index.core.workflow import InputRequiredEvent
from pydantic import PrivateAttr
from typing_extensions import override

from crossroute import NoAnswerError, PoolError
from crossroute.query import Message
from crossroute.tool_text import text_argument
from llamaindex_crossroute.answers import to_completion, usage_of
from llamaindex_crossroute.events import overheard
from llamaindex_crossroute.lazy import LazyLLM
from llamaindex_crossroute.llm import CrossRouteLLM

EMPTY = "Empty Response"
"""What LlamaIndex's synthesizers say where nothing was found."""

Agent = BaseWorkflowAgent | AgentWorkflow | BaseQueryEngine | BaseRetriever | BaseTool


class CrossRouteAgents(CrossRouteLLM):
    """An LLM among whose candidates are agents, query engines, retrievers and tools.

    Who serves a question is decided by the descriptors of the router's pool (`docs/agents.md`): an
    agent where the question is like what its descriptor says, else a model. Otherwise it is a
    `CrossRouteLLM`: `chat` takes the conversation, the decision and the bill are on the answer, and
    a candidate that fails is followed by the next one, models last.

    An agent gets the last message as `user_msg` and the others as `chat_history`; a query engine, a
    retriever and a tool get the text of the user's last message. What they answer with comes whole,
    in a stream, too; their output is `raw`.

    Args:
        models: For each candidate's id an LLM, or what its descriptor says that it is: an agent
            (`FunctionAgent`, `ReActAgent`, `AgentWorkflow`), a query engine, a retriever, or a tool
            whose only needed argument is a string.
        **settings: Those of `CrossRouteLLM`.

    Raises:
        PoolError: If a candidate is none of these, or an LLM where its descriptor is of no model.

    Example:
        >>> from crossroute import CrossRouter, ModelDescriptor
        >>> from llama_index.core.llms import MockLLM
        >>> from llama_index.core.tools import FunctionTool
        >>> from llamaindex_crossroute import CrossRouteAgents
        >>> holidays = ModelDescriptor(
        ...     id="holidays", kind="tool", description="Says how many days of holiday are left."
        ... )
        >>> def days_left(question: str) -> str:
        ...     return "There are 12 days left."
        >>> door = CrossRouteAgents(
        ...     router=CrossRouter.default().add_model(holidays),
        ...     models={
        ...         "gpt-4o-mini-2024-07-18": MockLLM(),
        ...         "holidays": FunctionTool.from_defaults(days_left),
        ...     },
        ... )
        >>> door.complete("How many days of holiday are left?").text
        'There are 12 days left.'
    """

    takes_agents: ClassVar = True

    def __init__(self, *, models: Mapping[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(models=None if models is None else _as_llms(models), **settings)
        for id_, one in self.models.items():
            kind = self.router.pool[id_].kind
            if isinstance(one, AgentLLM) != (kind != "model"):
                raise PoolError(
                    f"models: {id_!r} is {one.called if isinstance(one, AgentLLM) else 'an LLM'}, "
                    f"and of kind {kind} in the router's pool: change the kind in its descriptor, "
                    "or give another candidate."
                )

    @classmethod
    @override
    def from_yaml(
        cls,
        folder: str | Path | None = None,
        *,
        follow: bool = False,
        agents: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Self:
        given = _as_llms(agents or {})
        return super().from_yaml(folder, follow=follow, agents=given, **settings)

    @classmethod
    @override
    def class_name(cls) -> str:
        return "CrossRouteAgents"


class AgentLLM(LLM):
    """A candidate that is no model, where an LLM stands; its events are those that it makes itself.

    Which way it is asked is decided by its type.
    """

    _client: Any = PrivateAttr()
    _course: list[Message] = PrivateAttr(default_factory=list)

    @classmethod
    def of(cls, id_: str, candidate: Any) -> AgentLLM:
        """Adapt a candidate.

        Raises:
            PoolError: If it is none of those that can be asked.
        """
        if not isinstance(candidate, Agent):
            raise PoolError(
                f"models: {id_!r} is of type {type(candidate).__name__}; give an LLM, an agent "
                "(FunctionAgent, ReActAgent, AgentWorkflow), a query engine, a retriever or a tool."
            )
        if isinstance(candidate, BaseTool):
            _argument(id_, candidate)
        made = cls()
        made._client = candidate
        return made

    @property
    def course(self) -> list[Message]:
        """What the run of an agent has said and called, in OpenAI's dict form."""
        return self._course

    @property
    def called(self) -> str:
        """What it is, for an error."""
        return f"a {type(self._client).__name__}"

    def once(self) -> AgentLLM:
        """A copy that is asked once."""
        made = AgentLLM()
        made._client = self._client
        return made

    @classmethod
    @override
    def class_name(cls) -> str:
        return "AgentLLM"

    @property
    @override
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True, model_name=type(self._client).__name__)

    # None of these has LlamaIndex's callback decorators: it is no model that makes tokens.

    @override
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        client = self._client
        if isinstance(client, (BaseWorkflowAgent, AgentWorkflow)):
            return await self._run(client, messages)
        text = _question(messages)
        with overheard() as heard:
            if isinstance(client, AsyncBaseTool):
                output: Any = await client.acall(**{_argument("", client): text})
            elif isinstance(client, BaseTool):
                output = await asyncio.to_thread(client, **{_argument("", client): text})
            elif isinstance(client, BaseRetriever):
                output = await client.aretrieve(text)
            else:
                output = await client.aquery(text)
                if isinstance(output, AsyncStreamingResponse):
                    output = await output.get_response()
        return _answer(output, heard)

    @override
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        client = self._client
        if isinstance(client, (BaseWorkflowAgent, AgentWorkflow)):
            return _waited_for(self._run(client, messages))
        text = _question(messages)
        with overheard() as heard:
            if isinstance(client, BaseTool):
                output: Any = client(**{_argument("", client): text})
            elif isinstance(client, BaseRetriever):
                output = client.retrieve(text)
            else:
                output = client.query(text)
                if isinstance(output, StreamingResponse):
                    output = output.get_response()
        return _answer(output, heard)

    async def _run(
        self, agent: BaseWorkflowAgent | AgentWorkflow, messages: Sequence[ChatMessage]
    ) -> ChatResponse:
        before, last = messages[:-1], messages[-1] if messages else ChatMessage("")
        with overheard() as heard:
            handler = agent.run(user_msg=last, chat_history=[*before])
            try:
                async for event in handler.stream_events():
                    if isinstance(event, InputRequiredEvent):
                        raise PoolError(
                            f"The agent waits for a person to answer its {type(event).__name__}, "
                            "and nobody can answer here: run the agent itself, or give one that "
                            "asks nobody."
                        )
                    self._course += _in_dicts(event)
                output: Any = await handler
            finally:
                # Its run has tasks of its own, which go on where this one is left.
                if not handler.is_done():
                    await handler.cancel_run()
        answer = output.response if isinstance(output, AgentOutput) else ChatMessage(str(output))
        message = ChatMessage(role=MessageRole.ASSISTANT, blocks=answer.blocks)
        return ChatResponse(message=message, raw=output, additional_kwargs=_tokens(heard))

    @override
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        whole = self.chat(messages, **kwargs)
        yield whole.model_copy(update={"delta": whole.message.content})

    @override
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        async def chunks() -> ChatResponseAsyncGen:
            whole = await self.achat(messages, **kwargs)
            yield whole.model_copy(update={"delta": whole.message.content})

        return chunks()

    @override
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        found: CompletionResponse = to_completion(self.chat([ChatMessage(prompt)], **kwargs))
        return found

    @override
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        found: CompletionResponse = to_completion(await self.achat([ChatMessage(prompt)], **kwargs))
        return found

    @override
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        for chunk in self.stream_chat([ChatMessage(prompt)], **kwargs):
            yield to_completion(chunk)

    @override
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        async def chunks() -> CompletionResponseAsyncGen:
            async for chunk in await self.astream_chat([ChatMessage(prompt)], **kwargs):
                yield to_completion(chunk)

        return chunks()


def _as_llms(models: Any) -> Any:
    """Candidates as LLMs; what is no mapping is left to pydantic, which says so."""
    if not isinstance(models, Mapping):
        return models
    return {
        id_: one if isinstance(one, (LLM, LazyLLM)) else AgentLLM.of(id_, one)
        for id_, one in models.items()
    }


def _argument(id_: str, tool: BaseTool) -> str:
    """The one argument of a tool that gets the text.

    Raises:
        PoolError: If it takes others.
    """
    try:
        return text_argument(str(tool.metadata.name), tool.metadata.get_parameters_dict())
    except PoolError as error:
        raise PoolError(f"models: {id_!r}: {error}") from None


def _question(messages: Sequence[ChatMessage]) -> str:
    """The text of the user's last message."""
    users = [one for one in messages if one.role == MessageRole.USER] or [*messages]
    return (users[-1].content if users else None) or ""


def _answer(output: Any, heard: Sequence[Any]) -> ChatResponse:
    """What a tool, a retriever or a query engine has given, as a response.

    Raises:
        NoAnswerError: If there is nothing in it: that it is not here does not say that nobody
            knows it.
    """
    if isinstance(output, ToolOutput):
        if output.is_error:
            raise NoAnswerError(f"The tool {output.tool_name!r} failed: {output.content}")
        text = output.content
    elif isinstance(output, list):
        if not output:
            raise NoAnswerError("The retriever has found nothing.")
        text = "\n\n".join(one.get_content() for one in output)
    else:
        text = str(output)
        if not getattr(output, "response", text) or text == EMPTY:
            raise NoAnswerError("The query engine has found nothing.")
    message = ChatMessage(text, role=MessageRole.ASSISTANT)
    return ChatResponse(message=message, raw=output, additional_kwargs=_tokens(heard))


def _tokens(heard: Sequence[Any]) -> dict[str, Any]:
    """The usage of all that LLMs have answered, as OpenAI says it."""
    counted = [found for one in heard if (found := usage_of(one))]
    if not counted:
        return {}
    tokens_in, tokens_out, cached, reasoning = map(sum, zip(*counted, strict=True))
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _in_dicts(event: Any) -> list[Message]:
    """What an event of an agent's run adds to the conversation, in OpenAI's dict form."""
    if isinstance(event, ToolCallResult):
        content = event.tool_output.content
        return [{"role": "tool", "content": content, "tool_call_id": event.tool_id}]
    if not isinstance(event, AgentOutput):
        return []
    found: dict[str, Any] = {"role": "assistant", "content": event.response.content or ""}
    if event.tool_calls:
        found["tool_calls"] = [
            {
                "type": "function",
                "id": one.tool_id,
                "function": {"name": one.tool_name, "arguments": json.dumps(one.tool_kwargs)},
            }
            for one in event.tool_calls
        ]
    return [found]


def _waited_for(run: Coroutine[Any, Any, ChatResponse]) -> ChatResponse:
    """The end of a run, which LlamaIndex has only in an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run)
    # A loop is under way, which this call blocks: another one, in a thread with the same context.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, asyncio.run, run).result()
