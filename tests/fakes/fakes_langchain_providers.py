"""Chat models that call tools and fill in schemas as providers of LangChain's do."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from fakes_langchain import MODELS
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
)
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool


class ScriptedProvider(BaseChatModel):
    """What a provider does, without a provider: calls the tools it must, fills in schemas.

    Arguments are made from the schema and the numbers and quotations of the last user turn.
    """

    model_name: str

    @property
    def _llm_type(self) -> str:
        return "scripted-provider"

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        schemas = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=schemas, tool_choice=tool_choice, **kwargs)

    def with_structured_output(
        self, schema: Any, *, include_raw: bool = False, method: str = "function_calling", **_: Any
    ) -> Runnable[Any, Any]:
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw)
        parser: Any = JsonOutputParser()
        if isinstance(schema, type) and hasattr(schema, "model_json_schema"):
            parser = PydanticOutputParser(pydantic_object=schema)
        return self.bind(response_format={"type": method, "schema": schema}) | parser

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages, kwargs))])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages, kwargs)
        words = re.findall(r"\S+\s*", answer.text) or [""]
        for word in words:
            chunk = AIMessageChunk(content=word)
            if word is words[-1]:
                chunk = AIMessageChunk(
                    content=word,
                    tool_call_chunks=[
                        {
                            "type": "tool_call_chunk",
                            "name": call["name"],
                            "args": json.dumps(call["args"], ensure_ascii=False),
                            "id": call["id"],
                            "index": index,
                        }
                        for index, call in enumerate(answer.tool_calls)
                    ],
                    usage_metadata=answer.usage_metadata,
                    response_metadata=answer.response_metadata,
                    chunk_position="last",
                )
            if run_manager is not None:
                run_manager.on_llm_new_token(word, chunk=ChatGenerationChunk(message=chunk))
            yield ChatGenerationChunk(message=chunk)

    def _answer(self, messages: list[BaseMessage], kwargs: dict[str, Any]) -> AIMessage:
        said = messages[-1].text
        text, calls = f"{self.model_name} answers.", []
        form = kwargs.get("response_format")
        if form is not None:
            text = json.dumps({"setup": "Why?", "punchline": "Because."})
        elif (tools := kwargs.get("tools")) and isinstance(messages[-1], HumanMessage):
            named = [tool for tool in tools if tool["function"]["name"] == kwargs["tool_choice"]]
            function = (named or tools)[0]["function"]
            calls = [{"name": function["name"], "args": _arguments(function, said), "id": "call_1"}]
            text = ""
        return AIMessage(
            text,
            tool_calls=calls,
            response_metadata={"model_name": self.model_name},
            usage_metadata={"input_tokens": 8, "output_tokens": 4, "total_tokens": 12},
        )


def _arguments(function: dict[str, Any], said: str) -> dict[str, Any]:
    quoted = re.findall(r"'([^']+)'", said) or ["some text"]
    numbers = re.findall(r"\d+", said) or ["1"]
    return {
        name: int(numbers[0]) if schema.get("type") == "integer" else quoted[0]
        for name, schema in function.get("parameters", {}).get("properties", {}).items()
    }


def providers() -> dict[str, ScriptedProvider]:
    return {model: ScriptedProvider(model_name=model) for model in MODELS}
