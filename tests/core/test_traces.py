"""Ranking recorded traces, and exporting what TRL reads."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from crossroute import CrossRouter, DataError
from crossroute.errors import MissingExtraError
from crossroute.traces.duplicates import NearDuplicates
from crossroute.traces.export import Exported, Selection, export, write_rows
from crossroute.traces.personal_data import PersonalData
from crossroute.traces.rank import rank
from crossroute.traces.readability import reading_ease
from crossroute.traffic.records import CallRecord, Feedback

QUESTION = "What is 17 * 23?"
SECRET = "sk-proj-1234567890abcdefghij"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How it is.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ROLES = ("system", "user", "assistant", "tool")
NAMES = [
    "role",
    "content",
    "type",
    "text",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "args",
    "id",
]
Make = Callable[..., CallRecord]
Row = Mapping[str, Any]


@pytest.fixture
def make(toy_router: CrossRouter) -> Make:
    """Makes a trace of one ask, with feedback of a user."""
    decision = toy_router.route(QUESTION, math.inf).to_dict()
    count = iter(range(10**6))

    def make(
        text: str = "391",
        score: float | None = 1.0,
        tokens: int = 10,
        *,
        query: object = QUESTION,
        asks: Iterable[Row] | None = None,
        calls: object = None,
        **more: object,
    ) -> CallRecord:
        said = {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}
        record = CallRecord.model_validate(
            {
                "id": str(next(count)),
                "at": datetime.now(UTC),
                "query": query,
                "decision": decision,
                "model": "sage",
                "outcome": "answered",
                "asks": [ask(said=[said], handed_on=True)] if asks is None else asks,
                "output_tokens": tokens,
                "latency_s": 1.0,
                "answer": text,
                "trace": "kept",
                **more,
            }
        )
        if score is None:
            return record
        found = Feedback(id=record.id, at=record.at, score=score)
        return record.model_copy(update={"feedback": {"user": found}})

    return make


def ask(model: str = "sage", role: str = "answer", **more: object) -> dict[str, Any]:
    return {"model": model, "role": role, "input_tokens": 5, "output_tokens": 5, **more}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def call(name: str = "weather", **arguments: object) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": "1", "type": "function", "function": function}


def exported(records: Iterable[CallRecord], format_: str = "sft", **how: object) -> Exported:
    return export(rank(records), Selection(format_, **how), PersonalData())  # type: ignore[arg-type]


def loaded(rows: Iterable[dict[str, Any]], tmp_path: Path) -> datasets.Dataset:
    """Rows as TRL reads them: TRL itself decides by these columns, and by their types."""
    write_rows(rows, tmp_path / "rows.jsonl")
    return datasets.load_dataset(
        "json",
        data_files=str(tmp_path / "rows.jsonl"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
        # The types of columns are told by so many bytes; ten million, if it is not said.
        chunksize=100_000,
    )


# Ranking


def test_the_reward_is_quality_less_a_price_on_tokens(make: Make) -> None:
    records = [
        make("long", 1.0, tokens=100),
        make("short", 1.0, tokens=25),
        make("wrong", 0.0, tokens=50),
        make("alone", 1.0, tokens=80, query="Another one?"),
    ]
    found = rank(records, token_price=0.4)
    by_text = {one.record.answer: one for one in found.traces}
    assert [one.record.answer for one in found.traces] == ["short", "alone", "long", "wrong"]
    # By the longest of the same prompt; of a prompt with one trace, by the longest of all.
    shares = {text: one.share for text, one in by_text.items()}
    assert shares == pytest.approx({"long": 1, "short": 0.25, "wrong": 0.5, "alone": 0.8})
    assert by_text["short"].reward == pytest.approx(0.9)
    assert by_text["wrong"].reward == pytest.approx(-0.2)
    assert by_text["short"].readability is None
    assert by_text["short"].path == "answer sage"


def test_what_is_no_trace_with_feedback_is_counted(make: Make) -> None:
    records = [
        make(),
        make(score=None),
        make(trace=None),
        make(trace="too long"),
        make(outcome="failed"),
        make(outcome="left"),
        make(query=None),
    ]
    found = rank(records)
    assert (len(found.traces), found.calls, found.skipped.total()) == (1, 7, 6)
    assert found.skipped["without feedback"] == 1
    assert rank(records, source="judge").traces == []
    for price in (-1, math.nan, math.inf, True):
        with pytest.raises(DataError, match="token_price"):
            rank([], token_price=price)


def test_what_nobody_has_counted_is_not_free(make: Make) -> None:
    long, tool = "word " * 500, {"role": "tool", "content": "result " * 900}
    said = [{"role": "assistant", "content": None, "tool_calls": [call(city="Bonn")]}, tool]
    uncounted = ask(output_tokens=0, said=[*said, assistant(long)], handed_on=True)
    records = [make(long, tokens=0, asks=[uncounted]), make("short", tokens=15)]
    first, second = rank(records).traces
    assert (first.record.answer, first.tokens) == ("short", 15)
    # All that the agent said, and nothing that its tool gave.
    assert 400 < second.tokens < 700
    assert second.share == 1
    # An ask that was counted beside it stays as it is.
    counted = ask(role="draft", output_tokens=7, said=[assistant(long)])
    (both,) = rank([make(long, tokens=7, asks=[counted, uncounted])]).traces
    assert both.tokens == pytest.approx(second.tokens + 7)


def test_what_reads_easily_is_worth_more_on_request(make: Make) -> None:
    easy = "The cat sat on the mat. It was warm. The dog came in."
    hard = (
        "Notwithstanding considerable organisational heterogeneity, interdepartmental "
        "communication necessitates comprehensive administrative infrastructure"
    )
    first, second = rank([make(hard), make(easy)], readability=0.5).traces
    assert (first.record.answer, second.record.answer) == (easy, hard)
    assert first.readability is not None
    assert first.readability > 0.8 > 0.2 > (second.readability or 0)
    assert reading_ease("```\ncode(1)\n``` 17") == 0
    assert 0 <= reading_ease("word " * 100_000) <= 1


# Recipes


def test_the_best_are_to_be_imitated(make: Make) -> None:
    records = [make("It is 391.", 0.9), make("391", 1.0, tokens=5), make("371", 0.0)]
    found = exported(records)
    assert found.rows == [
        {"prompt": [{"role": "user", "content": QUESTION}], "completion": [assistant("391")]}
    ]
    assert found.skipped["beyond the most of a prompt"] == 1
    assert found.skipped["with a reward below 0.6"] == 1
    assert len(exported(records, most_a_prompt=2).rows) == 2
    assert exported(records, least_reward=1.5).rows == []


def test_a_pair_differs_in_reward_by_a_margin(make: Make) -> None:
    records = [make("391", 1.0, tokens=5), make("It is 391.", 0.9), make("371", 0.0)]
    (row,) = exported(records, "dpo").rows
    assert row["chosen"] == [assistant("391")]
    assert row["rejected"] == [assistant("371")]
    assert exported(records, "dpo", margin=1.2).rows == []
    # Just that margin, and just the least reward, though here 1 - 0.8 < 0.2 and 0.1 + 0.2 > 0.3.
    free = [make("391", 1.0, tokens=0), make("It is 391.", 0.8, tokens=0)]
    assert len(exported(free, "dpo", margin=0.2).rows) == 1
    assert exported(free, "dpo", margin=0.21).rows == []
    assert len(exported([make("A", 0.3, tokens=0)], least_reward=0.1 + 0.2).rows) == 1
    assert len(exported([make("A", 0.3)], recipe="sater", right_at=0.1 + 0.2).rows) == 1
    # Of a pair that says the same there is nothing to learn.
    assert exported([make("391", 1.0), make("391", 0.0)], "dpo").rows == []
    # Others are asked something else, by another system prompt, or have other tools.
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    others: list[dict[str, Any]] = [{"query": system}, {"tools": [TOOL]}]
    for other in others:
        assert exported([make("391"), make("371", 0.0, **other)], "dpo").rows == []
        assert len(exported([make("391", **other), make("371", 0.0, **other)], "dpo").rows) == 1
    assert exported([make("391"), make("371", 0.0, query="And 18 * 23?")], "dpo").rows == []


def test_the_shortest_right_answer_is_preferred_to_the_longest_wrong_one(make: Make) -> None:
    records = [
        make("It is 391, as 17 times 20 is 340.", 1.0),
        make("It is 391.", 0.7, tokens=500),
        make("371", 0.0),
        make("It is 371, as 17 times 20 is 320, and so on.", 0.2),
    ]
    (row,) = exported(records, "dpo", recipe="sater").rows
    assert row["chosen"] == [assistant("It is 391.")]
    assert row["rejected"] == [assistant("It is 371, as 17 times 20 is 320, and so on.")]
    (row,) = exported(records, recipe="sater").rows
    assert row["completion"] == [assistant("It is 391.")]
    found = exported(records, "dpo", recipe="sater", right_at=0.1, most_a_prompt=5)
    (row,) = found.rows
    assert row["rejected"] == [assistant("371")]
    assert exported(records[:2], "dpo", recipe="sater").skipped.total() == 2


@pytest.mark.parametrize("most_a_prompt", [1, 9])
@pytest.mark.parametrize("recipe", ["best", "sater"])
@pytest.mark.parametrize("format_", ["sft", "dpo"])
def test_each_example_is_in_the_rows_or_left_out_for_one_reason(
    format_: str, recipe: str, most_a_prompt: int, make: Make
) -> None:
    texts = ["391", "It is 391.", "It is 391!", "391", "371", "It is 371.", "It is 371, or so."]
    several = [make(text, float("391" in text)) for text in texts]
    others = [make("4", query="2 + 2?"), make("5", 0.0, query="2 + 3?"), make("", query="2 + 4?")]
    found = exported([*several, *others], format_, recipe=recipe, most_a_prompt=most_a_prompt)
    said = {message[0]["content"] for row in found.rows for message in list(row.values())[1:]}
    assert len(said) <= found.used
    assert found.examples == found.used + found.skipped.total() == 10
    if (format_, recipe, most_a_prompt) == ("sft", "sater", 1):
        assert found.skipped == {
            "beyond the most of a prompt": 3,
            "with a quality below 0.5": 3,
            "of a prompt without a right answer": 1,
            "answer: in which nothing was said": 1,
        }


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "orpo"},
        {"recipe": "worst"},
        {"margin": -1},
        {"right_at": 2},
        {"least_reward": math.nan},
        {"least_reward": "much"},
        {"near_duplicates": 0},
        {"most_a_prompt": 0},
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(wrong))):
        Selection(**{"format": "sft", **wrong})


# What is learned


def test_an_answer_of_several_asks_is_learned_whole(make: Make) -> None:
    cut = ask("poet", "draft", said=[assistant("It is 3")], handed_on=True)
    judge = {"role": "user", "content": "Is it right?"}
    asks = [
        cut,
        ask(role="judge", keep=[], then=[judge], said=[assistant("no")], handed_on=False),
        ask(then=[assistant("It is 3")], said=[assistant("91.")], handed_on=True),
        ask("clerk", "draft", error="RuntimeError", said=[]),
    ]
    record = make("It is 391.", asks=asks)
    (row,) = exported([record]).rows
    assert row["completion"] == [assistant("It is 391.")]
    assert row["prompt"] == [{"role": "user", "content": QUESTION}]
    found = exported([record], roles=frozenset({"draft", "judge"}))
    assert found.skipped["draft: which failed or were refused"] == 1
    said = {row["completion"][0]["content"]: row["prompt"] for row in found.rows}
    assert said == {"It is 3": [{"role": "user", "content": QUESTION}], "no": [judge]}
    with pytest.raises(DataError, match="no trace has an ask of the role 'planner'"):
        exported([record], roles=frozenset({"planner"}))


def test_calls_of_tools_that_the_caller_has_not_got_are_not_learned(make: Make) -> None:
    said = {**assistant("391"), "tool_calls": [call("ask_poet", question="17 * 23?")]}
    control = ask(role="control", tools=[TOOL], said=[said], handed_on=True)
    (row,) = exported([make(asks=[control])]).rows
    assert row["completion"] == [assistant("391")]
    (row,) = exported([make(asks=[control])], roles=frozenset({"control"})).rows
    assert row["completion"][0]["tool_calls"][0]["function"]["name"] == "ask_poet"


def test_the_course_of_an_agent_is_learned_with_its_tools(make: Make) -> None:
    run = [
        # As LangChain's messages have calls.
        {
            "role": "ai",
            "content": "",
            "tool_calls": [{"name": "weather", "args": {"city": "Bonn"}, "id": "7"}],
        },
        {"role": "tool", "content": [{"type": "text", "text": "Rain"}]},
        assistant("It rains."),
    ]
    record = make("It rains.", tools=[TOOL], asks=[ask(said=run, handed_on=True)])
    (row,) = exported([record]).rows
    function = {"name": "weather", "arguments": {"city": "Bonn"}}
    assert row["completion"] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "id": "7", "function": function}],
        },
        {"role": "tool", "content": "Rain", "tool_call_id": "7"},
        assistant("It rains."),
    ]
    assert json.loads(row["tools"]) == [TOOL]


@pytest.mark.parametrize("kind", ["retriever", "tool"])
def test_what_no_model_said_is_not_learned(kind: str, make: Make) -> None:
    shown = ask("handbook", kind=kind, said=[assistant("Chapter 1")], handed_on=True)
    draft = ask("handbook", "draft", kind=kind, said=[assistant("Chapter 1")])
    found = exported([make("Chapter 1", asks=[draft, shown])], roles=frozenset({"answer", "draft"}))
    said = f"of a {kind}, whose words are not those of a model"
    assert (found.rows, found.examples) == ([], 2)
    assert found.skipped == {f"answer: {said}": 1, f"draft: {said}": 1}
    agent = ask("booking", kind="agent", said=[assistant("Booked.")], handed_on=True)
    assert len(exported([make("Booked.", asks=[agent])]).rows) == 1


def test_what_was_not_recorded_is_not_learned(make: Make) -> None:
    image = [{"type": "text", "text": "What is it?"}, {"type": "image_url"}]
    records = [
        make(query=[{"role": "user", "content": image}]),
        make(query=[{"role": "wizard", "content": "Abracadabra."}]),
        make(""),
        make(query=[]),
        make(asks=[ask(said=[], handed_on=False)]),
        make(calls=["nonsense"]),
        make(calls=[call(deep=json.loads("[" * 200 + "]" * 200))]),
    ]
    found = exported(records)
    assert (found.rows, found.examples, found.used, found.skipped.total()) == ([], 7, 0, 7)
    assert found.skipped["answer: without a prompt"] == 1
    assert found.skipped["answer: with attachments, which are not recorded"] == 1
    hostile = ask(role="draft", keep=[0, 7], said=[assistant("x")])
    found = exported([make(asks=[hostile])], roles=frozenset({"draft"}))
    assert found.skipped["draft: with positions of messages that are not there"] == 1


JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(max_size=9)
    | strategies.sampled_from(
        ["user", "assistant", "tool", "text", "1", '{"a": [NaN]}', "bob@x.com"]
    ),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
MESSAGES = strategies.lists(
    strategies.dictionaries(strategies.sampled_from(NAMES), JSON, max_size=5), max_size=3
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(MESSAGES, MESSAGES, MESSAGES)
def test_whatever_a_file_holds_makes_rows_or_is_counted(
    make: Make, query: list[Any], said: list[Any], tools: list[Any]
) -> None:
    asked = [ask(said=said, then=query, tools=tools, handed_on=True), ask(role="draft", said=said)]
    records = [make(query=query, asks=asked, tools=tools), make("391", 0.0, query=query)]
    for format_ in ("sft", "dpo"):
        found = exported(records, format_, roles=frozenset({"answer", "draft"}))
        assert found.examples == found.used + found.skipped.total() >= 3
        for row in found.rows:
            json.dumps(row, allow_nan=False)
            assert all(message["role"] in ROLES for message in row["prompt"])


# Loading


def test_what_is_exported_is_loaded_by_datasets(make: Make, tmp_path: Path) -> None:
    """Though its messages differ in form, and the first of them are many."""
    plain = [make("word " * 3_000, query=f"What is {'x' * n}?") for n in range(60)]
    odd = {"n": 2**70, "x": [1, "a"], "y": None}
    tools = [
        make("", calls=[call(city="Bonn")], tools=[TOOL], query="Is it warm in Bonn?"),
        make("", calls=[call(**odd)], query="Call it oddly."),
        make("", calls=[{"name": "a", "args": {"x": math.inf}}], query="Call it more oddly."),
    ]
    rows = exported([*plain, *tools], near_duplicates=1).rows
    assert len(rows) == 63
    found = loaded(rows, tmp_path)
    assert set(found.column_names) == {"prompt", "completion", "tools"}
    assert len(found) == 63
    by_prompt = {row["prompt"][0]["content"]: row for row in found}
    row = by_prompt["Is it warm in Bonn?"]
    (said,) = row["completion"]
    assert said["tool_calls"][0]["function"]["arguments"] == {"city": "Bonn"}
    assert json.loads(row["tools"]) == [TOOL]
    (said,) = by_prompt["Call it oddly."]["completion"]
    assert said["tool_calls"][0]["function"]["arguments"] == {**odd, "n": str(2**70)}
    assert by_prompt["Call it oddly."]["tools"] is None


def test_pairs_are_loaded_by_datasets(make: Make, tmp_path: Path) -> None:
    records = [
        make("391", 1.0),
        make("371", 0.0),
        make("", 1.0, calls=[call(city="Bonn")], tools=[TOOL], query="Warm in Bonn?"),
        make("No.", 0.0, tools=[TOOL], query="Warm in Bonn?"),
    ]
    found = loaded(exported(records, "dpo").rows, tmp_path)
    assert set(found.column_names) == {"prompt", "chosen", "rejected", "tools"}
    by_prompt = {row["prompt"][0]["content"]: row for row in found}
    assert by_prompt[QUESTION]["chosen"] == [assistant("391")]
    called = by_prompt["Warm in Bonn?"]["chosen"][0]["tool_calls"][0]["function"]
    assert called == {"name": "weather", "arguments": {"city": "Bonn"}}
    assert by_prompt["Warm in Bonn?"]["rejected"] == [assistant("No.")]


def test_dates_are_loaded_as_they_are_written(make: Make, tmp_path: Path) -> None:
    records = [
        make(f"2026-11-0{day}", calls=calls, query=f"Which day is {day}?")
        for day in (1, 2)
        for calls in [[call(at=f"2026-11-0{day}T00:00:00")]]
    ]
    rows = exported(records).rows
    found = sorted(loaded(rows, tmp_path), key=lambda row: row["prompt"][0]["content"])
    assert [row["completion"][0]["content"] for row in found] == ["2026-11-01", "2026-11-02"]
    called = found[0]["completion"][0]["tool_calls"][0]["function"]
    assert called["arguments"] == {"at": "2026-11-01T00:00:00"}
    assert all("name" not in message for row in rows for message in row["completion"])


# Masking


def masked(text: str, *regions: str) -> str:
    return PersonalData(regions or ["US"]).masked(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bob@example.com, BOB@example.com, 'eve@x.org'", "<EMAIL_1>, <EMAIL_1>, '<EMAIL_2>'"),
        ("https://a.de/?m=bob%40x.com&n=1", "https://a.de/?m=<EMAIL_1>&n=1"),
        ("bob@\u200bexample.com", "<EMAIL_1>"),
        ("card 4111 1111 1111 1111 12/27", "card <CARD_1> 12/27"),
        ("5 4111-1111-1111-1111 123", "5 <CARD_1> 123"),
        ("4111\u00a01111\u00a01111\u00a01111", "<CARD_1>"),
        ("DE89 3704 0044 0532 0130 00 IS MY OWN", "<IBAN_1> IS MY OWN"),
        ("x='de89370400440532013000'", "x='<IBAN_1>'"),
        ("from 10.1.2.3 and 2001:db8::1, not 127.0.0.1", "from <IP_1> and <IP_2>, not 127.0.0.1"),
        ("const p='+49 151 23456789'; + 49 151 23456789", "const p='<PHONE_1>'; <PHONE_1>"),
        ("(212) 555-0123 or +12125550123", "<PHONE_1> or <PHONE_1>"),
        # Beside what might be a sum, or a part of a longer name.
        ("_bob@example.com_, bob@example.com-x", "<EMAIL_1>_, <EMAIL_2>-x"),
        ("4111 1111 1111 1111 12 27", "<CARD_1> 12 27"),
        ("5 cards: 4111111111111111 12/27", "5 cards: <CARD_1> 12/27"),
        ("[2125550123, 3125550199]", "[<PHONE_1>, <PHONE_2>]"),
        ("phone1=2125550123 / 3125550199", "phone1=<PHONE_1> / <PHONE_2>"),
        ("Room 5 - 2125550123 - 24 h", "Room 5 - <PHONE_1> - 24 h"),
        ("Room 5 **2125550123**", "Room 5 **<PHONE_1>**"),
        ("415-6667777, (212) 555 - 0123", "<PHONE_1>, <PHONE_2>"),
    ],
)
def test_personal_data_is_masked(text: str, found: str) -> None:
    assert masked(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "17 * 23 = 391; 4711 1234567 1764414294123",
        "4111 1111 1111 1112",
        "3.14159265358979323846",
        "std::dec, a::b, at 12:30:45 on 2026-11-29",
        "f(x) @ g.h, user at example dot com",
        "DE89370400440532013001",
        # Each holds what passes as the number of a phone or a card.
        "46368 * 75025 = 3478759200",
        "98389221*42553317=4186787710596057",
        "12345+12345678901=12358024579, 2085817 + 826881 = 2912698",
        "141397 - 99908, 88878437-31, 1125 - 38881805 = -38880680",
        "4885377 - 338702 = 4546675",
        "2125550123 / 2 = 1062775061.5; $2125550123, 0.2125550123",
        "e=2.718281828459045; 198.49335840 244.13393293 879.92675599; 369387/8469",
        "2 3 5 7 11 13 17 19 23 29 31 37",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert masked(text) == text


def test_arithmetic_stays() -> None:
    draw = random.Random(3)
    for _ in range(300):
        a, b = (draw.randint(10, 10 ** draw.randint(2, 9)) for _ in range(2))
        for text in (f"{a} * {b} = {a * b}", f"{a}+{b}={a + b}", f"{a} - {b} = {a - b}"):
            assert masked(text) == text


def test_regions_say_whose_numbers_are_found_without_a_country_code() -> None:
    assert masked("call 0151 23456789") == "call 0151 23456789"
    assert masked("call 0151 23456789", "US", "DE") == "call <PHONE_1>"
    with pytest.raises(DataError, match="phone region 'Germany'"):
        PersonalData(["Germany"])


def test_a_value_has_one_placeholder_in_an_example(make: Make) -> None:
    query = [
        {"role": "system", "content": "You are help@shop.com."},
        {"role": "user", "content": f"I am bob@x.com, key {SECRET}."},
    ]
    calls = [call(to="bob@x.com", card=4111111111111111, password="hunter2", note=SECRET)]
    records = [
        make("Mail to Bob@x.com.", query=query, calls=calls),
        make("Hi eve@x.com.", query="Say hi."),
    ]
    first, second = sorted(exported(records).rows, key=lambda row: -len(row["prompt"]))
    assert first["prompt"][0]["content"] == "You are <EMAIL_1>."
    assert first["prompt"][1]["content"] == "I am <EMAIL_2>, key ***"
    (said,) = first["completion"]
    assert said["content"] == "Mail to <EMAIL_2>."
    assert said["tool_calls"][0]["function"]["arguments"] == {
        "to": "<EMAIL_2>",
        "card": "<CARD_1>",
        "password": "***",
        "note": "***",
    }
    assert second["completion"] == [assistant("Hi <EMAIL_1>.")]
    kept = export(rank(records), Selection("sft")).rows
    assert "bob@x.com" in json.dumps(kept)
    assert SECRET not in json.dumps(kept)


def test_masking_takes_no_quadratic_time() -> None:
    """Hours, if it did."""
    for text in ("a." * 200_000 + "@", "a" * 400_000 + "@x.c", "x@" + "a." * 200_000):
        assert masked(text) == text


def test_the_packages_of_the_extra_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "stdnum.iban", None)
    with pytest.raises(MissingExtraError, match=r"crossroute\[traces\]"):
        PersonalData()


# Duplicates


def test_near_duplicates_are_those_of_a_high_jaccard_similarity() -> None:
    """Whatever is compared: the index finds each pair that there is."""
    draw = random.Random(7)
    for threshold in (0.5, 0.7, 0.9, 1.0):
        new, kept = NearDuplicates(threshold, ["a b a b", "a b a"]), []
        for _ in range(300):
            texts = [" ".join(draw.choices("ab", k=draw.randint(1, 7))) for _ in range(2)]
            alike = any(
                all(_jaccard(a, b) >= threshold for a, b in zip(texts, other, strict=True))
                for other in kept
            )
            assert new.add(*texts) == (not alike)
            kept += [] if alike else [texts]
        assert 10 < len(kept) < 300


def _jaccard(a: str, b: str) -> float:
    one, other = (
        {tuple(w[i : i + 3]) for i in range(max(len(w) - 2, 1))} for w in (a.split(), b.split())
    )
    return len(one & other) / len(one | other)


def test_near_duplicates_are_left_out(make: Make) -> None:
    system = {"role": "system", "content": "You are a helpful clerk. " * 50}
    story = (
        "Once upon a time there was a king who had three daughters, and they were all fair. " * 3
    )

    def asked(text: str) -> list[dict[str, str]]:
        return [system, {"role": "user", "content": text}]

    records = [
        make(story, query=asked("Tell me a story.")),
        make(story + "End.", query=asked("tell me  a story.")),
        # Though nearly all of the prompt is the same.
        make("391", query=asked("What is 17 * 23?")),
        make("391", query=asked("What is 23 * 17?")),
    ]
    found = exported(records)
    assert len(found.rows) == 3
    assert found.skipped["nearly the same as another"] == 1
    assert len(exported(records, near_duplicates=1).rows) == 4


def test_few_are_compared_or_masked(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many answers to one question, and of many pairs that say the same."""
    compared, masks = [], []
    alike, forget = NearDuplicates._alike, PersonalData.forget
    monkeypatch.setattr(NearDuplicates, "_alike", lambda *a: compared.append(1) or alike(*a))
    monkeypatch.setattr(PersonalData, "forget", lambda self: masks.append(1) or forget(self))
    texts = [f"a{place} b{place} c{place}" for place in range(100)]
    new = NearDuplicates(0.9, texts)
    assert all(new.add("Go on.", text) for text in texts)
    assert not compared
    records = [make(str(place % 4), float(place % 2), tokens=0) for place in range(40)]
    found = exported(records, "dpo", most_a_prompt=9)
    assert len(found.rows) == 4
    # Of 400 pairs of 40 examples.
    assert found.skipped == {"nearly the same as another": 36}
    assert len(masks) <= 5
