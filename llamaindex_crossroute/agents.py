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
from llama_index.core.llms import LLM
from llama_index.core.tools import BaseTool, adapt_to_async_tool
from pydantic import PrivateAttr
from typing_extensions import override

from crossroute import NoAnswerError, PoolError
from crossroute.query import Message
from llamaindex_crossroute.answers import to_completion, usage_of
from llamaindex_crossroute.events import overheard
from llamaindex_crossroute.lazy import LazyLLM
from llamaindex_crossroute.llm import CrossRouteLLM

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
        users = [one for one in messages if one.role == MessageRole.USER] or [*messages]
        text = (users[-1].content if users else None) or ""
        if isinstance(client, BaseTool):
            output: Any = await adapt_to_async_tool(client).acall(**{_argument("", client): text})
            if output.is_error:
                raise NoAnswerError(f"The tool {client.metadata.name!r} failed: {output.content}")
            return _response(output.content, output)
        if isinstance(client, BaseRetriever):
            output = await client.aretrieve(text)
            if not output:
                # That there is nothing on it here does not say that nobody knows it.
                raise NoAnswerError("The retriever has found nothing.")
            return _response("\n\n".join(one.get_content() for one in output), output)
        output = await client.aquery(text)
        return _response(str(output), output)

    async def _run(
        self, agent: BaseWorkflowAgent | AgentWorkflow, messages: Sequence[ChatMessage]
    ) -> ChatResponse:
        *before, last = messages
        with overheard() as heard:
            handler = agent.run(user_msg=last, chat_history=before)
            async for event in handler.stream_events():
                self._course += _in_dicts(event)
            output: Any = await handler
        counted = [found for one in heard if (found := usage_of(one))]
        answer = output.response if isinstance(output, AgentOutput) else ChatMessage(str(output))
        tokens: dict[str, int] = {}
        if counted:
            tokens["prompt_tokens"] = sum(one.input_tokens for one in counted)
            tokens["completion_tokens"] = sum(one.output_tokens for one in counted)
        message = ChatMessage(role=MessageRole.ASSISTANT, blocks=answer.blocks)
        return ChatResponse(message=message, raw=output, additional_kwargs=tokens)

    @override
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return _waited_for(self.achat(messages, **kwargs))

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
    schema = tool.metadata.get_parameters_dict()
    known: Mapping[str, Any] = schema.get("properties") or {}
    needed = schema.get("required") or [*known]
    if len(needed) == 1 and known.get(needed[0], {}).get("type", "string") == "string":
        return str(needed[0])
    of = ", ".join(f"{name}: {one.get('type', 'any')}" for name, one in known.items()) or "none"
    raise PoolError(
        f"models: {id_!r}: the tool {tool.metadata.name!r} takes the arguments {of}, but gets one "
        "text. Give a tool whose only needed argument is a string, or an agent that has this tool, "
        "as kind: agent."
    )


def _response(text: str, raw: Any) -> ChatResponse:
    return ChatResponse(message=ChatMessage(text, role=MessageRole.ASSISTANT), raw=raw)


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
