"""What candidates can do: LangChain's model profiles beside the descriptors of the pool."""

# ruff: noqa: ANN401  # A candidate is any Runnable.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossroute import CrossRouter, ModelDescriptor, ModelPool
from crossroute.query import Capability

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

    A number in a descriptor wins over the profile's; capabilities are those of both. Only the
    profiles of chat models that are built already are read.

    Raises:
        UnknownModelError: If the router's pool does not hold an id.
        PoolError: If there are fewer than two models.
    """
    pool = [_completed(router.pool[name], profile_of(model)) for name, model in models.items()]
    if len(pool) == len(router.pool) and all(found is router.pool[found.id] for found in pool):
        return router
    return router.over(ModelPool(pool))


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
        numbers = {
            key: getattr(descriptor, field)
            for field, key in _PROFILE_NUMBERS.items()
            if getattr(descriptor, field) is not None
        }
        profiles.append({**own, **profile_of(model), **numbers})
    found: dict[str, Any] = {}
    for key in set(profiles[0]).intersection(*profiles[1:]):
        values = [profile[key] for profile in profiles]
        if all(isinstance(value, bool) for value in values):
            found[key] = all(values)
        elif all(type(value) is int for value in values):
            found[key] = min(values)
    return found


def profile_of(model: Any) -> Mapping[str, Any]:
    """The profile of a chat model, also of one with arguments bound; empty for others."""
    profile = getattr(model, "profile", None)
    return profile if isinstance(profile, Mapping) else {}


def _completed(descriptor: ModelDescriptor, profile: Mapping[str, Any]) -> ModelDescriptor:
    update: dict[str, Any] = {}
    extra = {
        capability for name, capability in _PROFILE_CAPABILITIES.items() if profile.get(name)
    }.difference(descriptor.capabilities)
    if extra:
        update["capabilities"] = (*descriptor.capabilities, *sorted(extra))
    for name, key in _PROFILE_NUMBERS.items():
        if getattr(descriptor, name) is None and profile.get(key):
            update[name] = profile[key]
    return descriptor.model_copy(update=update) if update else descriptor
