"""Selecting examples, and writing them as TRL reads them.

- `best`, after Optima (arXiv 2410.08115): by reward; those above a threshold to imitate (SFT), and
  pairs of the same prompt whose rewards differ by a margin to prefer one of (DPO).
- `sater`, after SATER (arXiv 2510.05164): the shortest right answer to a prompt, preferred to the
  longest wrong one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

from crossroute.errors import DataError, shortened
from crossroute.files import replacing
from crossroute.traces.duplicates import NearDuplicates
from crossroute.traces.examples import Example, as_text, examples_of
from crossroute.traces.personal_data import PersonalData
from crossroute.traces.rank import Ranking
from crossroute.traffic.records import masked_values

Format = Literal["sft", "dpo"]
Recipe = Literal["best", "sater"]

_BOUNDS = {
    # A reward has the weight of readability in it, and may be below 0.
    "least_reward": (-1e6, 1e6),
    "margin": (0.0, 1e6),
    "right_at": (0.0, 1.0),
    "near_duplicates": (0.01, 1.0),
}

_ROUNDING = 1e-9
_DATE = re.compile(r"\d{4}-\d\d-\d\d")

MOST_COMPARED = 100
"""Of a prompt, so many of the best are compared with so many of the worst."""

Pair = tuple[Example, Example | None]
"""What is to be said, and what is not; None where that is of no matter."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which examples are exported.

    Attributes:
        format: `sft` is to imitate, `dpo` to prefer one of two.
        recipe: How they are selected.
        least_reward: Of what is to be imitated or preferred, by the recipe `best`.
        margin: By which the rewards of a pair differ at least, by the recipe `best`.
        right_at: Quality from which an answer is right, by the recipe `sater`; below it is wrong.
        most_a_prompt: Examples, or pairs, of the same prompt.
        near_duplicates: Similarity from which an example is a near duplicate, up to 1.
        roles: Whose asks are learned from; `answer` is the whole call.

    Raises:
        DataError: If one of them is none of these.
    """

    format: Format
    recipe: Recipe = "best"
    least_reward: float = 0.6
    margin: float = 0.2
    right_at: float = 0.5
    most_a_prompt: int = 1
    near_duplicates: float = 0.9
    roles: frozenset[str] = frozenset({"answer"})

    def __post_init__(self) -> None:
        for name, known in (("format", get_args(Format)), ("recipe", get_args(Recipe))):
            if (given := getattr(self, name)) not in known:
                raise DataError(f"{name} is {shortened(given)}; give one of {', '.join(known)}.")
        for name, (low, high) in _BOUNDS.items():
            given = getattr(self, name)
            is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
            if not (is_number and low <= given <= high):
                raise DataError(
                    f"{name} is {shortened(given)}; give a number from {low:g} to {high:g}."
                )
        if type(self.most_a_prompt) is not int or self.most_a_prompt < 1:
            raise DataError(
                f"most_a_prompt is {shortened(self.most_a_prompt)}; give a whole number from 1 up."
            )


@dataclass
class Exported:
    """What was made of traces.

    Attributes:
        rows: As TRL reads them.
        examples: What might have been learned from: an answer of a call, an ask.
        used: Those of them that are in the rows, each counted once.
        skipped: All the others, by the reason.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    examples: int = 0
    used: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def export(
    ranking: Ranking, selection: Selection, personal_data: PersonalData | None = None
) -> Exported:
    """Make rows for TRL of ranked traces.

    Rows of SFT are `prompt` and `completion`, those of DPO `prompt`, `chosen` and `rejected`, each
    a list of messages; where models had tools, `tools` is a JSON text of these or null. What looks
    like a secret is `***`.

    Args:
        ranking: Of `rank`.
        selection: What is exported.
        personal_data: What masks personal data; None keeps it.

    Raises:
        DataError: If no trace has an ask of one of the roles.
    """
    roles = {ask.role for trace in ranking.traces for ask in trace.record.asks} | {"answer"}
    if unknown := sorted(selection.roles - roles):
        raise DataError(
            f"roles: no trace has an ask of the role {shortened(unknown[0])}. There are "
            f"{', '.join(sorted(roles))}."
        )
    found = Exported()
    groups: dict[str, list[Example]] = {}
    for example in examples_of(ranking.traces, selection.roles, found.skipped):
        groups.setdefault(example.key, []).append(example)
    select = {
        ("sft", "best"): _best,
        ("dpo", "best"): _best_pairs,
        ("sft", "sater"): _shortest_right,
        ("dpo", "sater"): _shortest_right_and_longest_wrong,
    }[selection.format, selection.recipe]
    every = [one for group in groups.values() for one in group]
    found.examples = found.skipped.total() + len(every)
    texts = (text for one in every for text in (_question(one.prompt), one.said))
    new = NearDuplicates(selection.near_duplicates, texts)
    for group in groups.values():
        # Near duplicates of one prompt are told before the most of it are taken.
        taken, known = 0, set[tuple[str, str | None]]()
        used, why = set[int](), dict[int, str]()
        pairs, why_none = select(group, selection)
        for chosen, rejected in pairs:
            both = {id(one) for one in (chosen, rejected) if one is not None}
            says = chosen.said, None if rejected is None else rejected.said
            reason = "nearly the same as another"
            if taken == selection.most_a_prompt:
                reason = "beyond the most of a prompt"
            # Of pairs there may be thousands, and masking takes its time.
            elif says not in known:
                known.add(says)
                row = _row(chosen, rejected, personal_data)
                said = [as_text(row[name]) for name in _SAID if name in row]
                if new.add(_question(row["prompt"]), *said):
                    found.rows.append(row)
                    used |= both
                    taken += 1
                    continue
            for one in both:
                why.setdefault(one, reason)
        found.used += len(used)
        # An example may be in several pairs, and is counted once.
        unused = {id(one) for one in group} - used
        found.skipped.update(why.get(one, why_none) for one in unused)
    found.rows = _with_tools(found.rows)
    return found


def write_rows(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write rows as JSON lines that `datasets.load_dataset("json", ...)` reads.

    It tells the types of columns by its first 10 MB, so rows whose messages have a form that none
    before them has come first. Texts that all begin with a date become dates there, unless the
    messages of a column have different fields, so that one of them has an empty `name` then.
    """
    forms: set[object] = set()
    first: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for row in rows:
        new = {(name, _form(one)) for name, value in row.items() for one in _parts(value)} - forms
        forms |= new
        (first if new else rest).append(row)
    if first:
        first[0] = _told_from_dates(first[0], [*first, *rest])
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in first]
    # As many of them as can be within these.
    lines.sort(key=len)
    with replacing(path) as draft, draft.open("w", encoding="utf-8") as file:
        file.writelines(lines)
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rest)


# Recipes: of the examples of a prompt, the pairs, and why an example is in none

_Selected = tuple[Sequence[Pair], str]


def _best(group: Sequence[Example], wanted: Selection) -> _Selected:
    ranked = sorted(group, key=lambda one: -one.reward)
    good = [(one, None) for one in ranked if _reaches(one.reward, wanted.least_reward)]
    return good, f"with a reward below {wanted.least_reward:g}"


def _best_pairs(group: Sequence[Example], wanted: Selection) -> _Selected:
    ranked = sorted(group, key=lambda one: -one.reward)
    pairs = [
        (one, other)
        for one, other in product(ranked[:MOST_COMPARED], ranked[-MOST_COMPARED:])
        if _reaches(one.reward, wanted.least_reward)
        and _reaches(one.reward - other.reward, wanted.margin)
        and one.reward > other.reward
        and one.said != other.said
    ]
    pairs.sort(key=lambda pair: (pair[1].reward - pair[0].reward, -pair[0].reward))
    return pairs, _why_unpaired(pairs)


def _shortest_right(group: Sequence[Example], wanted: Selection) -> _Selected:
    right, _ = _by_length(group, wanted)
    wrong = f"with a quality below {wanted.right_at:g}"
    return [(one, None) for one in right], wrong if right else "of a prompt without a right answer"


def _shortest_right_and_longest_wrong(group: Sequence[Example], wanted: Selection) -> _Selected:
    right, wrong = _by_length(group, wanted)
    pairs = zip(right, reversed(wrong), strict=False)
    found = [(one, other) for one, other in pairs if one.said != other.said]
    return found, _why_unpaired(found)


def _why_unpaired(pairs: Sequence[object]) -> str:
    return "in no such pair" if pairs else "of a prompt without such a pair"


def _by_length(group: Sequence[Example], wanted: Selection) -> tuple[list[Example], list[Example]]:
    """The right and the wrong ones, the shortest first."""
    by_length = sorted(group, key=lambda one: one.length)
    right = [one for one in by_length if _reaches(one.quality, wanted.right_at)]
    return right, [one for one in by_length if not _reaches(one.quality, wanted.right_at)]


def _reaches(value: float, bound: float) -> bool:
    """Whether it is as high, whatever was rounded on the way: 1 - 0.8 is 0.2."""
    return value >= bound - _ROUNDING


# Rows

_SAID = ("completion", "chosen", "rejected")


def _row(
    chosen: Example, rejected: Example | None, personal_data: PersonalData | None
) -> dict[str, Any]:
    """A row without what nobody should read."""
    row: dict[str, Any] = {"prompt": chosen.prompt}
    if rejected is None:
        row["completion"] = chosen.completion
    else:
        row |= {"chosen": chosen.completion, "rejected": rejected.completion}
    row["tools"] = chosen.tools
    row = {name: masked_values(value) for name, value in row.items()}
    if personal_data is not None:
        personal_data.forget()
        row = {name: personal_data.masked_values(value) for name, value in row.items()}
    return row


def _with_tools(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their tools as texts: columns of objects would get the fields of all of them."""
    any_tools = any(row["tools"] for row in rows)
    found = []
    for row in rows:
        rest = {name: value for name, value in row.items() if name != "tools"}
        tools = json.dumps(row["tools"], ensure_ascii=False) if row["tools"] else None
        found.append({**rest, "tools": tools} if any_tools else rest)
    return found


def _question(prompt: Sequence[dict[str, Any]]) -> str:
    """What a prompt asks: system prompts and the turns before are alike in many."""
    asked = [message for message in prompt if message["role"] == "user"]
    return as_text(asked[-1:] or prompt)


def _told_from_dates(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A row with what tells `datasets` that none of its columns is one of dates."""
    found = dict(row)
    for name, value in row.items():
        if not isinstance(value, list) or not value:
            continue
        messages = [message for one in rows for message in one.get(name) or ()]
        if len({frozenset(message) for message in messages}) == 1 and any(map(_has_date, messages)):
            found[name] = [{**value[0], "name": None}, *value[1:]]
    return found


def _has_date(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_date, value.values()))
    if isinstance(value, list):
        return any(map(_has_date, value))
    return isinstance(value, str) and _DATE.match(value) is not None


def _parts(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]


def _form(value: object) -> object:
    """The form of a value: names and types, not what it says."""
    if isinstance(value, dict):
        return frozenset((name, _form(one)) for name, one in value.items())
    if isinstance(value, list):
        return ("list", frozenset(map(_form, value)))
    return type(value).__name__
