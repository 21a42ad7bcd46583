"""CrossRoute for LangChain: a router where a chat model stood.

from langchain_crossroute import ChatCrossRoute

chain = prompt | ChatCrossRoute.from_yaml() | StrOutputParser()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from langchain_crossroute.runnable import CrossRouteRunnable

if TYPE_CHECKING:
    from langchain_crossroute.chat_model import ChatCrossRoute
    from langchain_crossroute.context import fit_messages
    from langchain_crossroute.context_middleware import FitContextMiddleware
    from langchain_crossroute.ledger import CostLedger
    from langchain_crossroute.middleware import CrossRouteMiddleware
    from langchain_crossroute.recorder import CrossRouteRecorder
    from langchain_crossroute.store_memory import StoreMemory

__all__ = [
    "ChatCrossRoute",
    "CostLedger",
    "CrossRouteMiddleware",
    "CrossRouteRecorder",
    "CrossRouteRunnable",
    "FitContextMiddleware",
    "StoreMemory",
    "fit_messages",
]

# Chat models and agents take most of a second to import.
_LATE = {
    "ChatCrossRoute": "chat_model",
    "CostLedger": "ledger",
    "CrossRouteMiddleware": "middleware",
    "CrossRouteRecorder": "recorder",
    "FitContextMiddleware": "context_middleware",
    "StoreMemory": "store_memory",
    "fit_messages": "context",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
