"""Routing data: prompts, and what each model's answer to them scored and cost.

A file is JSON lines, plain or gzipped (`*.jsonl`, `*.jsonl.gz`), one prompt a line:

    {"prompt": "...", "outputs": {"model-a": {"score": 1.0, "cost_usd": 0.0004,
     "output_tokens": 120}}, "input_tokens": 35, "dataset": "...", "split": "train"}

`docs/data.md` documents the fields.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from crossroute.descriptor import ModelId
from crossroute.errors import DataError

Split = Literal["train", "valid", "test"]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SHOWN_BROKEN_LINES = 10
SHOWN_VALUE = 60


class Output(BaseModel):
    """One model's scored answer."""

    model_config = ConfigDict(frozen=True)

    score: Annotated[FiniteFloat, Field(ge=0, le=1)]
    cost_usd: Annotated[FiniteFloat, Field(ge=0)]
    output_tokens: Annotated[FiniteFloat, Field(ge=0)] | None = None


class Row(BaseModel):
    """One prompt and the answers to it. Fields that are not named here are not read."""

    model_config = ConfigDict(frozen=True)

    prompt: Annotated[str, Field(pattern=r"\S")]
    outputs: Annotated[dict[ModelId, Output], Field(min_length=1)]
    input_tokens: Annotated[FiniteFloat, Field(gt=0)] | None = None
    dataset: str | None = None
    split: Split | None = None
    question: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class RoutingData:
    """Prompts by models, as arrays; NaN where a prompt lacks a model or a number.

    Attributes:
        models: Ids of the m models, sorted.
        prompts: The n prompts.
        questions: The prompts' own questions; the prompt where a row names none.
        dataset: [n] name of the data set of each prompt.
        split: [n] `train`, `valid` or `test`.
        task: [n] kind of prompt within its data set, empty where unknown.
        score: [n, m] score of each answer, 0..1.
        cost_usd: [n, m] recorded cost in USD.
        output_tokens: [n, m] recorded output tokens.
        input_tokens: [n] recorded input tokens.
    """

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    questions: tuple[str, ...]
    dataset: NDArray[np.str_]
    split: NDArray[np.str_]
    task: NDArray[np.str_]
    score: FloatArray
    cost_usd: FloatArray
    output_tokens: FloatArray
    input_tokens: FloatArray

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
        rows = [row for file in files for row in _read(Path(file), skip_broken=skip_broken)]
        return cls.from_rows(rows)

    @classmethod
    def from_rows(cls, rows: Sequence[Row]) -> RoutingData:
        """Arrange rows as arrays. A row without a split gets one by its question (80/10/10)."""
        models = tuple(sorted({model for row in rows for model in row.outputs}))
        column = {model: j for j, model in enumerate(models)}
        score, cost, tokens = (np.full((len(rows), len(models)), np.nan) for _ in range(3))
        for i, row in enumerate(rows):
            for model, output in row.outputs.items():
                j = column[model]
                score[i, j], cost[i, j] = output.score, output.cost_usd
                if output.output_tokens is not None:
                    tokens[i, j] = output.output_tokens
        return cls(
            models=models,
            prompts=tuple(row.prompt for row in rows),
            questions=tuple(row.question or row.prompt for row in rows),
            dataset=np.array([row.dataset or "" for row in rows], dtype=np.str_),
            split=np.array([row.split or _split(row) for row in rows], dtype=np.str_),
            task=np.array([row.task or "" for row in rows], dtype=np.str_),
            score=score,
            cost_usd=cost,
            output_tokens=tokens,
            input_tokens=np.array([row.input_tokens or np.nan for row in rows], np.float64),
        )

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
            prompts=tuple(compress(self.prompts, rows)),
            questions=tuple(compress(self.questions, rows)),
            dataset=self.dataset[rows],
            split=self.split[rows],
            task=self.task[rows],
            score=self.score[np.ix_(rows, columns)],
            cost_usd=self.cost_usd[np.ix_(rows, columns)],
            output_tokens=self.output_tokens[np.ix_(rows, columns)],
            input_tokens=self.input_tokens[rows],
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

    def without_test(self) -> RoutingData:
        """What may be trained on: neither test rows nor rows that ask what a test row asks.

        Data sets overlap: a question of one's test split may be in another's training split.
        """
        test = self.split == "test"
        texts = [
            {normalised(prompt), normalised(question)}
            for prompt, question in zip(self.prompts, self.questions, strict=True)
        ]
        asked = set().union(*compress(texts, test))
        return self.select(~test & np.array([not (text & asked) for text in texts], dtype=bool))

    def complete(self, name: str = "The data") -> RoutingData:
        """The rows that have a score and a cost for every model.

        Args:
            name: Of the data, for the error.

        Raises:
            DataError: If there are none.
        """
        rows = np.asarray(~np.isnan(self.score).any(axis=1))
        if not rows.any():
            raise DataError(
                f"{name}: no prompt was answered by all of the models "
                f"({', '.join(self.models)}); name fewer of them with --model."
            )
        return self.select(rows)

    def by_dataset(self) -> Iterator[tuple[str, RoutingData]]:
        """Each data set's name and rows."""
        for name in np.unique(self.dataset):
            yield str(name), self.select(self.dataset == name)


def answered(score: FloatArray, axis: int) -> BoolArray:
    """Where there is any score along an axis of [n, m]."""
    return np.asarray((~np.isnan(score)).any(axis=axis))


def _read(path: Path, *, skip_broken: bool) -> list[Row]:
    rows: list[Row] = []
    broken: list[str] = []
    default_dataset = path.name.removesuffix(".gz").removesuffix(".jsonl")
    number = 0
    try:
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            try:
                row = Row.model_validate_json(line)
            except ValidationError as error:
                broken.append(f"{path}:{number}: {_first_problem(error)}")
            else:
                rows.append(
                    row if row.dataset else row.model_copy(update={"dataset": default_dataset})
                )
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read after line {number}: {error}") from error
    if broken and not skip_broken:
        shown = "\n".join(f"  {line}" for line in broken[:SHOWN_BROKEN_LINES])
        more = len(broken) - SHOWN_BROKEN_LINES
        rest = f"\n  ... and {more} more" if more > 0 else ""
        raise DataError(
            f"{path}: {len(broken)} of {len(broken) + len(rows)} rows are broken:\n{shown}{rest}\n"
            "Mend them, or leave them out with --skip-broken (skip_broken=True)."
        )
    if not rows:
        raise DataError(f"{path}: no usable row; a row is a line of JSON (docs/data.md).")
    return rows


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, of a `.gz` file too, without a byte order mark.

    Raises:
        OSError, EOFError, zlib.error: If it cannot be read.
    """
    # Bytes, so that a line that is not UTF-8 is one broken row and not the end of the file.
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file):
            yield line.removeprefix(codecs.BOM_UTF8) if number == 0 else line


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"])
    value = repr(problem["input"])
    shown = value if len(value) <= SHOWN_VALUE else f"{value[:SHOWN_VALUE]}..."
    return f"{field}: {problem['msg']}, got {shown}" if field else problem["msg"]


def normalised(text: str) -> str:
    """A text without case, punctuation and spacing: what makes two prompts one question."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def _split(row: Row) -> Split:
    question = normalised(row.question or row.prompt)
    share = int(hashlib.sha256(question.encode()).hexdigest()[:8], 16) % 10
    return cast("Split", {0: "test", 1: "valid"}.get(share, "train"))
