"""Scores of models' answers to prompts: asked, scored and kept, once only, within a budget.

    found = collect(load_cases("prompts.jsonl"), router, ask, judges=[judge], budget_usd=5.0,
                    out="scored.jsonl")

The models are asked by `ask` (`crossroute.traffic.asking`), so that this knows no framework. A
journal beside the result keeps each answer and each score as soon as it is there, and what each
call cost (`crossroute.traffic.journal`): the same call goes on where a break left it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

from crossroute.errors import CrossRouteError, DataError, Reason
from crossroute.failures import describe, may_be_billed, may_pass_elsewhere, status_of
from crossroute.files import replace_file
from crossroute.lines import mend_last_line, read_lines
from crossroute.models.descriptor import ModelDescriptor
from crossroute.query import Message
from crossroute.router import CrossRouter
from crossroute.traffic.asking import Answer, AskModel
from crossroute.traffic.cases import Case, CaseLike, prompt_key
from crossroute.traffic.collection import Collection, Limit
from crossroute.traffic.journal import Journal, Kept, Verdict
from crossroute.traffic.judge import Grade, read_verdict
from crossroute.traffic.purse import OutOfBudgetError, Purse
from crossroute.traffic.scorers import Scorer

AT_ONCE = 8
PAUSES = (2.0, 20.0, 0.0)
"""Seconds after each failed call for one answer or verdict; after the last one it is given up."""
FAILURES_IN_A_ROW = 5
"""So many answers of a model failed with none between them: the others would fail, too."""

Read = TypeVar("Read")


class Progress(NamedTuple):
    """How far a collection is.

    Attributes:
        done: Prompts that are done with.
        total: Prompts of the collection.
        spent_usd: What has been spent, by earlier runs, too.
        failures: Answers and verdicts that failed.
    """

    done: int
    total: int
    spent_usd: float
    failures: int


@dataclass(frozen=True)
class Collected:
    """What came of a collection.

    Attributes:
        rows: Routing data (`docs/data.md`): each prompt that has a scored answer.
        total: How many prompts there were.
        spent_usd: What was spent, by earlier runs, too; a call of which nobody knows what it cost
            counts as the most that it can have cost.
        is_out_of_budget: Whether something was not asked because the budget did not allow for it.
        failures: How often what failed: by whom, and how.
        left_out: Why prompts were not asked at all, and how many.
    """

    rows: list[dict[str, Any]]
    total: int
    spent_usd: float
    is_out_of_budget: bool
    failures: Mapping[tuple[str, str], int]
    left_out: Mapping[str, int]

    @property
    def scores(self) -> int:
        """How many answers are scored."""
        return sum(len(row["outputs"]) for row in self.rows)


def collect(
    cases: Iterable[CaseLike],
    router: CrossRouter,
    ask: AskModel,
    models: Sequence[str] | None = None,
    *,
    budget_usd: float,
    out: str | Path | None = None,
    judges: Sequence[ModelDescriptor] = (),
    scorers: Sequence[Scorer] = (),
    **settings: Any,  # noqa: ANN401  # Those of `Collection.of` and `run`.
) -> Collected:
    """Ask models, score their answers, and keep all of it; outside of an event loop.

    Args:
        cases: The prompts: texts, messages, or mappings as in a file (`Case`).
        router: Predicts what answers will be like; its pool has the candidates.
        ask: Asks a model.
        models: Ids of the candidates; None are all of the pool that can be called today.
        budget_usd: What all calls may cost, in USD, those of earlier runs into `out` included.
        out: A `.jsonl` file for the result, which is gone on with if it is there.
        judges: As in `Collection.of`.
        scorers: As in `Collection.of`.
        **settings: Further arguments of `Collection.of`, and of `run`.

    Raises:
        CrossRouteError: As `Collection.of` and `run` say.
    """
    of_run = {
        name: settings.pop(name)
        for name in ("at_once", "keep_answers", "keep_reasons", "tell", "pause")
        if name in settings
    }
    # One that stands there twice is asked once.
    read = {case.key: case for case in map(Case.of, cases)}
    collection = Collection.of(
        [*read.values()], router, models, judges=judges, scorers=scorers, **settings
    )
    keep_answers = of_run.pop("keep_answers", True)
    with open_journal(collection, out, keep_answers=keep_answers) as journal:
        return asyncio.run(run(collection, ask, journal, budget_usd=budget_usd, out=out, **of_run))


def open_journal(
    collection: Collection, out: str | Path | None, *, keep_answers: bool = True
) -> Journal:
    """The journal beside a result, gone on with if it is there.

    Args:
        collection: What is asked.
        out: The result, a `.jsonl` file; None keeps nothing.
        keep_answers: Whether the texts of answers are kept.

    Raises:
        DataError: If it is broken or of another collection, or the result is there without it.
    """
    if out is None:
        return Journal(None, collection.settings)
    out = Path(out)
    if out.suffix != ".jsonl":
        raise DataError(f"{out}: rows are added to it; name a file that ends in .jsonl.")
    path = out.with_suffix(".answers.jsonl")
    if out.exists() and out.stat().st_size and not path.exists():
        raise DataError(
            f"{out}: is there already, without {path.name} beside it, which would say how its "
            "scores were made; name another --out."
        )
    return Journal(path, collection.settings, keep_answers=keep_answers)


async def run(
    collection: Collection,
    ask: AskModel,
    journal: Journal,
    *,
    budget_usd: float,
    out: str | Path | None = None,
    at_once: int = AT_ONCE,
    keep_reasons: bool = False,
    tell: Callable[[Progress], None] = lambda _: None,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> Collected:
    """Ask and score what the journal does not hold yet, as far as the budget goes.

    Args:
        collection: What is asked.
        ask: Asks a model.
        journal: What was asked before.
        budget_usd: What all calls of the journal may cost, in USD. A call is made only if the most
            that it can cost is left.
        out: Rows of routing data are added to it, one as soon as its prompt is done.
        at_once: Calls under way at a time, at most.
        keep_reasons: Whether judges' reasons stand in the rows.
        tell: Gets how far it is, after every call.
        pause: Waits some seconds before a call is tried again.

    Raises:
        DataError: If a number is out of bounds, a scorer gives what is no score, or a judge fails
            time after time. What was answered and scored is kept.
    """
    if not budget_usd >= 0:
        raise DataError(f"budget_usd is {budget_usd}; give an amount from 0 up.")
    if at_once < 1:
        raise DataError(f"at_once is {at_once}; give 1 at least.")
    rows = _Rows(None if out is None else Path(out))
    running = _Run(collection, ask, journal, rows, Purse(budget_usd, journal), tell, pause)
    running.keep_reasons = keep_reasons
    # One iterator for all workers: each takes the next prompt that nobody has.
    waiting = iter(range(len(collection.cases)))
    workers = [asyncio.create_task(running.work(waiting)) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        rows.close()
    return running.collected()


class _Run:
    """One run of a collection."""

    def __init__(
        self,
        collection: Collection,
        ask: AskModel,
        journal: Journal,
        rows: _Rows,
        purse: Purse,
        tell: Callable[[Progress], None],
        pause: Callable[[float], Awaitable[object]],
    ) -> None:
        self.keep_reasons = False
        self._collection = collection
        self._ask = ask
        self._journal = journal
        self._rows = rows
        self._purse = purse
        self._tell = tell
        self._pause = pause
        self._done = 0
        self._failures: Counter[tuple[str, str]] = Counter()
        self._in_a_row: Counter[str] = Counter()
        # A function of the user need not be safe in several threads.
        self._scoring = asyncio.Lock()

    async def work(self, waiting: Iterator[int]) -> None:
        """Take one prompt after the other, for as long as they can be paid."""
        for row in waiting:
            if self._collection.is_done(row, self._journal):
                await self._prompt(row)
                self._done += 1
            elif not self._purse.is_closed:
                await self._paid(row)
            self._report()

    def collected(self) -> Collected:
        """What has come of it."""
        rows = [self._row(row) for row in range(len(self._collection.cases))]
        return Collected(
            rows=[row for row in rows if row is not None],
            total=len(rows),
            spent_usd=self._journal.spent_usd,
            is_out_of_budget=self._purse.is_closed,
            failures=dict(self._failures),
            left_out=self._collection.left_out,
        )

    async def _paid(self, row: int) -> None:
        """Ask and score a prompt if it can be paid."""
        calls = self._collection.expected(row, self._journal)
        expected = sum(usd for _, _, usd, _ in calls)
        if not await self._purse.promise(expected, max(most for *_, most in calls)):
            return
        try:
            await self._prompt(row)
            self._done += 1
        except OutOfBudgetError:
            # What was answered waits in the journal for a larger budget.
            return
        finally:
            await self._purse.end(expected)

    async def _prompt(self, row: int) -> None:
        """Ask the models one prompt, one after the other, and score what they answer."""
        try:
            for model in self._collection.missing(row, self._journal):
                if self._in_a_row[model] < FAILURES_IN_A_ROW:
                    await self._answer(row, model)
            answers = self._collection.answers(row, self._journal)
            if (scorer := self._collection.scorer(row)) is not None:
                await self._score(row, scorer, answers)
            for judge in self._collection.to_judge(row, answers, self._journal):
                await self._judge(row, judge, answers)
        finally:
            if (found := self._row(row)) is not None:
                self._rows.put(self._collection.cases[row].key, found)

    async def _answer(self, row: int, model: str) -> None:
        case, limit = self._collection.cases[row], self._collection.limit(row, model)
        prompt: str | Sequence[Message] = case.prompt
        found = await self._asked(self._collection.models[model], prompt, limit, lambda it: it)
        if found is None:
            return
        number, usd, answer = found
        own = self._collection.models[model].max_output_tokens
        # A model that is cut off at its own limit is so in service, too.
        is_own = own is not None and own <= limit.max_tokens
        reached = answer.tokens is None or answer.tokens[1] >= limit.max_tokens
        is_cut = answer.cut and reached and not is_own
        self._journal.answered(
            number,
            usd,
            case.key,
            model,
            answer,
            cost_usd=self._cost(self._collection.models[model], answer),
            cut_at=self._collection.max_tokens if is_cut else None,
        )
        if is_cut:
            text = f"cut off at {limit.max_tokens:,} tokens; raise --max-tokens (max_tokens)"
            self._failures[model, text] += 1
        await self._purse.settled()
        self._report()

    async def _score(self, row: int, scorer: Scorer, answers: Mapping[str, Kept]) -> None:
        case = self._collection.cases[row]
        known = self._journal.verdicts.get((case.key, scorer.name), Verdict({}, {}))
        texts = {m: k.text for m, k in answers.items() if m not in known.scores}
        found = dict(known.scores)
        for model, text in texts.items():
            if text is None:
                continue
            async with self._scoring:
                try:
                    found[model] = await asyncio.to_thread(scorer.score, case, text)
                except Exception as error:
                    error.add_note(f"While {scorer.name} scored an answer of {model!r}.")
                    raise
        if len(found) > len(known.scores):
            self._journal.scored(case.key, scorer.name, Verdict(found, {}))

    async def _judge(self, row: int, judge: str, answers: Mapping[str, Kept]) -> None:
        theirs = self._collection.judged_by[judge]
        texts = {m: kept.text or "" for m, kept in answers.items() if m in theirs}
        # Of nothing, there is nothing to judge.
        worded = {m: text for m, text in texts.items() if text.strip()}
        key, scores = self._collection.cases[row].key, dict.fromkeys(texts, 0.0)
        if not worded:
            self._journal.scored(key, judge, Verdict(scores, {}))
            return
        asked = self._collection.question(row, judge, worded)
        limit = self._collection.judge_limit(judge, asked)
        if isinstance(limit, Reason):
            self._failures[judge, limit.text] += 1
            return

        def read(answer: Answer) -> list[Grade]:
            return read_verdict(answer.text, asked.labels)

        descriptor = self._collection.judges[judge]
        found = await self._asked(descriptor, asked.messages, limit, read, schema=asked.schema)
        if found is None:
            if self._in_a_row[judge] >= FAILURES_IN_A_ROW:
                said = next(text for who, text in reversed(self._failures) if who == judge)
                raise DataError(
                    f"The judge {judge!r} failed {FAILURES_IN_A_ROW} times in a row: {said}. What "
                    "was answered is kept: mend its descriptor or take another one, and go on."
                )
            return
        number, usd, grades = found
        scores |= {m: grade.score for m, grade in zip(worded, grades, strict=True)}
        reasons = {m: grade.reason for m, grade in zip(worded, grades, strict=True) if grade.reason}
        verdict = Verdict(scores, reasons if self.keep_reasons else {})
        self._journal.scored(key, judge, verdict, ask=number, usd=usd)
        await self._purse.settled()
        self._report()

    async def _asked(
        self,
        model: ModelDescriptor,
        messages: str | Sequence[Message],
        limit: Limit,
        read: Callable[[Answer], Read],
        *,
        schema: Mapping[str, Any] | None = None,
    ) -> tuple[int, float, Read] | None:
        """Ask until there is what can be read.

        Returns:
            The number of the call, which the caller has to note with what it cost, what it cost,
            and what was read; None where it failed, which is noted.

        Raises:
            OutOfBudgetError: If the most that the call can cost is not left.
        """
        for pause in PAUSES:
            number = await self._purse.hold(limit.most_usd)
            try:
                answer = await self._ask(
                    model.id, messages, max_tokens=limit.max_tokens, schema=schema
                )
            except Exception as error:
                # What broke off may have been billed.
                usd, text = limit.most_usd if may_be_billed(error) else 0.0, describe(error)
                may_try = _may_pass(error)
            else:
                cost = self._cost(model, answer)
                # Where nobody counted, and there is a price: the most.
                usd = limit.most_usd if cost is None else cost
                try:
                    found = read(answer)
                except DataError as error:
                    text, may_try, pause = str(error), True, 0.0
                else:
                    self._in_a_row[model.id] = 0
                    return number, usd, found
            self._journal.failed(number, usd)
            await self._purse.settled()
            if not may_try:
                break
            if pause:
                await self._pause(pause)
        self._in_a_row[model.id] += 1
        self._failures[model.id, text] += 1
        self._report()
        return None

    @staticmethod
    def _cost(model: ModelDescriptor, answer: Answer) -> float | None:
        """What an answer cost, None where it is not known; nothing where there is no price."""
        if model.price is None or answer.tokens is None:
            return None
        return float(model.price.cost_usd(*answer.tokens))

    def _row(self, row: int) -> dict[str, Any] | None:
        """The row of routing data of a prompt; None as long as no answer to it is scored."""
        outputs: dict[str, dict[str, Any]] = {}
        case = self._collection.cases[row]
        for model, kept in self._collection.answers(row, self._journal).items():
            scores = self._collection.scores(row, model, self._journal)
            if not scores:
                continue
            outputs[model] = _output(kept, scores)
            verdicts = {by: self._journal.verdicts[case.key, by] for by in scores}
            reasons = {by: v.reasons[model] for by, v in verdicts.items() if model in v.reasons}
            if reasons and self.keep_reasons:
                outputs[model]["reasons"] = reasons
        return case.row(outputs) if outputs else None

    def _report(self) -> None:
        total, failures = len(self._collection.cases), sum(self._failures.values())
        self._tell(Progress(self._done, total, self._journal.spent_usd, failures))


class _Rows:
    """The rows of the result, by the keys of their prompts; what others wrote there stays.

    A row of a further prompt is added at once. One that has changed is written in the end, with
    all others; the journal knows it until then.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lines: dict[str, bytes] = {}
        self._is_changed = False
        if path is None:
            return
        mend_last_line(path)
        for number, line in read_lines(path) if path.exists() else ():
            try:
                self._lines[prompt_key(json.loads(line)["prompt"])] = line.rstrip(b"\r\n") + b"\n"
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise DataError(
                    f"{path}:{number}: is no row of routing data: {type(error).__name__}. Remove "
                    "the line, or the file: the journal beside it holds all of it."
                ) from None

    def put(self, key: str, row: Mapping[str, Any]) -> None:
        """Take a row in."""
        text = json.dumps(row, ensure_ascii=False) + "\n"
        line, before = text.encode("utf-8", "replace"), self._lines.get(key)
        self._lines[key] = line
        if before is not None or self._path is None:
            self._is_changed = self._is_changed or before != line
            return
        with self._path.open("ab", buffering=0) as file:
            file.write(line)

    def close(self) -> None:
        """Write what has changed."""
        if self._path is not None and self._is_changed:
            replace_file(self._path, b"".join(self._lines.values()))


def _output(kept: Kept, scores: Mapping[str, float]) -> dict[str, Any]:
    """A scored answer as it stands in routing data; with several judges, what each of them says."""
    output: dict[str, Any] = {"score": fmean(scores.values())}
    if kept.cost_usd is not None:
        output["cost_usd"] = kept.cost_usd
    if kept.tokens is None:
        output["output_chars"] = kept.chars
    else:
        # Routing data has no prompt of 0 tokens; a server that says so has not counted.
        output |= {"input_tokens": kept.tokens[0]} if kept.tokens[0] else {}
        output["output_tokens"] = kept.tokens[1]
    return {**output, **({"scores": dict(scores)} if len(scores) > 1 else {})}


def _may_pass(error: Exception) -> bool:
    """Whether the same call may succeed a little later."""
    status = status_of(error)
    if status is not None:
        return status in (408, 409, 425, 429) or status >= 500
    is_lasting = isinstance(error, (ImportError, CrossRouteError))
    return may_pass_elsewhere(error) and not is_lasting
