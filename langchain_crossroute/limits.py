"""The longest answer of a call, in the words of the model that gives it."""

# ruff: noqa: ANN401  # Models and settings have the types of their providers.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import RunnableParallel, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase

from crossroute import ConstraintError
from crossroute.query import LIMIT_NAMES, shortest_limit

_NAMES = {
    "openai": "max_completion_tokens",
    "azure-openai": "max_completion_tokens",
    "chat-google-generative-ai": "max_output_tokens",
    "vertexai": "max_output_tokens",
}
"""What a call's `max_tokens` is named, by the beginning of the `_llm_type`."""


def within(
    model: Any, settings: dict[str, Any], most: int, *, exactly: bool = False
) -> tuple[Any, dict[str, Any]]:
    """A model and the settings of a call whose answer has at most so many tokens.

    A shorter answer that the model, what is bound to it or the call asks for stays.

    Args:
        model: A chat model, or one with tools, a schema or arguments bound.
        settings: The keyword arguments of the call.
        most: The most output tokens.
        exactly: Whether it is a setting like others, which takes the place of those: a candidate
            that no limit can be given to gets it as it stands.

    Raises:
        ConstraintError: If there is no chat model to give the limit to.
    """
    *around, inner = _layers(model)
    if not isinstance(inner, BaseLanguageModel):
        if exactly:
            return model, settings
        raise ConstraintError(
            f"hard_max_cost_usd is set, and a candidate is a {type(inner).__name__}, whose answers "
            "it cannot limit; give chat models as candidates, with tools or arguments bound if "
            "need be."
        )
    bound = [one.kwargs for one in around if isinstance(one, RunnableBindingBase)]
    own = {name: getattr(inner, name, None) for name in LIMIT_NAMES}
    held = [settings, own, getattr(inner, "model_kwargs", None) or {}, *bound]
    least = most if exactly else shortest_limit(most, held)
    rest = {name: value for name, value in settings.items() if name not in LIMIT_NAMES}
    if "num_predict" in type(inner).model_fields:
        # Ollama's takes no such argument of a call.
        return _changed(model, lambda it: it.model_copy(update={"num_predict": least})), rest
    kind = str(getattr(inner, "_llm_type", ""))
    name = next((name for start, name in _NAMES.items() if kind.startswith(start)), "max_tokens")
    # What is bound under another name would be sent beside it.
    names = {name, *(s for kwargs in bound for s in LIMIT_NAMES if kwargs.get(s))}
    given = dict.fromkeys(sorted(names), least)
    if any(isinstance(one, RunnableParallel) for one in around):
        # As `include_raw` makes one, which hands on no arguments.
        return _changed(model, lambda it: it.bind(**given)), rest
    return model, {**rest, **given}


def _layers(model: Any) -> list[Any]:
    """A model with all that is around it, from the outside; the model itself is the last one."""
    layers = [model]
    while (inner := _inner(layers[-1])) is not None:
        layers.append(inner)
    return layers


def _inner(model: Any) -> Any:
    if isinstance(model, RunnableBindingBase):
        return model.bound
    if isinstance(model, RunnableSequence):
        return model.first
    if isinstance(model, RunnableParallel) and len(model.steps__) == 1:
        return next(iter(model.steps__.values()))
    return None


def _changed(model: Any, change: Callable[[Any], Any]) -> Any:
    """A copy whose innermost model is changed."""
    if (inner := _inner(model)) is None:
        return change(model)
    inner = _changed(inner, change)
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": inner})
    if isinstance(model, RunnableSequence):
        return model.model_copy(update={"first": inner})
    return model.model_copy(update={"steps__": dict.fromkeys(model.steps__, inner)})
