"""Feedback as scores, with which models are onboarded again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crossroute.errors import DataError
from crossroute.files import replace_file
from crossroute.models.descriptor import ModelDescriptor
from crossroute.onboarding.scores import ScoredAnswer
from crossroute.traffic.records import CallRecord, Rows, records_to_rows


def write_scores(
    records: Iterable[CallRecord], folder: Path, *, source: str | None = None
) -> tuple[dict[str, tuple[Path, int]], Rows]:
    """Write the scored answers of each model, as `crossroute models onboard --scores` reads them.

    Args:
        records: Of which those with feedback, and with the text of the query, are taken.
        folder: Where to; it is made if it is not there. Each model's file is named like that of its
            descriptor, and replaced.
        source: The source of feedback to go by; None is the mean over the sources of a call.

    Returns:
        The file of each model and how many scores it has, and what became of the calls.

    Raises:
        DataError: If two models would have the same file.
        OSError: If a file cannot be written.
    """
    found = records_to_rows(records, source=source)
    lines: dict[str, list[str]] = {}
    for row in found.rows:
        for model, output in row["outputs"].items():
            facts = {name: output.get(name) for name in ("score", "cost_usd", "output_tokens")}
            scored = ScoredAnswer(prompt=row["prompt"], **facts)
            lines.setdefault(model, []).append(scored.model_dump_json(exclude_none=True) + "\n")
    written: dict[str, tuple[Path, int]] = {}
    # Some systems do not tell capitals apart.
    names: dict[str, str] = {}
    for model in sorted(lines):
        path = folder / f"{Path(ModelDescriptor(id=model).file_name).stem}.jsonl"
        if (other := names.setdefault(path.name.lower(), model)) != model:
            raise DataError(
                f"{path}: the scores of {other!r} and {model!r} would both go there; rename one in "
                "its descriptor."
            )
        written[model] = (path, len(lines[model]))
    if written:
        folder.mkdir(parents=True, exist_ok=True)
    for model, (path, _) in written.items():
        replace_file(path, "".join(lines[model]))
    return written, found
