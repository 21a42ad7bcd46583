"""Anchor prompts: what a new model is asked to see what it can do, each with a checker.

The shipped ones are in `assets/anchors.yaml`. An answer is only ever compared: nothing in it runs.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from crossroute.errors import DataError, problems, shortened
from crossroute.models.fields import NonEmpty
from crossroute.yaml_file import read_yaml

SHOWN_BROKEN = 5
MOST_TRIES = 100
"""Brackets in an answer at which JSON may begin: reading from each of them takes time."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice(_Strict):
    r"""The letter of an option: `B`, `(B)`, `The answer is **B**.`, `\boxed{B}`."""

    kind: Literal["choice"]
    answer: Annotated[str, Field(pattern=r"^[A-J]$")]

    def accepts(self, text: str) -> bool:
        """Whether the answer is right."""
        return choice_in(text) == self.answer


class Number(_Strict):
    r"""A number, whatever it is written like: `1,234.5`, `\frac{1}{2}`, `2 \times 10^{3}`."""

    kind: Literal["number"]
    answer: FiniteFloat
    tolerance: Annotated[FiniteFloat, Field(ge=0)] = 1e-9

    def accepts(self, text: str) -> bool:
        """Whether the answer is right."""
        number = number_in(text)
        return number is not None and abs(number - self.answer) <= self.tolerance


class Exact(_Strict):
    """One of a few texts, but for case, spacing, quotes and punctuation around it."""

    kind: Literal["exact"]
    answers: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]

    def accepts(self, text: str) -> bool:
        """Whether the answer is right."""
        lines = [line for line in plain_text(text).splitlines() if line.strip()]
        part = stated(text) or (lines[-1] if lines else "")
        return _bare(part) in {_bare(plain_text(answer)) for answer in self.answers}


class Contains(_Strict):
    """Words or phrases: all of `all`, and one of `any`; case does not matter."""

    kind: Literal["contains"]
    all: tuple[NonEmpty, ...] = ()
    any: tuple[NonEmpty, ...] = ()

    @model_validator(mode="after")
    def _not_empty(self) -> Contains:
        if not self.all and not self.any:
            raise ValueError("name words that the answer contains, in all or any")
        return self

    def accepts(self, text: str) -> bool:
        """Whether the answer is right."""
        said = _words(text)
        alternatives = (*((one,) for one in self.all), *([self.any] if self.any else []))
        return all(any(_words(one) in said for one in group) for group in alternatives)


class Regex(_Strict):
    """A pattern that is found in the answer, without what surrounds it: space, bold, a fence."""

    kind: Literal["regex"]
    pattern: NonEmpty

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    def accepts(self, text: str) -> bool:
        """Whether the answer is right."""
        return re.search(self.pattern, _unmarked(text).strip()) is not None


class Json(_Strict):
    """A JSON value, alone, in a code block or in the midst of words."""

    kind: Literal["json"]
    equals: Any

    def accepts(self, text: str) -> bool:
        """Whether the answer is right."""
        # What is found is a list or a mapping, never None.
        found = json_in(text)
        return found is not None and _same(found, self.equals)


Check = Annotated[Choice | Number | Exact | Contains | Regex | Json, Field(discriminator="kind")]


class Anchor(_Strict):
    """A prompt whose answer can be checked.

    Attributes:
        topic: What kind of work it is.
        prompt: What the model is asked.
        check: Tells a right answer.
        reference: A right answer.
        wrong: Plausible answers that are not right.
    """

    topic: NonEmpty
    prompt: NonEmpty
    check: Check
    reference: NonEmpty
    wrong: tuple[NonEmpty, ...] = ()

    @model_validator(mode="after")
    def _checks_itself(self) -> Anchor:
        if not self.check.accepts(self.reference):
            raise ValueError(f"its check does not accept its reference {shortened(self.reference)}")
        for answer in self.wrong:
            if self.check.accepts(answer):
                raise ValueError(f"its check accepts the wrong answer {shortened(answer)}")
        return self

    def score(self, text: str) -> float:
        """1.0 for a right answer, 0.0 for any other."""
        return float(self.check.accepts(text))


def load_anchors(path: str | Path | None = None) -> tuple[Anchor, ...]:
    """Read anchor prompts, the shipped ones if no file is named.

    Args:
        path: A YAML list of anchors (`docs/onboarding.md`).

    Raises:
        DataError: If the file cannot be read, an anchor is not valid, or its check does not accept
            its own reference.
    """
    return _shipped() if path is None else _load(Path(path))


@lru_cache(maxsize=1)
def _shipped() -> tuple[Anchor, ...]:
    with as_file(files("crossroute") / "assets" / "anchors.yaml") as path:
        return _load(path)


def _load(path: Path) -> tuple[Anchor, ...]:
    content = read_yaml(path, DataError)
    if not isinstance(content, list) or not content:
        raise DataError(f"{path}: anchors are a list of mappings with topic, prompt and check.")
    anchors, broken = [], []
    for position, item in enumerate(content):
        try:
            anchors.append(Anchor.model_validate(item))
        except ValidationError as error:
            broken.append(f"  anchor {position}: {problems(error, Anchor)}.")
    if broken:
        more = len(broken) - SHOWN_BROKEN
        lines = broken[:SHOWN_BROKEN] + ([f"  and {more} more."] if more > 0 else [])
        raise DataError(f"{path}: not valid anchors.\n" + "\n".join(lines))
    asked: set[str] = set()
    for position, anchor in enumerate(anchors):
        if anchor.prompt in asked:
            raise DataError(f"{path}: anchor {position} asks what another one asks; remove one.")
        asked.add(anchor.prompt)
    return tuple(anchors)


def json_in(text: str) -> Any:  # noqa: ANN401  # Whatever JSON holds.
    """The longest JSON list or mapping in a text: alone, in a code block or among words.

    None where there is none, or only behind more than `MOST_TRIES` brackets.
    """
    decoder, at, best = json.JSONDecoder(), 0, (0, None)
    for _ in range(MOST_TRIES):
        found = re.compile(r"[\[{]").search(text, at)
        if found is None:
            break
        at = found.start() + 1
        try:
            value, end = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            continue
        # The longest one: a mark such as [1] may stand before it.
        best = max(best, (end - found.start(), value), key=lambda pair: pair[0])
        at = end
    return best[1]


def stated_choice(text: str) -> str | None:
    """The letter of an option that an answer states or begins with, A to J; None if it has none."""
    part = stated(text)
    if part is not None:
        found = re.match(r"\W*(?:(?:option|choice)\W+)?([A-J])(?![\w'])", part, re.IGNORECASE)
        # A small letter alone is an option; before other words it is one of them.
        if found and (found[1].isupper() or not re.search(r"\w", part[found.end() :])):
            return found[1].upper()
    first = re.match(r"\W*([A-J]|[a-j](?=\W*$))(?:\W*$|\)|[.:](?:\s|$))", plain_text(text).strip())
    return first[1].upper() if first else None


def choice_in(text: str) -> str | None:
    """`stated_choice`, and where there is none, the last letter of an option among the words."""
    found = stated_choice(text)
    if found is not None:
        return found
    # Not the article at the beginning of a sentence, and not "I".
    part = stated(text) or plain_text(text).strip()
    letters: list[str] = re.findall(r"(?<![\w'])(?!A [a-z]|I\b)([A-J])(?![\w'])", part)
    return letters[-1] if letters else None


def number_in(text: str) -> float | None:
    """The number that an answer states, else its last one; None where it has none."""
    part = stated(text)
    if part is not None and (found := _numbers(re.split(r"[=≈]", part)[-1])):
        return found[0]
    found = _numbers(plain_text(text))
    return found[-1] if found else None


def _unmarked(text: str) -> str:
    """A text without bold and code marks."""
    return re.sub(r"```\w*|\*\*|__|`", "", text)


_LATEX = (
    (r"(?<=\d)(?:\\[,!; ]|\{,\}|[\u2009\u202f\u00a0\u2007])(?=\d{3})", ","),
    (r"\\(?:left|right|displaystyle|[,!;:])", ""),
    (r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2"),
    (r"\\(?:text|mathrm|mathbf|textbf|operatorname)\s*\{([^{}]*)\}", r"\1"),
    (r"\\(?:times|cdot)", "*"),
    (r"\\approx", "≈"),
    (r"\^\{([^{}]*)\}", r"^\1"),
    (r"\\([$%#&_{}])", r"\1"),
    (r"\\[()\[\]]|\$", ""),
)


_ASCII = str.maketrans(
    {"\u00d7": "*", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
)


def plain_text(text: str) -> str:
    """A text without marks of Markdown and LaTeX, and in plain characters."""
    text = _unmarked(text)
    for pattern, replacement in _LATEX:
        text = re.sub(pattern, replacement, text)
    text = re.sub("([\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+)", r"^\1", text)
    return unicodedata.normalize("NFKC", text).translate(_ASCII)


def stated(text: str) -> str | None:
    """The part of an answer that states the result; None where nothing says which part it is."""
    plain = plain_text(text)
    for marker in (r"\banswer[\s*_]*:[\s*_]*", None, r"\banswer\s+(?:is|was|=)(?!\s+not\b)[\s:*]*"):
        if marker is None:
            boxed = re.findall(r"\\f?box(?:ed)?\s*\{((?:[^{}]|\{[^{}]*\})*)\}", plain)
            if boxed:
                return str(boxed[-1]).strip()
            continue
        ends = [found.end() for found in re.finditer(marker, plain, re.IGNORECASE)]
        if ends and (rest := plain[ends[-1] :].strip()):
            line = rest.splitlines()[0]
            return re.sub(r"\\f?box(?:ed)?\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1", line).strip()
    return None


_NUMBER = (
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:[,_']\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:e[-+]?\d+\b)?"
    r"|(?<![\w.])[-+]?\.\d+"
)


def _numbers(text: str) -> list[float]:
    """The numbers in a text, fractions and powers of ten among them."""
    numbers = []
    pattern = rf"(?P<n>{_NUMBER})(?:\s*/\s*(?P<d>\d+)\b|\s*[x*]\s*10\^\(?(?P<e>-?\d+)\)?)?"
    for found in re.finditer(pattern, text, re.IGNORECASE):
        number = float(re.sub(r"[,_']", "", found["n"]))
        if found["d"] and float(found["d"]):
            number /= float(found["d"])
        elif found["e"]:
            number *= float(f"1e{found['e']}")
        numbers.append(number)
    return numbers


def _bare(text: str) -> str:
    text = re.sub(r"\s+", "", text.casefold()).replace('"', "'")
    return text.strip("'*_.,;:!")


def _words(text: str) -> str:
    """The words of a text between single spaces, so that a phrase can be found as a whole."""
    return " ".join(["", *re.findall(r"[\w']+", plain_text(text).casefold()), ""])


def _same(one: object, other: object) -> bool:
    """Equality of JSON values: 1 is 1.0, but true is not 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other
