"""What each model answered: from which it is known what several of them together would have done.

A file holds one JSON object, `{row id: {model: label}}`, plain or gzipped. A label is the answer,
or the text that it is found in; an empty one says that none was found, and a model without one that
nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import RootModel, ValidationError

from crossroute.errors import DataError, problems, shortened
from crossroute.lines import read_all_lines
from crossroute.models.fields import ModelId
from crossroute.strategies.answers import Extractor, final_answer
from crossroute.training.data import RoutingData

Codes = NDArray[np.int16]
"""Of answers to one prompt: the same number is the same answer."""

Answers = Mapping[str, Mapping[str, str | None]]
"""Labels by row id and model."""

UNKNOWN, NO_ANSWER = -2, -1
"""Codes of what nobody knows, and of what holds no answer."""

SUFFIXES = (".json.gz", ".json")


class _Labels(RootModel[dict[str, dict[ModelId, str | None]]]):
    """The content of a file."""


def load_answers(folder: str | Path, names: Iterable[str]) -> Answers:
    """What models answered to the rows of some data files.

    Args:
        folder: With a file `NAME.json` or `NAME.json.gz` for each name that has answers.
        names: Of the data files (without `.jsonl`), or of the data sets in them.

    Raises:
        DataError: If the folder has a file for none of the names, or one that cannot be read, or
            two files differ in what was answered to a row.
    """
    folder, names = Path(folder), list(dict.fromkeys(names))
    found: dict[str, dict[str, str | None]] = {}
    origin: dict[str, Path] = {}
    paths = [
        path
        for name in names
        for suffix in SUFFIXES
        # A name is of a data set, and may hold whatever its author likes.
        if Path(name).name == name and (path := folder / f"{name}{suffix}").is_file()
    ]
    if not paths:
        raise DataError(
            f"{folder}: has answers to none of {', '.join(names)}: there is no "
            f"{names[0]}.json and no {names[0]}.json.gz. docs/data.md says what is in them."
        )
    for path in paths:
        content = b"".join(line for _, line in read_all_lines(path, in_pieces=True))
        try:
            labels = _Labels.model_validate_json(content).root
        except ValidationError as error:
            raise DataError(
                f"{path}: {problems(error, _Labels)}; it must hold {{row id: {{model: label}}}}."
            ) from None
        for row_id in labels.keys() & found.keys():
            if labels[row_id] != found[row_id]:
                raise DataError(
                    f"{path}: {shortened(row_id)} is another row in {origin[row_id]}; give each "
                    "row an id of its own over all files, such as NAME/1."
                )
        found |= labels
        origin |= dict.fromkeys(labels, path)
    return found


def check_ids(data: RoutingData, answers: Answers) -> None:
    """Refuse rows of which nobody can say whose the answers are.

    Args:
        data: All rows.
        answers: From `load_answers`.

    Raises:
        DataError: If rows that ask different things have an id to which there are answers.
    """
    asked: dict[str, int] = {}
    for row_id, number in zip(data.ids, data.question_numbers().tolist(), strict=True):
        if row_id and row_id in answers and asked.setdefault(row_id, number) != number:
            raise DataError(
                f"id {shortened(row_id)} is that of rows that ask different things; give each row "
                "an id of its own over all files, such as NAME/1, there and in the answers."
            )


def answer_codes(
    data: RoutingData,
    answers: Answers,
    extract: Extractor = final_answer,
) -> Codes:
    """Which answers to a prompt are the same.

    Args:
        data: Rows with ids.
        answers: From `load_answers`.
        extract: Finds the answer in a label; a label in which it finds none is an answer as it is.

    Returns:
        [n, m] a number from 0 up for each different answer to a prompt, else `NO_ANSWER` or
        `UNKNOWN`.
    """
    codes = np.full(data.score.shape, UNKNOWN, np.int16)
    read = _remembering(extract)
    for i, row_id in enumerate(data.ids):
        labels = answers.get(row_id) if row_id else None
        if not labels:
            continue
        numbers: dict[str, int] = {}
        for j, model in enumerate(data.models):
            if model in labels:
                answer = read(labels[model] or "")
                codes[i, j] = (
                    NO_ANSWER if answer is None else numbers.setdefault(answer, len(numbers))
                )
    return codes


def _remembering(extract: Extractor) -> Callable[[str], str | None]:
    """The answer in a label; most labels come many times."""
    known: dict[str, str | None] = {}

    def read(label: str) -> str | None:
        if label not in known:
            text = label.strip()
            known[label] = (extract(text) or text) if text else None
        return known[label]

    return read
