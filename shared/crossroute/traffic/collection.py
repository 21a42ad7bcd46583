"""What a collection asks: which models which prompts, who scores the answers, and for how much."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from crossroute.ceiling import UNCOUNTED, Ceiling
from crossroute.constraints import shortcomings
from crossroute.errors import DataError, DescriptorError, PoolError, Reason, explained
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.price import Price
from crossroute.query import Message, Query
from crossroute.router import CrossRouter
from crossroute.traffic.cases import Case, shown
from crossroute.traffic.journal import Journal, Kept
from crossroute.traffic.judge import RUBRIC, Asked, question, who_judges
from crossroute.traffic.scorers import Scorer
from crossroute.traffic.telling import tell_most
from crossroute.training.data import CHARS_A_TOKEN

MAX_TOKENS = 8192
"""Longest answer, hidden reasoning included, if the user says nothing else."""
GRADE_TOKENS = 40
"""What a judge writes of one answer, about."""
ANSWER_TOKENS = 400
"""The length of an answer where no token counts say anything."""

_FREE = Price(input_usd_per_1m=0, output_usd_per_1m=0)


class Limit(NamedTuple):
    """The longest answer of a call, in tokens, and what the call can cost at most, in USD."""

    max_tokens: int
    most_usd: float


class EstimateRow(NamedTuple):
    """What the calls of one model are expected to come to.

    Attributes:
        model: Id of the model.
        role: `answer` or `judge`.
        calls: How many are to be made.
        expected_usd: What they cost with the predicted tokens, in USD; None without a price.
        most_usd: What they cost at most, in USD.
    """

    model: str
    role: str
    calls: int
    expected_usd: float | None
    most_usd: float


class Estimate(NamedTuple):
    """What a collection is expected to come to, before anything is asked.

    Attributes:
        rows: One for each model and role.
        prompts: On how many prompts something is to be done.
        spent_usd: What earlier runs have spent.
    """

    rows: list[EstimateRow]
    prompts: int
    spent_usd: float

    @property
    def expected_usd(self) -> float:
        """What all calls are expected to cost, in USD, as far as there are prices."""
        return sum(row.expected_usd or 0.0 for row in self.rows)


@dataclass(frozen=True)
class Collection:
    """What is to be asked and scored; `of` refuses all that can be refused before that.

    Attributes:
        cases: The n prompts.
        models: The candidates by their ids.
        chosen: [n] what an answer of each model that is asked is expected to be: USD and tokens.
        judges: The judges by their ids.
        judged_by: The ids of the models that each judge judges.
        scorers: Those that need no judge, the first of them that can score a prompt does.
        left_out: Why prompts are not asked at all, and how many.
        settings: What must be the same where a collection is gone on with.
        rubric: What the judges grade by.
        max_tokens: The longest answer.
        seed: Of the order in which a judge sees answers.
    """

    cases: Sequence[Case]
    models: Mapping[str, ModelDescriptor]
    chosen: Sequence[Mapping[str, tuple[float, float]]]
    judges: Mapping[str, ModelDescriptor]
    judged_by: Mapping[str, frozenset[str]]
    scorers: Sequence[Scorer]
    left_out: Mapping[str, int]
    settings: Mapping[str, Any]
    rubric: str
    max_tokens: int
    seed: int

    @classmethod
    def of(
        cls,
        cases: Sequence[Case],
        router: CrossRouter,
        models: Iterable[str] | None = None,
        *,
        judges: Sequence[ModelDescriptor] = (),
        scorers: Sequence[Scorer] = (),
        rubric: str = RUBRIC,
        answers_a_prompt: int | None = None,
        max_tokens: int = MAX_TOKENS,
        seed: int = 0,
        judge_own_vendor: bool = False,
        allow_unpriced: bool = False,
    ) -> Collection:
        """Say what is to be asked.

        Args:
            cases: The prompts.
            router: Predicts what the answers will be like; its pool has the candidates.
            models: Ids of the candidates; None are all that can be called today.
            judges: Models that score answers; the score is the mean of theirs.
            scorers: What scores answers without a judge: the first that can score a prompt does,
                and the judges score the other prompts.
            rubric: What the judges grade by.
            answers_a_prompt: How many models are asked each prompt, 2 at least: those whose answers
                tell most (`crossroute.traffic.telling`). None are all.
            max_tokens: The longest answer, hidden reasoning included. An answer that is cut off
                there is not scored.
            seed: Of the order in which a judge sees answers, and of ties between models.
            judge_own_vendor: Whether a judge judges models of its own vendor, too.
            allow_unpriced: Whether models without a price are asked, and attachments sent, for
                which no budget holds.

        Raises:
            PoolError: If there is no candidate, or one that no judge may judge.
            UnknownModelError: If a candidate is not in the router's pool.
            DescriptorError: If a model has no price.
            DataError: If a prompt can be scored by nothing, or a number is out of bounds.
        """
        if answers_a_prompt is not None and answers_a_prompt < 2:
            raise DataError(
                f"answers_a_prompt is {answers_a_prompt}; give 2 at least: one answer alone "
                "compares no models."
            )
        if max_tokens < 1:
            raise DataError(f"max_tokens is {max_tokens}; give 1 at least.")
        # An agent has no provider by which it could be asked from here.
        reachable = [m for m in router.pool.reachable() if router.pool[m].provider]
        ids = list(dict.fromkeys(reachable if models is None else models))
        # One that is named may be asked, be it disabled: it is measured before it is in service.
        found = {m: router.pool[m].model_copy(update={"disabled": False}) for m in ids}
        if not found:
            raise PoolError(
                "None of the models can be called today; add a descriptor with a provider, or name "
                "others with --model."
            )
        _check_scored(cases, scorers, has_judge=bool(judges))
        judged_by = who_judges([*found.values()], judges, own_vendor=judge_own_vendor)
        unpriced = dict.fromkeys(m.id for m in (*found.values(), *judges) if m.price is None)
        if unpriced and not allow_unpriced:
            raise DescriptorError(
                f"No price is known of {', '.join(unpriced)}, so no budget holds for it. Write a "
                "price into its descriptor, or give --allow-unpriced (allow_unpriced=True)."
            )
        able = np.zeros((len(cases), len(ids)), np.bool_)
        left_out: Counter[str] = Counter()
        for row, case in enumerate(cases):
            query = Query.of(case.prompt)
            if allow_unpriced:
                query = replace(query, needs=query.needs - UNCOUNTED)
            reasons = [_unable(model, query, max_tokens) for model in found.values()]
            able[row] = [not why for why in reasons]
            if not able[row].any():
                left_out[reasons[0]] += 1
        predicted = router.predict([case.prompt for case in cases])
        columns = [predicted.models.index(m) for m in ids]
        if answers_a_prompt is None:
            chosen = [np.flatnonzero(row).tolist() for row in able]
        else:
            learned = [model.learned for model in found.values()]
            error = np.array([one.quality_error if one else 0.0 for one in learned])
            keys = [case.key for case in cases]
            quality = predicted.quality[:, columns]
            chosen = tell_most(quality, error, able, answers_a_prompt, keys, seed)
        cost, tokens = predicted.cost_usd[:, columns], predicted.output_tokens[:, columns]
        tokens = np.where(np.isnan(tokens), ANSWER_TOKENS, tokens)
        return cls(
            cases=cases,
            models=found,
            chosen=[
                {ids[j]: (float(cost[row, j]), float(tokens[row, j])) for j in positions}
                for row, positions in enumerate(chosen)
            ],
            judges={judge.id: judge for judge in judges},
            judged_by=judged_by,
            scorers=scorers,
            left_out=left_out,
            settings={
                "models": sorted(ids),
                "judges": sorted(judged_by),
                "judge_own_vendor": judge_own_vendor,
                "rubric": rubric if judges else None,
                "scores": [scorer.name for scorer in scorers],
                "answers_a_prompt": answers_a_prompt,
                "seed": seed,
            },
            rubric=rubric,
            max_tokens=max_tokens,
            seed=seed,
        )

    def scorer(self, row: int) -> Scorer | None:
        """What scores the answers to a prompt without a judge; None where the judges do."""
        return next((one for one in self.scorers if one.takes(self.cases[row])), None)

    def graders(self, row: int, model: str) -> list[str]:
        """By whom an answer is scored: the names that its scores stand under."""
        if (scorer := self.scorer(row)) is not None:
            return [scorer.name]
        return [judge for judge, models in self.judged_by.items() if model in models]

    def answers(self, row: int, journal: Journal) -> dict[str, Kept]:
        """The whole answers to a prompt that there are, by the ids of the models."""
        key = self.cases[row].key
        found = {m: journal.answers.get((key, m)) for m in self.chosen[row]}
        return {m: kept for m, kept in found.items() if kept is not None and kept.cut_at is None}

    def scores(self, row: int, model: str, journal: Journal) -> dict[str, float] | None:
        """The scores of an answer by who gave them; None as long as one is missing."""
        key, scores = self.cases[row].key, {}
        for by in self.graders(row, model):
            verdict = journal.verdicts.get((key, by))
            if verdict is None or model not in verdict.scores:
                return None
            scores[by] = verdict.scores[model]
        return scores

    def missing(self, row: int, journal: Journal) -> list[str]:
        """Ids of the models that are still to be asked a prompt."""
        if self._is_closed(row, journal):
            return []
        key, missing = self.cases[row].key, []
        for model in self.chosen[row]:
            kept = journal.answers.get((key, model))
            is_lost = kept is not None and kept.cut_at is None and kept.text is None
            if (
                kept is None
                or (kept.cut_at is not None and kept.cut_at < self.max_tokens)
                or (is_lost and self.scores(row, model, journal) is None)
            ):
                missing.append(model)
        return missing

    def to_judge(self, row: int, answered: Iterable[str], journal: Journal) -> list[str]:
        """Ids of the judges that are still to be asked about answers to a prompt.

        A judge that has seen other answers to it sees all of them again: they are graded side by
        side.
        """
        if self.scorer(row) is not None or self._is_closed(row, journal):
            return []
        key, answered, judges = self.cases[row].key, {*answered}, []
        for judge, models in self.judged_by.items():
            verdict = journal.verdicts.get((key, judge))
            if (theirs := answered & models) and (verdict is None or {*verdict.scores} != theirs):
                judges.append(judge)
        return judges

    def question(self, row: int, judge: str, texts: Mapping[str, str]) -> Asked:
        """What a judge is asked about the texts of answers, by the ids of the models."""
        case = self.cases[row]
        return question(
            case.prompt,
            [*texts.values()],
            rubric=self.rubric,
            reference=case.reference,
            shuffle=f"{self.seed}:{case.key}:{judge}",
        )

    def limit(self, row: int, model: str) -> Limit:
        """The limit of asking a model a prompt."""
        query = Query.of(self.cases[row].prompt)
        found = _limit(
            self.models[model], replace(query, needs=query.needs - UNCOUNTED), self.max_tokens
        )
        assert isinstance(found, Limit)  # noqa: S101  # Else it is not among the chosen.
        return found

    def judge_limit(self, judge: str, asked: Asked, more_tokens: float = 0.0) -> Limit | Reason:
        """The limit of asking a judge, or why it cannot be asked.

        Args:
            judge: Id of the judge.
            asked: What it is asked.
            more_tokens: Estimated tokens of answers that are not in there yet.
        """
        query = judge_query(asked)
        query = replace(query, input_tokens=query.input_tokens + more_tokens)
        return _limit(self.judges[judge], query, self.max_tokens)

    def is_done(self, row: int, journal: Journal) -> bool:
        """Whether a prompt needs no further call."""
        if self.missing(row, journal):
            return False
        return not self.to_judge(row, self.answers(row, journal), journal)

    def estimate(self, journal: Journal) -> Estimate:
        """What is still to be asked, and what that will cost about."""
        sums: dict[tuple[str, str], tuple[int, float, float]] = {}
        prompts = 0
        for row in range(len(self.cases)):
            calls = self.expected(row, journal)
            prompts += bool(calls)
            for role, model, expected, most in calls:
                so_far = sums.get((role, model), (0, 0.0, 0.0))
                sums[role, model] = (so_far[0] + 1, so_far[1] + expected, so_far[2] + most)
        known = {**self.models, **self.judges}
        rows = [
            EstimateRow(model, role, calls, expected if known[model].price else None, most)
            for (role, model), (calls, expected, most) in sorted(sums.items())
        ]
        return Estimate(rows, prompts, journal.spent_usd)

    def expected(self, row: int, journal: Journal) -> list[tuple[str, str, float, float]]:
        """The calls that a prompt still needs.

        Returns:
            Of each its role, the id of the model, and what it costs about and at most, in USD.
        """
        missing = self.missing(row, journal)
        calls = [
            ("answer", m, self.chosen[row][m][0], self.limit(row, m).most_usd) for m in missing
        ]
        kept = self.answers(row, journal)
        lengths = {m: kept[m].chars / CHARS_A_TOKEN for m in kept}
        lengths |= {m: self.chosen[row][m][1] for m in missing}
        for judge in self.to_judge(row, lengths, journal):
            asked = self.question(row, judge, {})
            theirs = [tokens for m, tokens in lengths.items() if m in self.judged_by[judge]]
            limit, price = self.judge_limit(judge, asked, sum(theirs)), self.judges[judge].price
            sent = judge_query(asked).input_tokens + sum(theirs)
            expected = price.cost_usd(sent, float(GRADE_TOKENS * len(theirs))) if price else 0.0
            most = limit.most_usd if isinstance(limit, Limit) else 0.0
            calls.append(("judge", judge, float(expected), most))
        return calls

    def _is_closed(self, row: int, journal: Journal) -> bool:
        """Whether judged answers are not kept: a further one could not be judged beside them."""
        key = self.cases[row].key
        judged = {m for j in self.judges if (v := journal.verdicts.get((key, j))) for m in v.scores}
        return any(
            m in judged and kept.text is None for m, kept in self.answers(row, journal).items()
        )


def judge_query(asked: Asked) -> Query:
    """What a judge is asked, as a query: it needs a structured answer."""
    messages: Sequence[Message] = asked.messages
    return Query.of(messages, needs=["structured_output"], tools=str(asked.schema))


def _limit(model: ModelDescriptor, query: Query, longest: int) -> Limit | Reason:
    if model.price is None:
        model = model.model_copy(update={"price": _FREE})
    ceiling = Ceiling(math.inf, {model.id: model}, query)
    tokens = ceiling.longest_answer(model.id, asked=longest)
    if isinstance(tokens, Reason):
        return tokens
    return Limit(tokens, ceiling.most_usd(model.id, tokens))


def _unable(model: ModelDescriptor, query: Query, longest: int) -> str:
    """Why a model cannot be asked a prompt; empty if it can."""
    if reasons := shortcomings(model, query):
        return explained(reasons)
    limit = _limit(model, query, longest)
    # In the words of a budget, not of the hard limit of a call.
    return "" if isinstance(limit, Limit) else limit.text.partition(", so it")[0]


def _check_scored(cases: Sequence[Case], scorers: Sequence[Scorer], *, has_judge: bool) -> None:
    if not (scorers or has_judge):
        raise DataError(
            "Nothing says how good an answer is: give a judge with --judge, or --score check, "
            "--score reference or --score package.module:function."
        )
    bare = [case for case in cases if not any(scorer.takes(case) for scorer in scorers)]
    if bare and not has_judge:
        names = " nor ".join(scorer.name for scorer in scorers)
        raise DataError(
            f"{len(bare)} of {len(cases)} prompts have no {names}, the first of them "
            f"{shown(bare[0])}. Add it, leave them out, or give a --judge, which scores these."
        )
