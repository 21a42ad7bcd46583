"""FitContextMiddleware: each model call of an agent reads what fits a budget of tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Unpack

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ContextT,
    ModelRequest,
    ModelResponse,
    ResponseT,
)
from langchain_core.messages import BaseMessage
from typing_extensions import override

from crossroute.context import ContextSettings, fit_context
from langchain_crossroute.context import messages_as_dicts


class FitContextMiddleware(AgentMiddleware[AgentState[Any], ContextT, ResponseT]):
    """Fits what each model call of a LangChain agent reads to a budget of tokens.

        agent = create_agent(model, tools, middleware=[FitContextMiddleware(budget_tokens=4_000)])

    The agent's state keeps all messages; only the model's request is shorter. Its system prompt,
    the last `HumanMessage` and what follows it always stay: a tool loop is never cut. Stands before
    `CrossRouteMiddleware`, so that this decides by what is sent.

    Args:
        settings: Those of `crossroute.context.fit_context`. The tools' schemas are not among what
            the budget counts.

    Raises:
        ConstraintError: If a setting makes no sense.
        ContextError: In a model call, if what always stays is more than the budget.
    """

    def __init__(self, **settings: Unpack[ContextSettings]) -> None:
        super().__init__()
        fit_context([], **settings)
        self._settings = settings

    @override
    def wrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], ModelResponse[ResponseT]],
    ) -> ModelResponse[ResponseT]:
        return handler(self._fitted(request))

    @override
    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[ResponseT]]],
    ) -> ModelResponse[ResponseT]:
        # A long conversation that was not seen before takes a while to read.
        return await handler(await asyncio.to_thread(self._fitted, request))

    def _fitted(self, request: ModelRequest[ContextT]) -> ModelRequest[ContextT]:
        system = [] if request.system_message is None else [request.system_message]
        messages: list[BaseMessage] = [*system, *request.messages]
        kept = fit_context(messages_as_dicts(messages), **self._settings).kept
        shift = len(system)
        return request.override(
            messages=[request.messages[place - shift] for place in kept if place >= shift]
        )
