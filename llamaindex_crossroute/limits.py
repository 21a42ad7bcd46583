"""The longest answer of a call, in the words of the LLM that gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.llms import LLM

from crossroute import ConstraintError
from crossroute.query import LIMIT_NAMES, shortest_limit


def within(
    model: LLM, settings: Mapping[str, Any] | None, most: int, *, exactly: bool = False
) -> tuple[LLM, dict[str, Any] | None]:
    """An LLM and the settings of a call whose answer has at most so many tokens.

    A shorter answer that the LLM or the call asks for stays. Where an LLM prefers its own limit to
    that of a call, or takes none of a call, a copy of it on the same client gets the limit.

    Args:
        model: The LLM.
        settings: What the call gives to it; None if it cannot give anything.
        most: The most output tokens.
        exactly: Whether it is a setting like others, which takes the place of those.

    Raises:
        ConstraintError: If there is nowhere to say it.
    """
    own = {name: getattr(model, name, None) for name in LIMIT_NAMES}
    extra = getattr(model, "additional_kwargs", None)
    extra = dict(extra) if isinstance(extra, Mapping) else None
    config = getattr(model, "_generation_config", None)
    held = [own, extra or {}, config if isinstance(config, Mapping) else {}, settings or {}]
    least = most if exactly else shortest_limit(most, held)

    fields, kind = type(model).model_fields, model.class_name().lower()
    changes: dict[str, Any] = {}
    if "max_tokens" in fields and (settings is None or (own["max_tokens"] or least) != least):
        changes["max_tokens"] = least
    if extra is not None:
        limited = {name: least for name in LIMIT_NAMES if extra.get(name)}
        if kind.startswith("ollama"):
            limited["num_predict"] = least
        if limited:
            changes["additional_kwargs"] = {**extra, **limited}
    if changes:
        model = model.model_copy(update=changes)
    if isinstance(config, Mapping):
        # Of Google's: it reads no setting of a call but this one, which has no public name.
        model = model.model_copy()
        model._generation_config = {**config, "max_output_tokens": least}  # type: ignore[attr-defined]
    if settings is None:
        if not changes and not isinstance(config, Mapping):
            raise ConstraintError(
                f"hard_max_cost_usd is set, and {model.class_name()} has no way to limit its "
                "answer to a prompt; ask it by chat or complete."
            )
        return model, None
    rest = {name: value for name, value in settings.items() if name not in LIMIT_NAMES}
    takes_it = config is None and not kind.startswith("ollama")
    return model, {**rest, "max_tokens": least} if takes_it else rest
