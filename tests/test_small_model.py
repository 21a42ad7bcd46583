"""The questions to the small model, and the figures on its drafts, without the model itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from signals import SIGNALS, auroc_within, by_kind, by_signal, interval
from small_model import Question, Tokens, questions

from crossroute.evaluation.metrics import auroc

SUM = Question("sum", "What is 13 + 14? Reply with the number alone.", "27")
CAPITAL = Question("capital", "What is the capital of Peru?", "Lima")


def test_questions_are_different_and_those_of_the_seed() -> None:
    found = questions(200, seed=3)
    assert len({one.text for one in found}) == len(found) == 200
    assert found == questions(200, seed=3) != questions(200, seed=4)
    assert found[:20] == questions(200, seed=3)[:20]
    kinds = [one.kind for one in found]
    assert {*kinds} == {"sum", "story", "capital", "opposite", "letters"}
    assert min(map(kinds.count, kinds)) > 20


def test_answers_are_right() -> None:
    for one in questions(200):
        assert one.is_right(f"The answer is {one.answer}.")
        if one.kind == "sum":
            a, b = (int(part) for part in one.text.split("?")[0].split() if part.isdigit())
            assert a + b == int(one.answer)


@pytest.mark.parametrize(
    ("question", "text", "right"),
    [
        (SUM, "13 + 14 = 27", True),
        (SUM, "13 + 14 = 25", False),
        (SUM, "It is 27, of course.\n", True),
        (SUM, "I do not know", False),
        (CAPITAL, "The capital of Peru is Lima.", True),
        (CAPITAL, "**LIMA**", True),
        (CAPITAL, "Limassol", False),
        (CAPITAL, "", False),
    ],
)
def test_what_is_right(question: Question, text: str, right: bool) -> None:
    assert question.is_right(text) is right


def test_there_are_not_as_many_as_one_likes() -> None:
    with pytest.raises(ValueError, match=r"There are \d+ questions, not 30000; take fewer"):
        questions(30_000)


def test_tokens_since() -> None:
    assert Tokens(10, 4, 3).since(Tokens(7, 4, 1)) == Tokens(3, 0, 2)


# Figures


def test_an_easy_kind_is_no_merit_of_a_signal() -> None:
    kind = np.array(["a"] * 4 + ["b"] * 4)
    right = np.array([1.0, 1, 1, 0, 0, 0, 0, 1])
    value = np.array([0.9] * 4 + [0.1] * 4)
    assert auroc(value, right) > 0.7
    assert auroc_within(value, right, kind) == pytest.approx(0.5)
    assert auroc_within(right, right, kind) == pytest.approx(1.0)
    assert math.isnan(auroc_within(value[:3], right[:3], kind[:3]))


def test_intervals() -> None:
    chance = np.random.default_rng(0)
    right = (chance.random(400) < 0.4).astype(float)
    found = interval(auroc, (right + chance.normal(size=400), right), seed=0)
    # That of two normal distributions whose means are apart by one deviation.
    assert found.low < 0.76 < found.high
    assert 0.05 < found.high - found.low < 0.2
    assert str(found).count(".") == 3


def test_the_tables() -> None:
    chance = np.random.default_rng(1)
    rows = []
    for number in range(200):
        right = bool(chance.random() < 0.5)
        value = float(0.9 * right + 0.1 * chance.random())
        said: dict[str, float | None] = {signal.name: value for signal in SIGNALS}
        said["mean_logprob"] = value - 1
        said["p_true"] = value if number < 60 else None
        rows.append({"kind": f"k{number % 2}", "right": right, **said})
    kinds = by_kind(rows)
    assert [line.split(" | ")[0] for line in kinds[2:]] == ["| k0", "| k1", "| all"]
    assert "| 200 |" in kinds[-1]
    lines = {line.split("`")[1]: line for line in by_signal(rows, seed=0) if "`" in line}
    assert [*lines] == [signal.name for signal in SIGNALS]
    assert "| 100% | 1.00 (1.00-1.00) | 1.00 (1.00-1.00) |" in lines["mean_logprob"]
    # It can say nothing of those that are measured.
    assert lines["p_true"].startswith("| `p_true` | 0% |")
