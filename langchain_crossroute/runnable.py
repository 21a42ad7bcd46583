"""CrossRouteRunnable: one of several Runnables answers, chosen for each input."""

# The arguments of `from_yaml` are those of the class.

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from langchain_core.runnables import (
    ConfigurableFieldSpec,
    Runnable,
    RunnableConfig,
    RunnableSerializable,
)
from langchain_core.runnables.config import get_config_list
from langchain_core.runnables.utils import get_unique_config_specs
from pydantic import ConfigDict, PrivateAttr, SkipValidation
from typing_extensions import override

from crossroute import DEFAULT_WILLINGNESS_TO_PAY, CrossRouter
from crossroute.budget.pacer import BudgetPacer
from crossroute.candidates import Candidates, FromYaml
from crossroute.constraints import check_settings
from crossroute.cooldown import DEFAULT_COOLDOWN, Cooldown
from crossroute.exploration import Exploration
from crossroute.guard import Guard
from crossroute.models.followed_folder import FollowedFolder
from crossroute.policy import USUAL_WILLINGNESS_TO_PAY, Policy, settle
from crossroute.router import Ranking
from crossroute.spend import DailySpend
from crossroute.strategies import Strategy, check_strategy
from langchain_crossroute.dispatch import (
    BATCH_SETTINGS,
    CALL_SETTINGS,
    DEFAULT_ATTEMPTS,
    Dispatch,
)
from langchain_crossroute.lazy import LazyChatModel
from langchain_crossroute.metadata import DECISION
from langchain_crossroute.profiles import over_models
from langchain_crossroute.wishes import sets_effort

__all__ = ["DECISION", "CrossRouteRunnable"]


class CrossRouteRunnable(FromYaml, RunnableSerializable[Any, Any]):
    """Sends each input to the model where quality and cost are the best trade-off for it.

    It stands in a chain where a chat model stood. A call makes one run of the chosen model, under
    a run of the router; both can be seen in a trace, and the runs below the router's have the
    chosen id as `crossroute_model` in their metadata. A message that the model answers with
    carries the decision in `response_metadata["crossroute"]`, in a stream on its first chunk;
    an answer that is no message passes unchanged.

    The willingness to pay of a single call goes into its config:
    `invoke(..., config={"configurable": {"willingness_to_pay": 0.05}})`. In that of `batch` and
    `abatch`, `crossroute_budget_usd` is what all of its calls may cost together, as predicted: who
    answers which is decided for all at once (`CrossRouter.allocate`).

    Example:
        >>> from crossroute import CrossRouter
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from langchain_core.output_parsers import StrOutputParser
        >>> from langchain_core.prompts import ChatPromptTemplate
        >>> router = CrossRouteRunnable(
        ...     router=CrossRouter.default(),
        ...     models={
        ...         "gpt-4o-2024-08-06": FakeListChatModel(responses=["gpt-4o answers"]),
        ...         "gpt-4o-mini-2024-07-18": FakeListChatModel(responses=["gpt-4o-mini answers"]),
        ...     },
        ...     willingness_to_pay=0,
        ... )
        >>> chain = ChatPromptTemplate.from_template("Translate: {text}") | router
        >>> (chain | StrOutputParser()).invoke({"text": "Guten Tag"})
        'gpt-4o-mini answers'
        >>> chain.invoke({"text": "Guten Tag"}).response_metadata["crossroute"]["model"]
        'gpt-4o-mini-2024-07-18'

    Args:
        models: A chat model, or any other Runnable, for each candidate's id; at least two. What
            is an agent, a retriever or a tool by its descriptor is asked in its own way, and
            answers with a message (`docs/agents.md`).
            With `policy`, None makes them of the descriptors beside it.
        router: Predicts quality and cost; the shipped router if None. It is narrowed to `models`.
        willingness_to_pay: lambda, USD a unit of quality; 0 takes the cheapest model, `math.inf`
            the best one.
        ranking: By what candidates are ordered: `exponential`, `linear`, `topsis` or a
            `crossroute.Topsis` (`docs/agents.md`); None is as the router has it.
        attempts: How many candidates are tried at most.
        stay_margin: Keep a conversation on the model of its last answer, unless another one gains
            more than this, in units of utility (0.05 is about five points of quality), beside the
            prompt cache that the change would lose. None routes each input by itself.
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
        query: What to route by, where the input is not what a chat model takes (a string, a
            prompt value, messages): a function of the input, such as `itemgetter("question")`.
            The chosen model gets the whole input.
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
        name: Name of the router's run in a trace.

    Raises:
        UnknownModelError: If the router's pool does not hold an id of `models`, or `models` not the
            one of `shadow`.
        PoolError: If there are fewer than two models, or not exactly those of the policy, or one
            cannot be asked as its descriptor's kind says.
        WillingnessToPayError: If the willingness to pay is not a number, NaN or negative.
        ConstraintError: If another setting makes no sense, or breaks what the policy promises.
        DataError: If the file of the policy cannot be read, or is none.
        pydantic.ValidationError: If an argument has the wrong type.
    """

    lazy_client: ClassVar = LazyChatModel
    takes_agents: ClassVar = True
    # No input in errors: it may be a constructor argument that nobody should see.
    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True
    )

    router: CrossRouter
    models: Mapping[str, Runnable[Any, Any]]
    willingness_to_pay: SkipValidation[float] = DEFAULT_WILLINGNESS_TO_PAY
    ranking: SkipValidation[Ranking | None] = None
    attempts: int = DEFAULT_ATTEMPTS
    stay_margin: float | None = None
    pass_refusals: bool = False
    strict_streams: bool = False
    strategy: SkipValidation[Strategy | None] = None
    cooldown: SkipValidation[Cooldown | None] = DEFAULT_COOLDOWN
    daily_spend: SkipValidation[DailySpend | None] = None
    pacer: SkipValidation[BudgetPacer | None] = None
    policy: SkipValidation[Policy | None] = None
    shadow: SkipValidation[str | None] = None
    explore: SkipValidation[float] = 0.0
    random: SkipValidation[Random | None] = None
    query: Callable[[Any], Any] | None = None
    live: SkipValidation[FollowedFolder[Candidates[LazyChatModel]] | None] = None
    _guard: Guard = PrivateAttr()

    def __init__(
        self,
        *,
        models: Mapping[str, Runnable[Any, Any]] | None = None,
        router: CrossRouter | None = None,
        willingness_to_pay: float = USUAL_WILLINGNESS_TO_PAY,
        ranking: Ranking | None = None,
        attempts: int = DEFAULT_ATTEMPTS,
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
        query: Callable[[Any], Any] | None = None,
        live: FollowedFolder[Candidates[LazyChatModel]] | None = None,
        name: str | None = None,
    ) -> None:
        # Here and not in a validator, where pydantic would wrap CrossRoute's errors in its own.
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
        # mypy knows only the fields of the base class here.
        super().__init__(  # type: ignore[call-arg]
            router=settled.router,
            models=settled.models,
            willingness_to_pay=willingness,
            ranking=ranking,
            attempts=attempts,
            stay_margin=stay_margin,
            pass_refusals=pass_refusals,
            strict_streams=strict_streams,
            strategy=check_strategy(settled.strategy),
            cooldown=cooldown,
            daily_spend=daily_spend,
            pacer=pacer,
            policy=settled.policy,
            shadow=settled.exploration.shadow,
            explore=settled.exploration.explore,
            random=random,
            query=query,
            live=live,
            name=name,
        )
        self.router = over_models(self.router, self.models)
        if any(one.kind != "model" for one in self.router.pool.values()):
            # Tools and retrievers take a while to import.
            from langchain_crossroute.agents import check_kinds

            check_kinds(self.router.pool, self.models)
        self._guard = Guard(cooldown, daily_spend, self.router.pool, pacer)

    @property
    @override
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        specs = [spec for model in self.models.values() for spec in model.config_specs]
        return get_unique_config_specs([*CALL_SETTINGS, *BATCH_SETTINGS, *specs])

    @override
    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return self._call_with_config(self._dispatch().invoke, input, config, **kwargs)

    @override
    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return await self._acall_with_config(self._dispatch().ainvoke, input, config, **kwargs)

    # `transform` is inherited: it joins the chunks of its input and streams the answer to that.
    @override
    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        yield from self._transform_stream_with_config(
            iter([input]), self._dispatch().stream, config, **kwargs
        )

    @override
    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        async def inputs() -> AsyncIterator[Any]:
            yield input

        chunks: Any = self._atransform_stream_with_config(
            inputs(), self._dispatch().astream, config, **kwargs
        )
        # One that is left ends now, not when it is collected.
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    @override
    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        configs = get_config_list(config, len(inputs)) if inputs else []
        decided = self._dispatch().batched(inputs, configs, kwargs)
        return super().batch(inputs, decided, return_exceptions=return_exceptions, **kwargs)

    @override
    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        configs = get_config_list(config, len(inputs)) if inputs else []
        decided = await asyncio.to_thread(self._dispatch().batched, inputs, configs, kwargs)
        return await super().abatch(inputs, decided, return_exceptions=return_exceptions, **kwargs)

    def _dispatch(self) -> Dispatch:
        return Dispatch(
            self.router,
            self.models,
            self.willingness_to_pay,
            self.attempts,
            query=self.query,
            stay_margin=self.stay_margin,
            pass_refusals=self.pass_refusals,
            strict_streams=self.strict_streams,
            strategy=self.strategy,
            exploration=Exploration(self.shadow, self.explore, self.random),
            live=self.live,
            guard=self._guard,
        )

    @override
    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        # The ids only: the repr of a model may show what is secret.
        return [("models", list(self.models)), ("willingness_to_pay", self.willingness_to_pay)]
