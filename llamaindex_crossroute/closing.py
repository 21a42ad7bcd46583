"""Ends of streams that nobody reads on.

LlamaIndex's generators do not close the HTTP streams that they read: these are parts of reference
cycles, and so the connection stays open, and a provider goes on to make and bill tokens, until
Python's collector runs.
"""

# ruff: noqa: ANN401  # A stream is whatever an LLM gives.

from __future__ import annotations

import gc
import inspect
import logging
from collections.abc import Iterator
from traceback import walk_tb
from types import AsyncGeneratorType, CellType, GeneratorType
from typing import Any

_logger = logging.getLogger(__name__)

_HTTP = {"Stream", "AsyncStream"}
"""Names of the streams over HTTP of OpenAI's and Anthropic's clients."""
_CLIENTS = {"anthropic", "httpx", "openai"}
_READERS = "llama_index.llms."
_DEEPEST = 8


def close(chunks: Any) -> None:
    """Close a stream of chunks, and what it reads."""
    if not isinstance(chunks, GeneratorType):
        return
    # Now: a generator that is closed does not know any more what it has read.
    found = list(_read_by(chunks))
    try:
        chunks.close()
    finally:
        for stream in found:
            try:
                stream.close()
            except Exception as error:
                _note(error)


async def aclose(chunks: Any) -> None:
    """`close` of an async stream."""
    if not isinstance(chunks, AsyncGeneratorType):
        return
    found = list(_read_by(chunks))
    try:
        await chunks.aclose()
    finally:
        for stream in found:
            try:
                closed = stream.close()
                if inspect.isawaitable(closed):
                    await closed
            except Exception as error:
                _note(error)


def close_what_failed(error: Exception) -> None:
    """Close the stream that was read when its reader failed, as on a chunk of no known form.

    The generator is over, and nobody but Python's collector can reach the stream any more. It runs
    here and now: at its own time it may run in a thread that holds the lock of the client's
    connections, which closing a stream takes, too, and that thread would wait for itself.
    """
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    is_readers = any(name.startswith(_READERS) for name in modules)
    # What a client raises itself, it has closed.
    if is_readers and _CLIENTS.isdisjoint(name.partition(".")[0] for name in modules):
        gc.collect()


def _note(error: Exception) -> None:
    # Nobody waits for it any more, and its text may be anything.
    _logger.debug("A stream that was left ended with %s.", type(error).__name__)


def _read_by(generator: Any) -> Iterator[Any]:
    """The streams over HTTP that a generator reads, be it by way of others."""
    waiting, seen = [(generator, 0)], {id(generator)}
    while waiting:
        one, depth = waiting.pop()
        for part in gc.get_referents(one):
            if id(part) in seen or depth == _DEEPEST:
                continue
            seen.add(id(part))
            if isinstance(part, (GeneratorType, AsyncGeneratorType, CellType)):
                waiting.append((part, depth + 1))
            elif type(part).__name__ in _HTTP and hasattr(part, "response"):
                yield part
