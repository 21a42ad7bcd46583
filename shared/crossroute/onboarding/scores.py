"""The scored answers of a model that nobody trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from crossroute.errors import DataError, problems
from crossroute.lines import read_lines
from crossroute.training.data import CHARS_A_TOKEN, AnswerTokens, AnswerUsd, Output, Score

MOST_FIELDS = 100
"""Of a line of scores."""
FEW_SCORES = 20
"""Fewer say little of a model, whatever they are."""


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
            said = problems(error, ScoredAnswer) if isinstance(error, ValidationError) else error
            raise DataError(f"{path}, line {number}: not a scored answer: {said}") from None
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
        facts = known.model_dump(include={"score", "cost_usd", "output_tokens"})
        if known.cost_usd is None and known.output_tokens is None and known.output_chars:
            facts["output_tokens"] = known.output_chars / CHARS_A_TOKEN
        row = {"prompt": row.get("prompt"), **facts}
    elif isinstance(row, dict) and len(row) > MOST_FIELDS:
        # Each unknown one would be an error of its own.
        raise ValueError(f"has {len(row):,} fields")
    return ScoredAnswer.model_validate(row)


def read_scores(model: str, scores: Scores) -> list[ScoredAnswer]:
    """Scores as a caller gives them, validated.

    Raises:
        DataError: If there are none, or one is broken; names its position.
    """
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
            said = problems(error, ScoredAnswer)
            raise DataError(f"{model}: score {position} is broken: {said}") from None
    if not answers:
        raise DataError(f"{model}: no scores were given; give at least one scored answer.")
    return answers
