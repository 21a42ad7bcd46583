"""Chat models made from descriptors, each when it is first used."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import sys
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import SecretStr
from typing_extensions import override

from crossroute import (
    CrossRouter,
    DescriptorError,
    MissingExtraError,
    ModelPool,
    PoolError,
    Provider,
)
from crossroute.models.followed_folder import FollowedPool, followed

if TYPE_CHECKING:
    # Importing it takes longer than the rest of this package.
    from langchain_core.language_models import BaseChatModel


logger = logging.getLogger(__name__)

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


class LazyChatModel(Runnable[Any, Any]):
    """The chat model of a descriptor, built when it is first used.

    The routers take the chat model itself out of it; it adds no run of its own to a trace.

    Args:
        model: Id of the model, for error messages.
        provider: Where the model is reached.
    """

    def __init__(self, model: str, provider: Provider) -> None:
        self._id = model
        self.provider = provider
        self._lock = threading.Lock()
        self._model: BaseChatModel | None = None
        self._is_told = False

    def load(self) -> BaseChatModel:
        """The chat model itself.

        Raises:
            MissingExtraError: If `langchain` is not installed.
            ImportError: If the package of the provider is not installed.
            DescriptorError: If the environment variable of the API key is not set.
        """
        with self._lock:
            if self._model is None:
                try:
                    self._model = _build(self._id, self.provider)
                except Exception as error:
                    error.add_note(f"While building the chat model of {self._id!r}.")
                    raise
            return self._model

    async def aload(self) -> BaseChatModel:
        """`load` beside the event loop: importing a provider's package takes seconds."""
        if self._model is None:
            await asyncio.to_thread(self.load)
        return self.load()

    @property
    def built(self) -> BaseChatModel | None:
        """The chat model, if it is built already."""
        return self._model

    def check(self) -> None:
        """Warn if the package of the provider or the named key is missing, without building it."""
        package = PACKAGES.get(self.provider.chat_model.partition(":")[0])
        variable = self.provider.api_key_env
        if package and sys.modules.get(package) is None and find_spec(package) is None:
            self.tell(f"its package is not installed: pip install {package.replace('_', '-')}")
        elif variable and not os.environ.get(variable):
            self.tell(f"the environment variable {variable} is not set")

    @property
    def secrets(self) -> list[str]:
        """The key that its descriptor names, if it is set."""
        key = os.environ.get(self.provider.api_key_env or "")
        return [key] if key else []

    def tell(self, reason: str) -> None:
        """Warn, once, that it cannot be built."""
        if not self._is_told:
            self._is_told = True
            logger.warning(
                "The chat model of %r cannot be built, others answer in its place: %s",
                self._id,
                reason,
            )

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


def load_router(folder: str | Path | None) -> CrossRouter:
    """The router of a checkpoint, or the shipped one over a folder of descriptors made for it.

    Raises:
        PoolError: If the folder holds no descriptor.
        DescriptorError: If a descriptor is not valid.
        CheckpointError: If the checkpoint is damaged or of another version.
    """
    if folder is None:
        return CrossRouter.default()
    base, descriptors = followed(folder)
    return base.over(ModelPool.load(descriptors))


def chat_models(pool: ModelPool) -> dict[str, LazyChatModel]:
    """The chat models of a pool's descriptors: those with a provider that are not retired.

    Raises:
        PoolError: If there are fewer than two; says why the others were left out.
    """
    today = datetime.date.today()
    models: dict[str, LazyChatModel] = {}
    left_out = []
    for model, descriptor in pool.items():
        reason = descriptor.unreachable(today)
        # A disabled one is a candidate that the router removes: switching it on is no rebuilding.
        if descriptor.provider is None or (reason is not None and not descriptor.disabled):
            left_out.append(f"{model} ({reason})")
        else:
            models[model] = LazyChatModel(model, descriptor.provider)
    if len(models) < 2:
        raise PoolError(
            f"Chat models can be built for {len(models)} of the {len(pool)} descriptors"
            f"{': ' + ', '.join(models) if models else ''}; a router needs at least two. "
            f"Left out: {', '.join(left_out)}. Add a descriptor with a provider."
        )
    return models


class Candidates(NamedTuple):
    """The candidates that a folder of descriptors names, and the router between them."""

    router: CrossRouter
    models: Mapping[str, LazyChatModel]


def candidates_of(folder: str | Path | None, *, follow: bool) -> dict[str, Any]:
    """The arguments `router`, `models` and `live` of a class whose candidates a folder names.

    Raises:
        PoolError: If there are fewer than two candidates, or no folder is named to follow.
        DescriptorError: If a descriptor is not valid.
        CheckpointError: If the checkpoint is damaged or of another version.
    """
    if not follow:
        router = load_router(folder)
        models = chat_models(router.pool)
        for name, model in models.items():
            if not router.pool[name].disabled:
                model.check()
        return {"router": router, "models": models}
    live = _follow(folder)
    return {**live.current._asdict(), "live": live}


def _follow(folder: str | Path | None) -> FollowedPool[Candidates]:
    """A chat model is kept for as long as its provider part says the same."""
    if folder is None:
        raise PoolError("No folder is named to follow; the shipped descriptors do not change.")
    base, descriptors = followed(folder)
    before: dict[str, LazyChatModel] = {}

    def make(pool: ModelPool) -> Candidates:
        nonlocal before
        router = base.over(pool)
        models = chat_models(router.pool)
        for model, new in models.items():
            if (old := before.get(model)) and old.provider == new.provider:
                models[model] = old
            elif not router.pool[model].disabled:
                new.check()
        before = models
        return Candidates(router.subset(models), models)

    return FollowedPool(descriptors, make)


def _build(model: str, provider: Provider) -> BaseChatModel:
    arguments = dict(provider.arguments)
    if provider.base_url is not None:
        arguments["base_url"] = provider.base_url
    if provider.api_key_env is not None:
        key = os.environ.get(provider.api_key_env)
        if not key:
            raise DescriptorError(
                f"Model {model!r}: its descriptor takes the API key from the environment variable "
                f"{provider.api_key_env}, which is not set. Set it, or change api_key_env."
            )
        # An error about the arguments prints them, but not a SecretStr.
        arguments["api_key"] = SecretStr(key)
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise MissingExtraError("langchain", "langchain") from error
    chat_model: BaseChatModel = init_chat_model(provider.chat_model, **arguments)
    return chat_model
