"""What a descriptor may hand to a provider's chat model: a list of what is allowed.

A descriptor may come from anybody, and the key goes where the chat model's address points. So
nothing is on the list that names an address, a proxy, a header, a client or a file, or that adds
whatever it likes to a request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from crossroute.errors import did_you_mean
from crossroute.secret_text import SECRET_NAME


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


COMMON = _names(
    "temperature top_p max_tokens stop seed timeout max_retries streaming disable_streaming"
)
"""Allowed for every provider, of those that its chat model takes."""

_OPENAI = _names(
    "frequency_penalty presence_penalty logit_bias logprobs top_logprobs n max_completion_tokens "
    "stop_sequences reasoning reasoning_effort verbosity service_tier store truncation include "
    "context_management use_responses_api use_previous_response_id output_version stream_usage "
    "stream_chunk_timeout request_timeout disabled_params"
)
_ANTHROPIC = _names(
    "top_k max_tokens_to_sample stop_sequences thinking effort reasoning_effort output_config "
    "betas context_management inference_geo stream_usage"
)
_GOOGLE = _names(
    "project location top_k n candidate_count max_output_tokens stop_sequences frequency_penalty "
    "presence_penalty thinking_budget thinking_level include_thoughts reasoning_effort "
    "safety_settings response_mime_type response_modalities media_resolution labels"
)
_BEDROCK = _names(
    "region_name region stop_sequences provider base_model base_model_id service_tier "
    "guardrails guardrail_config"
)

BY_PROVIDER: Mapping[str, frozenset[str]] = {
    "anthropic": _ANTHROPIC,
    "anthropic_bedrock": _ANTHROPIC | _BEDROCK,
    "azure_ai": _OPENAI,
    "azure_openai": _OPENAI
    | _names("azure_deployment api_version openai_api_version model_version"),
    "bedrock": _BEDROCK | {"beta_use_converse_api"},
    "bedrock_converse": _BEDROCK | {"reasoning_effort", "performance_config"},
    "cohere": _names("timeout_seconds"),
    "deepseek": _OPENAI,
    "fireworks": _names(
        "n stop_sequences reasoning_effort service_tier stream_usage request_timeout"
    ),
    "google_anthropic_vertex": _ANTHROPIC | {"project", "location"},
    "google_genai": _GOOGLE | {"vertexai"},
    "google_vertexai": _GOOGLE | {"logprobs"},
    "groq": _names(
        "n stop_sequences reasoning_format reasoning_effort service_tier request_timeout"
    ),
    "mistralai": _names("random_seed safe_mode max_concurrent_requests"),
    "ollama": _names(
        "num_ctx num_predict num_gpu num_thread top_k tfs_z mirostat mirostat_eta mirostat_tau "
        "repeat_last_n repeat_penalty reasoning keep_alive format logprobs top_logprobs "
        "validate_model_on_init"
    ),
    "openai": _OPENAI,
    "openrouter": _names(
        "n max_completion_tokens stop_sequences frequency_penalty presence_penalty reasoning "
        "openrouter_provider route stream_usage request_timeout"
    ),
    "perplexity": _names(
        "reasoning_effort search_mode search_recency_filter search_domain_filter "
        "disable_search web_search_options return_images language_preference"
    ),
    "together": _OPENAI,
    "xai": _OPENAI,
}
"""Allowed beside the common ones, by the provider in `chat_model`."""

EFFORT_NAMES = ("reasoning_effort", "effort", "thinking_level")
"""What a reasoning effort is called."""
EFFORT_WITHIN = ("reasoning", "reasoning_options", "output_config")
"""Mappings that may hold it, as `effort`."""

_SLUGS = _names(
    "region_name region project location azure_deployment api_version openai_api_version "
    "model_version"
)
"""Those that become a part of an address."""

KEYS_OF = {
    "ANTHROPIC": "anthropic.com",
    "AWS": "amazonaws.com",
    "AZURE": "azure.com",
    "CO": "cohere.com",
    "COHERE": "cohere.com",
    "DEEPSEEK": "deepseek.com",
    "FIREWORKS": "fireworks.ai",
    "GEMINI": "googleapis.com",
    "GITHUB": "github.com",
    "GOOGLE": "googleapis.com",
    "GROQ": "groq.com",
    "HF": "huggingface.co",
    "HUGGINGFACEHUB": "huggingface.co",
    "LANGCHAIN": "langchain.com",
    "LANGSMITH": "langchain.com",
    "MISTRAL": "mistral.ai",
    "NVIDIA": "nvidia.com",
    "OPENAI": "openai.com",
    "OPENROUTER": "openrouter.ai",
    "PERPLEXITY": "perplexity.ai",
    "PPLX": "perplexity.ai",
    "TOGETHER": "together.xyz",
    "XAI": "x.ai",
}
"""Whose keys stand in environment variables that begin so, by convention."""

MOST_CHARACTERS, MOST_DEPTH = 10_000, 10
"""Of all arguments of a model, as JSON."""


KNOWN_ARGUMENTS = sorted(COMMON.union(*BY_PROVIDER.values()))
"""Those of any provider."""


def allowed(provider: str) -> list[str]:
    """The names of the arguments that a descriptor may give for a provider, such as `openai`."""
    return sorted(COMMON | BY_PROVIDER.get(provider, frozenset()))


def effort_arguments(provider: str, effort: str) -> dict[str, Any]:
    """The arguments that set a reasoning effort.

    Raises:
        ValueError: If the provider's chat model takes none.
    """
    if provider == "openrouter":
        return {"reasoning": {"effort": effort}}
    if "reasoning_effort" not in BY_PROVIDER.get(provider, ()):
        raise ValueError(f"{provider} takes no reasoning_effort")
    return {"reasoning_effort": effort}


def effort_in(arguments: Mapping[str, Any]) -> str | None:
    """The reasoning effort that arguments, or the settings of a call, say; None if they say none.

    In the words of the chat models of both frameworks, and of the providers' own requests.
    """
    for name in EFFORT_NAMES:
        if isinstance(found := arguments.get(name), str):
            return found
    for name in EFFORT_WITHIN:
        within = arguments.get(name)
        if isinstance(within, Mapping) and isinstance(found := within.get("effort"), str):
            return found
    return None


def without_effort(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments, or the settings of a call, without the reasoning effort in them."""
    if effort_in(arguments) is None:
        return arguments
    rest = {name: value for name, value in arguments.items() if name not in EFFORT_NAMES}
    for name in EFFORT_WITHIN:
        if isinstance(within := rest.get(name), Mapping):
            rest[name] = {key: value for key, value in within.items() if key != "effort"}
    return rest


def check_arguments(provider: str, arguments: Mapping[str, object]) -> None:
    """Check the arguments for a provider's chat model.

    Raises:
        ValueError: If one is not allowed, looks like a secret, or is no plain and small value.
    """
    _check_value(arguments, depth=0)
    if len(json.dumps(arguments)) > MOST_CHARACTERS:
        raise ValueError(f"they are longer than {MOST_CHARACTERS:,} characters")
    names = allowed(provider)
    for name, value in arguments.items():
        if name not in names:
            raise ValueError(
                f"{name[:60]!r} is not allowed for {provider}{did_you_mean(name[:60], names)} "
                f"Allowed are {', '.join(names)}. An address goes into provider.base_url; a chat "
                "model that needs something else is built in code and passed as "
                "models={id: chat_model}"
            )
        if name in _SLUGS and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", str(value)):
            raise ValueError(f"{name} must be of letters, digits, dots, dashes and underscores")


def home_of(provider: str) -> str | None:
    """The vendor's own address of a provider such as `groq`; None where it is not known for sure.

    Azure serves OpenAI's models, with keys that stand in OpenAI's variables by custom.
    """
    name = provider.partition("_")[0].upper()
    return f"https://{KEYS_OF[name]}" if name in KEYS_OF and name != "AZURE" else None


def check_key_goes_home(variable: str, address: str) -> None:
    """Refuse that a key which a vendor's variable holds goes to somebody else.

    This machine itself, where a proxy may stand, is nobody else.

    Raises:
        ValueError: If the variable is that of another vendor than the one at the address.
    """
    owner = KEYS_OF.get(variable.partition("_")[0])
    host = (urlsplit(address).hostname or "").rstrip(".")
    if owner is None or host in ("localhost", "127.0.0.1", "::1"):
        return
    if host != owner and not host.endswith(f".{owner}"):
        raise ValueError(
            f"{variable} holds a key of {owner}, which must not go to {host}; give that server's "
            "key a variable of its own"
        )


def _check_value(value: object, depth: int) -> None:
    """Refuse what is no JSON value, nests deep, or has a name that looks like a secret."""
    if depth > MOST_DEPTH:
        raise ValueError(f"they nest more than {MOST_DEPTH} deep")
    if isinstance(value, dict):
        for name, inner in value.items():
            if SECRET_NAME.search(str(name)):
                raise ValueError(
                    f"{str(name)[:60]!r} looks like a secret; put it in an environment variable "
                    "and write that variable's name as api_key_env"
                )
            _check_value(name, depth + 1)
            _check_value(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_value(inner, depth + 1)
    elif isinstance(value, (int, float)):
        if not abs(value) < 2**63:
            raise ValueError("a number is not finite, or has more than 64 bits")
    elif value is not None and not isinstance(value, str):
        raise ValueError(f"they are texts, numbers, lists and mappings, not {type(value).__name__}")
