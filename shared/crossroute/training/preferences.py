"""Preferences: which of two models answered a prompt better, as people or a judge say it.

A file is JSON lines, plain or gzipped, one comparison a line:

    {"prompt": "...", "model_a": "small", "model_b": "large", "winner": "a"}

Take each answer as right with the probability q = sigmoid(z), z a model's quality logit. Then

    P(a wins) ~ q_a (1 - q_b) e^(b/2)      P(b wins) ~ (1 - q_a) q_b e^(-b/2)
    P(tie)    ~ t (q_a q_b + (1 - q_a) (1 - q_b))

Of the pairs that are decided this is Bradley-Terry on the logits, P(a wins) = sigmoid(z_a - z_b +
b), with the position bias b of the judge. Without one P(a wins) - P(b wins) is proportional to
q_a - q_b: comparisons say of two models what their scores would. `docs/data.md` documents the
fields.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from scipy.optimize import minimize
from scipy.sparse import coo_array, identity
from scipy.sparse.linalg import spsolve

from crossroute.errors import DataError
from crossroute.models.fields import ModelId
from crossroute.training.data import (
    AnswerTokens,
    AnswerUsd,
    BoolArray,
    FloatArray,
    Messages,
    Name,
    Output,
    Prompt,
    RoutingData,
    Row,
    RowId,
    Split,
    dataset_name,
    normalised,
    question_of,
    read_rows,
)

IntArray = NDArray[np.intp]

VALID_SHARE = 5
"""Every fifth question is held out where no split is given; none is a test. Comparisons say less
than scores: it takes more of them to tell how far a query is believed."""
SHRINK, ABILITY_SHRINK = 1.0, 0.01
"""Precision of the position bias around 0, where it is estimated, and of abilities: logits. What
may be either, as of a model that always stands first, is ability."""
LOOSE = 1e-9
"""What the least squares of a row's points are held by: they are known up to a constant."""


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


class Preference(BaseModel):
    """Which of two answers to a prompt is better. Fields that are not named here are not read."""

    model_config = ConfigDict(frozen=True)

    prompt: Prompt | Messages
    model_a: ModelId
    model_b: ModelId
    winner: Annotated[Literal["a", "b", "tie"], BeforeValidator(_lower)]
    id: RowId = None
    dataset: Name | None = None
    split: Split | None = None
    question: str | None = None
    task: Name | None = None
    cost_usd_a: AnswerUsd | None = None
    cost_usd_b: AnswerUsd | None = None
    output_tokens_a: AnswerTokens | None = None
    output_tokens_b: AnswerTokens | None = None

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.model_a == self.model_b:
            raise ValueError(f"compares {self.model_a} with itself; name two models")
        return self


class Pairs(NamedTuple):
    """p comparisons.

    Attributes:
        row: [p] of which prompt.
        first: [p] the number of the model whose answer stood first.
        second: [p] of the other.
        won: [p] 1 where the first won, -1 where the second did, 0 for a tie.
    """

    row: IntArray
    first: IntArray
    second: IntArray
    won: IntArray

    @classmethod
    def none(cls) -> Pairs:
        """No comparison."""
        return cls(*(np.zeros(0, np.intp) for _ in cls._fields))

    def __bool__(self) -> bool:
        return len(self.row) > 0

    @property
    def ties(self) -> float:
        """The share of ties."""
        return float((self.won == 0).mean())

    def take(self, pairs: BoolArray) -> Pairs:
        """Some of the comparisons."""
        return Pairs(*(values[pairs] for values in self))


@dataclass(frozen=True)
class Preferences:
    """Prompts, and comparisons of answers to them.

    Attributes:
        data: The prompts. A row of comparisons has no scores but points, whose differences are
            what counts (`points`): NaN of models that were not compared on the prompt.
        pairs: The comparisons.
    """

    data: RoutingData
    pairs: Pairs = field(default_factory=Pairs.none)

    @classmethod
    def load(cls, files: Sequence[str | Path], *, skip_broken: bool = False) -> Preferences:
        """Load one or several files; a model id that occurs in two of them is one model.

        Args:
            files: Paths of `.jsonl` or `.jsonl.gz` files.
            skip_broken: Leave broken lines out instead of refusing the file.

        Raises:
            DataError: If a file cannot be read, has broken lines (each is named), or no rows.
        """
        if not files:
            raise DataError(
                "No file of preferences was given; give one or several .jsonl or .jsonl.gz files."
            )

        def rows() -> Iterator[Preference]:
            for file in files:
                name = dataset_name(file)
                for _, row in read_rows(Path(file), Preference, skip_broken=skip_broken):
                    yield row if row.dataset else row.model_copy(update={"dataset": name})

        return cls.from_rows(rows())

    @classmethod
    def from_rows(cls, rows: Iterable[Preference]) -> Preferences:
        """Arrange comparisons as arrays; those of one prompt of a data set are one row.

        A comparison without a split gets train or valid, by its question (80/20).

        Raises:
            DataError: If there are too many models or data sets, or too few answers for them.
        """
        prompts: dict[str, int] = {}
        of_prompt: list[Preference] = []
        answers: list[dict[str, _Answers]] = []
        pairs: list[tuple[int, str, str, int]] = []
        for row in rows:
            told = (row.dataset, row.task, row.split, row.question, row.prompt)
            number = prompts.setdefault(json.dumps(told, sort_keys=True), len(prompts))
            if number == len(of_prompt):
                of_prompt.append(row)
                answers.append({})
            for model, cost, tokens in (
                (row.model_a, row.cost_usd_a, row.output_tokens_a),
                (row.model_b, row.cost_usd_b, row.output_tokens_b),
            ):
                answers[number].setdefault(model, _Answers([], [])).add(cost, tokens)
            won = {"a": 1, "b": -1, "tie": 0}[row.winner]
            pairs.append((number, row.model_a, row.model_b, won))
        data = RoutingData.from_rows(
            _row(first, told) for first, told in zip(of_prompt, answers, strict=True)
        )
        place = {model: j for j, model in enumerate(data.models)}
        found = np.array([(i, place[a], place[b], won) for i, a, b, won in pairs], np.intp)
        return cls(data, Pairs(*found.reshape(-1, 4).T)).pointed(0.0)

    def select(self, rows: BoolArray) -> Preferences:
        """The rows where `rows` [n] is true, and the models that any of them has."""
        data = self.data.select(rows)
        pairs = self.pairs.take(rows[self.pairs.row])
        return Preferences(data, _renumbered(pairs, np.cumsum(rows) - 1, self.data, data))

    def beside(self, scored: RoutingData) -> Preferences:
        """These rows after scored ones."""
        data = scored.followed_by(self.data)
        place = np.arange(len(self.data)) + len(scored)
        return Preferences(data, _renumbered(self.pairs, place, self.data, data))

    @property
    def compared(self) -> BoolArray:
        """[n], the rows that are of comparisons."""
        return np.isin(np.arange(len(self.data)), self.pairs.row)

    def position_bias(self) -> float:
        """How much better a judge takes an answer to be for standing first, in logits.

        Bradley-Terry with one ability of a model for each data set, of the pairs that are decided.
        """
        row, first, second, won = self.pairs.take(self.pairs.won != 0)
        models = len(self.data.models)
        offset = models * np.unique(self.data.dataset, return_inverse=True)[1][row]
        size = models * len(self.data.names)
        shrink = np.append(np.full(size, ABILITY_SHRINK), SHRINK)

        def loss(theta: FloatArray) -> tuple[float, FloatArray]:
            # The last is the bias.
            margin = won * (theta[offset + first] - theta[offset + second] + theta[-1])
            slope = -won / (1 + np.exp(np.clip(margin, -500, 500)))
            gradient = np.append(
                np.bincount(offset + first, slope, size)
                - np.bincount(offset + second, slope, size),
                slope.sum(),
            )
            value = np.logaddexp(0, -margin).sum() + shrink @ theta**2 / 2
            return float(value), gradient + shrink * theta

        return float(minimize(loss, np.zeros(size + 1), jac=True, method="L-BFGS-B").x[-1])

    def pointed(self, position_bias: float) -> Preferences:
        """The same with the points of the comparisons, without a judge's position bias."""
        points = _points(self.pairs, self.data.score.shape, position_bias)
        here = self.compared[:, None]
        return replace(self, data=replace(self.data, score=np.where(here, points, self.data.score)))


class _Answers(NamedTuple):
    """What the comparisons of a prompt say of a model's answers."""

    cost_usd: list[float]
    output_tokens: list[float]

    def add(self, cost_usd: float | None, output_tokens: float | None) -> None:
        if cost_usd is not None:
            self.cost_usd.append(cost_usd)
        if output_tokens is not None:
            self.output_tokens.append(output_tokens)

    def output(self) -> Output:
        """As an answer, without a score yet."""
        cost, tokens = (math.fsum(x) / len(x) if x else None for x in self)
        return Output(score=0, cost_usd=cost, output_tokens=tokens)


def _row(told: Preference, answers: Mapping[str, _Answers]) -> Row:
    """A prompt as a row, with all models that were compared on it."""
    # It was validated as a comparison.
    return Row.model_construct(
        id=told.id,
        prompt=told.prompt,
        outputs={model: answer.output() for model, answer in answers.items()},
        dataset=told.dataset,
        split=told.split or _split(told),
        question=told.question,
        task=told.task,
        input_tokens=None,
    )


def _split(row: Preference) -> str:
    question = normalised(question_of(row.prompt, row.question))
    digest = hashlib.sha256(question.encode()).hexdigest()
    return "train" if int(digest[:8], 16) % VALID_SHARE else "valid"


def _renumbered(pairs: Pairs, row: IntArray, before: RoutingData, after: RoutingData) -> Pairs:
    """Comparisons by the new numbers [n] of the rows, and those of the models."""
    of = {model: j for j, model in enumerate(after.models)}
    model = np.array([of.get(name, -1) for name in before.models], np.intp)
    return Pairs(row[pairs.row], model[pairs.first], model[pairs.second], pairs.won)


def _points(pairs: Pairs, shape: tuple[int, ...], position_bias: float) -> FloatArray:
    """Points [n, m] of the models whose differences in a row are its comparisons: HodgeRank.

    By least squares, where a comparison is 1, 0 or -1; the best of a row has 1. If every two
    answers to a prompt are compared, and each is right or wrong, these are their scores, but that
    all have 1 where all are wrong. In the mean over a prompt's comparisons, differences are those
    of the models' chances to be right, up to a factor.
    """
    points = np.full(shape, np.nan)
    if not pairs:
        return points
    cells, place = np.unique(
        np.concatenate([pairs.row, pairs.row]) * shape[1]
        + np.concatenate([pairs.first, pairs.second]),
        return_inverse=True,
    )
    first, second = np.split(place.reshape(-1), 2)
    size, ones = len(cells), np.ones(len(first))
    # The odds of winning first are too high by e^b: so weighted, both positions count the same.
    difference = pairs.won * np.exp(-pairs.won * position_bias / 2)
    laplacian = coo_array(
        (
            np.concatenate([ones, ones, -ones, -ones]),
            (
                np.concatenate([first, second, first, second]),
                np.concatenate([first, second, second, first]),
            ),
        ),
        shape=(size, size),
    )
    total = np.bincount(first, difference, size) - np.bincount(second, difference, size)
    points.flat[cells] = spsolve((laplacian + LOOSE * identity(size)).tocsc(), total)
    rows = np.unique(pairs.row)
    points[rows] += 1 - np.nanmax(points[rows], axis=1, keepdims=True)
    return points
