"""The journal of a collection: what was asked, what came of it, and what it cost.

One line of JSON for each thing that happens, written before anything goes on. A call stands there
before it is made, with the most that it can cost: one that a break left without an end counts as if
it had cost that, for it may have been billed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from crossroute.errors import DataError, problems, shortened
from crossroute.lines import mend_last_line, read_lines
from crossroute.traffic.asking import Answer
from crossroute.training.data import Score

try:
    import fcntl
except ImportError:  # Windows: two runs at once are the user's own care there.
    fcntl = None  # type: ignore[assignment]

VERSION = 1

Usd = Annotated[FiniteFloat, Field(ge=0)]
Tokens = Annotated[int, Field(ge=0, le=10**9)]


class Kept(NamedTuple):
    """An answer that was paid for.

    Attributes:
        text: None where texts are not kept and it is of an earlier run.
        tokens: As `Price.cost_usd` takes them; None where nobody counted.
        chars: Characters of its text.
        cost_usd: What it cost; None for a model without a price.
        cut_at: The limit at which it was cut off, in tokens; None for a whole answer.
    """

    text: str | None
    tokens: tuple[int, int, int, int] | None
    chars: int
    cost_usd: float | None
    cut_at: int | None


class Verdict(NamedTuple):
    """Scores of answers to one prompt by one scorer or judge, by the models' ids."""

    scores: Mapping[str, float]
    reasons: Mapping[str, str]


class _Line(BaseModel):
    """A line of a journal; which fields are there says what happened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collect: dict[str, Any] | None = None
    """The settings, in the first line."""
    ask: int | None = None
    """The number of a call."""
    most_usd: Usd | None = None
    """What it can cost: it begins."""
    usd: Usd | None = None
    """What it cost: it ends."""
    prompt: str | None = None
    model: str | None = None
    answer: str | None = None
    chars: Tokens | None = None
    tokens: tuple[Tokens, Tokens, Tokens, Tokens] | None = None
    cost_usd: Usd | None = None
    cut_at: Tokens | None = None
    by: str | None = None
    """Who scored the answers to the prompt."""
    scores: dict[str, Score] | None = None
    reasons: dict[str, str] | None = None


class Journal:
    """What has happened, in memory, and at once in the file if there is one.

    Args:
        path: The file, which is gone on with if it is there; None keeps nothing.
        settings: What must be the same when it is gone on with.
        keep_answers: Whether answers' texts are in the file.

    Attributes:
        answers: The answers, by key of the prompt and id of the model.
        verdicts: The newest scores, by key of the prompt and name of the scorer.
        spent_usd: What all calls that have ended cost.
        held_usd: What the calls under way can cost at most.
        went_on: Whether there is something in the file.

    Raises:
        DataError: If the file is broken, or of a collection with other settings, or another
            process writes it now.
    """

    def __init__(
        self, path: Path | None, settings: Mapping[str, Any], *, keep_answers: bool = True
    ) -> None:
        self.answers: dict[tuple[str, str], Kept] = {}
        self.verdicts: dict[tuple[str, str], Verdict] = {}
        self.spent_usd = 0.0
        self.went_on = False
        self._under_way: dict[int, float] = {}
        self._last = 0
        self._keep_answers = keep_answers
        self._path = path
        self._header = {"version": VERSION, **settings}
        self._file: FileIO | None = None
        if path is not None:
            self._file = _locked(path)
            try:
                self._go_on(path, settings)
            except BaseException:
                self._file.close()
                raise

    @property
    def held_usd(self) -> float:
        """What the calls under way can cost at most."""
        return sum(self._under_way.values())

    def begin(self, most_usd: float) -> int:
        """Note that a call is about to be made; returns its number."""
        self._last += 1
        self._write(_Line(ask=self._last, most_usd=most_usd))
        self._under_way[self._last] = most_usd
        return self._last

    def failed(self, ask: int, usd: float) -> None:
        """Note that a call gave nothing, and what it may have cost."""
        self._write(_Line(ask=ask, usd=usd))
        self._end(ask, usd)

    def answered(
        self,
        ask: int,
        usd: float,
        key: str,
        model: str,
        answer: Answer,
        *,
        cost_usd: float | None,
        cut_at: int | None,
    ) -> Kept:
        """Note the answer of a candidate."""
        # What is no character cannot be read again.
        text = answer.text.encode("utf-8", "replace").decode()
        kept = Kept(text, answer.tokens, len(text), cost_usd, cut_at)
        self._write(
            _Line(
                ask=ask,
                usd=usd,
                prompt=key,
                model=model,
                answer=text if self._keep_answers else None,
                chars=kept.chars,
                tokens=answer.tokens,
                cost_usd=cost_usd,
                cut_at=cut_at,
            )
        )
        self._end(ask, usd)
        self.answers[key, model] = kept
        return kept

    def scored(
        self, key: str, by: str, verdict: Verdict, *, ask: int | None = None, usd: float = 0.0
    ) -> None:
        """Note scores, and the call that gave them if there was one."""
        reasons = dict(verdict.reasons) or None
        line = _Line(prompt=key, by=by, scores=dict(verdict.scores), reasons=reasons)
        if ask is not None:
            line = line.model_copy(update={"ask": ask, "usd": usd})
        self._write(line)
        if ask is not None:
            self._end(ask, usd)
        self.verdicts[key, by] = verdict

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None and self._path is not None:
            # Where nothing was asked, nothing is left behind.
            if not self.went_on:
                self._path.unlink(missing_ok=True)
            self._file.close()

    def _end(self, ask: int, usd: float) -> None:
        self._under_way.pop(ask, None)
        self.spent_usd += usd

    def _write(self, line: _Line) -> None:
        if self._file is None:
            return
        header = [] if self.went_on else [_Line(collect=self._header)]
        self.went_on = True
        for one in (*header, line):
            text = json.dumps(one.model_dump(exclude_none=True), ensure_ascii=False) + "\n"
            content = text.encode("utf-8", "replace")
            if self._file.write(content) != len(content):
                raise OSError(f"{self._path}: the disk is full; make room, and go on.")

    def _go_on(self, path: Path, settings: Mapping[str, Any]) -> None:
        mend_last_line(path)
        for number, raw in read_lines(path):
            try:
                line = _Line.model_validate_json(raw)
            except ValidationError as error:
                raise DataError(
                    f"{path}:{number}: not a line of a collection's journal: "
                    f"{problems(error, _Line)}. Remove the line, or give another --out."
                ) from None
            if not self.went_on:
                _check_same(path, line.collect, settings)
                self.went_on = True
            self._take(line)
        # Nobody knows of these: they may have been billed.
        self.spent_usd += self.held_usd
        self._under_way.clear()

    def _take(self, line: _Line) -> None:
        if line.ask is not None:
            self._last = max(self._last, line.ask)
            if line.most_usd is not None:
                self._under_way[line.ask] = line.most_usd
            else:
                self._end(line.ask, line.usd or 0.0)
        if line.prompt is None:
            return
        if line.model is not None:
            self.answers[line.prompt, line.model] = Kept(
                line.answer, line.tokens, line.chars or 0, line.cost_usd, line.cut_at
            )
        if line.by is not None:
            verdict = Verdict(line.scores or {}, line.reasons or {})
            self.verdicts[line.prompt, line.by] = verdict


def _locked(path: Path) -> FileIO:
    """The file to add to, which no other process adds to meanwhile.

    Raises:
        DataError: If it cannot be written, or another process does.
    """
    try:
        # Unbuffered: what is written is there, whatever becomes of this process.
        file = FileIO(path, "ab")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be written: {error}") from error
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise DataError(
            f"{path}: another process is collecting into it; wait for it, or give another --out."
        ) from None
    return file


def _check_same(path: Path, was: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """See that a journal is of the same collection; more models are welcome, and a longer answer.

    Raises:
        DataError: If it is not; names what differs.
    """
    if was is None or was.get("version") != VERSION:
        raise DataError(
            f"{path}:1: not the journal of a collection of this version; give another --out."
        )
    for name, value in now.items():
        before = was.get(name)
        if name == "models":
            gone = sorted(set(before or ()) - set(value))
            if gone:
                raise DataError(
                    f"{path}: was collected from {', '.join(gone)}, too, which is not among the "
                    "models now; name it with --model, or give another --out."
                )
        elif before != value:
            raise DataError(
                f"{path}: was collected with another {name}: {shortened(before)}, not "
                f"{shortened(value)}; its scores would not compare. Give the same, or another "
                "--out."
            )
