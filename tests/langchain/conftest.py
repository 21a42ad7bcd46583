"""A server on this machine, a router over its models, and what the core itself chooses."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes_langchain import LARGE, MESSAGES, MINI, MODELS, TEXT, Make, client
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter, ModelDescriptor
from langchain_crossroute import ChatCrossRoute


@pytest.fixture
def expected(router: CrossRouter) -> Callable[[float], str]:
    """The model that the core itself chooses for the messages of these tests."""
    narrow = router.subset(MODELS)
    assert narrow.route(MESSAGES, 0).model != narrow.route(MESSAGES, math.inf).model
    return lambda willingness_to_pay: narrow.route(MESSAGES, willingness_to_pay).model


@pytest.fixture(scope="session")
def running() -> Iterator[OpenAIServer]:
    # One for all: for each new address ChatOpenAI makes HTTP clients, which takes 0.1 s.
    with pytest.MonkeyPatch.context() as patch, OpenAIServer() as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def server(running: OpenAIServer) -> OpenAIServer:
    """A server that answers with TEXT for both models, and has not been asked."""
    running.answers = {MINI: Reply(TEXT), LARGE: Reply(TEXT)}
    running.requests.clear()
    return running


@pytest.fixture
def make(server: OpenAIServer) -> Make:
    """Makes a router that prefers MINI to LARGE; `mini` changes the client of MINI."""

    def make(
        kind: type[Any] = ChatCrossRoute, mini: dict[str, Any] | None = None, **settings: Any
    ) -> Any:
        models = {LARGE: client(server, LARGE), MINI: client(server, MINI, **mini or {})}
        return kind(**{"models": models, "willingness_to_pay": 0, **settings})

    return make


@pytest.fixture
def write_pair(
    server: OpenAIServer, router: CrossRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Writes descriptors of both models; only the key of LARGE is set."""
    monkeypatch.delenv("KEY_OF_MINI", raising=False)
    monkeypatch.setenv("KEY_OF_LARGE", "sk-SECRET-of-large")

    def write(mini: str = "openai", **provider: Any) -> Path:
        for model, vendor, variable in (
            (MINI, mini, "KEY_OF_MINI"),
            (LARGE, "openai", "KEY_OF_LARGE"),
        ):
            own = {
                "chat_model": f"{vendor}:{model}",
                "base_url": server.url,
                "api_key_env": variable,
                "arguments": {"max_retries": 0},
            }
            content = router.pool[model].model_dump() | {
                "retired": None,
                "provider": own | (provider if model == MINI else {}),
            }
            ModelDescriptor.model_validate(content).save(tmp_path)
        return tmp_path

    return write
