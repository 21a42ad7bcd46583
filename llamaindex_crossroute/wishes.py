"""What an ask wishes of an LLM, in the words of its class.

LlamaIndex keeps no answers of LLMs, so that an ask which wishes a fresh one gets it in any case.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from llama_index.core.llms import LLM

from crossroute.models.provider_arguments import EFFORT_WITHIN, without_effort

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOGPROBS = "logprobs"
"""The neutral setting of an ask that wishes log-probabilities."""

_LOGPROBS: Mapping[str, Mapping[str, Any]] = {
    # Its API refuses them.
    "Groq": {},
    # OpenAILike too, and all that are made from either.
    "OpenAI": {LOGPROBS: True},
}
"""The settings of a call that ask for the log-probabilities of tokens, by the LLM's class."""

_STREAM_USAGE: Mapping[str, Mapping[str, Any]] = {
    "OpenAI": {"stream_options": {"include_usage": True}},
}
"""Those that ask for the usage at the end of a stream."""


def wished(
    model: LLM,
    given: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    usage: bool,
) -> tuple[dict[str, Any], bool]:
    """The settings of an ask as an LLM takes them; what its class does not know is left out.

    Args:
        model: The LLM.
        given: What the caller gives to it, which says more than a wish.
        settings: Those of the ask.
        usage: Whether the usage at the end of a stream is wished.

    Returns:
        The settings, and whether the LLM gives log-probabilities by this wish alone.
    """
    found = {name: value for name, value in settings.items() if name != LOGPROBS}
    own = getattr(model, "additional_kwargs", None) or {}
    if usage:
        asked = {**own, **given}
        found |= {k: v for k, v in (_of(model, _STREAM_USAGE) or {}).items() if k not in asked}
    if not settings.get(LOGPROBS):
        return found, False
    if getattr(model, LOGPROBS, None) or own.get(LOGPROBS) or given.get(LOGPROBS):
        return found, False
    wish = dict(_of(model, _LOGPROBS) or {})
    if wish and not model.metadata.is_chat_model:
        # The API of completions takes how many of the likeliest tokens to list.
        wish[LOGPROBS] = 1
    return {**found, **wish}, bool(wish)


def at_effort(model: LLM, effort: str) -> LLM | None:
    """A copy of an LLM, on the same client, that thinks with an effort; None if no way is known.

    By what its class sends as it stands: a setting of a call reaches no `predict`, and a field of
    OpenAI's is only sent for models that are on the class's list.
    """
    change = _of(model, _EFFORT)
    return None if change is None else change(model, effort)


def beside_effort(
    model: LLM, settings: Mapping[str, Any], effort: str, *, schema: bool
) -> dict[str, Any]:
    """The settings of a call to an LLM at an effort: it is set in those alone that would hide it.

    Args:
        model: The LLM at the effort, of `at_effort`.
        settings: What it would be given.
        effort: The effort.
        schema: Whether its `structured_predict` is called.
    """
    found = dict(without_effort(settings))
    for name in EFFORT_WITHIN:
        if isinstance(within := found.pop(name, None), Mapping) and within:
            found[name] = {**within, "effort": effort}
    if schema and (own := _of(model, _IN_CALLS)):
        found.setdefault(own, model.additional_kwargs[own])  # type: ignore[attr-defined]
    return found


@lru_cache(maxsize=256)
def tell_without_effort(kind: str) -> None:
    """Warn, once a process, that the effort of an ask is left out."""
    logger.warning(
        "A strategy asks with a reasoning effort, which a %s is not known to take: it is left out",
        kind,
    )


def _sending(model: LLM, name: str, value: object) -> LLM:
    own: Mapping[str, Any] = model.additional_kwargs  # type: ignore[attr-defined]
    return model.model_copy(update={"additional_kwargs": {**own, name: value}})


def _openai(model: LLM, effort: str) -> LLM:
    found = _sending(model, "reasoning_effort", effort)
    # It would hold in the place of what is sent.
    return found.model_copy(update={"reasoning_effort": None})


def _responses(model: LLM, effort: str) -> LLM:
    own = model.additional_kwargs.get("reasoning") or model.reasoning_options  # type: ignore[attr-defined]
    reasoning = {**(own or {}), "effort": effort}
    # The field is only sent for models on a list, but keeps a temperature from being sent beside.
    found = _sending(model, "reasoning", reasoning)
    return found.model_copy(update={"reasoning_options": reasoning})


def _anthropic(model: LLM, effort: str) -> LLM:
    own = model.additional_kwargs.get("output_config")  # type: ignore[attr-defined]
    return _sending(model, "output_config", {**(own or {}), "effort": effort})


def _google(model: LLM, effort: str) -> LLM:
    found = model.model_copy()
    # It has no public name.
    config = found._generation_config or {}  # type: ignore[attr-defined]
    thinking = {**(config.get("thinking_config") or {}), "thinking_level": effort}
    # The API takes one of the two.
    thinking.pop("thinking_budget", None)
    found._generation_config = {**config, "thinking_config": thinking}  # type: ignore[attr-defined]
    return found


_EFFORT: Mapping[str, Callable[[LLM, str], LLM]] = {
    "Anthropic": _anthropic,
    "GoogleGenAI": _google,
    # OpenAILike too, and all that are made from either.
    "OpenAI": _openai,
    "OpenAIResponses": _responses,
}
"""The LLM at an effort, by its class."""
_IN_CALLS: Mapping[str, str] = {"OpenAIResponses": "reasoning"}
"""The setting of `structured_predict`, which sends nothing else of the LLM's, by its class."""


def _of(model: LLM, table: Mapping[str, T]) -> T | None:
    names = (kind.__name__ for kind in type(model).__mro__)
    return next((table[name] for name in names if name in table), None)
