"""Cache markers and other parts of a request that only one provider knows."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from collections.abc import Sequence
from typing import Any

from fakes_langchain import LARGE, MINI, MODELS, QUESTION, SMALL, ScriptedChatModel, cheap, weather
from fakes_langchain_providers import ScriptedProvider
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable


class Claude(ScriptedChatModel):
    @property
    def _llm_type(self) -> str:
        return "anthropic-chat"


class Gpt(ScriptedChatModel):
    @property
    def _llm_type(self) -> str:
        return "openai-chat"


def test_cache_markers_go_to_their_provider_only() -> None:
    models: Any = {
        SMALL: ScriptedChatModel(model_name=SMALL),
        MINI: Claude(model_name=MINI),
        LARGE: Gpt(model_name=LARGE),
    }
    marker = {"cache_control": {"type": "ephemeral"}}
    block = {"type": "text", "text": QUESTION, **marker, "extras": {**marker, "kept": 1}}
    messages = [SystemMessage([block]), HumanMessage(QUESTION)]
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}, **marker}
    settings: Any = {"tools": [function], "prompt_cache_key": "k", "extra_headers": {"a": "b"}}
    settings |= marker
    for model in MODELS:
        cheap(models).invoke(messages, model=model, **settings)

    unmarked_block = {"type": "text", "text": QUESTION, "extras": {"kept": 1}}
    unmarked_tool = {name: value for name, value in function.items() if name != "cache_control"}
    headers = {"extra_headers": {"a": "b"}}
    assert models[SMALL].given == [{"tools": [unmarked_tool], **headers}]
    assert models[SMALL].asked[0][0].content == [unmarked_block]
    assert models[LARGE].given == [{"tools": [unmarked_tool], "prompt_cache_key": "k", **headers}]
    assert models[LARGE].asked[0][0].content == [unmarked_block]
    assert models[MINI].given == [{"tools": [function], **headers, **marker}]
    assert models[MINI].asked[0][0].content == [block]
    # The caller's messages and tools are left alone.
    assert messages[0].content == [block]
    assert "cache_control" in function


def test_cache_markers_of_bound_tools_go_to_their_provider_only() -> None:
    seen = []

    class Binding(ScriptedProvider):
        kind: str

        @property
        def _llm_type(self) -> str:
            return self.kind

        def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
            seen.append((self.kind, tools[0].extras))
            return super().bind_tools(tools, **kwargs)

    marked = weather.model_copy(update={"extras": {"cache_control": {"type": "ephemeral"}}})
    models = {
        SMALL: Binding(model_name=SMALL, kind="openai-chat"),
        MINI: Binding(model_name=MINI, kind="anthropic-chat"),
    }
    chat = cheap(models).bind_tools([marked])
    for model in models:
        chat.invoke(QUESTION, {"configurable": {"crossroute_model": model}})
    assert seen == [("openai-chat", None), ("anthropic-chat", marked.extras)]
