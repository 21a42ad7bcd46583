"""CrossRoute for LlamaIndex: the query engine or retriever whose model is worth its cost.

Stands where a selector stood:

    from llama_index.core.query_engine import RouterQueryEngine
    from llamaindex_crossroute import CrossRouteSelector

    engine = RouterQueryEngine(CrossRouteSelector(), tools, llm=llm)
"""

from __future__ import annotations

from crossroute.errors import MissingExtraError

try:
    from llamaindex_crossroute.selector import CrossRouteSelector, CrossRouteSelectorResult
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "llama_index":
        raise
    raise MissingExtraError("llama-index-core", "llamaindex") from error

__all__ = ["CrossRouteSelector", "CrossRouteSelectorResult"]
