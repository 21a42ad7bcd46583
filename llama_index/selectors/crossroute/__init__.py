"""`llamaindex_crossroute`'s selectors by the name that LlamaIndex gives its integrations."""

from llamaindex_crossroute import (
    CrossRouteSelector,
    CrossRouteSelectorResult,
    CrossRouteTextSelector,
    CrossRouteTextSelectorResult,
)

__all__ = [
    "CrossRouteSelector",
    "CrossRouteSelectorResult",
    "CrossRouteTextSelector",
    "CrossRouteTextSelectorResult",
]
