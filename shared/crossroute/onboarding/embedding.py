"""An embedding for a model that nobody trained on: from scored answers, or from its kin."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from crossroute.errors import DataError, UnknownModelError, problems
from crossroute.models.descriptor import Learned, ModelDescriptor, rounded
from crossroute.models.pool import ModelPool
from crossroute.network.checkpoint import fits
from crossroute.network.predictor import BIASES, LEAST_QUALITY, Predictor, query_features
from crossroute.query import Query
from crossroute.training.data import AnswerTokens, AnswerUsd, Output, Score, read_lines

if TYPE_CHECKING:
    from crossroute.router import CrossRouter

FloatArray = NDArray[np.float64]

NEWTON_STEPS = 30
LEAST_SPREAD = 0.5
"""Of known models' mean quality, as a deviation in logits: a small pool may be all alike."""
OWN_SHARE = 0.1
"""How far a new model's topics may differ from those of its kin: a share of the variance between
known models, chosen on zeroeval's valid rows."""
SHORTEST_ANSWER = 10
"""Known models with fewer output tokens in the mean were not measured on whole answers."""
LEAST_EVIDENCE = -50.0
"""Logarithm of the least weight of a known model, so that any set of them has a mean."""
MOST_FIELDS = 100
"""Of a line of scores."""
GUESS_ERROR = 1.0
"""Standard error of the quality of a model without scores, in logits."""
PRICE_WIDTH, SIZE_WIDTH = 0.7, 0.7
"""Models whose price or size is e^0.7 (twice) as high are unlike by one unit."""
FEW_SCORES = 20
"""Fewer say little of a model, whatever they are."""
FAMILY_WEIGHT = 5.0
"""How much more a model of the same family says than another one."""


class ScoredAnswer(BaseModel):
    """One answer of a model, scored.

    Attributes:
        prompt: What it was asked: a text, or messages in OpenAI's dict form.
        score: How good the answer was, 0..1.
        cost_usd: What it cost in USD.
        output_tokens: How long it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Any
    score: Score
    cost_usd: AnswerUsd | None = None
    output_tokens: AnswerTokens | None = None


Scores = Iterable[ScoredAnswer | Mapping[str, Any]]


def load_scores(path: str | Path, model: str) -> list[ScoredAnswer]:
    """Read the scored answers of one model from JSON lines.

    Args:
        path: A `.jsonl` or `.jsonl.gz` file. Each line is a `ScoredAnswer`, or a row of routing
            data (`docs/data.md`), of which the output of `model` is taken; rows without one are
            passed over.
        model: Id of the model.

    Raises:
        DataError: If the file cannot be read, a line is broken, or no line has an answer of it.
    """
    path = Path(path)
    answers = []
    for number, line in read_lines(path):
        try:
            answer = _answer(line, model)
        except (ValueError, AttributeError) as error:
            said = problems(error) if isinstance(error, ValidationError) else error
            raise DataError(f"{path}, line {number}: not a scored answer: {said}") from error
        if answer is not None:
            answers.append(answer)
    if not answers:
        raise DataError(f"{path}: holds no scored answer of {model!r}.")
    return answers


def _answer(line: bytes, model: str) -> ScoredAnswer | None:
    """What a line says of a model's answer; None if it is a row of other models' answers."""
    row = from_json(line)
    if isinstance(row, dict) and "outputs" in row:
        output = row["outputs"].get(model)
        if output is None:
            return None
        # Fields of routing data that are not known are not read.
        known = Output.model_validate(output)
        row = {"prompt": row.get("prompt"), **known.model_dump()}
    elif isinstance(row, dict) and len(row) > MOST_FIELDS:
        # Each unknown one would be an error of its own.
        raise ValueError(f"has {len(row):,} fields")
    return ScoredAnswer.model_validate(row)


def onboard(router: CrossRouter, descriptor: ModelDescriptor, scores: Scores) -> ModelDescriptor:
    """Learn a model's embedding from a few scored answers, without training.

    Each known model, shifted to the new one's mean quality, explains the scores with some
    likelihood; the new embedding is the mean of theirs, weighted by it. Around that, the new
    model's own mean and its topics are fitted by logistic regression with a Gaussian prior: few
    scores leave it near its kin. The standard error of its mean quality is kept, and holds its
    predictions back (`crossroute.network.predictor`).

    Args:
        router: Knows the other models.
        descriptor: The new model; whatever it has learned is replaced.
        scores: Its scored answers, as `ScoredAnswer` or mappings with the same fields.

    Returns:
        The descriptor with a learned embedding for the router's checkpoint.

    Raises:
        DataError: If there are no scores, one is broken, a prompt has no text, or neither they nor
            the price say what an answer costs.
        QueryError: If a prompt has not the form of one.
    """
    answers = _read(descriptor.id, scores)
    kin = _Kin.of(router, without=descriptor.id)
    queries = [Query.of(answer.prompt) for answer in answers]
    for position, query in enumerate(queries):
        if query.is_blank:
            raise DataError(f"{descriptor.id}: score {position} is of a prompt without text.")
    features = query_features(queries, router.encoder)
    score = np.array([answer.score for answer in answers])
    network = router.checkpoint.network

    spread = max(float(kin.offset.std()), LEAST_SPREAD)
    prior = _Gaussian(np.array([kin.offset.mean()]), np.array([spread**2]))
    logits = Predictor(network, kin.models).parts(features).logit
    fits = [_fit(np.ones((len(score), 1)), logits[:, j], score, prior) for j in range(len(kin))]
    evidence = np.array([fit.log_posterior for fit in fits])
    weights = np.exp(np.maximum(evidence - evidence.max(), LEAST_EVIDENCE))
    vector = _mean(kin.vectors, weights)

    bare = Predictor(network, [_with(descriptor, router, (0.0, 0.0, *vector.tolist()))])
    parts = bare.parts(features)
    # The prior's numbers come first in the vector; those that no known model uses stay as they are.
    variance = OWN_SHARE * kin.vectors[:, : network.prior_size].var(axis=0)
    used = np.flatnonzero(variance > 1e-9)
    own = _Gaussian(
        np.concatenate([prior.mean, np.zeros(len(used))]),
        np.concatenate([prior.variance, variance[used]]),
    )
    design = np.column_stack([np.ones(len(score)), bare.topics(features)[:, used]])
    fit = _fit(design, parts.logit[:, 0], score, own)
    level = float(_logistic(parts.logit[:, 0] + design @ fit.mean).mean())
    vector[used] += fit.mean[1:]
    cost = _cost(descriptor, answers, queries, np.exp(parts.log_factor[:, 0]))
    if cost is None:
        cost = kin.cost_like(descriptor, weights)
    return _with(
        descriptor,
        router,
        (float(fit.mean[0]), cost.offset, *vector.tolist()),
        source="scores",
        cost_target=cost.target,
        examples=len(answers),
        mean_quality=round(level, 4),
        quality_error=round(math.sqrt(fit.variance[0]), 4),
    )


def error_in_points(learned: Learned) -> float:
    """The standard error of a model's mean quality, in points of 100.

    The distance on the side of even odds, where it is wider: at a quality of 0.95 and an error of
    0.5 logits 3 points, at 0.5 or an unknown quality 12.
    """
    level = 0.5 if learned.mean_quality is None else learned.mean_quality
    # Never quite sure, whatever stands in the file.
    level = min(max(level, 1 - level), 1 - LEAST_QUALITY)
    return 100 * (level - float(_logistic(math.log(level / (1 - level)) - learned.quality_error)))


def guess(router: CrossRouter, descriptor: ModelDescriptor) -> ModelDescriptor:
    """Guess a model's embedding from what its descriptor says: no score is known.

    `behaves_like` names a known model, with an offset in points of quality; else the known models
    are averaged, those with a like price and size and of the same family the most.

    Raises:
        DataError: If the descriptor says nothing to guess by, or nothing of what the model costs.
        UnknownModelError: If the model that it behaves like is not known.
    """
    kin = _Kin.of(router, without=descriptor.id)
    like = descriptor.behaves_like
    if like is not None:
        if like.model not in kin.ids:
            raise UnknownModelError(like.model, kin.ids)
        weights = np.array([float(model == like.model) for model in kin.ids])
    else:
        weights = np.array([_likeness(descriptor, model) for model in kin.models])
        if not weights.any():
            raise DataError(
                f"{descriptor.id}: nothing in its descriptor says which known model it is like; "
                "add behaves_like with a model and a quality_offset, or give scores."
            )
    cost = kin.cost_like(descriptor, weights)
    offset = float(_mean(kin.offset, weights))
    if like is not None:
        # Points of quality as a logit, at even odds, where a point is worth least.
        offset += 4 * like.quality_offset
    return _with(
        descriptor,
        router,
        (offset, cost.offset, *_mean(kin.vectors, weights).tolist()),
        source="guess",
        cost_target=cost.target,
        quality_error=GUESS_ERROR,
    )


def _with(
    descriptor: ModelDescriptor, router: CrossRouter, embedding: Sequence[float], **facts: object
) -> ModelDescriptor:
    learned = Learned.model_validate(
        {"cost_target": "usd", "examples": 0, **facts}
        | {"checkpoint": router.checkpoint.id, "embedding": rounded(embedding)}
    )
    return descriptor.model_copy(update={"learned": learned})


CostTarget = Literal["output_tokens", "usd"]


class _CostOffset(NamedTuple):
    """The second number of an embedding, and what it is the logarithm of."""

    target: CostTarget
    offset: float


class _Kin(NamedTuple):
    """The known models of a router: only what was measured says what a new model is like."""

    models: list[ModelDescriptor]
    offset: FloatArray
    """[k] offsets of quality's logit."""
    cost: FloatArray
    """[k] offsets of log cost."""
    vectors: FloatArray
    """[k, E - 2] the rest of the embeddings."""
    in_tokens: NDArray[np.bool_]
    """[k] whether cost is learned in output tokens."""

    @classmethod
    def of(cls, router: CrossRouter, *, without: str) -> _Kin:
        # The shipped models are known, too, whichever of them are candidates.
        found = [
            (model, model.learned)
            for model in {**ModelPool.shipped(), **router.pool}.values()
            if model.learned
            and model.learned.source != "guess"
            and model.id != without
            and fits(router.checkpoint, model)
        ]
        if not found:
            raise DataError(f"{without}: the pool has no other measured model to compare it with.")
        embeddings = np.array([learned.embedding for _, learned in found], np.float64)
        return cls(
            models=[model for model, _ in found],
            offset=embeddings[:, 0],
            cost=embeddings[:, 1],
            vectors=embeddings[:, BIASES:],
            in_tokens=np.array([learned.cost_target == "output_tokens" for _, learned in found]),
        )

    def __len__(self) -> int:
        return len(self.models)

    @property
    def ids(self) -> list[str]:
        return [model.id for model in self.models]

    def cost_like(self, descriptor: ModelDescriptor, weights: FloatArray) -> _CostOffset:
        """What a model costs that is like these, by weight: its own price for as many tokens.

        Without a price, or where no like model was learned in tokens, it costs what they cost.
        """
        target: CostTarget = "usd"
        if descriptor.price is not None and weights[self.in_tokens].any():
            target = "output_tokens"
        among = self.in_tokens == (target == "output_tokens")
        # Models that were measured on answers of one letter say nothing of how long answers are.
        whole = among & (self.cost >= math.log(SHORTEST_ANSWER))
        if target == "output_tokens" and whole.any():
            among = whole
        if not weights[among].any():
            raise DataError(
                f"{descriptor.id}: nothing says what its answers cost: add a price to its "
                "descriptor, or cost_usd to its scores."
            )
        order = np.argsort(self.cost[among])
        reached = np.cumsum(weights[among][order]) >= weights[among].sum() / 2
        return _CostOffset(target, float(self.cost[among][order][reached][0]))


class _Gaussian(NamedTuple):
    """Independent Gaussians: [d] means and variances."""

    mean: FloatArray
    variance: FloatArray


class _Posterior(NamedTuple):
    mean: FloatArray
    variance: FloatArray
    log_posterior: float


def _fit(design: FloatArray, logits: FloatArray, score: FloatArray, prior: _Gaussian) -> _Posterior:
    """Logistic regression of scores on a design beside given logits, with a Gaussian prior.

    Args:
        design: [n, d].
        logits: [n] which are added to.
        score: [n] in 0..1.
        prior: Of the d weights.

    Returns:
        The most probable weights, their variances by Laplace's approximation, and the logarithm of
        likelihood times prior, up to a constant.
    """
    weights = prior.mean.copy()
    for _ in range(NEWTON_STEPS):
        quality = _logistic(logits + design @ weights)
        gradient = design.T @ (score - quality) - (weights - prior.mean) / prior.variance
        curvature = quality * (1 - quality)
        hessian = (design * curvature[:, None]).T @ design + np.diag(1 / prior.variance)
        step = np.linalg.solve(hessian, gradient)
        weights += step / max(1.0, float(np.abs(step).max()))
    shifted = logits + design @ weights
    likelihood = float((score * shifted - np.logaddexp(0, shifted)).sum())
    penalty = float((((weights - prior.mean) ** 2) / prior.variance).sum()) / 2
    return _Posterior(weights, np.diag(np.linalg.inv(hessian)), likelihood - penalty)


def _cost(
    descriptor: ModelDescriptor,
    answers: Sequence[ScoredAnswer],
    queries: Sequence[Query],
    factor: FloatArray,
) -> _CostOffset | None:
    """What its answers cost beside what they are predicted to by a factor [n]; None if unknown.

    In output tokens, which a new price does not change, where there is a price; else in USD.
    """
    price = descriptor.price
    amount = np.array([np.nan if a.cost_usd is None else a.cost_usd for a in answers])
    target: CostTarget = "usd"
    if price is not None:
        target = "output_tokens"
        tokens = np.array([np.nan if a.output_tokens is None else a.output_tokens for a in answers])
        if price.output_usd_per_1m > 0:
            sent = np.array([query.input_tokens for query in queries])
            rest = np.maximum(amount - price.cost_usd(sent, np.zeros(len(sent))), 0)
            amount = np.where(np.isnan(tokens), rest * 1e6 / price.output_usd_per_1m, tokens)
        else:
            amount = tokens
    known = ~np.isnan(amount)
    if not known.any():
        return None
    offset = math.log(max(float(amount[known].sum() / factor[known].sum()), 1e-12))
    return _CostOffset(target, offset)


def _likeness(new: ModelDescriptor, known: ModelDescriptor) -> float:
    """How much a known model says of a new one: its price, size and family."""
    if new.price is None or known.price is None:
        return 0.0
    dear, cheap = new.price.output_usd_per_1m, known.price.output_usd_per_1m
    distance = math.log((dear + 0.01) / (cheap + 0.01)) / PRICE_WIDTH
    if new.parameters_in_billions and known.parameters_in_billions:
        size = math.log(new.parameters_in_billions) - math.log(known.parameters_in_billions)
        distance = math.hypot(distance, size / SIZE_WIDTH)
    kin = new.family is not None and new.family == known.family
    return math.exp(-(distance**2) / 2) * (FAMILY_WEIGHT if kin else 1.0)


def _logistic(logit: FloatArray | float) -> FloatArray:
    # Without an exponential, which a large number makes too large.
    return np.asarray((1 + np.tanh(np.asarray(logit) / 2)) / 2)


def _mean(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted mean over the first axis."""
    return np.asarray(weights @ values / weights.sum())


def _read(model: str, scores: Scores) -> list[ScoredAnswer]:
    if isinstance(scores, (str, bytes, Mapping)) or not isinstance(scores, Iterable):
        raise DataError(
            f"{model}: scores are {type(scores).__name__}; give a list of mappings like "
            "{'prompt': '...', 'score': 1.0, 'cost_usd': 0.001}."
        )
    answers = []
    for position, answer in enumerate(scores):
        try:
            answers.append(
                answer if isinstance(answer, ScoredAnswer) else ScoredAnswer.model_validate(answer)
            )
        except ValidationError as error:
            raise DataError(f"{model}: score {position} is broken: {problems(error)}") from error
    if not answers:
        raise DataError(f"{model}: no scores were given; give at least one scored answer.")
    return answers
