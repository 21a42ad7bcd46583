"""The measurement of suffixes: that its search climbs, and that its harmless edits are harmless."""

from __future__ import annotations

import re
import runpy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossroute import CrossRouter

BENCHMARK: Any = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "suffixes.py"))
EDITS, SUFFIXES, CHARS = (BENCHMARK[name] for name in ("EDITS", "SUFFIXES", "SUFFIX_CHARS"))
search, random_tokens, appended = (
    BENCHMARK[name] for name in ("search", "random_tokens", "appended")
)
POLITE = {"please", "thank", "you"}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_the_prompts_are_many_and_differ() -> None:
    texts = BENCHMARK["load"]()
    assert len(texts) >= 60
    assert len(set(texts)) == len(texts)
    assert any(system for system, _ in texts)
    assert all(user.strip() for _, user in texts)


@pytest.mark.parametrize("name", EDITS)
def test_a_harmless_edit_adds_nothing_but_politeness(name: str) -> None:
    for _, text in BENCHMARK["load"]():
        edited = EDITS[name](text)
        assert edited != text or text == text.lower()
        assert [word for word in words(edited) if word not in POLITE] == [
            word for word in words(text) if word not in POLITE
        ]
        # Double spaces aside.
        assert len(re.sub(" +", " ", edited)) <= len(text) + len(" Thank you!")


def test_the_suffixes_are_no_longer_than_the_searched_ones() -> None:
    assert all(len(suffix) <= CHARS for suffix in SUFFIXES.values())


def test_the_search_finds_what_a_toy_objective_wants() -> None:
    chance = np.random.default_rng(0)
    tokens = ["gold", *(f"t{i}" for i in range(50))]
    start = ["t0", "t1", "t2", "t3"]
    suffix, value = search(
        lambda suffixes: np.array([float(s.split().count("gold")) for s in suffixes]),
        tokens,
        start,
        chance,
        steps=60,
        candidates=40,
        chars=40,
    )
    assert suffix == "gold gold gold gold"
    assert value == 4


def test_the_search_keeps_to_the_length() -> None:
    chance = np.random.default_rng(0)
    tokens = ["a", "a-very-long-token"]
    start = random_tokens(tokens, chance, chars=30)
    assert 0 < len(" ".join(start)) <= 30
    suffix, value = search(
        lambda suffixes: np.array([float(len(s)) for s in suffixes]),
        tokens,
        ["a"] * 5,
        chance,
        steps=20,
        chars=30,
    )
    assert len(suffix) == value <= 30
    assert "a-very-long-token" in suffix


def test_the_search_raises_its_objective_on_a_router(router: CrossRouter) -> None:
    models = ["gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "gemini-3.1-flash-lite"]
    attack = BENCHMARK["Attack"](router.subset(models), BENCHMARK["load"]()[::6])
    objective = partial(attack.soft_bills, willingness_to_pay=0.03)
    tokens = ["prove", "theorem", "poem", "3", "*", "=", "?", "hello", "sum", "rhyme"]
    start = ["hello"] * 6
    suffix, value = search(objective, tokens, start, np.random.default_rng(0), steps=12)
    before, after = objective([" ".join(start), suffix])
    assert after == pytest.approx(value)
    assert after > before + 1e-3


def test_a_suffix_moves_nothing_where_all_prompts_are_unfamiliar(toy_router: CrossRouter) -> None:
    attack = BENCHMARK["Attack"](toy_router, BENCHMARK["load"]()[::6])
    for suffix in SUFFIXES.values():
        assert attack.effect(appended(suffix), 0.003) == (0.0, 1.0)


def test_an_edit_that_changes_nothing_has_no_effect(toy_router: CrossRouter) -> None:
    attack = BENCHMARK["Attack"](toy_router, BENCHMARK["load"]()[::6])
    assert attack.effect(str, 0.01) == (0.0, 1.0)
    moved, bill = attack.effect(appended(SUFFIXES["code fence"]), 0.01)
    assert 0 <= moved <= 1
    assert bill > 0
