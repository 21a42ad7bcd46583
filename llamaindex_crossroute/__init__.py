"""CrossRoute for LlamaIndex: the model, or the query engine, that is worth its cost.

Stands where an LLM or a selector stood:

    from llama_index.core import Settings
    from llamaindex_crossroute import CrossRouteLLM, CrossRouteSelector

    Settings.llm = CrossRouteLLM(models={"gpt-4o-2024-08-06": large, "gpt-4o-mini-...": small})
    engine = RouterQueryEngine(CrossRouteSelector(), tools, llm=llm)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from crossroute.errors import MissingExtraError

if TYPE_CHECKING:
    from llamaindex_crossroute.agents import CrossRouteAgents
    from llamaindex_crossroute.recorder import CrossRouteRecorder

try:
    from llamaindex_crossroute.context import FitContextMemoryBlock, fit_messages
    from llamaindex_crossroute.events import CrossRouteAnswerEvent, CrossRouteDecisionEvent
    from llamaindex_crossroute.ledger import CostLedger
    from llamaindex_crossroute.llm import CrossRouteLLM
    from llamaindex_crossroute.selector import CrossRouteSelector, CrossRouteSelectorResult
    from llamaindex_crossroute.settings import call_settings
    from llamaindex_crossroute.text_selector import (
        CrossRouteTextSelector,
        CrossRouteTextSelectorResult,
    )
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "llama_index":
        raise
    raise MissingExtraError("llama-index-core", "llamaindex") from error

__all__ = [
    "CostLedger",
    "CrossRouteAgents",
    "CrossRouteAnswerEvent",
    "CrossRouteDecisionEvent",
    "CrossRouteLLM",
    "CrossRouteRecorder",
    "CrossRouteSelector",
    "CrossRouteSelectorResult",
    "CrossRouteTextSelector",
    "CrossRouteTextSelectorResult",
    "FitContextMemoryBlock",
    "call_settings",
    "fit_messages",
]


# What is about traffic is not needed to route, and agents take long to import.
_LATE = {"CrossRouteAgents": "agents", "CrossRouteRecorder": "recorder"}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
