"""pytest plugin for the tests of LangChain and LangGraph: their fake models inside our classes.

`PEERS_MODE=model` makes a router of each fake that a test builds; `PEERS_MODE=middleware` puts
`CrossRouteMiddleware` over the model of each agent that a test creates.
"""

# ruff: noqa: ANN401

from __future__ import annotations

import functools
import os
from typing import Any, ClassVar

import langchain.agents
import langchain.agents.factory
from langchain_core.language_models import BaseChatModel, fake_chat_models
from langchain_core.messages import BaseMessage
from wrapping import CANDIDATES, SeenByTests, equal_but_for, wrap_fakes

from crossroute import CrossRouter
from langchain_crossroute import ChatCrossRoute
from langchain_crossroute.metadata import DECISION
from langchain_crossroute.middleware import CrossRouteMiddleware

MODE = os.environ["PEERS_MODE"]
# Loaded here: some suites forbid reading a file within a test.
ROUTER = CrossRouter.default()


class Wrapped(SeenByTests, ChatCrossRoute):
    """A router over one fake, whose attributes the tests see."""

    kind: ClassVar[type] = BaseChatModel


def wrapped(fake: Any) -> Any:
    """A router with a fake as both of its candidates, tried once as a fake itself would be."""
    if isinstance(fake, ChatCrossRoute):
        return fake
    return Wrapped(models=dict.fromkeys(CANDIDATES, fake), router=ROUTER, attempts=1)


def wrap_agents() -> None:
    """Put the middleware innermost, where it stands for the model."""
    create = langchain.agents.create_agent

    @functools.wraps(create)
    def created(model: Any, *args: Any, middleware: Any = (), **kwargs: Any) -> Any:
        if isinstance(model, BaseChatModel):
            models = dict.fromkeys(CANDIDATES, model)
            middleware = [*middleware, CrossRouteMiddleware(models, router=ROUTER, attempts=1)]
        return create(model, *args, middleware=middleware, **kwargs)

    langchain.agents.create_agent = langchain.agents.factory.create_agent = created


if MODE != "bare":
    equal_but_for(DECISION, "response_metadata", BaseMessage)
if MODE == "model":
    wrap_fakes(BaseChatModel, fake_chat_models.__name__, wrapped)
if MODE == "middleware":
    wrap_agents()
