"""Prompts whose answers are to be scored, and what is known of a right answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crossroute.errors import DataError, plain, problems, shortened
from crossroute.lines import read_lines
from crossroute.models.fields import NonEmpty
from crossroute.onboarding.anchors import Check
from crossroute.query import Message
from crossroute.training.data import Messages, Name, Prompt, Split

SHOWN_BROKEN = 5
_JSON_LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")


class Case(BaseModel):
    """One prompt. Fields that are not named here are not read.

    Attributes:
        prompt: What models are asked: a text, or messages in OpenAI's dict form.
        task: What kind of work it is; `topic` is read as well.
        reference: A right answer.
        check: Tells a right answer (`crossroute.onboarding.anchors`).
        question: As in routing data, for the result; so are `dataset` and `split`.
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    prompt: Prompt | Messages
    task: Name | None = None
    topic: Name | None = Field(default=None, exclude=True)
    reference: NonEmpty | None = Field(default=None, exclude=True)
    check: Check | None = Field(default=None, exclude=True)
    question: str | None = None
    dataset: Name | None = None
    split: Split | None = None

    @classmethod
    def of(cls, given: CaseLike) -> Case:
        """Read a case, a prompt, messages, or a mapping with the fields of a case.

        Raises:
            DataError: If it is none of them.
        """
        if isinstance(given, Case):
            return given
        try:
            return cls.model_validate(given if isinstance(given, Mapping) else {"prompt": given})
        except ValidationError as error:
            raise DataError(f"{shortened(given)} is no prompt: {problems(error, cls)}") from None

    @property
    def key(self) -> str:
        """What tells its prompt from others."""
        return prompt_key(self.prompt)

    def row(self, outputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """The row of routing data that it becomes with its scored answers."""
        known = self.model_dump(exclude_none=True)
        task = self.topic if self.task is None else self.task
        return {**known, **({"task": task} if task else {}), "outputs": outputs}


CaseLike = Case | str | Sequence[Message] | Mapping[str, Any]


def prompt_key(prompt: object) -> str:
    """A short text that differs from prompt to prompt."""
    text = json.dumps(prompt, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def load_cases(path: str | Path) -> list[Case]:
    """Read prompts from a text file, one a line, or from JSON lines; a prompt twice is one.

    Args:
        path: `*.jsonl` or `*.ndjson` (`.gz` too) has a `Case` a line; any other file, but for
            documents and tables, has a prompt a line.

    Raises:
        DataError: If the file cannot be read, is a document or a table, lines are broken (each is
            named), or it has no prompt.
    """
    path = Path(path)
    if path.name.endswith((".json", ".json.gz", ".csv", ".parquet", ".yaml", ".yml")):
        # Each of its lines would be asked as a prompt, and paid for.
        raise DataError(
            f"{path}: prompts are JSON lines (.jsonl), or a text file with a prompt a line; "
            "crossroute traffic import makes the former of many logs."
        )
    is_text = not path.name.endswith(_JSON_LINES)
    cases: dict[str, Case] = {}
    broken = []
    for number, line in read_lines(path):
        try:
            case = (
                Case(prompt=line.decode().rstrip("\r\n"))
                if is_text
                else Case.model_validate_json(line)
            )
        except UnicodeDecodeError as error:
            broken.append(f"  {path}:{number}: not text in UTF-8: {error.reason}")
        except ValidationError as error:
            broken.append(f"  {path}:{number}: {problems(error, Case)}")
        else:
            cases.setdefault(case.key, case)
    if broken:
        more = len(broken) - SHOWN_BROKEN
        lines = broken[:SHOWN_BROKEN] + ([f"  ... and {more} more"] if more > 0 else [])
        raise DataError(
            f"{path}: {len(broken)} lines are no prompts:\n"
            + "\n".join(lines)
            + '\nA line is {"prompt": "..."}, with task, reference and check where known '
            "(docs/traffic/collect.md)."
        )
    if not cases:
        raise DataError(f"{path}: holds no prompt.")
    return list(cases.values())


def shown(case: Case) -> str:
    """A prompt as a part of an error."""
    text = case.prompt if isinstance(case.prompt, str) else json.dumps(case.prompt)
    return repr(plain(" ".join(text.split())))
