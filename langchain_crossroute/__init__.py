"""CrossRoute for LangChain: a router where a chat model stood.

from langchain_crossroute import CrossRouteRunnable

chain = prompt | CrossRouteRunnable.from_yaml() | StrOutputParser()
"""

from __future__ import annotations

from langchain_crossroute.runnable import CrossRouteRunnable

__all__ = ["CrossRouteRunnable"]
