"""SharedMemory: what several agents write, and what each of them reads."""

# ruff: noqa: ANN401  # Content is anything that JSON has.

from __future__ import annotations

import doctest
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import crossroute.context.shared_memory
from crossroute import ConstraintError
from crossroute.context import ContextWeights, MemoryItem, SharedMemory, count_tokens, fit_items


def words(text: str) -> int:
    return len(text.split())


@pytest.fixture
def memory() -> SharedMemory:
    made = SharedMemory()
    made.add("The invoice 4711 is of 4 March.", author="reader", stage="read")
    made.add("The weather in Paris is fine.", author="chatter")
    made.add({"invoice": 4711, "sum": 4310, "paid": None}, author="accountant", stage="check")
    return made


def test_items_say_who_wrote_them_and_at_which_stage(memory: SharedMemory) -> None:
    assert len(memory) == 3
    assert [item.text for item in memory.items()] == [
        "reader (read): The invoice 4711 is of 4 March.",
        "chatter: The weather in Paris is fine.",
        'accountant (check): {"invoice": 4711, "sum": 4310, "paid": null}',
    ]
    times = [item.written for item in memory.items()]
    assert times == sorted(times)
    assert all(time.tzinfo for time in times)


def test_an_agent_reads_what_its_question_is_about(memory: SharedMemory) -> None:
    question = "Is invoice 4711 paid?"
    found = memory.items(budget_tokens=17, question=question, count=words)
    assert [item.author for item in found] == ["reader", "accountant"]
    assert sum(words(item.text) for item in found) <= 17
    assert memory.items(budget_tokens=1, question=question) == []


def test_a_role_and_a_stage(memory: SharedMemory) -> None:
    weights = ContextWeights(recency=0, role=3, stage=3)
    sky = memory.items(budget_tokens=8, role="forecasts the weather", count=words, weights=weights)
    assert [item.author for item in sky] == ["chatter"]
    read = memory.items(budget_tokens=10, stage="read", count=words, weights=weights)
    assert [item.author for item in read] == ["reader"]
    read = memory.items(budget_tokens=10, stage={"read": 1.0}, count=words, weights=weights)
    assert [item.author for item in read] == ["reader"]


def test_the_budget_holds_for_the_lines_together() -> None:
    memory = SharedMemory()
    for number in range(200):
        memory.add(
            f"Reading {number} of sensor {number % 7} is {number * 1.7:.1f} degrees.", author="a"
        )
    for budget in (1, 20, 100, 333):
        items = memory.items(budget_tokens=budget, question="What does sensor 3 say?")
        assert count_tokens("\n".join(item.text for item in items)) <= budget
    assert [item.content for item in items] == [
        item.content for item in memory.items() if item in items
    ]


def test_many_threads_write() -> None:
    memory = SharedMemory()

    def write(author: str) -> None:
        for number in range(50):
            memory.add(number, author=author)
            memory.items(budget_tokens=10)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, map(str, range(8))))
    items = memory.items()
    assert len(memory) == len(items) == 400
    for author in map(str, range(8)):
        assert [item.content for item in items if item.author == author] == list(range(50))
    assert [item.written for item in items] == sorted(item.written for item in items)


def test_an_item_does_not_change_with_what_it_was_made_from() -> None:
    content = {"found": [1, 2]}
    memory = SharedMemory()
    memory.add(content, author="a")
    content["found"].append(3)
    assert memory.items()[0].content == {"found": [1, 2]}


@pytest.mark.parametrize("content", ["", " ", "価格は百円", "\ud800", [], None, 1.5, {"a": [True]}])
def test_odd_contents(content: Any) -> None:
    memory = SharedMemory()
    assert memory.add(content, author="ä").content == content
    assert len(memory.items(budget_tokens=1_000, question="?")) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"content": object(), "author": "a"}, "content"),
        ({"content": float("nan"), "author": "a"}, "content"),
        ({"content": {1: 2}, "author": "a"}, "content"),
        ({"content": "x", "author": ""}, "author"),
        ({"content": "x", "author": " "}, "author"),
        ({"content": "x", "author": 3}, "author"),
        ({"content": "x", "author": "a", "stage": ""}, "stage"),
    ],
)
def test_what_cannot_be_written(given: dict[str, Any], said: str) -> None:
    memory = SharedMemory()
    with pytest.raises(ConstraintError, match=said):
        memory.add(**given)
    assert len(memory) == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"budget_tokens": 0}, "budget_tokens is 0"),
        ({"budget_tokens": 9, "role": ""}, "role is ''"),
        ({"budget_tokens": 9, "stage": 3}, "stage is 3"),
        ({"count": None}, "count is None"),
    ],
)
def test_what_cannot_be_asked(memory: SharedMemory, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConstraintError) as raised:
        memory.items(**settings)
    assert said in str(raised.value)


def test_nothing_written() -> None:
    assert fit_items([], budget_tokens=5) == []
    assert SharedMemory().items() == []


def test_an_item_survives_json(memory: SharedMemory) -> None:
    for item in memory.items():
        assert MemoryItem.model_validate_json(item.model_dump_json()) == item


def test_the_docstring_example_runs() -> None:
    done = doctest.testmod(crossroute.context.shared_memory)
    assert done == doctest.TestResults(failed=0, attempted=4)


def test_a_number_that_cannot_be_written_is_refused_at_once() -> None:
    memory = SharedMemory()
    with pytest.raises(ConstraintError, match="A memory item"):
        memory.add({"n": 10**5000}, author="a")
    memory.add("It is so.", author="a")
    assert [item.content for item in memory.items()] == ["It is so."]
