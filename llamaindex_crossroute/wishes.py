"""What an ask wishes of an LLM, in the words of its class.

LlamaIndex keeps no answers of LLMs, so that an ask which wishes a fresh one gets it in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.llms import LLM

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
        found |= {k: v for k, v in _of(model, _STREAM_USAGE).items() if k not in asked}
    if not settings.get(LOGPROBS):
        return found, False
    if getattr(model, LOGPROBS, None) or own.get(LOGPROBS) or given.get(LOGPROBS):
        return found, False
    wish = dict(_of(model, _LOGPROBS))
    if wish and not model.metadata.is_chat_model:
        # The API of completions takes how many of the likeliest tokens to list.
        wish[LOGPROBS] = 1
    return {**found, **wish}, bool(wish)


def _of(model: LLM, table: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    names = (kind.__name__ for kind in type(model).__mro__)
    return next((table[name] for name in names if name in table), {})
