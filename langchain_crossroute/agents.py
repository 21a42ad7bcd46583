"""Agents, retrievers and tools beside models: each is asked in its own way, and gives a message."""

# ruff: noqa: ANN401  # Inputs, states and outputs are whatever the candidates take and give.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import takewhile
from typing import Any, NoReturn
from uuid import uuid4

from langchain_core.documents import Document
from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, ToolException
from langchain_core.utils.function_calling import convert_to_openai_function
from typing_extensions import override

from crossroute import ModelDescriptor, NoAnswerError, PoolError
from crossroute.query import Message
from crossroute.tool_text import text_argument
from langchain_crossroute.lazy import LazyChatModel
from langchain_crossroute.messages import to_dict

DOCUMENTS = "documents"
ARTIFACT = "artifact"
STRUCTURED = "structured_response"
"""Where, in `additional_kwargs`, an answer has what was retrieved, what a tool gave beside, and
what an agent gave in a form that it was asked for."""

_INTERRUPTS = "__interrupt__"


class Adapted(Runnable[Any, Any]):
    """A candidate that is no model, asked once; its run is the candidate's own.

    It is asked for a whole answer where the call streams, too: of text that an agent says, nobody
    knows whether it is the answer before it is known that no tool is called after it.

    Attributes:
        course: What an agent's run has added to the conversation, in OpenAI's dict form.
    """

    def __init__(
        self, model: str, kind: str, candidate: Runnable[Any, Any], said: str | list[BaseMessage]
    ) -> None:
        """Adapt one.

        Args:
            model: Its id.
            kind: `agent`, `retriever` or `tool`; a model and a chain get the input as it is.
            candidate: What is asked.
            said: The conversation that was routed.
        """
        self.course: Sequence[Message] = ()
        self._model = model
        self._kind = kind
        self._candidate = candidate
        self._said: list[BaseMessage] = [HumanMessage(said)] if isinstance(said, str) else said

    @override
    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        output = self._candidate.invoke(self._taken(input), config, **self._settings(kwargs))
        return self._answer(output)

    @override
    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        output = await self._candidate.ainvoke(self._taken(input), config, **self._settings(kwargs))
        return self._answer(output)

    @staticmethod
    def cannot(error: BaseException) -> bool:
        """Whether a tool has said that it cannot do what it was asked; another candidate may."""
        return isinstance(error, ToolException)

    def _settings(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return kwargs if self._kind == "agent" else {}

    def _taken(self, value: Any) -> Any:
        """What the candidate takes, of the input of the call."""
        if self._kind == "agent":
            state = value if isinstance(value, Mapping) else {}
            for message in self._said:
                # As LangGraph does itself; so what its run adds is told from what it was given.
                message.id = message.id or str(uuid4())
            return {**state, "messages": [*self._said]}
        users = [one for one in self._said if isinstance(one, HumanMessage)] or self._said
        text = str(users[-1].text) if users else ""
        if not isinstance(self._candidate, BaseTool):
            return text
        name = _argument(self._candidate)
        # As a model calls it: so it gives its artifact, too.
        return {
            "type": "tool_call",
            "name": self._candidate.name,
            "id": str(uuid4()),
            "args": {name: text},
        }

    def _answer(self, output: Any) -> AIMessage:
        if self._kind == "agent":
            return self._last_of(output)
        if self._kind == "retriever":
            return self._retrieved(output)
        if isinstance(output, AIMessage):
            return output
        if not isinstance(output, BaseMessage):
            return AIMessage(output if isinstance(output, str) else str(output))
        if isinstance(output, ToolMessage) and output.status == "error":
            raise ToolException(str(output.text))
        artifact = getattr(output, "artifact", None)
        beside = {} if artifact is None else {ARTIFACT: artifact}
        return AIMessage(output.content, additional_kwargs=beside)

    def _last_of(self, state: Any) -> AIMessage:
        """The answer in the state that an agent's run has left, with the usage of all of it."""
        if isinstance(state, Mapping) and state.get(_INTERRUPTS):
            _interrupt(state[_INTERRUPTS])
        found = _messages_in(state)
        if found is None:
            keys = (
                f" with the keys {', '.join(map(repr, state))}"
                if isinstance(state, Mapping)
                else ""
            )
            raise PoolError(
                f"The agent {self._model!r} gave a {type(state).__name__}{keys}, and no state with "
                "messages. Write kind: chain into its descriptor if its output is the answer as it "
                "is, or give an agent whose state has messages, such as one of create_agent."
            )
        given = {one.id for one in self._said}
        places = [place for place, one in enumerate(found) if one.id in given]
        added = found[max(places, default=-1) + 1 :]
        # As of any conversation: there is nothing that a provider may say at which it fails.
        self.course = [to_dict(one) for one in added]
        said = [one for one in added if isinstance(one, AIMessage)]
        results = [*takewhile(lambda one: isinstance(one, ToolMessage), reversed(added))][::-1]
        if not said and not results:
            raise NoAnswerError(
                f"The run of the agent {self._model!r} ended without a message of its own."
            )
        usages = [one.usage_metadata for one in said if one.usage_metadata]
        total: UsageMetadata | None = reduce(add_usage, usages) if usages else None
        # A tool whose result is returned directly, or is an object in the form that was asked for.
        answer = AIMessage("\n\n".join(one.text for one in results)) if results else said[-1]
        update: dict[str, Any] = {"usage_metadata": total}
        if (structured := state.get(STRUCTURED)) is not None:
            update["additional_kwargs"] = {**answer.additional_kwargs, STRUCTURED: structured}
        return answer.model_copy(update=update)

    def _retrieved(self, documents: Any) -> AIMessage:
        if not documents:
            # That there is nothing on it here does not say that nobody knows it.
            raise NoAnswerError(f"The retriever {self._model!r} has found nothing.")
        texts = [one.page_content if isinstance(one, Document) else str(one) for one in documents]
        return AIMessage("\n\n".join(texts), additional_kwargs={DOCUMENTS: [*documents]})


def _messages_in(state: Any) -> list[BaseMessage] | None:
    """The messages in a state, which may have them in any form; None if there are none in it."""
    found = state.get("messages") if isinstance(state, Mapping) else None
    if not isinstance(found, Sequence) or isinstance(found, str):
        return None
    try:
        return convert_to_messages(found)
    except (NotImplementedError, TypeError, ValueError):
        return None


def check_kinds(
    pool: Mapping[str, ModelDescriptor], models: Mapping[str, Runnable[Any, Any]]
) -> None:
    """See that each agent, retriever and tool can be asked in the way of its kind.

    Raises:
        PoolError: If one cannot.
    """
    for id_, candidate in models.items():
        kind, meant = pool[id_].kind, _kind_of(candidate)
        if kind in ("agent", "retriever", "tool") and meant not in (None, kind):
            raise PoolError(
                f"models: {id_!r} is a {type(candidate).__name__}, and of kind {kind} in the "
                f"router's pool: write kind: {meant} into its descriptor, or give another "
                "candidate."
            )
        if kind == "tool" and isinstance(candidate, BaseTool):
            try:
                _argument(candidate)
            except PoolError as error:
                raise PoolError(f"models: {id_!r}: {error}") from None


def _kind_of(candidate: Runnable[Any, Any]) -> str | None:
    """The kind that the type of a candidate says; None where it may be of several."""
    if isinstance(candidate, BaseTool):
        return "tool"
    if isinstance(candidate, BaseRetriever):
        return "retriever"
    return "model" if isinstance(candidate, (BaseLanguageModel, LazyChatModel)) else None


def _argument(tool: BaseTool) -> str:
    """The one argument of a tool that gets the text.

    Raises:
        PoolError: If it takes others.
    """
    # What only an agent gives is not in the schema that a model sees.
    fields = getattr(tool.args_schema, "model_fields", {})
    schema = convert_to_openai_function(tool)["parameters"]
    known = {*schema.get("properties", ())}
    hidden = [
        name
        for name, one in fields.items()
        if one.is_required() and name not in known and not _is_call_id(one.metadata)
    ]
    if hidden:
        raise PoolError(
            f"the tool {tool.name!r} needs {', '.join(hidden)}, which only an agent gives it. Give "
            "an agent (create_agent) that has this tool, as kind: agent."
        )
    return text_argument(tool.name, schema)


def _is_call_id(metadata: Sequence[Any]) -> bool:
    return any(one is InjectedToolCallId or isinstance(one, InjectedToolCallId) for one in metadata)


def _interrupt(interrupts: Sequence[Any]) -> NoReturn:
    """Raise what LangGraph raises within a graph: no message says that somebody is asked first."""
    from langgraph.errors import GraphInterrupt

    raise GraphInterrupt(tuple(interrupts))
