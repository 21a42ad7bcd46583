from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from crossroute import CrossRouter, NoCandidateError, Query, QueryError
from crossroute.query import (
    FORM_FEATURES,
    HEAD_CHARS,
    KIND_CHARS,
    TAIL_CHARS,
    TEXT_KIND_CHARS,
    clip,
    estimate_tokens,
)


def user(text: object) -> dict[str, object]:
    return {"role": "user", "content": text}


def system(text: object, role: str = "system") -> dict[str, object]:
    return {"role": role, "content": text}


@pytest.mark.parametrize(
    "empty", ["", "  \n", "\u200b\u200d", "\0", [], [user("")], [user(None)], [user([])]]
)
def test_blank_input_is_a_query_without_text(empty: object) -> None:
    query = Query.of(empty, tools="a tool")  # type: ignore[arg-type]
    assert query.is_blank
    assert (query.text, len(query.form)) == ("", len(FORM_FEATURES))
    assert 0 < query.input_tokens < 10
    assert not Query.of("?").is_blank


@pytest.mark.parametrize("kind", [["image"], {"a": 1}, None, 7])
def test_a_part_of_a_strange_type_needs_nothing(kind: object) -> None:
    assert Query.of([user([{"type": kind, "text": "hello"}])]).needs == frozenset()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"needs": ["tool"]}, "did you mean 'tools'"),
        ({"needs": [["tools"]]}, "no capability"),
        ({"output_tokens": "100"}, "whole number"),
        ({"output_tokens": -1}, "whole number"),
        ({"output_tokens": -(10**5000)}, "whole number"),
        ({"output_tokens": True}, "whole number"),
        ({"output_tokens": 1.5}, "whole number"),
    ],
)
def test_demands_that_make_no_sense_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(QueryError, match=said):
        Query.of("hello", **settings)


def test_a_longest_answer_without_end_is_no_limit(router: CrossRouter) -> None:
    query = Query.of("hello", output_tokens=10**400)
    with pytest.raises(NoCandidateError, match="1000000000"):
        router.route(query)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (42, "int"),
        (b"bytes", "bytes"),
        (["hello"], "Message 0 has no role"),
        ([{"content": "hello"}], "Message 0 has no role"),
        ([user("hi"), user(7)], "Message 1 has content of type int"),
        ([user([7])], "Message 0 has content of type list"),
    ],
)
def test_what_is_no_query_is_named(bad: object, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        Query.of(bad)  # type: ignore[arg-type]


def test_the_form_has_one_number_a_feature() -> None:
    assert len(Query.of("Why?").form) == len(FORM_FEATURES)


def test_a_prompt_and_one_user_message_are_the_same_query() -> None:
    assert Query.of("Why is the sky blue?") == Query.of([user("Why is the sky blue?")])


def test_of_a_conversation_the_last_question_is_routed_and_all_is_counted() -> None:
    question = "Prove that there are infinitely many prime numbers."
    conversation = [
        {"role": "system", "content": "You are terse."},
        user("Name a few animals that live in the woods near here."),
        {"role": "assistant", "content": "Fox, badger, wren."},
        user(question),
    ]
    query = Query.of(conversation)
    assert query.text == question
    assert query.input_tokens > Query.of(question).input_tokens


def test_a_short_follow_up_is_read_with_what_it_follows() -> None:
    question = "Prove that there are infinitely many prime numbers, please."
    query = Query.of([user(question), {"role": "assistant", "content": "Shall I?"}, user("yes")])
    assert query.text == f"{question}\nyes"


def test_tool_calls_and_parts_are_read() -> None:
    query = Query.of(
        [
            user(
                [
                    {"type": "text", "text": "What is in this picture of the garden, exactly?"},
                    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                ]
            ),
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "tool", "content": "a long result"},
        ]
    )
    assert query.text == "What is in this picture of the garden, exactly?"


def test_the_end_of_a_long_prompt_is_kept() -> None:
    long = "filler words here. " * 10_000 + "What is the capital of France?"
    query = Query.of(long)
    assert query.text.endswith("What is the capital of France?")
    assert len(query.text) <= HEAD_CHARS + TAIL_CHARS + 1


def test_any_text_is_a_query() -> None:
    for text in ("\ud800 hi", "🦊", "x" * 1_000_000, "שלום", "a\0b"):
        assert Query.of(text).text


def test_a_follow_up_without_spaces_is_not_short() -> None:
    turns = ["请解释一下量子纠缠是什么意思并举一个例子", "请写一首关于大海的诗要押韵四行"]
    assert Query.of([user(turn) for turn in turns]).text == turns[1]


def test_clip_leaves_a_short_text_alone() -> None:
    assert clip("x" * (HEAD_CHARS + TAIL_CHARS)) == "x" * (HEAD_CHARS + TAIL_CHARS)


def test_the_token_estimate_grows_with_the_text_and_survives_clipping() -> None:
    sentence = "The quick brown fox jumps over the lazy dog. "
    assert estimate_tokens("") == 0
    assert 8 <= estimate_tokens(sentence) <= 13
    assert estimate_tokens(sentence * 5_000) == pytest.approx(
        5_000 * estimate_tokens(sentence), rel=0.02
    )


def test_other_scripts_have_tokens_too() -> None:
    assert estimate_tokens("为什么天空是蓝色的") > 5


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_system_prompt_says_the_kind_of_task(role: str) -> None:
    told = "You label tickets by topic."
    query = Query.of([system(told, role), user("My invoice is wrong.")])
    assert (query.text, query.kind) == ("My invoice is wrong.", told)
    parts = [{"type": "text", "text": told}]
    assert Query.of([system(parts, role), user("My invoice is wrong.")]).kind == told


def test_all_system_prompts_are_joined_and_clipped() -> None:
    talk = [system("Label tickets."), user("Which topic is this one of?"), system(" "), system("!")]
    assert Query.of(talk).kind == "Label tickets.\n\n!"
    assert Query.of([system("x" * 9_000), user("Why?")]).kind == "x" * KIND_CHARS


@pytest.mark.parametrize("blank", ["", " \n", None, []])
def test_without_a_system_prompt_the_text_says_the_kind(blank: object) -> None:
    long = "Why is the sky blue? " * 100
    for query in (long, [user(long)], [system(blank), user(long)]):
        assert Query.of(query).kind == long[:TEXT_KIND_CHARS]  # type: ignore[arg-type]


def test_a_lone_system_prompt_is_routed_and_says_its_own_kind() -> None:
    told = "Write 300 words about the sea. " * 100
    query = Query.of([system(told)])
    assert (query.text, query.kind) == (told, told[:KIND_CHARS])
    assert query.asked == pytest.approx(405)


def test_a_blank_query_has_no_kind() -> None:
    assert Query.of([system("You label tickets by topic."), user(" ")]).kind == ""
    assert Query.of("").kind == ""


def test_what_is_sent_beside_the_text_has_the_kind_of_the_system_prompt() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    assert Query.of([system("You caption pictures."), user([image])]).kind == (
        "You caption pictures."
    )


def test_the_length_is_asked_by_the_user_else_by_the_system_prompt() -> None:
    told, question = system("Answer in one sentence."), "Why is the sky blue?"
    assert Query.of(question).asked is None
    assert Query.of([told, user(question)]).asked == pytest.approx(25)
    assert Query.of([told, user(f"{question} Write 300 words.")]).asked == pytest.approx(405)


def test_the_kind_is_a_text_that_can_be_encoded() -> None:
    assert Query.of([system("label \ud800 it"), user("Why?")]).kind == "label ? it"


@pytest.mark.parametrize("asked", [-1, float("nan"), float("inf"), "100", True])
def test_a_length_that_makes_no_sense_is_named(asked: object) -> None:
    with pytest.raises(QueryError, match="asked is"):
        Query("x", (), 1, asked=asked)  # type: ignore[arg-type]


def test_no_answer_may_be_asked_for(router: CrossRouter) -> None:
    query = replace(Query.of("Why?"), asked=0)
    assert np.isfinite(router.predict([query]).quality).all()
