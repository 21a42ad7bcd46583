"""A server on this machine, clients of it and routers over them, and recorded events."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fakes_llamaindex import LARGE, MINI, PATIENCE, TEXT, Make, Recorder, Wire
from llama_index.core import Settings
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

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
