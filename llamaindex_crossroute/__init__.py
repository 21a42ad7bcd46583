"""CrossRoute for LlamaIndex: the model, or the query engine, that is worth its cost.

Stands where an LLM or a selector stood:

    from llama_index.core import Settings
    from llamaindex_crossroute import CrossRouteLLM, CrossRouteSelector

    Settings.llm = CrossRouteLLM(models={"gpt-4o-2024-08-06": large, "gpt-4o-mini-...": small})
    engine = RouterQueryEngine(CrossRouteSelector(), tools, llm=llm)
"""

from __future__ import annotations

from crossroute.errors import MissingExtraError

try:
    from llamaindex_crossroute.events import CrossRouteAnswerEvent, CrossRouteDecisionEvent
    from llamaindex_crossroute.ledger import CostLedger
    from llamaindex_crossroute.llm import CrossRouteLLM
    from llamaindex_crossroute.recorder import CrossRouteRecorder
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
    "CrossRouteAnswerEvent",
    "CrossRouteDecisionEvent",
    "CrossRouteLLM",
    "CrossRouteRecorder",
    "CrossRouteSelector",
    "CrossRouteSelectorResult",
    "CrossRouteTextSelector",
    "CrossRouteTextSelectorResult",
    "call_settings",
]
