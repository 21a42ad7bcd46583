"""Chat models made from descriptors, each when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig
from typing_extensions import override

from crossroute import MissingExtraError
from crossroute.candidates import LazyClient

if TYPE_CHECKING:
    # Importing it takes longer than the rest of this package.
    from langchain_core.language_models import BaseChatModel

PACKAGES = {
    **{
        name: f"langchain_{name}"
        for name in (
            *("anthropic", "azure_ai", "baseten", "cohere", "deepseek", "fireworks"),
            *("google_genai", "google_vertexai", "groq", "huggingface", "ibm", "litellm", "meta"),
            *("mistralai", "ollama", "openai", "openrouter", "perplexity", "together", "upstage"),
            "xai",
        )
    },
    "anthropic_bedrock": "langchain_aws",
    "azure_openai": "langchain_openai",
    "bedrock": "langchain_aws",
    "bedrock_converse": "langchain_aws",
    "bedrock_mantle_anthropic": "langchain_aws",
    "bedrock_mantle_openai": "langchain_aws",
    "google_anthropic_vertex": "langchain_google_vertexai",
    "nvidia": "langchain_nvidia_ai_endpoints",
}
"""What `init_chat_model` imports for a provider; asking LangChain itself would import it."""


class LazyChatModel(LazyClient["BaseChatModel"], Runnable[Any, Any]):
    """The chat model of a descriptor, built when it is first used.

    The routers take the chat model itself out of it; it adds no run of its own to a trace.
    """

    packages = PACKAGES

    @override
    def _build(self) -> BaseChatModel:
        provider = self.provider
        arguments = dict(provider.arguments)
        if provider.base_url is not None:
            arguments["base_url"] = provider.base_url
        if (key := self.key()) is not None:
            arguments["api_key"] = key
        try:
            from langchain.chat_models import init_chat_model
        except ImportError as error:
            raise MissingExtraError("langchain", "langchain") from error
        chat_model: BaseChatModel = init_chat_model(provider.chat_model, **arguments)
        return chat_model

    @override
    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return self.load().invoke(input, config, **kwargs)

    @override
    def __repr__(self) -> str:
        return f"LazyChatModel({self._id!r})"


def load_model(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """A candidate itself: the chat model of a `LazyChatModel`, any other Runnable as it is."""
    return model.load() if isinstance(model, LazyChatModel) else model


async def aload_model(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """`load_model` beside the event loop."""
    return await model.aload() if isinstance(model, LazyChatModel) else model
