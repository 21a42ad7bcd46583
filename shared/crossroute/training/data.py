"""Routing data: prompts, and what each model's answer to them scored and cost.

A file is JSON lines, plain or gzipped (`*.jsonl`, `*.jsonl.gz`), one prompt a line:

    {"prompt": "...", "outputs": {"model-a": {"score": 1.0, "cost_usd": 0.0004,
     "output_tokens": 120}}, "input_tokens": 35, "dataset": "...", "split": "train"}

`docs/data.md` documents the fields, and the limits that keep a hostile file from taking the memory
or the time of whoever reads it.
"""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
)

from crossroute.errors import DataError, QueryError, problems
from crossroute.lines import read_lines
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.fields import ModelId
from crossroute.query import Query, QueryLike

Split = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
LEARNED = ("train", "valid")
"""The splits that may be learned from; rows of any other are kept for tests."""
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SHOWN_BROKEN_LINES = 10

MOST_BROKEN_LINES = 10_000
"""A file with so many more broken lines than whole ones is no routing data."""
MOST_MODELS = 10_000
MOST_DATASETS = 1_000
FREE_CELLS = 20_000_000
"""Prompts times models whose arrays (48 bytes each) may be empty, however few answers there are."""
MOST_CELLS_AN_ANSWER = 50
"""Beyond that, arrays may be emptier than this no more: 1 in 50 cells has an answer."""

MOSTLY = 0.5
"""Where every model answered this share of the prompts, only those prompts are compared on."""

CHARS_A_TOKEN = 4.0
"""Of English text, where only characters were counted."""

Score = Annotated[FiniteFloat, Field(ge=0, le=1)]
AnswerUsd = Annotated[FiniteFloat, Field(ge=0, le=1e6)]
AnswerTokens = Annotated[FiniteFloat, Field(ge=0, le=1e9)]
Name = Annotated[str, StringConstraints(max_length=100)]
Prompt = Annotated[str, Field(pattern=r"\S")]


class Output(BaseModel):
    """One model's scored answer."""

    model_config = ConfigDict(frozen=True)

    score: Score
    cost_usd: AnswerUsd | None = None
    input_tokens: Annotated[AnswerTokens, Field(gt=0)] | None = None
    output_tokens: AnswerTokens | None = None
    output_chars: AnswerTokens | None = None
    probability: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None


def _not_too_many(outputs: object) -> object:
    # Before they are looked at one by one: each might have an error of its own.
    if isinstance(outputs, dict) and len(outputs) > MOST_MODELS:
        raise ValueError(f"has {len(outputs):,} models, of at most {MOST_MODELS:,}")
    return outputs


def _readable(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages of which a query can be made that is not blank."""
    try:
        is_blank = Query.of(messages).is_blank
    except QueryError as error:
        raise ValueError(str(error)) from error
    if is_blank:
        raise ValueError("has no text")
    return messages


Messages = Annotated[list[dict[str, Any]], AfterValidator(_readable)]


def _row_id(value: object) -> str | None:
    """Ids are of many kinds; one that no answers could be filed under is none."""
    is_id = isinstance(value, (str, int)) and not isinstance(value, bool)
    return str(value) if is_id else None


RowId = Annotated[str | None, BeforeValidator(_row_id)]


class Row(BaseModel):
    """One prompt and the answers to it. Fields that are not named here are not read."""

    model_config = ConfigDict(frozen=True)

    id: RowId = None
    prompt: Prompt | Messages
    outputs: Annotated[dict[ModelId, Output], Field(min_length=1), BeforeValidator(_not_too_many)]
    input_tokens: Annotated[AnswerTokens, Field(gt=0)] | None = None
    dataset: Name | None = None
    split: Split | None = None
    question: str | None = None
    task: Name | None = None


@dataclass(frozen=True)
class RoutingData:
    """Prompts by models, as arrays; NaN where a prompt lacks a model or a number.

    Attributes:
        models: Ids of the m models, sorted.
        ids: The rows' own ids, empty where a row has none.
        prompts: The n prompts: texts, or messages.
        questions: The prompts' own questions; the prompt where a row names none.
        dataset: [n] name of the data set of each prompt.
        split: [n] `train`, `valid`, `test`, or whatever the rows say.
        task: [n] kind of prompt within its data set, empty where unknown.
        score: [n, m] score of each answer, 0..1.
        cost_usd: [n, m] recorded cost in USD.
        output_tokens: [n, m] recorded output tokens.
        output_chars: [n, m] recorded characters of the answer, without hidden reasoning.
        input_tokens: [n, m] recorded input tokens: those of the answer, else those of the row.
        probability: [n, m] with which a recorder that explored asked the model.
    """

    models: tuple[str, ...]
    ids: tuple[str, ...]
    prompts: tuple[QueryLike, ...]
    questions: tuple[str, ...]
    dataset: NDArray[np.str_]
    split: NDArray[np.str_]
    task: NDArray[np.str_]
    score: FloatArray
    cost_usd: FloatArray
    output_tokens: FloatArray
    output_chars: FloatArray
    input_tokens: FloatArray
    probability: FloatArray

    def __len__(self) -> int:
        return len(self.prompts)

    @classmethod
    def load(cls, files: Sequence[str | Path], *, skip_broken: bool = False) -> RoutingData:
        """Load one or several files; a model id that occurs in two of them is one model.

        Args:
            files: Paths of `.jsonl` or `.jsonl.gz` files.
            skip_broken: Leave broken lines out instead of refusing the file.

        Raises:
            DataError: If a file cannot be read, has broken lines (each is named), or no rows.
        """
        if not files:
            raise DataError(
                "No data file was given; give one or several .jsonl or .jsonl.gz files."
            )
        table = _Table()
        for file in files:
            name = dataset_name(file)
            for number, row in read_rows(Path(file), Row, skip_broken=skip_broken):
                if not row.dataset:
                    row = row.model_copy(update={"dataset": name})
                table.add(row, f"{file}:{number}")
        return table.data()

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> RoutingData:
        """Arrange rows as arrays. A row without a split gets one by its question (80/10/10).

        Raises:
            DataError: If there are too many models or data sets, or too few answers for them.
        """
        table = _Table()
        for number, row in enumerate(rows, 1):
            table.add(row, f"Row {number}")
        return table.data()

    def select(self, rows: BoolArray) -> RoutingData:
        """The rows where `rows` [n] is true, and the models that any of them has."""
        return self._take(rows, answered(self.score[rows], axis=0))

    def of_models(self, models: Sequence[str]) -> RoutingData:
        """Only these models, and the rows that have any of them."""
        columns = np.isin(np.array(self.models, dtype=object), list(models))
        return self._take(answered(self.score[:, columns], axis=1), columns)

    def _take(self, rows: BoolArray, columns: BoolArray) -> RoutingData:
        return RoutingData(
            models=tuple(np.array(self.models, dtype=object)[columns]),
            ids=tuple(compress(self.ids, rows)),
            prompts=tuple(compress(self.prompts, rows)),
            questions=tuple(compress(self.questions, rows)),
            dataset=self.dataset[rows],
            split=self.split[rows],
            task=self.task[rows],
            score=self.score[np.ix_(rows, columns)],
            cost_usd=self.cost_usd[np.ix_(rows, columns)],
            output_tokens=self.output_tokens[np.ix_(rows, columns)],
            output_chars=self.output_chars[np.ix_(rows, columns)],
            input_tokens=self.input_tokens[np.ix_(rows, columns)],
            probability=self.probability[np.ix_(rows, columns)],
        )

    def followed_by(self, other: RoutingData) -> RoutingData:
        """These rows, then those of another; a model that is in both is one."""
        models = tuple(sorted({*self.models, *other.models}))
        both = (self, other)
        columns = [[models.index(model) for model in part.models] for part in both]

        def joined(tables: Iterable[FloatArray]) -> FloatArray:
            spread = []
            for table, at in zip(tables, columns, strict=True):
                cells = np.full((len(table), len(models)), np.nan)
                cells[:, at] = table
                spread.append(cells)
            return np.concatenate(spread)

        return RoutingData(
            models=models,
            ids=self.ids + other.ids,
            prompts=self.prompts + other.prompts,
            questions=self.questions + other.questions,
            dataset=np.concatenate([part.dataset for part in both]),
            split=np.concatenate([part.split for part in both]),
            task=np.concatenate([part.task for part in both]),
            score=joined(part.score for part in both),
            cost_usd=joined(part.cost_usd for part in both),
            output_tokens=joined(part.output_tokens for part in both),
            output_chars=joined(part.output_chars for part in both),
            input_tokens=joined(part.input_tokens for part in both),
            probability=joined(part.probability for part in both),
        )

    def of_split(self, split: str) -> RoutingData:
        """The rows of one split.

        Raises:
            DataError: If there are none.
        """
        rows = self.split == split
        if not rows.any():
            counts = {str(x): int((self.split == x).sum()) for x in np.unique(self.split)}
            raise DataError(f"No row has the split {split!r}; the rows have {counts}.")
        return self.select(rows)

    def without_test(self, split: str | None = None) -> RoutingData:
        """The rows of `learnable`."""
        return self.select(self.learnable(split))

    def learnable(self, split: str | None = None) -> BoolArray:
        """[n], what may be trained on: rows of `LEARNED` that ask nothing that another row asks.

        Data sets overlap: a question of one's test split may be in another's training split.

        Args:
            split: One of `LEARNED` that is measured on this time, and left out as well.
        """
        test = ~np.isin(self.split, LEARNED) | (self.split == (split or ""))
        texts = [
            {normalised(_text(prompt)), normalised(question)}
            for prompt, question in zip(self.prompts, self.questions, strict=True)
        ]
        asked = set().union(*compress(texts, test))
        return np.asarray(~test & np.array([not (text & asked) for text in texts], dtype=bool))

    def complete(self, name: str = "The data") -> RoutingData:
        """The rows that have a score and a cost for every model.

        Args:
            name: Of the data, for the error.

        Raises:
            DataError: If there are none.
        """
        rows = np.asarray(~np.isnan(self.score + self.cost_usd).any(axis=1))
        if not rows.any():
            raise DataError(
                f"{name}: no prompt has a score and a cost of all of the models "
                f"({', '.join(self.models)}); name fewer of them with --model."
            )
        return self.select(rows)

    def comparable(self, name: str = "The data") -> RoutingData:
        """The rows to compare routers on, with the answers whose score and cost are known.

        Where every model answered most of the prompts, it is those that all answered; where not,
        those that two models answered at least.

        Args:
            name: Of the data, for the error.

        Raises:
            DataError: If there are none.
        """
        unknown = np.isnan(self.cost_usd)
        data = replace(
            self,
            score=np.where(unknown, np.nan, self.score),
            cost_usd=np.where(np.isnan(self.score), np.nan, self.cost_usd),
        )
        counts = (~np.isnan(data.score)).sum(axis=1)
        complete = counts == len(data.models)
        rows = complete if complete.mean() >= MOSTLY else counts > 1
        if not rows.any():
            raise DataError(
                f"{name}: no prompt has a score and a cost of two of the models "
                f"({', '.join(data.models)}); a cost is cost_usd, or output_tokens of a model "
                "whose descriptor has a price."
            )
        return data.select(rows)

    def priced(self, models: Mapping[str, ModelDescriptor]) -> RoutingData:
        """The same rows, with the costs that no row says by the price tables of the models.

        Output tokens that were not counted are estimated from the characters of the answer, which
        do not show hidden reasoning: such a cost is a lower bound of a model that reasons. Input
        tokens that were not counted are estimated from the prompt.

        Args:
            models: Descriptors by their ids; costs of models without a price stay unknown.
        """
        cost = self.cost_usd.copy()
        tokens = np.where(
            np.isnan(self.output_tokens), self.output_chars / CHARS_A_TOKEN, self.output_tokens
        )
        sent = self.input_tokens
        if np.isnan(sent[np.isnan(cost) & ~np.isnan(tokens)]).any():
            estimated = np.array([Query.of(prompt).input_tokens for prompt in self.prompts])
            sent = np.where(np.isnan(sent), estimated[:, None], sent)
        for j, model in enumerate(self.models):
            price = models[model].price if model in models else None
            if price is not None:
                missing = np.isnan(cost[:, j])
                cost[missing, j] = price.cost_usd(sent[missing, j], tokens[missing, j])
        return replace(self, cost_usd=cost)

    def question_numbers(self) -> NDArray[np.intp]:
        """[n] a number of what each row asks: rows that ask the same have the same."""
        texts = [normalised(question) or question for question in self.questions]
        return np.unique(np.array(texts, dtype=object), return_inverse=True)[1].reshape(-1)

    def conversations(self) -> tuple[QueryLike | None, ...]:
        """Each prompt as a system prompt and a user turn, None where it does not show these two.

        An application sends as two messages what many data sets hold as one text (`as_messages`).
        """
        return tuple(
            as_messages(prompt, question) if isinstance(prompt, str) else None
            for prompt, question in zip(self.prompts, self.questions, strict=True)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return tuple(np.unique(self.dataset).tolist())

    def by_dataset(self) -> Iterator[tuple[str, RoutingData]]:
        """Each data set's name and rows."""
        for name in np.unique(self.dataset):
            yield str(name), self.select(self.dataset == name)


def as_messages(prompt: str, question: str) -> list[dict[str, str]] | None:
    """A prompt that ends with its own question, as a system prompt and a user turn.

    Args:
        prompt: Instructions or worked examples, and then the question.
        question: Of this prompt.

    Returns:
        Messages in OpenAI's dict form; None where the prompt does not end with the question, or
        is nothing else.
    """
    prompt, question = prompt.rstrip(), question.strip()
    rest = prompt.removesuffix(question)
    if not question or rest == prompt or not rest.strip():
        return None
    return [{"role": "system", "content": rest}, {"role": "user", "content": question}]


def answered(score: FloatArray, axis: int) -> BoolArray:
    """Where there is any score along an axis of [n, m]."""
    return np.asarray((~np.isnan(score)).any(axis=axis))


class _Table:
    """Gathers rows in little more memory than the arrays that they become."""

    def __init__(self) -> None:
        self._models: dict[str, int] = {}
        self._datasets: set[str] = set()
        self._ids: list[str] = []
        self._prompts: list[QueryLike] = []
        self._questions: list[str] = []
        self._dataset: list[str] = []
        self._split: list[str] = []
        self._task: list[str] = []
        # Of each answer: its row, the number of its model, and what is known of it.
        self._row, self._model = array("q"), array("q")
        self._score, self._cost = array("d"), array("d")
        self._tokens, self._chars, self._input_tokens = array("d"), array("d"), array("d")
        self._probability = array("d")

    def add(self, row: Row, where: str) -> None:
        """Add a row; `where` it is from, for errors.

        Raises:
            DataError: If there are too many models or data sets, or too few answers for them.
        """
        for model, output in row.outputs.items():
            self._row.append(len(self._prompts))
            self._model.append(self._models.setdefault(model, len(self._models)))
            self._score.append(output.score)
            self._cost.append(_number(output.cost_usd))
            self._tokens.append(_number(output.output_tokens))
            self._chars.append(_number(output.output_chars))
            self._input_tokens.append(_number(output.input_tokens or row.input_tokens))
            self._probability.append(_number(output.probability))
        self._ids.append(row.id or "")
        self._prompts.append(row.prompt)
        self._questions.append(question_of(row.prompt, row.question))
        self._dataset.append(row.dataset or "")
        self._split.append(row.split or _split(row))
        self._task.append(row.task or "")
        self._datasets.add(self._dataset[-1])
        self._check(where)

    def data(self) -> RoutingData:
        """The rows as arrays."""
        models = sorted(self._models)
        place = np.empty(len(models), np.intp)
        place[[self._models[model] for model in models]] = np.arange(len(models))
        at = np.array(self._row), place[np.array(self._model)]

        def spread(values: array[float]) -> FloatArray:
            cells = np.full((len(self._prompts), len(models)), np.nan)
            cells[at] = values
            return cells

        return RoutingData(
            models=tuple(models),
            ids=tuple(self._ids),
            prompts=tuple(self._prompts),
            questions=tuple(self._questions),
            dataset=np.array(self._dataset, dtype=np.str_),
            split=np.array(self._split, dtype=np.str_),
            task=np.array(self._task, dtype=np.str_),
            score=spread(self._score),
            cost_usd=spread(self._cost),
            output_tokens=spread(self._tokens),
            output_chars=spread(self._chars),
            input_tokens=spread(self._input_tokens),
            probability=spread(self._probability),
        )

    def _check(self, where: str) -> None:
        if len(self._models) > MOST_MODELS:
            raise DataError(
                f"{where}: this is the {MOST_MODELS + 1:,}th model, of at most {MOST_MODELS:,}; "
                "take out the rows of some, or see whether something else stands where model ids "
                "should."
            )
        if len(self._datasets) > MOST_DATASETS:
            raise DataError(
                f"{where}: this is the {MOST_DATASETS + 1:,}th data set, of at most "
                f"{MOST_DATASETS:,}; write kinds of prompts as task, not as dataset."
            )
        cells = len(self._prompts) * len(self._models)
        if cells > max(FREE_CELLS, MOST_CELLS_AN_ANSWER * len(self._score)):
            raise DataError(
                f"{where}: {len(self._prompts):,} prompts and {len(self._models):,} models, but "
                f"only {len(self._score):,} answers: the arrays would be all but empty. Keep to "
                "the models that answered more prompts, or load files with fewer models each."
            )


AnyRow = TypeVar("AnyRow", bound=BaseModel)


def dataset_name(file: str | Path) -> str:
    """The name of the data set whose rows do not say one: the file's."""
    return Path(file).name.removesuffix(".gz").removesuffix(".jsonl")


def read_rows(path: Path, kind: type[AnyRow], *, skip_broken: bool) -> Iterator[tuple[int, AnyRow]]:
    """The rows of a file, with the numbers of their lines.

    Args:
        path: A `.jsonl` or `.jsonl.gz` file.
        kind: What a row is.
        skip_broken: Leave broken lines out instead of refusing the file.

    Raises:
        DataError: If the file cannot be read, has broken lines (each is named), or no rows.
    """
    shown: list[str] = []
    whole = broken = 0
    mend = "Mend them, or leave them out with --skip-broken (skip_broken=True)."
    for number, line in read_lines(path):
        try:
            row = kind.model_validate_json(line)
        except ValidationError as error:
            broken += 1
            if broken <= SHOWN_BROKEN_LINES:
                shown.append(f"  {path}:{number}: {problems(error, kind)}")
            if broken > whole + MOST_BROKEN_LINES:
                skip_broken, mend = False, "See whether this is a file of routing data at all."
                break
        else:
            whole += 1
            yield number, row
    if broken and not skip_broken:
        if broken > len(shown):
            shown.append(f"  ... and {broken - len(shown)} more")
        listed = "\n".join(shown)
        raise DataError(f"{path}: {broken} of {broken + whole} rows are broken:\n{listed}\n{mend}")
    if not whole:
        raise DataError(f"{path}: no usable row; a row is a line of JSON (docs/data.md).")


def normalised(text: str) -> str:
    """A text without case, punctuation and spacing: what makes two prompts one question."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def question_of(prompt: QueryLike, question: str | None) -> str:
    """What a row asks: its own question, the prompt, or what of its messages is routed by."""
    return question or _text(prompt)


def _text(prompt: QueryLike) -> str:
    """The text that a prompt is routed by, whole."""
    return prompt if isinstance(prompt, str) else Query.of(prompt).text


def _split(row: Row) -> Split:
    question = normalised(question_of(row.prompt, row.question))
    share = int(hashlib.sha256(question.encode()).hexdigest()[:8], 16) % 10
    return {0: "test", 1: "valid"}.get(share, "train")
