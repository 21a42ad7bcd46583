"""LLMs made from descriptors, each when it is first used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, Self

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms import LLM
from pydantic import ValidationError
from typing_extensions import override

from crossroute import DescriptorError, MissingExtraError, ModelDescriptor, Provider
from crossroute.candidates import LazyClient, distribution
from crossroute.errors import problems
from crossroute.failures import mask_error, secrets_of
from crossroute.models.efforts import Arm, arm_of
from crossroute.models.provider_arguments import without_effort
from llamaindex_crossroute.wishes import at_effort


class Maker(NamedTuple):
    """What of LlamaIndex makes the LLM of a provider.

    Attributes:
        package: Its import name.
        name: Name of the class in it.
        arguments: The class's names of what a descriptor may say in `provider.arguments`; `a.b` is
            `b` within the mapping `a`.
        described: The class's arguments that are made of the rest of a descriptor; None is left to
            the class.
        keys: Environment variables with the key, of which the first that is set counts, where a
            descriptor names none; without any, the class finds its credentials itself.
        key: Its argument for the key; None if it takes none.
        base_url: Its argument for the address; None if it takes none.
        address: Where the provider is; None is the class's own default.
        takes_effort: Whether `wishes.at_effort` knows how its LLM is given a reasoning effort.
    """

    package: str
    name: str
    arguments: Mapping[str, str]
    described: Mapping[str, Callable[[ModelDescriptor], Any]]
    keys: tuple[str, ...] = ()
    key: str | None = "api_key"
    base_url: str | None = None
    address: str | None = None
    takes_effort: bool = True


def _names(same: str, within: str = "", **other: str) -> dict[str, str]:
    """The names that a class has, too, those that go into `additional_kwargs`, and others."""
    return {
        **{name: name for name in same.split()},
        **{name: f"additional_kwargs.{name}" for name in within.split()},
        **other,
    }


def _model(descriptor: ModelDescriptor) -> str:
    assert descriptor.provider is not None  # noqa: S101  # For mypy: a LazyLLM has one.
    return descriptor.provider.chat_model.partition(":")[2]


def _can(capability: str) -> Callable[[ModelDescriptor], bool]:
    return lambda descriptor: capability in descriptor.capabilities


def _window(descriptor: ModelDescriptor) -> int | None:
    return descriptor.context_window_tokens


_OPENAI = _names(
    "temperature max_tokens timeout max_retries logprobs top_logprobs reasoning_effort",
    "top_p stop seed frequency_penalty presence_penalty logit_bias max_completion_tokens "
    "service_tier store verbosity",
    request_timeout="timeout",
    stop_sequences="additional_kwargs.stop",
    stream_usage="additional_kwargs.stream_options",
)


def _openai_like(key: str, address: str | None = None) -> Maker:
    # Not `OpenAI`, which fails for every name that is not on its list.
    return Maker(
        "llama_index.llms.openai_like",
        "OpenAILike",
        _OPENAI,
        {
            "is_chat_model": lambda _: True,
            "is_function_calling_model": _can("tools"),
            "should_use_structured_outputs": _can("structured_output"),
            "context_window": _window,
        },
        keys=(key,),
        base_url="api_base",
        address=address,
    )


MAKERS: Mapping[str, Maker] = {
    "anthropic": Maker(
        "llama_index.llms.anthropic",
        "Anthropic",
        _names(
            "temperature max_tokens timeout max_retries",
            "top_p top_k stop_sequences",
            max_tokens_to_sample="max_tokens",
            stop="additional_kwargs.stop_sequences",
            thinking="thinking_dict",
        ),
        {},
        keys=("ANTHROPIC_API_KEY",),
        base_url="base_url",
    ),
    "azure_openai": Maker(
        "llama_index.llms.azure_openai",
        "AzureOpenAI",
        _OPENAI
        | _names("api_version", azure_deployment="engine", openai_api_version="api_version"),
        {"engine": _model},
        keys=("AZURE_OPENAI_API_KEY",),
    ),
    "bedrock_converse": Maker(
        "llama_index.llms.bedrock_converse",
        "BedrockConverse",
        _names("temperature max_tokens timeout max_retries region_name", region="region_name"),
        {},
        key=None,
        takes_effort=False,
    ),
    "cohere": Maker(
        "llama_index.llms.cohere",
        "Cohere",
        _names("temperature max_tokens timeout max_retries", timeout_seconds="timeout"),
        {},
        keys=("COHERE_API_KEY", "CO_API_KEY"),
        base_url="base_url",
    ),
    "deepseek": _openai_like("DEEPSEEK_API_KEY", "https://api.deepseek.com"),
    "fireworks": _openai_like("FIREWORKS_API_KEY", "https://api.fireworks.ai/inference/v1"),
    "google_genai": Maker(
        "llama_index.llms.google_genai",
        "GoogleGenAI",
        _names("temperature max_tokens max_retries", max_output_tokens="max_tokens"),
        {
            "is_function_calling_model": _can("tools"),
            # Without the two, it asks the network what the model can take as soon as it is built.
            "context_window": _window,
            "max_tokens": lambda descriptor: descriptor.max_output_tokens,
        },
        keys=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    ),
    "groq": _openai_like("GROQ_API_KEY", "https://api.groq.com/openai/v1"),
    "mistralai": Maker(
        "llama_index.llms.mistralai",
        "MistralAI",
        _names(
            "temperature max_tokens timeout max_retries random_seed safe_mode",
            "top_p stop",
            seed="random_seed",
        ),
        {},
        keys=("MISTRAL_API_KEY",),
        base_url="endpoint",
    ),
    "ollama": Maker(
        "llama_index.llms.ollama",
        "Ollama",
        _names(
            "temperature keep_alive",
            "top_p top_k seed stop num_predict num_gpu num_thread tfs_z mirostat mirostat_eta "
            "mirostat_tau repeat_last_n repeat_penalty",
            timeout="request_timeout",
            num_ctx="context_window",
            max_tokens="additional_kwargs.num_predict",
            reasoning="thinking",
        ),
        {"is_function_calling_model": _can("tools")},
        key=None,
    ),
    "openai": _openai_like("OPENAI_API_KEY"),
    "openrouter": _openai_like("OPENROUTER_API_KEY", "https://openrouter.ai/api/v1"),
    "together": _openai_like("TOGETHER_API_KEY", "https://api.together.xyz/v1"),
    "xai": _openai_like("XAI_API_KEY", "https://api.x.ai/v1"),
}
"""By the provider in `chat_model`."""


class LazyLLM(LazyClient[LLM]):
    """The LLM of a descriptor, built when it is first used.

    Args:
        model: Id of the model, for error messages.
        provider: Where the model is reached.
        descriptor: What else is known of the model.
    """

    packages: ClassVar = {provider: maker.package for provider, maker in MAKERS.items()}

    def __init__(
        self, model: str, provider: Provider, descriptor: ModelDescriptor | None = None
    ) -> None:
        super().__init__(model, provider)
        self._descriptor = descriptor or ModelDescriptor(id=model, provider=provider)

    @classmethod
    @override
    def of(cls, descriptor: ModelDescriptor) -> Self:
        assert descriptor.provider is not None  # noqa: S101  # For mypy: who calls has looked.
        return cls(descriptor.id, descriptor.provider, descriptor)

    @override
    def is_of(self, descriptor: ModelDescriptor) -> bool:
        def facts(of: ModelDescriptor) -> tuple[object, ...]:
            return (
                of.provider,
                of.capabilities,
                of.context_window_tokens,
                of.max_output_tokens,
            )

        return facts(self._descriptor) == facts(descriptor)

    @property
    def metadata(self) -> LLMMetadata:
        """What its descriptor says of it."""
        longest = self.provider.arguments.get("max_tokens", self._descriptor.max_output_tokens)
        return LLMMetadata(
            context_window=self._descriptor.context_window_tokens or DEFAULT_CONTEXT_WINDOW,
            num_output=longest or -1,
            is_chat_model=True,
            is_function_calling_model="tools" in self._descriptor.capabilities,
            model_name=_model(self._descriptor),
        )

    @cached_property
    def kind(self) -> type[LLM]:
        """The class that it is built of; `LLM` where its package is missing."""
        try:
            return self._class()
        except (DescriptorError, ImportError):
            return LLM

    @property
    @override
    def key_variable(self) -> str | None:
        if self.provider.api_key_env is not None:
            return self.provider.api_key_env
        maker = MAKERS.get(self._vendor)
        names = maker.keys if maker else ()
        return next((name for name in names if os.environ.get(name)), names[0] if names else None)

    @cached_property
    @override
    def unsuitable(self) -> str | None:
        try:
            self._arguments()
        except DescriptorError as error:
            return str(error)
        return super().unsuitable

    @override
    def _build(self) -> LLM:
        arguments, kind = self._arguments(), self._class()
        if "context_window" not in self._maker.described:
            kind = _knowing(kind, self.metadata)
        if self._maker.key is not None and (key := self.key()) is not None:
            arguments[self._maker.key] = key.get_secret_value()
        try:
            llm = kind(**arguments)
            arm = self._arm
            return llm if arm is None else at_effort(llm, arm.effort) or llm
        except Exception as error:
            masked = mask_error(self._said(error, kind), self.secrets)
            if masked is error:
                raise
            raise masked from None

    def _said(self, error: Exception, kind: type[LLM]) -> Exception:
        """An error of building it, which may show the key whole, but not a part of it."""
        if not isinstance(error, ValidationError):
            return error
        # Pydantic cuts what it shows: the end of a key is not to be found and masked.
        text = problems(error, kind, unquoted=(self._maker.key or "",))
        return DescriptorError(f"Model {self._id!r}: {self._maker.name} cannot be built: {text}.")

    @property
    def _vendor(self) -> str:
        return self.provider.chat_model.partition(":")[0]

    @property
    def _maker(self) -> Maker:
        if self._vendor not in MAKERS:
            raise DescriptorError(
                f"Model {self._id!r}: no LLM of LlamaIndex is known for the provider "
                f"{self._vendor!r} of its descriptor. Known are {', '.join(MAKERS)}. Build the LLM "
                "in code and pass it as models={id: llm}, or name a server that speaks OpenAI's "
                "protocol: chat_model openai:..., with its base_url."
            )
        return MAKERS[self._vendor]

    @property
    def _arm(self) -> Arm | None:
        return arm_of(self._descriptor) if self._maker.takes_effort else None

    def _class(self) -> type[LLM]:
        package, name = self._maker.package, self._maker.name
        try:
            kind: type[LLM] = getattr(import_module(package), name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{package}.".startswith(f"{error.name}."):
                raise
            raise MissingExtraError(distribution(package)) from error
        return kind

    def _arguments(self) -> dict[str, Any]:
        """What the class is given, without the key.

        Raises:
            DescriptorError: If it cannot take what the descriptor says.
        """
        maker, provider = self._maker, self.provider
        found: dict[str, Any] = {"model": _model(self._descriptor)}
        for name, of in maker.described.items():
            if (value := of(self._descriptor)) is not None:
                found[name] = value
        given = dict(provider.arguments)
        if self._arm is not None:
            # Set when it is built: the fields of these classes are not sent for every model.
            given = {name: value for name, value in without_effort(given).items() if value != {}}
        if "stream_usage" in maker.arguments:
            # As in LangChain: OpenAI's own servers are asked for it, others where it is said.
            own = self._vendor in ("openai", "azure_openai") and provider.base_url is None
            asked = given.pop("stream_usage", own)
            given |= {"stream_usage": {"include_usage": True}} if asked else {}
        for name, value in given.items():
            if name not in maker.arguments:
                raise DescriptorError(
                    f"Model {self._id!r}: provider.arguments has {name!r}, which LlamaIndex's "
                    f"{maker.name} cannot take. It takes {', '.join(sorted(maker.arguments))}."
                )
            within, _, inner = maker.arguments[name].rpartition(".")
            (found.setdefault(within, {}) if within else found)[inner] = value
        address = provider.base_url or maker.address
        if address is not None:
            if maker.base_url is None:
                raise self._takes_no("base_url")
            found[maker.base_url] = address
        if provider.api_key_env is not None and maker.key is None:
            raise self._takes_no("api_key_env")
        return found

    def _takes_no(self, field: str) -> DescriptorError:
        return DescriptorError(
            f"Model {self._id!r}: provider.{field} is set, which LlamaIndex's {self._maker.name} "
            "cannot take. Remove it; a server that speaks OpenAI's protocol is named by chat_model "
            "openai:... with its base_url and api_key_env."
        )

    @override
    def __repr__(self) -> str:
        return f"LazyLLM({self._id!r})"


def _knowing(kind: type[LLM], metadata: LLMMetadata) -> type[LLM]:
    """The class, which fails for names that are not on its list, with metadata of a descriptor."""
    known = {"metadata": property(lambda _: metadata), "__module__": kind.__module__}
    return type(kind.__name__, (kind,), known)


def load_llm(model: LLM | LazyLLM) -> LLM:
    """A candidate itself: the LLM of a `LazyLLM`, any other as it is."""
    return model.load() if isinstance(model, LazyLLM) else model


async def aload_llm(model: LLM | LazyLLM) -> LLM:
    """`load_llm` beside the event loop."""
    return await model.aload() if isinstance(model, LazyLLM) else model


def sets_effort(model: LLM | LazyLLM) -> bool:
    """Whether an LLM can be asked with one reasoning effort or another."""
    return isinstance(model, LazyLLM) or at_effort(model, "any") is not None


def secrets_in(model: LLM | LazyLLM) -> list[str]:
    """What a candidate's clients hold as secret."""
    if not isinstance(model, LazyLLM):
        return secrets_of(model)
    return [*model.secrets, *secrets_of(model.built)]
