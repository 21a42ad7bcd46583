"""`crossroute.traffic.collect`: what is asked, what is scored, what is kept, without any I/O."""

# ruff: noqa: ANN401  # What passes through is whatever `ask` takes.

from __future__ import annotations

import asyncio
import json
import math
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_collect import JUDGE, MODELS, PRICES, Models, descriptor, make_router, right, sums

from crossroute import CrossRouter
from crossroute.errors import CrossRouteError, DataError, DescriptorError, PoolError
from crossroute.models.price import Price
from crossroute.traffic.asking import Answer
from crossroute.traffic.cases import Case, load_cases
from crossroute.traffic.collect import Collected, Progress, collect, open_journal
from crossroute.traffic.collection import Collection
from crossroute.traffic.journal import Journal
from crossroute.traffic.scorers import by_check, by_function, by_reference, load_scorer
from crossroute.traffic.telling import tell_most
from crossroute.training.data import RoutingData


@pytest.fixture(scope="module")
def router() -> CrossRouter:
    return make_router()


async def at_once(_: float) -> None:
    """No pause."""


def collected(router: CrossRouter, asked: Models, count: int = 6, **settings: Any) -> Collected:
    given: dict[str, Any] = {"judges": [JUDGE], "budget_usd": 100.0, "pause": at_once, **settings}
    cases = given.pop("cases", None) or sums(count)
    return collect(cases, router, asked, **given)


# What is asked and what comes of it


def test_all_candidates_answer_all_prompts_and_one_call_judges_them(router: CrossRouter) -> None:
    models = Models({JUDGE.id: lambda text: "8" if "small" in text else "5"})
    found = collected(router, models)
    assert Counter(model for model, _ in models.asked) == dict.fromkeys((*MODELS, JUDGE.id), 6)
    assert (len(found.rows), found.scores, found.total) == (6, 18, 6)
    assert not found.failures
    assert not found.is_out_of_budget
    for row in found.rows:
        assert row["task"] == "sums"
        scores = {model: output["score"] for model, output in row["outputs"].items()}
        assert scores == {"acme/small": 0.8, "acme/large": 0.5, "bravo/medium": 0.5}
        small = row["outputs"]["acme/small"]
        assert (small["input_tokens"], small["output_tokens"]) == (10, 5)
        assert small["cost_usd"] == pytest.approx((10 * 0.25 + 5) / 1e6)
        assert small.keys() == {"score", "cost_usd", "input_tokens", "output_tokens"}
    assert found.spent_usd == pytest.approx(models.usd)


def test_the_result_is_routing_data(router: CrossRouter, tmp_path: Path) -> None:
    out = tmp_path / "scored.jsonl"
    found = collected(router, Models(), out=out)
    data = RoutingData.load([out])
    assert data.models == MODELS
    assert data.score.shape == (6, 3)
    assert not np.isnan(data.score + data.cost_usd + data.output_tokens + data.input_tokens).any()
    assert set(data.task) == {"sums"}
    assert sorted(data.prompts) == sorted(row["prompt"] for row in found.rows)


def test_conversations_and_the_fields_of_routing_data_pass_through(router: CrossRouter) -> None:
    messages = [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "Why is the sky blue?"},
    ]
    case = Case.model_validate(
        {"prompt": messages, "topic": "physics", "split": "test", "dataset": "mine", "x": 1}
    )
    models = Models()
    (row,) = collected(router, models, cases=[case]).rows
    assert row["prompt"] == messages
    assert (row["task"], row["split"], row["dataset"]) == ("physics", "test", "mine")
    assert models.messages[0] == messages
    assert "[system]\nYou are terse.\n\n[user]\nWhy is the sky blue?" in models.asked[-1][1]


def test_prompts_may_be_texts_messages_or_mappings(router: CrossRouter) -> None:
    messages = [{"role": "user", "content": "Why?"}]
    given: Any = ["Why?", messages, {"prompt": "How?", "task": "x"}, "Why?", Case(prompt="Who?")]
    found = collected(router, Models(), cases=given)
    assert [row["prompt"] for row in found.rows] == ["Why?", messages, "How?", "Who?"]
    for bad in (" ", None, {"task": "x"}, [{"content": "?"}]):
        with pytest.raises(DataError, match="is no prompt: prompt"):
            collected(router, Models(), cases=[bad])


def test_prompts_are_read_from_files_and_one_twice_is_one(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt": "A?", "reference": 42, "check": {"kind": "number", "answer": 42}}\n'
        '{"prompt": "B?", "model": "of a log", "topic": "letters"}\n\n{"prompt": "A?"}\n'
    )
    first, second = load_cases(path)
    assert (first.prompt, first.reference) == ("A?", "42")
    assert first.check is not None
    assert second.row({})["task"] == "letters"
    text = tmp_path / "prompts.txt"
    text.write_text("A?\r\nB?\n")
    assert [case.prompt for case in load_cases(text)] == ["A?", "B?"]


@pytest.mark.parametrize("name", ["prompts.json", "prompts.csv", "prompts.json.gz"])
def test_a_document_is_not_asked_line_by_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('[\n{"prompt": "A?"}\n]\n', "utf-8")
    with pytest.raises(DataError, match="prompts are JSON lines"):
        load_cases(tmp_path / name)
    (tmp_path / "prompts.ndjson").write_text('{"prompt": "A?"}\n', "utf-8")
    assert [case.prompt for case in load_cases(tmp_path / "prompts.ndjson")] == ["A?"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}", r"prompts.jsonl:1: prompt: missing"),
        ('{"prompt": " "}', r"prompts.jsonl:1: prompt"),
        ('{"prompt": "A?", "check": {"kind": "tea"}}', r"check"),
        ("[", r"prompts.jsonl:1:.*JSON"),
        ("", "holds no prompt"),
    ],
)
def test_broken_prompts_are_named(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=said):
        load_cases(path)


# Scores without a judge


def test_checks_references_and_a_judge_share_the_prompts(router: CrossRouter) -> None:
    checked, told, bare = sums(3)
    cases = [
        checked,
        told.model_copy(update={"check": None}),
        bare.model_copy(update={"check": None, "reference": None}),
    ]
    models = Models({"acme/small": right, JUDGE.id: lambda text: "3"})
    found = collected(router, models, cases=cases, scorers=[by_check(), by_reference()])
    assert models.count(JUDGE.id) == 1
    by_small = [row["outputs"]["acme/small"]["score"] for row in found.rows]
    by_large = [row["outputs"]["acme/large"]["score"] for row in found.rows]
    assert (by_small, by_large) == ([1.0, 1.0, 0.3], [0.0, 0.0, 0.3])


@pytest.mark.parametrize(
    ("reference", "answer", "score"),
    [
        ("Paris", "It is Paris, of course.", 1.0),
        ("Paris", "It is parisian.", 0.0),
        ("1,234", "That makes 1234 in all.", 1.0),
        ("1,234", "That makes 12345 in all.", 0.0),
        ("B", "The answer is **B**.", 1.0),
        ("B", "The answer is A, not B as some say, so: answer: A", 0.0),
        ("no", "No.", 1.0),
        ("no", "There is no such thing as a yes here.", 0.0),
    ],
)
def test_references(reference: str, answer: str, score: float) -> None:
    case = Case(prompt="?", reference=reference)
    assert by_reference().score(case, answer) == score


def test_a_function_of_the_user_scores(router: CrossRouter) -> None:
    seen: list[Any] = []

    def length(prompt: object, answer: str, reference: str | None) -> float:
        seen.append((prompt, reference))
        return len(answer) / 100

    models = Models({"acme/small": lambda _: "x" * 40})
    found = collected(router, models, 1, judges=[], scorers=[by_function(length, "m:length")])
    assert found.rows[0]["outputs"]["acme/small"]["score"] == pytest.approx(0.4)
    assert seen == [("What is 0 + 0?", "0")] * 3


@pytest.mark.parametrize("given", [1.5, -0.1, math.nan, None, "good", np.float64(2)])
def test_what_is_no_score_is_refused(given: object, router: CrossRouter, tmp_path: Path) -> None:
    models, out = Models(), tmp_path / "scored.jsonl"
    bad, good = by_function(lambda *_: given, "m:f"), by_function(lambda *_: True, "m:f")
    with pytest.raises(DataError, match=r"m:f gave .* 'What is 0 \+ 0\?'; give a number from 0 to"):
        collected(router, models, 1, judges=[], scorers=[bad], out=out)
    # What was answered is kept: with the function mended, nobody is asked again.
    asked = len(models.asked)
    found = collected(router, models, 1, judges=[], scorers=[good], out=out)
    assert (asked, len(models.asked), found.scores) == (3, 3, 3)


def test_scorers_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_score.py").write_text(
        "NUMBER = 1\ndef score(prompt, answer, reference):\n    return 0.25\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_scorer("check").name == "check"
    case = Case(prompt="?")
    assert load_scorer("own_score:score").score(case, "!") == 0.25
    for name, said in [
        ("chekc", "did you mean 'check'"),
        ("nowhere:score", "No module named 'nowhere'"),
        ("own_score:missing", "no attribute 'missing'"),
        ("own_score:NUMBER", "is int, not a function"),
    ]:
        with pytest.raises(DataError, match=said):
            load_scorer(name)


def test_a_prompt_that_nothing_can_score_is_named_before_anything_is_asked(
    router: CrossRouter,
) -> None:
    bare = Case(prompt="Write a poem.")
    models = Models()
    with pytest.raises(DataError, match=r"1 of 3 prompts have no check, .*'Write a poem\.'"):
        collected(router, models, cases=[*sums(2), bare], judges=[], scorers=[by_check()])
    with pytest.raises(DataError, match="Nothing says how good an answer is"):
        collected(router, models, judges=[])
    assert not models.asked


# The judge


def test_each_judge_leaves_its_own_vendor_to_the_other(router: CrossRouter) -> None:
    other = descriptor("bravo/judge")
    seen: dict[str, set[str]] = {}

    async def ask(model: str, messages: Any, **more: Any) -> Answer:
        if model not in (JUDGE.id, other.id):
            return Answer(f"of {model}", (10, 5, 0, 0))
        content = messages[1]["content"]
        seen.setdefault(model, set()).update(m for m in MODELS if f"of {m}" in content)
        grade = 4 if model == other.id else 8
        labels = [*more["schema"]["properties"]]
        return Answer(json.dumps(dict.fromkeys(labels, grade)), (10, 5, 0, 0))

    found = collect(sums(1), router, ask, judges=[JUDGE, other], budget_usd=1.0, keep_reasons=True)
    assert seen == {JUDGE.id: {*MODELS}, other.id: {"acme/large", "acme/small"}}
    outputs = found.rows[0]["outputs"]
    assert outputs["acme/small"]["score"] == pytest.approx(0.6)
    assert outputs["acme/small"]["scores"] == {JUDGE.id: 0.8, other.id: 0.4}
    assert outputs["bravo/medium"]["score"] == pytest.approx(0.8)


def test_a_judge_of_the_vendor_is_refused_unless_told(router: CrossRouter) -> None:
    own = descriptor("acme/judge")
    with pytest.raises(PoolError, match=r"No judge may judge acme/large, acme/small.*--judge-own"):
        Collection.of(sums(1), router, judges=[own])
    found = Collection.of(sums(1), router, judges=[own], judge_own_vendor=True)
    assert found.judged_by == {"acme/judge": {*MODELS}}


def test_a_broken_verdict_is_asked_for_again_and_then_refused(router: CrossRouter) -> None:
    given = iter(["no idea", '{"A": 11, "B": 1, "C": 1}'])

    class Sloppy(Models):
        async def __call__(self, model: str, messages: Any, **more: Any) -> Answer:
            answer = await super().__call__(model, messages, **more)
            if model == JUDGE.id and (text := next(given, None)):
                return answer._replace(text=text)
            return answer

    models = Sloppy()
    found = collected(router, models, 1)
    assert models.count(JUDGE.id) == 3
    assert found.scores == 3
    assert found.spent_usd == pytest.approx(models.usd)

    given = iter(["{}"] * 9)
    models = Sloppy()
    found = collected(router, models, 1)
    assert models.count(JUDGE.id) == 3
    assert found.rows == []
    assert found.failures == {(JUDGE.id, "the verdict grades nothing, not A, B, C"): 1}
    assert found.spent_usd == pytest.approx(models.usd)


def test_a_judge_that_always_fails_ends_the_run(router: CrossRouter, tmp_path: Path) -> None:
    def refuse(_: str) -> str:
        raise ConnectionRefusedError("nobody there")

    models, out = Models({JUDGE.id: refuse}), tmp_path / "scored.jsonl"
    with pytest.raises(DataError, match=r"judge 'carat/judge' failed 5 times in a row: .*nobody"):
        collected(router, models, 30, out=out, at_once=1)
    assert models.count("acme/small") == 5
    found = collected(router, models := Models(), 30, out=out)
    assert models.count("acme/small") == 25
    assert len(found.rows) == 30


def test_empty_answers_are_worth_nothing_and_are_not_judged(router: CrossRouter) -> None:
    models = Models({"acme/small": lambda _: " "})
    (row,) = collected(router, models, 1).rows
    assert row["outputs"]["acme/small"]["score"] == 0
    assert row["outputs"]["acme/large"]["score"] == 1
    assert "<answer C" not in models.asked[-1][1]


# Money


def test_what_is_spent_never_exceeds_the_budget(router: CrossRouter) -> None:
    for seed in range(20):
        chance = random.Random(seed)
        models = Models()
        # Every answer is as long as it may be.
        models.tokens = None
        budget = chance.uniform(0.01, 0.4)
        found = collected(
            router,
            models,
            20,
            budget_usd=budget,
            max_tokens=1000,
            at_once=chance.randint(1, 9),
        )
        assert found.is_out_of_budget
        assert found.spent_usd == pytest.approx(models.usd)
        assert models.usd <= budget
        assert models.usd > budget - 0.06


def test_a_prompt_is_begun_only_if_it_looks_as_if_it_could_be_judged(router: CrossRouter) -> None:
    models = Models()
    collection = Collection.of(sums(1), router, judges=[JUDGE])
    # Enough for each answer, not for answers and judge.
    (most,) = [r.most_usd for r in collection.estimate(Journal(None, {})).rows if r.role == "judge"]
    found = collected(router, models, 3, budget_usd=most)
    assert found.is_out_of_budget
    assert not models.asked


def test_calls_that_break_off_count_in_full_and_errors_of_a_server_as_nothing(
    router: CrossRouter,
) -> None:
    class StatusError(Exception):
        status_code = 503

    for error, is_billed in [
        (TimeoutError("too late"), True),
        (StatusError("busy"), False),
        (ConnectionRefusedError("nobody there"), False),
    ]:

        def fail(_: str, error: Exception = error) -> str:
            raise error

        models = Models({"acme/small": fail})
        found = collected(router, models, 1, at_once=1)
        collection = Collection.of(sums(1), router, judges=[JUDGE])
        lost = 3 * collection.limit(0, "acme/small").most_usd
        assert models.count("acme/small") == 3
        assert found.spent_usd == pytest.approx(models.usd + (lost if is_billed else 0.0))
        assert sum(found.failures.values()) == 1
        assert found.rows[0]["outputs"].keys() == {"acme/large", "bravo/medium"}


def test_a_model_that_always_fails_does_not_stop_the_rest(router: CrossRouter) -> None:
    class NotFoundError(Exception):
        status_code = 404

    def fail(_: str) -> str:
        raise NotFoundError("no such model")

    models = Models({"acme/small": fail})
    found = collected(router, models, 12, at_once=1)
    assert models.count("acme/small") == 5
    assert found.failures == {("acme/small", "NotFoundError: no such model"): 5}
    assert [len(row["outputs"]) for row in found.rows] == [2] * 12


def test_models_without_a_price_are_refused_unless_told() -> None:
    learned = CrossRouter.default().pool["gpt-5.4-nano"].learned
    free = descriptor("acme/small", price=None, learned=learned)
    router = make_router(free, descriptor("bravo/medium"))
    with pytest.raises(DescriptorError, match=r"No price is known of acme/small.*--allow-unpriced"):
        Collection.of(sums(1), router, judges=[JUDGE])
    models = Models()
    found = collected(router, models, 1, allow_unpriced=True)
    assert "cost_usd" not in found.rows[0]["outputs"]["acme/small"]
    assert found.rows[0]["outputs"]["acme/small"]["output_tokens"] == 5


def test_an_answer_that_is_cut_off_by_us_is_not_scored(router: CrossRouter, tmp_path: Path) -> None:
    async def ask(model: str, messages: Any, *, max_tokens: int, schema: Any) -> Answer:
        asked.append(model)
        if schema:
            return Answer(json.dumps(dict.fromkeys(schema["properties"], 5)), (10, 5, 0, 0))
        needs = 700 if model == "acme/small" else 5
        return Answer("so", (10, min(needs, max_tokens), 0, 0), needs > max_tokens)

    asked: list[str] = []
    out = tmp_path / "scored.jsonl"
    given: dict[str, Any] = {"judges": [JUDGE], "budget_usd": 9.0, "out": out}
    for _ in range(2):
        found = collect(sums(1), router, ask, max_tokens=500, **given)
        assert found.rows[0]["outputs"].keys() == {"acme/large", "bravo/medium"}
    assert len(asked) == 4
    found = collect(sums(1), router, ask, max_tokens=1000, **given)
    assert found.rows[0]["outputs"].keys() == {*MODELS}
    # The judge sees all of them side by side again.
    assert asked[4:] == ["acme/small", JUDGE.id]
    assert len(out.read_text().splitlines()) == 1


def test_the_estimate_is_what_a_usual_run_costs(router: CrossRouter) -> None:
    collection = Collection.of(sums(4), router, judges=[JUDGE])
    estimate = collection.estimate(Journal(None, {}))
    predicted = router.predict([case.prompt for case in sums(4)])
    for row in estimate.rows:
        assert row.calls == 4
        assert row.expected_usd is not None
        assert 0 < row.expected_usd < row.most_usd
        if row.role == "answer":
            column = predicted.models.index(row.model)
            assert row.expected_usd == pytest.approx(predicted.cost_usd[:, column].sum())
    assert {row.model for row in estimate.rows} == {*MODELS, JUDGE.id}
    assert estimate.prompts == 4


# Breaks


def test_after_a_break_nothing_is_paid_twice(router: CrossRouter, tmp_path: Path) -> None:
    out = tmp_path / "scored.jsonl"
    stop_at = 5

    class Stopped(Models):
        async def __call__(self, *given: Any, **more: Any) -> Answer:
            if len(self.asked) == stop_at:
                raise asyncio.CancelledError
            return await super().__call__(*given, **more)

    first, second = Stopped(), Models()
    with pytest.raises(asyncio.CancelledError):
        collected(router, first, out=out, at_once=1)
    # The journal may end in the middle of a line.
    journal = out.with_suffix(".answers.jsonl")
    journal.write_bytes(journal.read_bytes() + b'{"ask": 99, "us')
    found = collected(router, second, out=out)
    asked = Counter(first.asked)
    assert sum(asked.values()) == stop_at
    prompts = {(model, prompt) for model, prompt in second.asked if model != JUDGE.id}
    assert not prompts & asked.keys()
    assert len(first.asked) + len(second.asked) == 24
    assert found.scores == 18
    # The call that broke off counts as if it had cost the most that it can.
    lost = found.spent_usd - first.usd - second.usd
    collection = Collection.of(sums(6), router, judges=[JUDGE])
    assert lost == pytest.approx(collection.limit(1, "acme/small").most_usd)
    # Once more: all is there, and the file is as it was.
    text = out.read_text()
    assert collected(router, third := Models(), out=out).rows == found.rows
    assert not third.asked
    assert out.read_text() == text
    assert len(text.splitlines()) == 6


def test_a_higher_budget_goes_on(router: CrossRouter, tmp_path: Path) -> None:
    out = tmp_path / "scored.jsonl"
    models = Models()
    models.tokens = None
    settings: dict[str, Any] = {"out": out, "max_tokens": 500}
    first = collected(router, models, 20, budget_usd=0.1, **settings)
    assert first.is_out_of_budget
    assert 0 < len(first.rows) < 20
    again = collected(router, models, 20, budget_usd=0.1, **settings)
    assert (again.rows, again.spent_usd) == (first.rows, pytest.approx(first.spent_usd))
    last = collected(router, models, 20, budget_usd=5.0, **settings)
    assert not last.is_out_of_budget
    assert len(last.rows) == 20
    assert Counter(models.asked).most_common(1)[0][1] == 1
    assert last.spent_usd == pytest.approx(models.usd)


def test_without_texts_scores_are_kept_all_the_same(router: CrossRouter, tmp_path: Path) -> None:
    out = tmp_path / "scored.jsonl"
    models = Models({"acme/small": lambda _: "SAID IN CONFIDENCE"})
    found = collected(router, models, out=out, keep_answers=False)
    written = out.read_text() + out.with_suffix(".answers.jsonl").read_text()
    assert "CONFIDENCE" not in written
    asked = len(models.asked)
    assert collected(router, models, out=out, keep_answers=False).rows == found.rows
    assert len(models.asked) == asked


def test_reasons_are_kept_where_they_are_asked_for(router: CrossRouter, tmp_path: Path) -> None:
    for keep in (False, True):
        out = tmp_path / f"{keep}.jsonl"
        found = collected(router, Models(), 1, out=out, keep_reasons=keep)
        output = found.rows[0]["outputs"]["acme/small"]
        assert output.get("reasons") == ({JUDGE.id: "So."} if keep else None)
        assert ("So." in out.with_suffix(".answers.jsonl").read_text()) is keep


def test_further_prompts_and_models_are_added(tmp_path: Path) -> None:
    out = tmp_path / "scored.jsonl"
    small = make_router(descriptor("acme/small"), descriptor("bravo/medium"))
    models = Models()
    collected(small, models, 2, out=out)
    collected(small, models, 4, out=out)
    assert models.count("acme/small") == 4
    found = collected(make_router(), models, 4, out=out)
    assert models.count("acme/small") == models.count("acme/large") == 4
    assert found.scores == 12
    assert [len(row["outputs"]) for row in map(json.loads, out.read_text().splitlines())] == [3] * 4
    # Prompts of before that are not in the file any more stay in the result.
    collected(make_router(), models, 1, out=out)
    assert len(RoutingData.load([out])) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"judges": [descriptor("dove/judge")]}, "another judges"),
        ({"rubric": "10: it rhymes"}, "another rubric"),
        ({"seed": 3}, "another seed: 0, not 3"),
        ({"answers_a_prompt": 2}, "another answers_a_prompt: None, not 2"),
        ({"scorers": [by_check()]}, "another scores"),
        ({"models": ["acme/small", "bravo/medium"]}, "collected from acme/large, too"),
    ],
)
def test_a_result_of_other_settings_is_refused(
    change: dict[str, Any], said: str, router: CrossRouter, tmp_path: Path
) -> None:
    out = tmp_path / "scored.jsonl"
    collected(router, Models(), 1, out=out)
    text, models = out.read_text(), Models()
    with pytest.raises(DataError, match=said):
        collected(router, models, 1, out=out, **change)
    assert not models.asked
    assert out.read_text() == text


def test_files_of_others_are_refused(router: CrossRouter, tmp_path: Path) -> None:
    out = tmp_path / "scored.jsonl"
    collection = Collection.of(sums(1), router, judges=[JUDGE])
    out.write_text("mine\n")
    with pytest.raises(DataError, match=r"is there already, without scored\.answers\.jsonl"):
        open_journal(collection, out)
    out.unlink()
    journal = out.with_suffix(".answers.jsonl")
    journal.write_text('{"mine": 1}\n')
    with pytest.raises(DataError, match=r"answers\.jsonl:1: not a line of a collection's journal"):
        open_journal(collection, out)
    journal.write_text('{"ask": 1, "most_usd": 1.0}\n')
    with pytest.raises(DataError, match=r"answers\.jsonl:1: not the journal of a collection"):
        open_journal(collection, out)
    with pytest.raises(DataError, match=r"ends in \.jsonl"):
        open_journal(collection, tmp_path / "scored.csv")


def test_two_runs_at_once_are_refused(router: CrossRouter, tmp_path: Path) -> None:
    collection = Collection.of(sums(1), router, judges=[JUDGE])
    out = tmp_path / "scored.jsonl"
    said = "another process is collecting into it"
    with open_journal(collection, out), pytest.raises(DataError, match=said):
        open_journal(collection, out)
    # Nothing was asked: nothing is left behind.
    assert [*tmp_path.iterdir()] == []


def test_so_many_calls_at_once_at_most_and_progress_is_told(router: CrossRouter) -> None:
    told: list[Progress] = []
    models = Models()
    found = collected(router, models, 12, at_once=4, tell=told.append)
    assert models.most_at_once == 4
    assert told[-1] == (12, 12, pytest.approx(found.spent_usd), 0)
    assert [now.spent_usd for now in told] == sorted(now.spent_usd for now in told)


# Which models are asked


def test_each_model_is_asked_equally_often_and_twice_the_same(router: CrossRouter) -> None:
    counts = []
    for _ in range(2):
        models = Models()
        found = collected(router, models, 10, answers_a_prompt=2)
        assert all(len(row["outputs"]) == 2 for row in found.rows)
        counts.append([(row["prompt"], [*row["outputs"]]) for row in found.rows])
        asked = [models.count(model) for model in MODELS]
        assert max(asked) - min(asked) <= 1
        assert sum(asked) == 20
    assert counts[0] == counts[1]
    # Prompts that are added leave the others as they are.
    more = Collection.of(sums(14), router, judges=[JUDGE], answers_a_prompt=2)
    fewer = Collection.of(sums(10), router, judges=[JUDGE], answers_a_prompt=2)
    assert list(more.chosen)[:10] == list(fewer.chosen)


def test_the_pair_whose_order_is_least_sure_is_asked() -> None:
    quality = np.array([[0.9, 0.5, 0.52, 0.1]])
    able = np.ones((1, 4), np.bool_)
    certain = np.zeros(4)
    assert tell_most(quality, certain, able, 2, ["a"], 0) == [[1, 2]]
    # One that is hardly known may be better than any.
    unsure = np.array([0.0, 0.0, 0.0, 30.0])
    assert 3 in tell_most(quality, unsure, able, 2, ["a"], 0)[0]
    able[0, 2] = False
    assert tell_most(quality, certain, able, 3, ["a"], 0) == [[0, 1, 3]]
    # Those that were left out come next, whatever is doubtful.
    rows = np.repeat(quality, 2, axis=0)
    assert tell_most(rows, certain, np.ones((2, 4), np.bool_), 2, ["a", "b"], 0)[1] == [0, 3]


def test_prompts_that_no_model_can_take_are_left_out() -> None:
    tiny = [descriptor(m, context_window_tokens=50) for m in ("acme/small", "bravo/medium")]
    router = make_router(*tiny)
    picture = Case.model_validate(
        {
            "prompt": [
                {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "?"}]}
            ]
        }
    )
    cases = [*sums(1), Case(prompt="word " * 100), picture]
    found = collected(router, Models(), cases=cases)
    assert len(found.rows) == 1
    assert sum(found.left_out.values()) == 2
    assert any("context window" in reason for reason in found.left_out)
    assert any("image_input" in reason for reason in found.left_out)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"answers_a_prompt": 1}, DataError, "answers_a_prompt is 1"),
        ({"max_tokens": 0}, DataError, "max_tokens is 0"),
        ({"budget_usd": -1.0}, DataError, "budget_usd is -1"),
        ({"budget_usd": math.nan}, DataError, "budget_usd is nan"),
        ({"at_once": 0}, DataError, "at_once is 0"),
        ({"models": []}, PoolError, "None of the models"),
        ({"models": ["acme/smal"]}, PoolError, "did you mean 'acme/small'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: dict[str, Any], error: type[CrossRouteError], said: str, router: CrossRouter
) -> None:
    with pytest.raises(error, match=said):
        collected(router, Models(), 1, **settings)


def test_a_disabled_model_may_be_measured_where_it_is_named() -> None:
    router = make_router(*(descriptor(m, disabled=m == "acme/small") for m in MODELS))
    assert "acme/small" not in Collection.of(sums(1), router, judges=[JUDGE]).models
    named = Collection.of(sums(1), router, ["acme/small", "bravo/medium"], judges=[JUDGE])
    assert named.chosen[0].keys() == {"acme/small", "bravo/medium"}


def test_prices_of_the_fakes_are_those_of_the_descriptors() -> None:
    price = JUDGE.price
    assert price == Price(input_usd_per_1m=PRICES[JUDGE.id] / 4, output_usd_per_1m=PRICES[JUDGE.id])


def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parents[2] / "docs" / "traffic" / "collect.md"
    text = page.read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    (prompts,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    Path("prompts.jsonl").write_text(prompts, "utf-8")
    folder = Path("my_models")
    folder.mkdir()
    for model in MODELS:
        descriptor(model).save(folder)
    JUDGE.save(tmp_path).rename("judge.yaml")
    exec(code, {"ask": Models()})
    assert capsys.readouterr().out.startswith("9 0.0")
    assert len(RoutingData.load(["scored.jsonl"])) == 3
    for link in re.findall(r"\]\(([^)#:]+)[^)]*\)", text):
        assert link == "https" or (page.parent / link).exists(), link
