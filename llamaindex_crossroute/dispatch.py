"""The way of a call through `CrossRouteLLM`: route it, and let its strategy answer it."""

# ruff: noqa: ANN401  # What passes through is whatever the candidates take and give.

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from crossroute import Decision, ModelDescriptor, Query, Stay
from crossroute.candidates import Candidates, buildable
from crossroute.ceiling import Ceiling
from crossroute.exploration import new_call_id
from crossroute.query import Message
from crossroute.strategies import Flow, PickOne, Task, adrive, drive
from crossroute.strategies.wrappers import flow_of, for_call
from llamaindex_crossroute.events import recorders
from llamaindex_crossroute.messages import is_from_model, to_dicts
from llamaindex_crossroute.request import ANSWERED_BY, OWN_CHOICE, PromptRequest, Request
from llamaindex_crossroute.settings import current_settings
from llamaindex_crossroute.transport import Transport

if TYPE_CHECKING:
    from llamaindex_crossroute.llm import CrossRouteLLM


def answer(llm: CrossRouteLLM, method: str, request: Request) -> Any:
    """A whole answer by a method of the candidates: a stream of one part."""
    *_, output = _outputs(llm, method, request)
    return output


async def aanswer(llm: CrossRouteLLM, method: str, request: Request) -> Any:
    """`answer` without blocking the event loop."""
    *_, output = [output async for output in _aoutputs(llm, method, request)]
    return output


def stream(llm: CrossRouteLLM, method: str, request: Request) -> Any:
    """A stream by a method of the candidates, whose first chunk is there."""
    outputs = _outputs(llm, method, request)
    first = next(outputs)

    def begun() -> Generator[Any, None, None]:
        try:
            yield first
            yield from outputs
        finally:
            outputs.close()

    return begun()


async def astream(llm: CrossRouteLLM, method: str, request: Request) -> Any:
    """`stream` without blocking the event loop."""
    outputs = _aoutputs(llm, method, request)
    first = await anext(outputs)

    async def begun() -> AsyncGenerator[Any, None]:
        try:
            yield first
            async for output in outputs:
                yield output
        finally:
            await outputs.aclose()

    return begun()


def _outputs(llm: CrossRouteLLM, method: str, request: Request) -> Generator[Any, None, None]:
    """The chunks of a stream; of a whole answer, the last output is it."""
    messages = to_dicts(request.conversation)
    query = request.query(messages)
    now = llm.candidates
    settings = _settings(llm, request, now.router.pool)
    decision = now.router.route(query, **settings)
    ended = recorders()
    if ended is not None:
        decision = replace(decision, call_id=new_call_id())
    task = _task(llm, request, now, decision, query, messages, settings)
    task = replace(task, is_whole="stream" not in method)
    transport = Transport(llm, now, method, request, task)
    parts = drive(task, _flow(llm, request, task), transport, ended)
    try:
        for part in parts:
            yield transport.output(part)
    finally:
        parts.close()


async def _aoutputs(llm: CrossRouteLLM, method: str, request: Request) -> AsyncGenerator[Any, None]:
    """`_outputs` without blocking the event loop."""
    messages = to_dicts(request.conversation)
    query = request.query(messages)
    now = llm.candidates if llm.live is None else await llm.live.acurrent()
    settings = _settings(llm, request, now.router.pool)
    decision = await now.router.aroute(query, **settings)
    ended = recorders()
    if ended is not None:
        decision = replace(decision, call_id=new_call_id())
    task = _task(llm, request, now, decision, query, messages, settings)
    task = replace(task, is_whole="stream" not in method)
    transport = Transport(llm, now, method, request, task)
    parts = adrive(task, _flow(llm, request, task), transport, ended)
    try:
        async for part in parts:
            yield transport.output(part)
    finally:
        await parts.aclose()


def _flow(llm: CrossRouteLLM, request: Request, task: Task) -> Flow:
    """The strategy at work: the given one, or the candidates in the router's order."""
    # Tools and schemas go to one candidate, unless a strategy says that it can take them; a prompt
    # goes to one candidate's own way with it.
    needs = task.query.needs & {"tools", "structured_output"}
    alone = PickOne(llm.attempts, llm.pass_refusals)
    is_prompt = isinstance(request, PromptRequest)
    strategy = for_call(
        llm.strategy,
        alone,
        is_bound=bool(needs),
        is_prompt=is_prompt,
        is_agent=task.kind != "model",
    )
    return flow_of(strategy, task)


def _task(
    llm: CrossRouteLLM,
    request: Request,
    now: Candidates[Any],
    decision: Decision,
    query: Query,
    messages: Sequence[Message],
    settings: dict[str, Any],
) -> Task:
    """What is to be answered, and whom to ask first."""
    limits = settings["constraints"]
    choose = partial(
        llm.exploration.chosen,
        messages=messages,
        forced=limits.model is not None,
        stay=settings["stay"],
        last=_marks(request).get(ANSWERED_BY),
    )
    pool = now.router.pool
    decision, watch = llm._guard.admit(buildable(decision, now.models), choose, pool)
    ceiling = Ceiling.of(limits, pool, query)
    return Task(decision, query, messages, ceiling, watch, pool, limits, tools=request.openai_tools)


def _settings(
    llm: CrossRouteLLM, request: Request, pool: Mapping[str, ModelDescriptor]
) -> dict[str, Any]:
    """What the router is asked beside the query: the settings of this call."""
    willingness, limits = current_settings(llm.willingness_to_pay)
    if llm.takes_agents and isinstance(request, PromptRequest) and request.schema:
        # Models are asked for an object in their own way, of which agents have none.
        others = [id_ for id_, one in pool.items() if one.kind != "model"]
        limits = replace(limits, excluded=[*limits.excluded, *others])
    stay = None
    if llm.stay_margin is not None:
        marks = _marks(request)
        if model := marks.get(OWN_CHOICE) or marks.get(ANSWERED_BY):
            stay = Stay(model, llm.stay_margin)
    return {"willingness_to_pay": willingness, "constraints": limits, "stay": stay}


def _marks(request: Request) -> Mapping[str, Any]:
    """What stands on the last answer of a conversation."""
    if not isinstance(request.conversation, str):
        for message in reversed(request.conversation):
            if is_from_model(message):
                return message.additional_kwargs
    return {}
