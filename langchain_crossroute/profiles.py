"""What candidates can do: LangChain's model profiles beside the descriptors of the pool."""

# ruff: noqa: ANN401  # A candidate is any Runnable.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossroute import CrossRouter, ModelDescriptor, ModelPool
from crossroute.query import Capability
from langchain_crossroute.lazy import LazyChatModel

_PROFILE_CAPABILITIES: dict[str, Capability] = {
    "tool_calling": "tools",
    "structured_output": "structured_output",
    "image_inputs": "image_input",
    "image_url_inputs": "image_input",
    "audio_inputs": "audio_input",
    "pdf_inputs": "file_input",
}

_PROFILE_NUMBERS = {
    # LangChain means the context window by it, which holds the answer too.
    "context_window_tokens": "max_input_tokens",
    "max_output_tokens": "max_output_tokens",
}


def over_models(router: CrossRouter, models: Mapping[str, Any]) -> CrossRouter:
    """The router over exactly these models, what they can take completed by their profiles.

    Of a number in a descriptor and in the profile the smaller one holds; capabilities are those of
    both. Only the profiles of chat models that are built already are read.

    Raises:
        UnknownModelError: If the router's pool does not hold an id.
        PoolError: If there are fewer than two models.
    """
    pool = [_candidate(router.pool[name], model) for name, model in models.items()]
    if len(pool) == len(router.pool) and all(found is router.pool[found.id] for found in pool):
        return router
    return router.over(ModelPool(pool))


def _candidate(descriptor: ModelDescriptor, model: Any) -> ModelDescriptor:
    if descriptor.retired is not None and not isinstance(model, LazyChatModel):
        # Who brings a client of their own says that it is served, by whomever.
        descriptor = descriptor.model_copy(update={"retired": None})
    return _completed(descriptor, profile_of(model))


def common_profile(pool: ModelPool, models: Mapping[str, Any]) -> dict[str, Any]:
    """What every candidate offers, as LangChain's model profile.

    A flag holds if it holds of all, a number is the least; what only some say is left out.
    """
    profiles = []
    for name, model in models.items():
        descriptor = pool[name]
        own = {
            key: capability in descriptor.capabilities
            for key, capability in _PROFILE_CAPABILITIES.items()
        }
        profile = {**own, **profile_of(model)}
        for field, key in _PROFILE_NUMBERS.items():
            number = _smaller(getattr(descriptor, field), profile.get(key))
            if number is not None:
                profile[key] = number
        profiles.append(profile)
    found: dict[str, Any] = {}
    for key in set(profiles[0]).intersection(*profiles[1:]):
        values = [profile[key] for profile in profiles]
        if all(isinstance(value, bool) for value in values):
            found[key] = all(values)
        elif all(type(value) is int for value in values):
            found[key] = min(values)
    return found


def common_ls_params(models: Mapping[str, Any]) -> dict[str, Any]:
    """What all candidates say of themselves in a trace alike, such as their provider."""
    first, *others = map(_ls_params_of, models.values())
    return {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in others)
    }


def common_llm_type(models: Mapping[str, Any]) -> str | None:
    """LangChain's type of the chat models, where all have the same one."""
    first, *others = (getattr(_built(model), "_llm_type", None) for model in models.values())
    return first if isinstance(first, str) and all(other == first for other in others) else None


def _ls_params_of(model: Any) -> Mapping[str, Any]:
    if isinstance(model, LazyChatModel) and model.built is None:
        return {"ls_provider": model.provider.chat_model.partition(":")[0]}
    asked = getattr(_built(model), "_get_ls_params", None)
    found = None if asked is None else asked()
    return found if isinstance(found, Mapping) else {}


def _built(model: Any) -> Any:
    return model.built if isinstance(model, LazyChatModel) else model


def profile_of(model: Any) -> Mapping[str, Any]:
    """The profile of a chat model, also of one with arguments bound; empty for others."""
    profile = getattr(model, "profile", None)
    return profile if isinstance(profile, Mapping) else {}


def known_profile(chat_model: str) -> dict[str, Any]:
    """What LangChain's profile of a model says, as fields of a descriptor.

    Args:
        chat_model: `provider:model`; its package has to be installed, no key is needed.

    Returns:
        The fields, beside them `name` and `reasoning_effort_levels`; empty without a profile.
    """
    from langchain.chat_models import init_chat_model

    # Nothing is sent: the profile stands in the package.
    profile = profile_of(init_chat_model(chat_model, api_key="none"))
    if not profile:
        return {}
    found = _completed(ModelDescriptor(id=chat_model), profile)
    if chat_model.startswith("openai:") and _gives_logprobs(profile):
        found = found.model_copy(update={"capabilities": (*found.capabilities, "logprobs")})
    beside = {key: profile.get(key) for key in ("name", "reasoning_effort_levels")}
    return beside | found.model_dump(exclude_defaults=True, exclude={"id"})


def _gives_logprobs(profile: Mapping[str, Any]) -> bool:
    """Whether one of OpenAI's models gives log-probabilities: those do that chat without reasoning.

    No profile says it.
    """
    chats = profile.get("tool_calling") and profile.get("temperature")
    return bool(chats) and profile.get("reasoning_output") is False


def _completed(descriptor: ModelDescriptor, profile: Mapping[str, Any]) -> ModelDescriptor:
    update: dict[str, Any] = {}
    extra = {
        capability for name, capability in _PROFILE_CAPABILITIES.items() if profile.get(name)
    }.difference(descriptor.capabilities)
    if extra:
        update["capabilities"] = (*descriptor.capabilities, *sorted(extra))
    for name, key in _PROFILE_NUMBERS.items():
        number = _smaller(getattr(descriptor, name), profile.get(key))
        if number != getattr(descriptor, name):
            update[name] = number
    return descriptor.model_copy(update=update) if update else descriptor


def _smaller(of_descriptor: int | None, of_profile: Any) -> int | None:
    """The number that holds; a profile's may be missing, or 0 where nobody knows it."""
    numbers = [of_descriptor, of_profile if type(of_profile) is int and of_profile > 0 else None]
    return min((number for number in numbers if number is not None), default=None)
