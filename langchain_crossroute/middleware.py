"""CrossRouteMiddleware: each model call of a LangChain agent goes to the model that is worth it."""

# ruff: noqa: ANN401  # What is asked passes through as it is.

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Annotated, Any, NotRequired

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ContextT,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    OmitFromSchema,
    ResponseT,
)
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    var_child_runnable_config,
)
from langgraph.types import Command
from typing_extensions import override

from crossroute import CrossRouter, PoolError
from crossroute.budget.pacer import BudgetPacer
from crossroute.candidates import Candidates, FromYaml, check_models_only
from crossroute.constraints import check_settings
from crossroute.cooldown import DEFAULT_COOLDOWN, Cooldown
from crossroute.exploration import new_call_id
from crossroute.guard import Guard
from crossroute.models.followed_folder import FollowedFolder
from crossroute.policy import USUAL_WILLINGNESS_TO_PAY, Policy, settle
from crossroute.router import Ranking
from crossroute.spend import DailySpend
from crossroute.strategies import Strategy, adrive, check_strategy, drive
from langchain_crossroute.dispatch import (
    DEFAULT_ATTEMPTS,
    Call,
    Dispatch,
    joined,
)
from langchain_crossroute.lazy import LazyChatModel
from langchain_crossroute.metadata import DECISION
from langchain_crossroute.profiles import over_models
from langchain_crossroute.transport import WHOLE
from langchain_crossroute.wishes import sets_effort


class CrossRouteState(AgentState[Any]):
    """An agent's state with the last decision, as plain JSON-ready values."""

    crossroute: NotRequired[Annotated[dict[str, Any], OmitFromSchema(input=True, output=False)]]


class CrossRouteMiddleware(FromYaml, AgentMiddleware[CrossRouteState, ContextT, ResponseT]):
    """Chooses the model of each model call of `create_agent`, by predicted quality and cost.

        agent = create_agent(small, tools, middleware=[CrossRouteMiddleware(models)])

    The agent's own model is never asked; any of the candidates will do for it. What is routed is
    the conversation with its system prompt and tools. From the last `HumanMessage` on, in a tool
    loop, the model is kept unless it cannot go on: the prompt cache is, and a plan stays in one
    hand. The decision is in the agent's state under `crossroute`, hence in its checkpoints, and in
    `response_metadata["crossroute"]` of the answer.

    Settings of a single run go into `config["configurable"]`: `willingness_to_pay`,
    `crossroute_model`, `crossroute_allowed`, `crossroute_excluded`, `crossroute_max_cost_usd`,
    `crossroute_hard_max_cost_usd`.

    Where a model fails (rate limit, timeout, server error, wrong or missing key), the next best one
    is tried; a stream that has already emitted is not started again.

    Args:
        models: A chat model for each candidate's id; at least two.
            With `policy`, None makes them of the descriptors beside it.
        router: Predicts quality and cost; the shipped router if None. It is narrowed to `models`.
        willingness_to_pay: lambda, USD a unit of quality; 0 takes the cheapest model, `math.inf`
            the best one.
        ranking: By what candidates are ordered: `exponential`, `linear`, `topsis` or a
            `crossroute.Topsis` (`docs/agents.md`); None is as the router has it.
        attempts: How many candidates are tried at most in one model call.
        keep_within_tool_loop: Whether a tool loop keeps to its model; if not, each call is routed.
        stay_margin: What another model must gain for a new turn of a thread to leave the model of
            the last one, as `crossroute.Stay` has it; None routes each turn by itself.
        pass_refusals: Whether the next candidate is asked where one refuses; if not, the refusal is
            the answer, as LangChain has it.
        strict_streams: Whether a stream that ends without a finish reason is an error; if not, its
            answer is marked as unfinished.
        strategy: How a call is answered (`crossroute.strategies`); None asks one candidate, and
            where it fails the next one. So is every call with tools or a schema, unless the
            strategy has `takes_tools`.
        cooldown: When a candidate that fails rests (`crossroute.Cooldown`); None is never.
        daily_spend: Ceilings on what is spent a day (`crossroute.DailySpend`); None is none.
        pacer: A budget that sets the willingness to pay of every call (`crossroute.BudgetPacer`);
            None is none.
        policy: Path of the file that `crossroute plan --write` leaves (`docs/traffic/policy.md`);
            afterwards the `Policy` in it. It says the models, their router and the willingness to
            pay and the strategy, or the one model that answers everything: `router`,
            `willingness_to_pay`, `shadow`, `strategy` and `live` stay unset. None is none.
        shadow: Id of the model that answers every call in the router's place; the decision says
            what the router would have done (`docs/traffic/recorder.md`). None is none.
        explore: With this probability, 0..1, a candidate is drawn at random and asked; the decision
            says the probability of its model. Not where the call forces a model, stays with one, or
            is within a tool loop.
        random: Where the draws come from, a `random.Random(seed)`; the system's if None.
        live: The folder that `from_yaml(folder, follow=True)` follows; why its present state is not
            taken over is its `error`. `router` and `models` are then those of the start.

    Raises:
        PoolError: If a candidate is no chat model, there are fewer than two, or not
            exactly those of the policy.
        UnknownModelError: If the router's pool does not hold an id of `models`, or `models` not the
            one of `shadow`.
        WillingnessToPayError: If the willingness to pay is not a number, NaN or negative.
        ConstraintError: If another setting makes no sense, or breaks what the policy promises.
        DataError: If the file of the policy cannot be read, or is none.
    """

    state_schema = CrossRouteState

    lazy_client = LazyChatModel

    def __init__(
        self,
        models: Mapping[str, BaseChatModel | LazyChatModel] | None = None,
        *,
        router: CrossRouter | None = None,
        willingness_to_pay: float = USUAL_WILLINGNESS_TO_PAY,
        ranking: Ranking | None = None,
        attempts: int = DEFAULT_ATTEMPTS,
        keep_within_tool_loop: bool = True,
        stay_margin: float | None = None,
        pass_refusals: bool = False,
        strict_streams: bool = False,
        strategy: Strategy | None = None,
        cooldown: Cooldown | None = DEFAULT_COOLDOWN,
        daily_spend: DailySpend | None = None,
        pacer: BudgetPacer | None = None,
        policy: str | Path | Policy | None = None,
        shadow: str | None = None,
        explore: float = 0.0,
        random: Random | None = None,
        live: FollowedFolder[Candidates[LazyChatModel]] | None = None,
    ) -> None:
        super().__init__()
        settled = settle(
            policy,
            LazyChatModel.of,
            sets_effort=sets_effort,
            models=models,
            router=router,
            willingness_to_pay=willingness_to_pay,
            ranking=ranking,
            shadow=shadow,
            explore=explore,
            random=random,
            attempts=attempts,
            pass_refusals=pass_refusals,
            strategy=strategy,
            live=live,
            pacer=pacer,
        )
        willingness = check_settings(settled.willingness_to_pay, attempts, stay_margin)
        for id_, model in settled.models.items():
            if not isinstance(model, (BaseChatModel, LazyChatModel)):
                raise PoolError(
                    f"The candidate {id_!r} is a {type(model).__name__}; an agent needs a chat "
                    "model (BaseChatModel). CrossRouteRunnable takes any Runnable."
                )
        self.live, self.policy = live, settled.policy
        self.keep_within_tool_loop = keep_within_tool_loop
        self.router = over_models(settled.router, settled.models)
        check_models_only(
            self.router.pool, "CrossRouteMiddleware", "CrossRouteRunnable, which takes both"
        )
        self._dispatch = Dispatch(
            self.router,
            settled.models,
            willingness,
            attempts,
            stay_margin=stay_margin,
            pass_refusals=pass_refusals,
            strict_streams=strict_streams,
            strategy=check_strategy(settled.strategy),
            exploration=settled.exploration,
            live=live,
            guard=Guard(cooldown, daily_spend, self.router.pool, pacer),
        )

    def __repr__(self) -> str:
        # The ids only: the repr of a model may show what is secret.
        return f"CrossRouteMiddleware({', '.join(self._dispatch.models)})"

    @override
    def wrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], ModelResponse[ResponseT]],
    ) -> ExtendedModelResponse[ResponseT]:
        config = ensure_config()
        config["callbacks"] = get_callback_manager_for_config(config)

        def ask(model: Any, value: Any, config: RunnableConfig, **settings: Any) -> Iterator[Any]:
            with _in_config(config):
                response = handler(_routed(request, model, value, settings))
            yield response

        call = self._dispatch.decide(
            **self._asked(request, config), form=replace(_HANDLED, open=ask)
        )
        return _answer(call, joined([*drive(*call)]))

    @override
    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[ResponseT]]],
    ) -> ExtendedModelResponse[ResponseT]:
        config = ensure_config()
        config["callbacks"] = get_async_callback_manager_for_config(config)

        async def ask(
            model: Any, value: Any, config: RunnableConfig, **settings: Any
        ) -> AsyncIterator[Any]:
            with _in_config(config):
                response = await handler(_routed(request, model, value, settings))
            yield response

        call = await self._dispatch.adecide(
            **self._asked(request, config), form=replace(_HANDLED, aopen=ask)
        )
        return _answer(call, joined([part async for part in adrive(*call)]))

    def _asked(self, request: ModelRequest[ContextT], config: RunnableConfig) -> dict[str, Any]:
        """The arguments of `Dispatch.decide`."""
        system = request.system_message
        return {
            "value": request.messages if system is None else [system, *request.messages],
            "config": config,
            "kwargs": {**request.model_settings, "tools": request.tools},
            "demands": {**request.model_settings, **_schemas(request)},
            "last": request.state.get(DECISION),
            # A run of the agent's node may make several calls.
            "call_id": new_call_id(),
            "keep": self.keep_within_tool_loop and _in_tool_loop(request.messages),
        }


def _schemas(request: ModelRequest[Any]) -> dict[str, Any]:
    """The tools, and the schema of a structured answer as that or as one tool more."""
    form = request.response_format
    if isinstance(form, ProviderStrategy):
        return {"tools": request.tools, "response_format": form.schema}
    if form is None:
        return {"tools": request.tools}
    # For a model that has no structured output of its own, the agent makes a tool of the schema.
    if not isinstance(form, ToolStrategy):
        form = ToolStrategy(form.schema if isinstance(form, AutoStrategy) else form)
    return {"tools": [*request.tools, *(spec.schema for spec in form.schema_specs)]}


def _in_tool_loop(messages: list[AnyMessage]) -> bool:
    """Whether a model has answered since the user spoke last."""
    for message in reversed(messages):
        if isinstance(message, (AIMessage, HumanMessage)):
            return isinstance(message, AIMessage)
    return False


def _routed(
    request: ModelRequest[ContextT], model: Any, messages: Any, settings: dict[str, Any]
) -> ModelRequest[ContextT]:
    """The request to a candidate."""
    system = None if request.system_message is None else messages[0]
    return request.override(
        model=model,
        system_message=system,
        messages=messages if system is None else messages[1:],
        # Where a strategy gives tools of its own, they are bound, and the agent's are not given.
        tools=settings.get("tools", []),
        model_settings={name: value for name, value in settings.items() if name != "tools"},
    )


@contextmanager
def _in_config(config: RunnableConfig) -> Iterator[None]:
    """Within it, models run in this config: the agent calls them without one."""
    token = var_child_runnable_config.set(config)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


def _each(response: ModelResponse[Any], change: Callable[[Any], Any]) -> ModelResponse[Any]:
    """A response whose messages of a model are changed."""
    result = [change(m) if isinstance(m, AIMessage) else m for m in response.result]
    return replace(response, result=result)


_HANDLED = replace(WHOLE, each=_each)
"""The agent's own way of calling a model."""


def _answer(call: Call, response: ModelResponse[Any]) -> ExtendedModelResponse[Any]:
    """The response, with the decision for the agent's state."""
    decision = call.transport.answered.decision
    return ExtendedModelResponse(
        model_response=response, command=Command(update={DECISION: decision})
    )
