"""CrossRouter: the one door to a routing decision."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, cast, get_args

import numpy as np
from numpy.typing import NDArray

from crossroute.agents import DEFAULT_MARGIN, Agents, check_margin, shares
from crossroute.constraints import (
    Constraints,
    ConstraintsLike,
    Stay,
)
from crossroute.decision import CandidateScore, Decision, tiers_of
from crossroute.errors import (
    CheckpointError,
    ConstraintError,
    CrossRouteError,
    NoCandidateError,
    PoolError,
    QueryError,
    UnknownModelError,
    explained,
    shortened,
)
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.followed_folder import CHECK_SECONDS, FollowedFolder
from crossroute.models.pool import ModelPool, listed_descriptors
from crossroute.network.checkpoint import Checkpoint, check_fit, checkpoint_folder
from crossroute.network.encoders import QueryEncoder, load_encoder
from crossroute.network.features import Features
from crossroute.network.predictor import Predictor
from crossroute.onboarding.embedding import onboard
from crossroute.onboarding.guess import guess
from crossroute.onboarding.scores import Scores
from crossroute.query import FORM_FEATURES, Query, QueryLike
from crossroute.ranking import (
    IntArray,
    RewardName,
    amount,
    check_willingness_to_pay,
    preference,
    rank,
    reward,
)
from crossroute.serving import Eligibility, Predictions, Serving
from crossroute.shortening import with_shortening
from crossroute.topsis import Topsis

if TYPE_CHECKING:
    from crossroute.budget.allocation import Allocation
    from crossroute.budget.held_out import HeldOutHalves
    from crossroute.budget.share import Table
    from crossroute.budget.tuned import Tuned
    from crossroute.training.data import RoutingData

FloatArray = NDArray[np.float64]
Ranking = RewardName | Literal["topsis"] | Topsis
"""What orders candidates: one of the rewards, or TOPSIS; its name alone is that of its weights."""
Made = TypeVar("Made")

NO_SURCHARGE: Mapping[str, float] = {}
NO_LIMIT: Mapping[str, int] = {}
NO_FIT: Mapping[str, float] = {}

DEFAULT_WILLINGNESS_TO_PAY = 0.01
"""One cent a unit of quality; `crossroute.ranking` says what that unit is."""

MOST_SURCHARGE = 1e100
"""USD; divided by the least willingness to pay, it is still a number."""

CHUNK = 512
"""Queries predicted at a time, which bounds the memory of a large batch."""


class CrossRouter:
    """Predicts quality and cost of every model of a pool for a query, and picks one.

    Immutable, and safe to share between threads.

    Args:
        checkpoint: The trained network.
        pool: The candidates, at least two, with embeddings of that checkpoint. A model without one
            gets a guess by what its descriptor says (`crossroute.onboarding.guess.guess`), and one
            that lists efforts becomes a candidate for each (`ModelPool.expanded`); an agent, a
            chain, a retriever or a tool needs none (`crossroute.agents`).
        encoder: The encoder that the checkpoint was trained on; found by its name if None.
        reward: `exponential` or `linear`.
        surcharge_usd: See `with_surcharges`.
        ranking: In place of a reward: `exponential`, `linear`, `topsis`, or `Topsis` with weights.
        margin: The least fit of an agent that serves a query (`crossroute.agents`).
        agent_encoder: See `with_agent_encoder`; the checkpoint's encoder if None.

    Raises:
        PoolError: If there are fewer than two models, or one does not fit the checkpoint.
        EncoderMismatchError: If the encoder is not the checkpoint's.
        UnknownModelError: If a model with a surcharge is not in the pool.
        ConstraintError: If a surcharge is not a finite number, the margin none, the agents' encoder
            no encoder, there is no such ranking, or it is another than the reward.
        ValueError: If there is no such reward.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        pool: ModelPool,
        *,
        encoder: QueryEncoder | None = None,
        reward: RewardName | None = None,
        surcharge_usd: Mapping[str, float] = NO_SURCHARGE,
        ranking: Ranking | None = None,
        margin: float = DEFAULT_MARGIN,
        agent_encoder: QueryEncoder | None = None,
    ) -> None:
        if reward is not None and reward not in get_args(RewardName):
            raise ValueError(f"reward is {reward!r}; it must be one of {get_args(RewardName)}.")
        if reward is not None and ranking is not None and ranking != reward:
            raise ConstraintError(
                f"reward is {reward!r} and ranking {shortened(ranking)}; give one of them."
            )
        listed, pool = pool, pool.expanded()
        if len(pool) < 2:
            raise PoolError(
                f"A router needs at least two models to choose from, the pool has {len(pool)}"
                f"{': ' + next(iter(pool)) if pool else ''}. Add one."
            )
        # Also what is measured without an effort: no candidate, but it says what its arms are like.
        measured = ModelPool(model for model in listed.values() if model.learned)
        check_fit(checkpoint, measured)
        if encoder is None:
            encoder = load_encoder(checkpoint.encoder.name)
        checkpoint.encoder.check(encoder)
        expected = encoder.dimension + len(FORM_FEATURES)
        if (found := len(checkpoint.network.attention.input_mean)) != expected:
            raise CheckpointError(
                f"The checkpoint's network reads {found} numbers a "
                f"query, its encoder and the form give {expected}. Train it again."
            )
        self._checkpoint = checkpoint
        self._pool = measured
        self._encoder = encoder
        self._ranking = check_ranking(ranking or reward or "exponential")
        self._margin = check_margin(margin)
        if agent_encoder is not None and not isinstance(agent_encoder, QueryEncoder):
            raise ConstraintError(
                f"agent_encoder is {shortened(agent_encoder)}; give an encoder, such as "
                'SentenceTransformersEncoder("all-MiniLM-L6-v2").'
            )
        self._agent_encoder = agent_encoder
        self._surcharge_usd = _surcharges(surcharge_usd, pool)
        if measured.keys() != pool.keys():
            self._pool = ModelPool(
                model if model.learned or model.kind != "model" else self._guessed(model)
                for model in pool.values()
            )
        models = [model for model in self._pool.values() if model.learned]
        self._predictor = Predictor(checkpoint.network, models) if models else None
        self._agents: Agents | None = None
        if any(model.kind != "model" for model in self._pool.values()):
            self._agents = Agents(self._pool, agent_encoder or encoder, self._margin)
        unknown = self._agents.of_unknown_cost if self._agents else ()
        self._eligibility = Eligibility(self._pool, unknown)

    def _guessed(self, model: ModelDescriptor) -> ModelDescriptor:
        try:
            return guess(self, model)
        except CrossRouteError as error:
            raise PoolError(
                f"Model {model.id!r} has no learned embedding, and none can be guessed: {error} "
                "Scores make one: crossroute models onboard."
            ) from error

    @classmethod
    def default(cls) -> CrossRouter:
        """The router of the shipped models that can be called today; made once a process."""
        return _default()

    @classmethod
    def shipped(cls) -> CrossRouter:
        """The router of all shipped models; made once a process.

        Among them are those that were retired, and those that no provider serves: to predict them,
        to compare others with them, or to name them with a client of your own.
        """
        return _shipped()

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        *,
        models: str | Path | None = None,
        encoder: QueryEncoder | None = None,
        reward: RewardName = "exponential",
    ) -> CrossRouter:
        """Load a folder: of a checkpoint, or of descriptors alone.

        Args:
            folder: What `save` or `crossroute train` wrote; or descriptors (`*.yaml`) for the
                checkpoint that they lie in, else for the shipped one. None is the shipped one, with
                the models that can be called today.
            models: Another folder of descriptors, made for this checkpoint, to use as the pool.
            encoder: The encoder it was trained on, where its name alone does not find it.
            reward: `exponential` or `linear`.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or of another version.
            DescriptorError: If a descriptor is not valid.
            PoolError: If the pool cannot be routed over.
        """
        if (folder, models, encoder, reward) == (None, None, None, "exponential"):
            return cls.default()
        checkpoint = load_checkpoint(folder)
        source = folder if models is None else models
        pool = cls.default().pool if source is None else ModelPool.load(source)
        return cls(checkpoint, pool, encoder=encoder, reward=reward)

    @classmethod
    def follow(
        cls, folder: str | Path, *, check_seconds: float = CHECK_SECONDS
    ) -> FollowedFolder[CrossRouter]:
        """The router of a folder whose descriptors may change while it runs (`docs/pool.md`).

            followed = CrossRouter.follow("my_models")
            followed.current.route("Why is the sky blue?", willingness_to_pay=0.05)

        Args:
            folder: As in `load`; the network is loaded once, its models are followed.
            check_seconds: The folder is looked at no more often than this.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or of another version.
            DescriptorError: If a descriptor is not valid.
            PoolError: If there is no such folder, or its pool cannot be routed over.
        """
        return follow(folder, lambda router: router, check_seconds=check_seconds)

    def save(self, folder: str | Path) -> None:
        """Write checkpoint and pool to a folder that `load` reads."""
        self._checkpoint.save(folder, self._pool)

    def subset(self, models: Iterable[str]) -> CrossRouter:
        """The same router over only these models of its pool.

        Raises:
            UnknownModelError: If an id is not in the pool.
            PoolError: If fewer than two are left.
        """
        return self.over(self._pool.subset(models))

    def with_reward(self, reward: RewardName) -> CrossRouter:
        """The same router, by another reward.

        Raises:
            ValueError: If there is no such reward.
        """
        if reward not in get_args(RewardName):
            raise ValueError(f"reward is {reward!r}; it must be one of {get_args(RewardName)}.")
        return self.with_ranking(reward)

    def with_ranking(self, ranking: Ranking) -> CrossRouter:
        """The same router, by another ranking: a reward, or TOPSIS (`crossroute.Topsis`).

        Raises:
            ConstraintError: If there is no such ranking.
        """
        checked = check_ranking(ranking)
        return self if checked == self._ranking else self._with(ranking=checked)

    def with_margin(self, margin: float) -> CrossRouter:
        """The same router, whose agents serve what they fit by this or more.

        Raises:
            ConstraintError: If it is no number.
        """
        checked = check_margin(margin)
        return self if checked == self._margin else self._with(margin=checked)

    def with_agent_encoder(self, encoder: QueryEncoder) -> CrossRouter:
        """The same router, whose agents are told apart by another encoder than its models.

        The shipped encoder knows words, not sentences; one that does tells better which agent a
        query is for (`docs/agents.md`), and takes longer.

            router.with_agent_encoder(SentenceTransformersEncoder("all-MiniLM-L6-v2"))

        Args:
            encoder: Encodes the agents' texts at once, and each query.

        Raises:
            ConstraintError: If it is no encoder.
        """
        return self._with(agent_encoder=encoder)

    def with_surcharges(self, usd: Mapping[str, float]) -> CrossRouter:
        """The same router, to which calls of some models count as dearer than they are.

        A surcharge is the price of what no bill shows, such as a share of the calls or a place in a
        queue. It decides as the cost does, so at a willingness to pay of `math.inf` it does not
        count; predictions, limits and bills are without it.

        Args:
            usd: What is added to the cost of a call, in USD, by the ids of models; below 0 it is a
                discount. They take the place of the surcharges before.

        Raises:
            UnknownModelError: If a model is not in the pool.
            ConstraintError: If they are no mapping, or one is not a finite number.
        """
        return self._with(surcharge_usd=_surcharges(usd, self._pool))

    def over(self, pool: ModelPool) -> CrossRouter:
        """The same router over another pool, whose embeddings are of its checkpoint.

        Raises:
            PoolError: If the pool has fewer than two models, or one does not fit the checkpoint.
        """
        kept = {model: usd for model, usd in self._surcharge_usd.items() if model in pool}
        return self._with(pool, surcharge_usd=kept)

    def _with(
        self,
        pool: ModelPool | None = None,
        *,
        ranking: Ranking | None = None,
        surcharge_usd: Mapping[str, float] | None = None,
        margin: float | None = None,
        agent_encoder: QueryEncoder | None = None,
    ) -> CrossRouter:
        return CrossRouter(
            self._checkpoint,
            self._pool if pool is None else pool,
            encoder=self._encoder,
            surcharge_usd=self._surcharge_usd if surcharge_usd is None else surcharge_usd,
            ranking=self._ranking if ranking is None else ranking,
            margin=self._margin if margin is None else margin,
            agent_encoder=agent_encoder or self._agent_encoder,
        )

    def add_model(self, descriptor: ModelDescriptor, scores: Scores | None = None) -> CrossRouter:
        """The same router with one more model, without training.

        Args:
            descriptor: The model, agent, chain, retriever or tool; one of the same id is replaced.
            scores: Its scored answers, from some 20 up: `ScoredAnswer` or mappings with `prompt`,
                `score` (0..1) and, where known, `cost_usd` or `output_tokens`. Without any, the
                embedding of a model is a guess by price, size, family or `behaves_like`; the others
                go by what their descriptors say.

        Raises:
            DataError: If the scores are broken, or nothing says what the model costs.
            UnknownModelError: If the model that it behaves like is not in the pool.
        """
        if scores is not None:
            new = onboard(self, descriptor, scores)
        else:
            new = guess(self, descriptor) if descriptor.kind == "model" else descriptor
        return self.over(ModelPool([*(m for m in self._pool.values() if m.id != new.id), new]))

    @property
    def pool(self) -> ModelPool:
        """The candidates."""
        return self._pool

    @property
    def encoder(self) -> QueryEncoder:
        """What turns queries into vectors."""
        return self._encoder

    @property
    def reward(self) -> RewardName:
        """Name of the reward that orders the candidates.

        Raises:
            ConstraintError: If TOPSIS does, which knows no willingness to pay.
        """
        if isinstance(self._ranking, Topsis):
            raise ConstraintError(
                "This router ranks by TOPSIS, which has no reward and no willingness to pay to "
                "tune, plan or evaluate by; use with_ranking('exponential') for that."
            )
        return self._ranking

    @property
    def ranking(self) -> RewardName | Topsis:
        """What orders the candidates: the name of a reward, or the weights of TOPSIS."""
        return self._ranking

    @property
    def margin(self) -> float:
        """The least fit of an agent that serves a query."""
        return self._margin

    @property
    def predicted(self) -> tuple[str, ...]:
        """Ids of the models: who is chosen by predictions alone, which agents are not."""
        return tuple(id_ for id_, one in self._pool.items() if one.kind == "model")

    @property
    def surcharge_usd(self) -> Mapping[str, float]:
        """What is added to the cost of models where it decides, in USD a call, by their ids."""
        return self._surcharge_usd

    @property
    def checkpoint(self) -> Checkpoint:
        """The trained network and how it was trained."""
        return self._checkpoint

    def route(
        self,
        query: QueryLike,
        willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY,
        *,
        constraints: ConstraintsLike = None,
        stay: Stay | None = None,
    ) -> Decision:
        """Choose the model for one query.

        Models that were retired, cannot take what the query needs, or have no room for its tokens
        are removed first, then those that the constraints forbid; the decision says why. A query
        without text is routed by what each model is in the mean.

        Args:
            query: A prompt, a conversation as messages in OpenAI's dict form, or a `Query`.
            willingness_to_pay: lambda, USD a unit of quality; 0 takes the cheapest model,
                `math.inf` the best one.
            constraints: Limits the candidates of this call: `Constraints`, or a mapping with some
                of its fields.
            stay: The model that answered before, to be kept unless another is better by a margin.

        Raises:
            QueryError: If the query has not that form.
            WillingnessToPayError: If the willingness to pay is NaN, negative or no number.
            ConstraintError: If the constraints or `stay` are nothing of that kind.
            NoCandidateError: If no model may serve the query.
            UnknownModelError: If a model of the constraints is not in the pool.
        """
        return self._decide([Query.of(query)], willingness_to_pay, constraints, stay)[0]

    async def aroute(
        self,
        query: QueryLike,
        willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY,
        *,
        constraints: ConstraintsLike = None,
        stay: Stay | None = None,
    ) -> Decision:
        """`route` in a worker thread: the event loop is not held up, whatever the encoder."""
        return await asyncio.to_thread(
            self.route, query, willingness_to_pay, constraints=constraints, stay=stay
        )

    def route_batch(
        self,
        queries: Sequence[QueryLike],
        willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY,
        *,
        constraints: ConstraintsLike = None,
    ) -> list[Decision]:
        """Choose a model for each of several queries; see `route`.

        An error about one of them names its position.
        """
        return self._decide(_read(queries), willingness_to_pay, constraints, None, many=True)

    def allocate(
        self,
        queries: Sequence[QueryLike],
        *,
        budget_usd: float | None = None,
        min_quality: float | None = None,
        max_share: Mapping[str, float] = NO_LIMIT,
        max_concurrent: Mapping[str, int] = NO_LIMIT,
        constraints: ConstraintsLike | Sequence[ConstraintsLike] = None,
        held_out: RoutingData | None = None,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> Allocation:
        """Choose the models of many queries together: the best quality for a budget.

            allocation = router.allocate(prompts, budget_usd=40)
            print(allocation)
            for prompt, decision in zip(prompts, allocation.decisions): ...

        Mean predicted quality is as high, or the cost as low, as it can be, whatever the router's
        reward and surcharges. What cannot be had is not an error yet: `Allocation.feasible` says
        so, `nearest` is what can, and only its `decisions` raise.

        Args:
            queries: As in `route`.
            budget_usd: The most that all queries may cost, in USD.
            min_quality: In place of a budget, the least mean quality, 0..1, for the least cost.
            max_share: The largest share of the queries, 0..1, that models may get, by their ids.
            max_concurrent: The largest number of the queries that models may get: where all are
                sent at once, so many are with them at once.
            constraints: As in `route`, for each of the queries; or a list with those of each.
            held_out: Scored answers that the router has not learned from. Half of them correct what
                it predicts, the other half say what is realised (`Allocation.checked`).
            on_step: Called now and then, with what is being done.

        Raises:
            QueryError: If there are no queries, or one has not the form of one.
            ConstraintError: If not one of budget and quality is given, a number makes no sense, or
                the limits leave a query without a model.
            NoCandidateError: If no model may serve one of the queries.
            UnknownModelError: If a limited model is not in the pool.
            DataError: If the scored answers are too few, or of other models.
        """
        from crossroute.budget.allocation import Asked, allocate

        asked = Asked(budget_usd, min_quality, max_share, max_concurrent)
        # Before anything takes time.
        asked.most(tuple(self._pool), 0)
        on_step("reading")
        read = _read(queries)
        limits = self._limits_of_each(constraints, len(read))

        def on_chunk(done: int) -> None:
            on_step(f"predicted {done:,} of {len(read):,}")

        serving = self._serving(read, limits, on_chunk=on_chunk)
        return allocate(serving, asked, self._halves(held_out, serving.models), on_step=on_step)

    def at_share(
        self,
        prompts: Sequence[QueryLike],
        shares: Mapping[str, float],
        *,
        willingness_to_pay: float | None = None,
        constraints: ConstraintsLike = None,
        held_out: RoutingData | None = None,
    ) -> Tuned[CrossRouter]:
        """Find the willingness to pay at which models get shares of your prompts.

        Where no willingness to pay does, models get surcharges, too (`with_surcharges`). How near
        the shares come on other prompts: `docs/budget/tune.md`.

            tuned = router.at_share(prompts, {"gpt-5.5": 0.3})
            decision = tuned.router.route(prompt, tuned.willingness_to_pay)

        Args:
            prompts: A sample of those that will come, as they come: what comes twice is twice in
                it. 900 tell a share of 0.3 within 3 points in 95 of 100 samples, 300 within 5.2.
            shares: Of the prompts, 0..1, by the ids of models.
            willingness_to_pay: At which it is to be, finite; None leaves it open: of those that
                give the shares without surcharges, it is the one with the best quality.
            constraints: As in `route`, of all prompts.
            held_out: Scored answers that the router has not learned from. Half of them correct what
                cost and quality are expected to be, the other half say what is realised
                (`Tuned.checked`); decisions go by what is predicted.

        Raises:
            ConstraintError: If a share is not from 0 to 1, or they are more than 1 together, or
                less although they are those of all candidates.
            UnknownModelError: If a model is not in the pool.
            WillingnessToPayError: If the willingness to pay is NaN, negative or no number.
            QueryError: If there are no prompts, or one has not that form.
            NoCandidateError: If no model may serve one of them.
            DataError: If the scored answers are too few, or of other models.
        """
        from crossroute.budget.tuned import check_finite, check_shares, tuned_to_shares

        checked = check_shares(shares, self._pool)
        willingness = check_finite(willingness_to_pay)

        def tune(table: Table) -> Tuned[CrossRouter]:
            return tuned_to_shares(self, table, checked, willingness, DEFAULT_WILLINGNESS_TO_PAY)

        return self._tuned(prompts, constraints, held_out, tune)

    def at_cost(
        self,
        prompts: Sequence[QueryLike],
        usd_a_query: float,
        *,
        constraints: ConstraintsLike = None,
        held_out: RoutingData | None = None,
    ) -> Tuned[CrossRouter]:
        """Find the willingness to pay with the best quality for a mean predicted cost.

        Args:
            prompts: See `at_share`.
            usd_a_query: The most that a prompt is to cost in the mean, in USD.
            constraints: As in `route`, of all prompts.
            held_out: See `at_share`.

        Raises:
            ConstraintError: If the cost is no number from 0 up.
            QueryError: If there are no prompts, or one has not that form.
            NoCandidateError: If no model may serve one of them.
            DataError: If the scored answers are too few, or of other models.
        """
        from crossroute.budget.tuned import check_cost, tuned_to_cost

        cost = check_cost(usd_a_query)
        return self._tuned(
            prompts, constraints, held_out, lambda table: tuned_to_cost(self, table, cost)
        )

    def at_quality(
        self,
        prompts: Sequence[QueryLike],
        quality: float,
        *,
        constraints: ConstraintsLike = None,
        held_out: RoutingData | None = None,
    ) -> Tuned[CrossRouter]:
        """Find the willingness to pay with the least cost for a mean predicted quality.

        Args:
            prompts: See `at_share`.
            quality: The least mean quality, 0..1.
            constraints: As in `route`, of all prompts.
            held_out: See `at_share`.

        Raises:
            ConstraintError: If the quality is no number from 0 to 1.
            QueryError: If there are no prompts, or one has not that form.
            NoCandidateError: If no model may serve one of them.
            DataError: If the scored answers are too few, or of other models.
        """
        from crossroute.budget.tuned import check_quality, tuned_to_quality

        least = check_quality(quality)
        return self._tuned(
            prompts, constraints, held_out, lambda table: tuned_to_quality(self, table, least)
        )

    def _tuned(
        self,
        prompts: Sequence[QueryLike],
        constraints: ConstraintsLike,
        held_out: RoutingData | None,
        tune: Callable[[Table], Tuned[CrossRouter]],
    ) -> Tuned[CrossRouter]:
        """Tuned by what is predicted of a sample, and checked on scored answers, if there are any.

        Args:
            prompts: The sample.
            constraints: Of all of them.
            held_out: The scored answers.
            tune: Given what is predicted, and which models may serve.
        """
        from crossroute.budget.share import Table

        name = self.reward
        limits, queries = self._limits(constraints), _read(prompts)
        if not queries:
            raise QueryError("There are no prompts to tune on; give a few hundred of your own.")
        serving = self._serving(queries, [limits] * len(queries))
        found, allowed = serving.predictions, serving.allowed
        predicted = found.models, found.quality, found.cost_usd
        extra = np.array([self._surcharge_usd.get(model, 0.0) for model in found.models])
        every = np.ones(found.quality.shape, np.bool_) if allowed is None else allowed
        halves = self._halves(held_out, serving.models)
        if halves is None:
            return tune(Table(*predicted, every, name, extra))
        corrected = halves.corrected(*predicted)
        tuned = tune(Table(*predicted, every, name, extra, corrected))
        return tuned.checked_on(halves, name)

    def _halves(self, held_out: RoutingData | None, models: Sequence[str]) -> HeldOutHalves | None:
        """Scored answers of the models that may be chosen."""
        if held_out is None:
            return None
        from crossroute.budget.held_out import HeldOutHalves

        return HeldOutHalves.of(held_out, self._pool.subset(models), self.predict)

    def predict(self, queries: Sequence[QueryLike]) -> Predictions:
        """Predict quality and cost of every model for every query.

        Of an agent, they are those of the queries that it serves, whether it would serve these.

        Raises:
            QueryError: If a query has not that form; it is named by its position.
        """
        return self._predict(_read(queries))

    def _predict(
        self, queries: Sequence[Query], on_chunk: Callable[[int], None] = lambda _: None
    ) -> Predictions:
        tokens = np.array([query.input_tokens for query in queries], np.float64)
        shape = (len(queries), len(self._pool))
        quality, cost, output = (np.full(shape, np.nan) for _ in range(3))
        columns = [j for j, model in enumerate(self._pool.values()) if model.learned]
        for start in range(0, len(queries), CHUNK):
            part = slice(start, start + CHUNK)
            if self._predictor is not None:
                features = Features.of(queries[part], self._encoder)
                found = self._predictor.predict(features, tokens[part])
                quality[part, columns], cost[part, columns], output[part, columns] = found
            on_chunk(min(start + CHUNK, len(queries)))
        if self._agents is not None:
            self._agents.complete(quality, cost)
        return Predictions(tuple(self._pool), quality, cost, output, tokens)

    def _decide(
        self,
        queries: Sequence[Query],
        willingness_to_pay: float,
        constraints: ConstraintsLike,
        stay: Stay | None,
        *,
        many: bool = False,
    ) -> list[Decision]:
        willingness = check_willingness_to_pay(willingness_to_pay)
        limits = self._limits(constraints)
        if stay is not None and not isinstance(stay, Stay):
            raise ConstraintError(f"stay is {shortened(stay)}; give Stay(model), or None.")
        served = self._serving(queries, [limits] * len(queries), many=many)
        found = served.predictions
        counted = found.cost_usd
        if self._surcharge_usd:
            extra = [self._surcharge_usd.get(model, 0.0) for model in found.models]
            counted = counted + np.array(extra)
        topsis = self._ranking if isinstance(self._ranking, Topsis) else None
        name: RewardName = "exponential" if topsis else self.reward
        if topsis:
            preferences, rewards = self._by_topsis(topsis, served, counted)
            # A finite margin is one of utility, which TOPSIS does not know.
            stay = stay if stay and math.isinf(stay.margin) else None
        else:
            preferences = preference(name, found.quality, counted, willingness)
            rewards = reward(name, found.quality, counted, willingness)
        kept_at = found.models.index(stay.model) if stay and stay.model in self._pool else None
        biased, tiers = preferences, served.tiers
        if stay and kept_at is not None:
            biased = preferences.copy()
            biased[:, kept_at] += self._bonus(stay, queries, willingness)
            if tiers is not None and math.isinf(stay.margin):
                tiers = tiers.copy()
                tiers[:, kept_at] = -1
        ranking = rank(biased, found.quality, counted, tiers)
        decisions = []
        for i, query in enumerate(queries):
            quality, cost = found.quality[i].tolist(), found.cost_usd[i].tolist()
            values = rewards[i].tolist()
            reasons = served.removed[i]
            candidates = tuple(
                [
                    CandidateScore(found.models[j], quality[j], cost[j], values[j])
                    for j in ranking[i].tolist()
                    if found.models[j] not in reasons
                ]
            )
            best = candidates[0]
            decisions.append(
                Decision(
                    model=best.model,
                    quality=best.quality,
                    cost_usd=best.cost_usd,
                    candidates=candidates,
                    willingness_to_pay=willingness,
                    reward=name,
                    surcharge_usd=self._surcharge_usd,
                    input_tokens=query.input_tokens,
                    removed={model: explained(why) for model, why in reasons.items()},
                    blank=query.is_blank,
                    shortened=served.shortened[i],
                    kept=kept_at is not None
                    and best.model == found.models[kept_at]
                    and any(
                        served.would_precede(i, preferences[i], other.model, kept_at)
                        for other in candidates[1:]
                    ),
                    topsis=topsis,
                    fit=served.fits[i] if served.fits else NO_FIT,
                    margin=served.margin,
                    unknown_cost=served.unknown_cost,
                )
            )
        return decisions

    def _limits(self, constraints: ConstraintsLike) -> Constraints:
        return Constraints.of(constraints).over(self._pool)

    def _limits_of_each(
        self, constraints: ConstraintsLike | Sequence[ConstraintsLike], count: int
    ) -> list[Constraints]:
        if not isinstance(constraints, Sequence):
            return [self._limits(constraints)] * count
        if len(constraints) != count:
            raise ConstraintError(
                f"There are {len(constraints)} constraints for {count} queries; give one for all, "
                "or one for each."
            )
        return [self._limits(one) for one in constraints]

    def _serving(
        self,
        queries: Sequence[Query],
        limits: Sequence[Constraints],
        *,
        many: bool = True,
        on_chunk: Callable[[int], None] = lambda _: None,
    ) -> Serving:
        """What is predicted for queries, and who may serve them.

        Raises:
            NoCandidateError: If no model may serve one of them.
        """
        predicted = self._predict(queries, on_chunk)
        found, rooms = with_shortening(predicted, queries, limits, self._pool)
        removed, fits = [], []
        tiers = None
        for i, query in enumerate(queries):
            cost = found.cost_usd[i].tolist()
            reasons = self._eligibility.removed(query, limits[i], cost, rooms[i])
            if self._agents is not None:
                fits.append(self._agents.fits(query))
                for agent, why in self._agents.unfit(fits[i]).items():
                    # Whoever forces an agent knows what it is for.
                    if agent != limits[i].model and limits[i].forbids(agent) is None:
                        reasons[agent] = [*reasons.get(agent, ()), why]
            if len(reasons) == len(found.models):
                raise NoCandidateError(reasons, position=i if many else None)
            removed.append(reasons)
            if rooms[i]:
                rooms[i] = {id_: room for id_, room in rooms[i].items() if id_ not in reasons}
            if fits and (serving := {a: x for a, x in fits[i].items() if a not in reasons}):
                if tiers is None:
                    tiers = np.zeros(found.quality.shape, np.intp)
                self._put_first(serving, found.models, found.quality[i], tiers[i])
        if self._agents is None:
            return Serving(queries, found, removed, rooms)
        unknown = self._agents.of_unknown_cost
        return Serving(queries, found, removed, rooms, fits, tiers, self._margin, unknown)

    def _put_first(
        self,
        serving: Mapping[str, float],
        models: Sequence[str],
        quality: FloatArray,
        tiers: IntArray,
    ) -> None:
        """Let the agents that serve a query go before the models.

        Args:
            serving: The fit of each of them.
            models: Ids of the m candidates.
            quality: [m] predicted quality; an agent's counts as far as it is likely the right one.
            tiers: [m] of the candidates.
        """
        order, likely = tiers_of(serving), shares(serving)
        tiers[:] = len(serving)
        for column, agent in enumerate(models):
            if agent in serving:
                quality[column] *= likely[agent]
                tiers[column] = order[agent]

    def _by_topsis(
        self, topsis: Topsis, served: Serving, cost_usd: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """The order of the candidates by TOPSIS, those of each tier by themselves.

        Args:
            topsis: The weights.
            served: What is predicted, and who may serve.
            cost_usd: [n, m] what counts as cost.

        Returns:
            [n, m] a preference, the highest chosen, and [n, m] closeness; 0 of who may not serve.
        """
        found = served.predictions
        latency = np.array(
            [model.expected_latency_seconds or np.nan for model in self._pool.values()]
        )
        preferences, closeness = np.zeros(cost_usd.shape), np.zeros(cost_usd.shape)
        tiers = np.zeros(cost_usd.shape) if served.tiers is None else served.tiers
        for i, reasons in enumerate(served.removed):
            candidates = np.array([model not in reasons for model in found.models])
            for tier in np.unique(tiers[i, candidates]):
                part = np.flatnonzero(candidates & (tiers[i] == tier))
                order, near = topsis.ranked(
                    found.quality[i, part], cost_usd[i, part], latency[part].tolist()
                )
                preferences[i, part[order]] = -np.arange(len(part), dtype=np.float64)
                closeness[i, part] = near
        return preferences, closeness

    def _bonus(
        self, stay: Stay, queries: Sequence[Query], willingness: float
    ) -> float | FloatArray:
        """What is added to the preference of the model that answered before: a number or [n]."""
        # Also at a willingness to pay of 0, where no margin is worth anything.
        if math.isinf(willingness) or math.isinf(stay.margin):
            return stay.margin
        price = self._pool[stay.model].price
        cached = [price.cache_saving_usd(query.past_tokens) if price else 0.0 for query in queries]
        return stay.margin * willingness + np.array(cached)


def follow(
    folder: str | Path,
    make: Callable[[CrossRouter], Made],
    *,
    check_seconds: float = CHECK_SECONDS,
) -> FollowedFolder[Made]:
    """What is made of the router of a folder, made again when its descriptors change.

    Args:
        folder: See `CrossRouter.follow`.
        make: Makes the thing; an error in it means that the pool is not taken over.
        check_seconds: The folder is looked at no more often than this.
    """
    checkpoint = load_checkpoint(folder)
    encoder = load_encoder(checkpoint.encoder.name)
    return FollowedFolder(
        folder,
        lambda pool: make(CrossRouter(checkpoint, pool, encoder=encoder)),
        check_seconds=check_seconds,
    )


def load_checkpoint(folder: str | Path | None) -> Checkpoint:
    """The checkpoint by which a folder is routed: its own, or the shipped one.

    Raises:
        PoolError: If there is no such folder.
        CheckpointError: If the folder is none of descriptors, and no whole checkpoint.
    """
    if folder is None:
        return _shipped_checkpoint()
    if (found := checkpoint_folder(folder)) is not None:
        return Checkpoint.load(found)
    if not Path(folder).is_dir():
        raise PoolError(f"{folder}: no such folder; name a checkpoint, or a folder of descriptors.")
    if listed_descriptors(Path(folder)):
        return _shipped_checkpoint()
    # Which says what is missing.
    return Checkpoint.load(folder)


def check_ranking(ranking: object) -> RewardName | Topsis:
    """Return a ranking with its weights.

    Raises:
        ConstraintError: If there is no such ranking.
    """
    if isinstance(ranking, Topsis):
        return ranking
    for name in get_args(RewardName):
        if ranking == name:
            return cast("RewardName", name)
    if ranking == "topsis":
        return Topsis()
    raise ConstraintError(
        f"ranking is {shortened(ranking)}; give 'exponential', 'linear', 'topsis' or "
        "crossroute.Topsis(quality=..., cost=..., latency=...)."
    )


@lru_cache(maxsize=1)
def _shipped_checkpoint() -> Checkpoint:
    with as_file(files("crossroute") / "assets" / "default") as folder:
        return Checkpoint.load(folder)


@lru_cache(maxsize=1)
def _shipped() -> CrossRouter:
    return CrossRouter(_shipped_checkpoint(), ModelPool.shipped())


@lru_cache(maxsize=1)
def _default() -> CrossRouter:
    pool = ModelPool.shipped()
    return CrossRouter(_shipped_checkpoint(), pool.subset(pool.reachable()))


def _surcharges(usd: Mapping[str, float], pool: ModelPool) -> Mapping[str, float]:
    """Surcharges that are any, by models of the pool."""
    if not isinstance(usd, Mapping):
        raise ConstraintError(
            f"The surcharges are {shortened(usd)}; give a mapping of model ids to USD."
        )
    for model, value in usd.items():
        if model not in pool:
            raise UnknownModelError(model, pool)
        is_number = isinstance(value, (int, float, np.floating, np.integer))
        size = amount(abs(value)) if is_number and not isinstance(value, bool) else None
        if size is None or size > MOST_SURCHARGE:
            raise ConstraintError(
                f"The surcharge of {model} is {shortened(value)}; give a finite number of USD, "
                f"{MOST_SURCHARGE:g} at most."
            )
    return {model: float(value) for model, value in usd.items() if value}


def _read(queries: Sequence[QueryLike]) -> list[Query]:
    if isinstance(queries, (str, bytes, Mapping)) or not isinstance(queries, Iterable):
        raise QueryError(f"Give a list of queries, not {shortened(queries)}.")
    read = []
    for position, query in enumerate(queries):
        try:
            read.append(Query.of(query))
        except CrossRouteError as error:
            raise QueryError(f"Query {position}: {error}") from error
    return read
