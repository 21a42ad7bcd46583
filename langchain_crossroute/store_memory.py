"""StoreMemory: a shared memory of several agents in a store of LangGraph."""

from __future__ import annotations

import asyncio
from threading import Lock
from time import time_ns
from typing import TYPE_CHECKING, Any, Unpack
from uuid import uuid4

from pydantic import JsonValue, ValidationError

from crossroute import ConstraintError, DataError
from crossroute.context import MemoryItem, MemorySettings, fit_items
from crossroute.context.shared_memory import memory_item
from crossroute.errors import problems, shortened

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore, SearchItem

PAGE = 1_000
"""How many items are asked for at once."""


class StoreMemory:
    """What several agents found out, as `crossroute.context.SharedMemory`, in a `BaseStore`.

    Each item is one value of the namespace, under a key that begins with its time: agents of
    several processes and machines write to it without a lock, and stand in the order of their
    clocks. No item is embedded.

        memory = StoreMemory(store, ("case-17", "findings"))
        memory.add("The invoice is of 4 March.", author="reader", stage="read")
        lines = [item.text for item in memory.items(budget_tokens=500, question=task)]

    Args:
        store: Any of LangGraph's stores. Some have no sync methods within a running loop: use
            `aadd` and `aitems` there.
        namespace: Where in it; nothing else should be there.

    Raises:
        ConstraintError: If the namespace is no tuple of names.
    """

    def __init__(self, store: BaseStore, namespace: tuple[str, ...]) -> None:
        names = namespace if isinstance(namespace, tuple) else ()
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ConstraintError(
                f"namespace is {shortened(namespace)}; give a tuple of names, such as "
                "('case-17', 'findings')."
            )
        self._store, self._namespace = store, namespace
        self._lock = Lock()
        self._last = 0

    def add(self, content: JsonValue, *, author: str, stage: str | None = None) -> MemoryItem:
        """Write something down.

        Args:
            content: A text, or anything that JSON has.
            author: Who writes it.
            stage: At which stage of the work.

        Raises:
            ConstraintError: If the author or the stage is no name, or JSON has no such content.
        """
        item = memory_item(content, author=author, stage=stage)
        self._store.put(self._namespace, self._key(), item.model_dump(mode="json"), index=False)
        return item

    async def aadd(
        self, content: JsonValue, *, author: str, stage: str | None = None
    ) -> MemoryItem:
        """The same without blocking."""
        item = memory_item(content, author=author, stage=stage)
        value = item.model_dump(mode="json")
        await self._store.aput(self._namespace, self._key(), value, index=False)
        return item

    def items(self, **settings: Unpack[MemorySettings]) -> list[MemoryItem]:
        """The items that an agent needs most, in their order; all of them without a budget.

        Args:
            settings: Those of `crossroute.context.fit_items`: `budget_tokens`, `question`,
                `role`, `stage` ...

        Raises:
            ConstraintError: If a setting makes no sense.
            DataError: If there is something else in the namespace.
        """
        found: list[SearchItem] = []
        while page := self._store.search(self._namespace, limit=PAGE, offset=len(found)):
            found += page
        return fit_items(self._read(found), **settings)

    async def aitems(self, **settings: Unpack[MemorySettings]) -> list[MemoryItem]:
        """The same without blocking."""
        found: list[SearchItem] = []
        while page := await self._store.asearch(self._namespace, limit=PAGE, offset=len(found)):
            found += page
        # Many items that were not seen before take a while to read.
        return await asyncio.to_thread(lambda: fit_items(self._read(found), **settings))

    def _key(self) -> str:
        # Of one process, never two with the same time.
        with self._lock:
            self._last = max(self._last + 1, time_ns())
            return f"{self._last:020}-{uuid4().hex}"

    def _read(self, found: list[SearchItem]) -> list[MemoryItem]:
        # A search has the namespaces below, too, and what was written meanwhile shifts its pages.
        values: dict[str, Any] = {
            one.key: one.value for one in found if tuple(one.namespace) == self._namespace
        }
        return [self._item(key, values[key]) for key in sorted(values)]

    def _item(self, key: str, value: dict[str, Any]) -> MemoryItem:
        try:
            return MemoryItem.model_validate(value)
        except ValidationError as error:
            raise DataError(
                f"{'/'.join(self._namespace)}, key {key!r}: {problems(error, MemoryItem)}. Keep "
                "other values in another namespace."
            ) from error
