"""What an ask wishes of the chat models in a candidate, in the words of their classes.

They are changed on copies, on the same clients, wherever they stand in a candidate: a keyword of
the call reaches only the first Runnable of a chain, and a class that does not know it would send it
to its provider all the same.
"""

# ruff: noqa: ANN401  # Candidates are any Runnable, and settings have the types of their providers.

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase
from pydantic import BaseModel

from crossroute.models.provider_arguments import EFFORT_NAMES, effort_in, without_effort
from langchain_crossroute.lazy import LazyChatModel
from langchain_crossroute.streams import muted

logger = logging.getLogger(__name__)

LOGPROBS = "logprobs"
"""The neutral setting of an ask that wishes log-probabilities."""

_LOGPROBS = {
    # OpenAI's, Azure's, DeepSeek's, xAI's, Together's.
    "BaseChatOpenAI": "logprobs",
    "ChatOllama": "logprobs",
    "ChatVertexAI": "logprobs",
}
"""The field that asks for the log-probabilities of tokens, by the class that has it."""

_STREAM_USAGE = {"BaseChatOpenAI": "stream_usage"}
"""The field that asks for the usage at the end of a stream, which is None if nobody has decided."""

REASONING = "reasoning"
"""The setting, and the field, in which OpenAI's Responses API has the effort beside others."""
_EFFORT_WITHIN = {"ChatOpenRouter": REASONING}
"""The field with the effort in it, by the class that has no field of its own for it."""
_THINKING = {"thinking_budget", "thinking_config"}
"""Settings of Google's that say how long to think."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is wished of chat models.

    Attributes:
        logprobs: Log-probabilities of the tokens.
        usage: The usage at the end of a stream, unless the model or the call says otherwise.
        fresh: An answer from no cache, which goes into none.
        muted: No tokens to the callback handlers that the models have of their own.
        effort: The reasoning effort; None is that of the models.
        effort_wins: Whether it holds also where the call, or what is bound, says another one.
    """

    logprobs: bool = False
    usage: bool = False
    fresh: bool = False
    muted: bool = False
    effort: str | None = None
    effort_wins: bool = False

    def of(self, candidate: Any, settings: Mapping[str, Any]) -> tuple[Any, bool]:
        """A candidate that does as is wished, as far as the classes of its models know how.

        Chat models that a function calls are out of reach.

        Args:
            candidate: A chat model, or a Runnable with some in it.
            settings: The keyword arguments of the call.

        Returns:
            The candidate, or a copy, and whether it gives log-probabilities by this wish alone.
        """
        if not (self.logprobs or self.usage or self.fresh or self.muted or self.effort):
            return candidate, False
        ours = has_effort = False

        def change(model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
            """The changes of a model, or of what is bound to one."""
            nonlocal ours, has_effort
            changes: dict[str, Any] = {}
            if isinstance(model, RunnableBindingBase):
                if (told := self.settings(model.kwargs)) is not model.kwargs:
                    changes["kwargs"] = told
                own = model.config.get("callbacks")
                if self.muted and (silent := muted(own)) is not own:
                    changes["config"] = {**model.config, "callbacks": silent}
                return changes
            if self.muted and (silent := muted(model.callbacks)) is not model.callbacks:
                changes["callbacks"] = silent
            if self.fresh and model.cache is not False:
                changes["cache"] = False
            if self.logprobs and (field := _field(model, _LOGPROBS)):
                asked = getattr(model, field) or given.get(field)
                if not asked and not _by_responses(model, given):
                    changes[field] = ours = True
            field = _field(model, _STREAM_USAGE) if self.usage else None
            if field and getattr(model, field) is None:
                changes[field] = True
            if self.effort and (found := self._effort_of(model, given)) is not None:
                changes |= found
                has_effort = True
            return changes

        changed = _changed(candidate, change, settings)
        if self.effort_wins and not has_effort:
            _tell_without_effort(type(candidate).__name__)
        return changed, ours

    def settings(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings of a call, or what is bound, with the effort where they would hide it."""
        if self.effort is None:
            return given
        if self.effort_wins:
            given = without_effort(given)
        told = given.get(REASONING)
        if isinstance(told, Mapping) and effort_in(given) is None:
            # A summary, say, that is asked for.
            return {**given, REASONING: {**told, "effort": self.effort}}
        return given

    def _effort_of(self, model: Any, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """The changes of a model that set the effort; None where its class knows none."""
        fields = type(model).model_fields
        name = next((name for name in EFFORT_NAMES if name in fields), None)
        within = _field(model, _EFFORT_WITHIN)
        if name is None and within is None:
            return None
        changes: dict[str, Any] = dict.fromkeys({name, "thinking_budget"} & fields.keys())
        own = getattr(model, REASONING, None)
        if isinstance(given.get(REASONING), Mapping):
            # It holds an effort, and the API takes no other beside it.
            pass
        elif not self.effort_wins and _says_effort(given):
            return {}
        elif within is not None or isinstance(own, Mapping):
            changes[REASONING] = {**(own or {}), "effort": self.effort}
        else:
            changes[str(name)] = self.effort
        return {key: value for key, value in changes.items() if getattr(model, key) != value}


def _says_effort(given: Mapping[str, Any]) -> bool:
    """Whether settings of a call say an effort, or how long to think."""
    return effort_in(given) is not None or not _THINKING.isdisjoint(given)


def sets_effort(candidate: Any) -> bool:
    """Whether a candidate can be asked with one reasoning effort or another."""
    if isinstance(candidate, LazyChatModel):
        return True
    changed, _ = Wishes(effort="any").of(candidate, {})
    return changed is not candidate


@lru_cache(maxsize=256)
def _tell_without_effort(kind: str) -> None:
    """Warn, once a process, that the effort of an ask is left out."""
    logger.warning(
        "A strategy asks with a reasoning effort, which a %s is not known to take: it is left out",
        kind,
    )


def _field(model: Any, fields: Mapping[str, str]) -> str | None:
    """The field of a table that a model has."""
    found = (fields[kind.__name__] for kind in type(model).__mro__ if kind.__name__ in fields)
    name = next(found, None)
    return name if name in type(model).model_fields else None


def _by_responses(model: Any, given: Mapping[str, Any]) -> bool:
    """Whether a call goes to OpenAI's Responses API, whose log-probabilities LangChain drops."""
    # The class's own rule, which goes by the arguments of the call too.
    rule = getattr(model, "_use_responses_api", None)
    return rule is not None and bool(rule({**given, **(model.model_kwargs or {})}))


def _changed(
    part: Any,
    change: Callable[[Any, Mapping[str, Any]], dict[str, Any]],
    given: Mapping[str, Any],
) -> Any:
    """A part of a candidate with the models in it changed; the same object if there are none."""
    if isinstance(part, BaseLanguageModel):
        changes = change(part, given)
    elif isinstance(part, Runnable) and isinstance(part, BaseModel):
        bound: dict[str, Any] = {}
        if isinstance(part, RunnableBindingBase):
            bound = change(part, given)
            given = {**given, **part.kwargs}
        old = {name: getattr(part, name) for name in type(part).model_fields}
        new = {name: _changed(value, change, given) for name, value in old.items()}
        changes = {name: value for name, value in new.items() if value is not old[name]} | bound
    elif isinstance(part, (list, tuple)):
        items = [_changed(item, change, given) for item in part]
        same = all(one is other for one, other in zip(items, part, strict=True))
        return part if same else items if isinstance(part, list) else tuple(items)
    elif isinstance(part, dict):
        inner = {name: _changed(value, change, given) for name, value in part.items()}
        return part if all(inner[name] is part[name] for name in part) else inner
    else:
        return part
    return part.model_copy(update=changes) if changes else part
