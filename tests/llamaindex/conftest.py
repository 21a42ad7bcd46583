"""A server on this machine, clients of it and routers over them, and recorded events."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes_llamaindex import KEYS, LARGE, MINI, PATIENCE, TEXT, Make, Put, Recorder, Wire
from llama_index.core import Settings
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter, ModelDescriptor
from llamaindex_crossroute import CrossRouteLLM


@pytest.fixture(scope="session")
def wire() -> Iterator[Wire]:
    sync, asynchronous = httpx.Client(trust_env=False), httpx.AsyncClient(trust_env=False)
    with OpenAIServer() as server, sync:
        yield Wire(server, sync, asynchronous)
    asyncio.run(asynchronous.aclose())


@pytest.fixture
def server(wire: Wire) -> OpenAIServer:
    """A server that answers with TEXT for both models, and has not been asked."""
    wire.server.answers = {MINI: Reply(TEXT), LARGE: Reply(TEXT)}
    wire.server.requests.clear()
    return wire.server


@pytest.fixture
def client(wire: Wire, server: OpenAIServer) -> Callable[..., OpenAILike]:
    def client(model: str, **settings: Any) -> OpenAILike:
        defaults: dict[str, Any] = {
            "api_base": server.url,
            "api_key": f"key of {model}",
            "max_retries": 0,
            "timeout": PATIENCE,
            "is_chat_model": True,
            "is_function_calling_model": True,
            "additional_kwargs": {"stream_options": {"include_usage": True}},
            "http_client": wire.sync,
            "async_http_client": wire.asynchronous,
        }
        return OpenAILike(model=model, **defaults | settings)

    return client


@pytest.fixture
def make(client: Callable[..., OpenAILike]) -> Make:
    """Makes a router that prefers MINI to LARGE; `mini` changes the client of MINI."""

    def make(mini: dict[str, Any] | None = None, **settings: Any) -> CrossRouteLLM:
        models = {LARGE: client(LARGE), MINI: client(MINI, **mini or {})}
        return CrossRouteLLM(models=models, **{"willingness_to_pay": 0, **settings})

    return make


@pytest.fixture
def events() -> Iterator[Recorder]:
    recorder = Recorder()
    dispatcher = get_dispatcher()
    before = list(dispatcher.event_handlers)
    dispatcher.add_event_handler(recorder)
    yield recorder
    dispatcher.event_handlers[:] = before


@pytest.fixture
def spans() -> Iterator[SimpleSpanHandler]:
    handler = SimpleSpanHandler()
    dispatcher = get_dispatcher()
    before = list(dispatcher.span_handlers)
    dispatcher.add_span_handler(handler)
    yield handler
    dispatcher.span_handlers[:] = before


@pytest.fixture
def settings() -> Iterator[None]:
    """LlamaIndex's global settings, put back afterwards."""
    before = dict(vars(Settings))
    yield
    vars(Settings).clear()
    vars(Settings).update(before)


# Descriptors


OPENAI = ("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_API_VERSION")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in OPENAI:
        monkeypatch.delenv(variable, raising=False)
    # Clients of their own look for a proxy, also for this machine.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for variable in KEYS.values():
        monkeypatch.setenv(variable, f"sk-SECRET-{variable}")


@pytest.fixture
def put(server: OpenAIServer, tmp_path: Path) -> Put:
    """Writes the descriptor of a model, which is reached at the server; an hour ago."""

    def put(model: str, served_as: str | None = None, **changes: Any) -> Path:
        provider = {
            "chat_model": f"openai:{served_as or model}",
            "base_url": server.url,
            "api_key_env": KEYS[model],
            "arguments": {"max_retries": 0, "stream_usage": True, "timeout": 60},
        } | changes.pop("provider", {})
        content = CrossRouter.default().pool[model].model_dump() | {
            "retired": None,
            "provider": {name: value for name, value in provider.items() if value is not None},
            **changes,
        }
        path = ModelDescriptor.model_validate(content).save(tmp_path)
        then = time.time() - 3600
        os.utime(path, (then, then))
        os.utime(tmp_path, (then, then))
        return tmp_path

    return put


@pytest.fixture
def folder(put: Put) -> Path:
    put(LARGE)
    return put(MINI)
