"""fit_context: what stays under a budget, and what stays together."""

# ruff: noqa: ANN401  # Messages hold anything.

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from llama_index.core.utils import get_tokenizer

from crossroute import ConstraintError, ContextError, CrossRouteError, ModelDescriptor, QueryError
from crossroute.context import (
    ATTACHMENT_TOKENS,
    MESSAGE_TOKENS,
    ContextWeights,
    FittedContext,
    TextAttention,
    count_tokens,
    fit_context,
)
from crossroute.context.names import names
from crossroute.context.tokens import message_text, message_tokens

Dict = dict[str, Any]
ROOT = Path(__file__).parents[2]


def words(text: str) -> int:
    return len(text.split())


def says(role: str, text: str, **more: Any) -> Dict:
    return {"role": role, "content": text, **more}


def calls(*ids: str, name: str = "look_up") -> Dict:
    made = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for id_ in ids
    ]
    return {"role": "assistant", "content": None, "tool_calls": made}


def result(id_: str, text: str) -> Dict:
    return {"role": "tool", "tool_call_id": id_, "content": text}


SYSTEM = says("system", "You look after a house.")
CAT = says("user", "My cat is called Tom and eats only fish.")
RAIN = says("user", "In Paris it rains all day, with storms in the evening.")
ASKED = says("user", "What does the cat eat?")


# What stays


def test_what_the_question_is_about_stays() -> None:
    messages = [SYSTEM, CAT, RAIN, RAIN, RAIN, ASKED]
    least = sum(message_tokens(message) for message in (SYSTEM, CAT, ASKED))
    fitted = fit_context(messages, budget_tokens=least)
    assert fitted.kept == (0, 1, 5)
    assert all(
        ours is theirs for ours, theirs in zip(fitted.messages, [*messages[:2], ASKED], strict=True)
    )
    assert (fitted.tokens, fitted.budget_tokens) == (least, least)
    assert fitted.tokens_before == sum(map(message_tokens, messages))
    assert set(fitted.dropped) == {2, 3, 4}
    assert "no room" in fitted.dropped[2]


def test_where_all_fits_all_stays_and_nothing_is_compared() -> None:
    class Untouched:
        name, dimension = "untouched", 2

        def encode(self, texts: object) -> Any:
            raise AssertionError

    messages = [SYSTEM, CAT, RAIN, ASKED]
    attention = TextAttention(Untouched())
    fitted = fit_context(messages, budget_tokens=10_000, attention=attention)
    assert (fitted.kept, fitted.dropped) == ((0, 1, 2, 3), {})
    assert fitted.tokens == fitted.tokens_before


def test_system_prompts_wherever_they_stand_and_all_after_the_question_stay() -> None:
    late = says("developer", "Be short.")
    loop = [calls("a"), result("a", "fish " * 50), calls("b")]
    messages = [SYSTEM, RAIN, late, RAIN, ASKED, *loop]
    least = sum(message_tokens(one) for one in (SYSTEM, late, ASKED, *loop))
    fitted = fit_context(messages, budget_tokens=least)
    assert fitted.kept == (0, 2, 4, 5, 6, 7)
    with pytest.raises(ContextError) as raised:
        fit_context(messages, budget_tokens=least - 1)
    assert (raised.value.tokens, raised.value.budget_tokens) == (least, least - 1)
    assert f"{least} tokens, 1 more than budget_tokens={least - 1}" in str(raised.value)
    assert isinstance(raised.value, CrossRouteError)


def test_without_a_user_the_last_message_is_the_question() -> None:
    messages = [says("assistant", "The cat eats fish."), says("assistant", "It rains."), calls("a")]
    fitted = fit_context(
        [*messages, result("a", "The cat")], budget_tokens=message_tokens(messages[0]) + 40
    )
    # The last message is a result: its call stays with it.
    assert {2, 3} <= set(fitted.kept)


def test_nothing_to_fit() -> None:
    fitted = fit_context([], budget_tokens=5)
    assert fitted == FittedContext([], (), {}, 0, 0, 5)


def test_a_message_too_long_makes_room_for_smaller_ones() -> None:
    long = says("user", "The cat eats fish. " * 200)
    fitted = fit_context([long, CAT, RAIN, ASKED], budget_tokens=60)
    assert fitted.kept == (1, 2, 3)


def test_texts_that_cannot_be_encoded_and_long_ones() -> None:
    odd = [says("user", text) for text in ("\ud800", "x" * 100_000, "\x00", "🙂" * 999, " ")]
    for count in (count_tokens, lambda text: len(text.encode())):
        fitted = fit_context([*odd, says("user", "\udfff?")], budget_tokens=60, count=count)
        assert fitted.tokens <= 60
        assert 5 in fitted.kept


# Tools


def test_a_call_and_its_results_stay_or_go_together() -> None:
    pair = [calls("a", "b"), result("b", "Tom the cat eats fish."), result("a", "The cat is grey.")]
    messages = [SYSTEM, *pair, RAIN, ASKED]
    whole = sum(message_tokens(one) for one in (SYSTEM, *pair, ASKED))
    assert fit_context(messages, budget_tokens=whole).kept == (0, 1, 2, 3, 5)
    assert fit_context(messages, budget_tokens=whole - 1).kept == (0, 4, 5)


def test_a_result_that_comes_late_belongs_to_its_call() -> None:
    messages = [calls("a"), CAT, result("a", "Rain."), ASKED]
    tight = fit_context(messages, budget_tokens=message_tokens(CAT) + message_tokens(ASKED))
    assert tight.kept == (1, 3)
    # After the question it stays, and so does its call.
    messages = [CAT, calls("a"), ASKED, result("a", "Rain.")]
    needed = sum(map(message_tokens, messages[1:]))
    assert fit_context(messages, budget_tokens=needed).kept == (1, 2, 3)


def test_the_same_id_again_and_again() -> None:
    messages = [
        *(calls("call_0"), result("call_0", "Tom the cat eats fish.")),
        *(calls("call_0"), result("call_0", "In Paris it rains.")),
        ASKED,
    ]
    needed = sum(message_tokens(messages[place]) for place in (0, 1, 4))
    assert fit_context(messages, budget_tokens=needed).kept == (0, 1, 4)


def test_results_without_an_id_follow_their_call() -> None:
    old = {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "cat", "arguments": '{"eats": "?"}'},
    }
    messages = [RAIN, old, {"role": "function", "name": "cat", "content": "It eats fish."}, ASKED]
    needed = sum(map(message_tokens, messages[1:]))
    assert fit_context(messages, budget_tokens=needed).kept == (1, 2, 3)


def test_a_result_without_a_call_is_dropped_and_said() -> None:
    messages = [result("gone", "Tom the cat eats fish."), CAT, ASKED]
    fitted = fit_context(messages, budget_tokens=10_000)
    assert fitted.kept == (1, 2)
    assert "call" in fitted.dropped[0]


def test_a_result_without_a_call_is_dropped_after_the_question_too() -> None:
    messages = [ASKED, calls("a"), result("a", "It eats fish."), result("gone", "It rains.")]
    fitted = fit_context(messages, budget_tokens=10_000)
    assert fitted.kept == (0, 1, 2)
    assert "call" in fitted.dropped[3]
    assert fit_context([result("gone", "It rains.")], budget_tokens=99).kept == ()


def test_calls_without_an_id_have_the_name_of_what_they_call() -> None:
    made = {"role": "assistant", "content": "", "tool_calls": [{"name": "cat", "id": None}]}
    other = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "sky", "arguments": "{}"}}],
    }
    messages = [made, result("cat", "Tom eats fish."), other, result("sky", "Rain."), ASKED]
    assert fit_context(messages, budget_tokens=999).kept == (0, 1, 2, 3, 4)
    needed = sum(message_tokens(messages[place]) for place in (0, 1, 4))
    assert fit_context(messages, budget_tokens=needed).kept == (0, 1, 4)


def test_a_call_without_a_result_is_a_message_like_others() -> None:
    messages = [calls("a", "b"), result("a", "x"), ASKED]
    assert fit_context(messages, budget_tokens=999).kept == (0, 1, 2)


def conversation(random: Random) -> list[Dict]:
    """Tools, in all the ways in which they can be out of order."""
    vocabulary = [
        "cat",
        "fish",
        "rain",
        "Paris",
        "für",
        "価格",
        "42",
        "{}",
        "def f():\n    pass",
        "",
    ]
    found: list[Dict] = [SYSTEM] if random.random() < 0.7 else []
    for _ in range(random.randrange(14)):
        text = " ".join(random.choices(vocabulary, k=random.randrange(30)))
        kind = random.random()
        if kind < 0.4:
            found.append(says(random.choice(["user", "assistant"]), text))
            continue
        ids = random.choices(["a", "b", "c", f"id{len(found)}"], k=random.randrange(1, 4))
        turn = [calls(*ids), *(result(id_, text) for id_ in random.sample(ids, len(ids)))]
        if kind > 0.9:
            turn.pop(random.randrange(len(turn)))
        if kind > 0.95:
            random.shuffle(turn)
        found += turn
    if random.random() < 0.9:
        found.append(ASKED)
    return found


@pytest.mark.parametrize("seed", range(300))
def test_budgets_and_pairs_hold_in_whatever_conversation(seed: int) -> None:
    random = Random(seed)
    messages = conversation(random)
    budget = random.randrange(1, 400)
    try:
        fitted = fit_context(messages, budget_tokens=budget)
    except ContextError as error:
        fitted = fit_context(messages, budget_tokens=error.tokens)
        budget = error.tokens
    assert fitted.tokens <= budget
    assert fitted.tokens == sum(map(message_tokens, fitted.messages))
    assert sorted({*fitted.kept, *fitted.dropped}) == [*range(len(messages))]
    assert not {*fitted.kept} & {*fitted.dropped}
    assert [*fitted.kept] == sorted(fitted.kept)
    kept = {id(message) for message in fitted.messages}
    open_ids: set[str] = set()
    for position, message in enumerate(messages):
        made = {call["id"] for call in message.get("tool_calls", ())}
        if made:
            open_ids = made
            last = position
        elif message["role"] == "tool" and message["tool_call_id"] in open_ids:
            # Right after its call: where one is, there is the other.
            assert (position in fitted.kept) == (last in fitted.kept)
        else:
            open_ids = set()
    for message in fitted.messages:
        if message["role"] == "tool":
            assert any(
                message["tool_call_id"] == call["id"]
                for other in fitted.messages
                for call in other.get("tool_calls", ())
            )
    assert all(id(message) in kept for message in messages if message["role"] == "system")


# Scores


def test_a_role_in_words() -> None:
    sums = says("assistant", "The invoice adds up to 4,310 euros, value added tax included.")
    law = says("assistant", "The contract is void if the seller did not sign it.")
    messages = [sums, law, says("user", "Go on.")]
    budget = max(map(message_tokens, (sums, law))) + message_tokens(messages[2])
    weights = ContextWeights(role=5.0)
    for role, place in (
        ("an accountant who checks sums, taxes and invoices", 0),
        ("a lawyer who reads contracts and signatures", 1),
    ):
        fitted = fit_context(messages, budget_tokens=budget, role=role, weights=weights)
        assert fitted.kept == (place, 2)


@pytest.mark.parametrize("stage", ["draft", {"draft": 0.9, "plan": 0.1}])
@pytest.mark.parametrize("key", ["stage", "metadata"])
def test_stages(stage: Any, key: str) -> None:
    def at(name: str) -> Dict:
        return says("assistant", "Done.", **{key: name if key == "stage" else {"stage": name}})

    messages = [at("draft"), at("plan"), at("plan"), says("user", "Go on.")]
    budget = message_tokens(messages[0]) + message_tokens(messages[3])
    weights = ContextWeights(stage=2.0)
    fitted = fit_context(messages, budget_tokens=budget, stage=stage, weights=weights)
    assert fitted.kept == (0, 3)


def test_of_equal_messages_the_more_recent_stays() -> None:
    messages = [*[says("assistant", "Done.")] * 5, says("user", "Go on.")]
    budget = 2 * message_tokens(messages[0]) + message_tokens(messages[5])
    for weights in (ContextWeights(), ContextWeights(recency=0), ContextWeights(half_life=1e-3)):
        assert fit_context(messages, budget_tokens=budget, weights=weights).kept == (3, 4, 5)


def test_what_is_a_name() -> None:
    found = names("What did Paul and the zqxv do in 1984, please? Since then: INV-17, in York.")
    assert found == {"paul", "zqxv", "1984", "inv", "17", "york"}
    assert names("") == frozenset()
    assert names("ich \u4fa1\u683c") >= {"\u4fa1\u683c"}


def test_a_name_leads_from_one_message_to_the_next() -> None:
    def told(*facts: str) -> list[Dict]:
        return [says("assistant", fact) for fact in facts]

    messages = [
        *told("Kavostro lives on a boat called Melti.", "Tibor lives on a boat called Quilan."),
        *told("The Quilan was painted green.", "The Melti was painted red."),
        says("user", "Where does Tibor live, and what colour is it?"),
    ]
    budget = sum(message_tokens(messages[place]) for place in (1, 2, 4))
    assert fit_context(messages, budget_tokens=budget).kept == (1, 2, 4)


def test_a_first_word_that_questions_share_is_no_name() -> None:
    other = says("user", "What about the bill for the roof?")
    messages = [CAT, other, ASKED]
    budget = message_tokens(CAT) + message_tokens(ASKED)
    assert fit_context(messages, budget_tokens=budget).kept == (0, 2)


def test_blank_questions_go_by_recency() -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    messages = [CAT, RAIN, image]
    budget = message_tokens(RAIN) + ATTACHMENT_TOKENS + MESSAGE_TOKENS
    assert fit_context(messages, budget_tokens=budget).kept == (1, 2)


# Tokens


def test_what_a_message_counts() -> None:
    assert message_tokens(says("user", "one two"), words) == MESSAGE_TOKENS + 2
    assert message_tokens(says("user", ""), words) == MESSAGE_TOKENS
    parts = [{"type": "text", "text": "one two"}, {"type": "image_url", "image_url": {}}, "three"]
    many = {"role": "user", "content": parts, "name": "Ann"}
    assert message_tokens(many, words) == MESSAGE_TOKENS + ATTACHMENT_TOKENS + 4
    assert message_tokens({"role": "assistant"}, words) == MESSAGE_TOKENS
    # What a model reads of a call, and parts of no known type.
    assert '"arguments": "{}"' in message_text(calls("a"))
    thought = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}]}
    assert "Hm." in message_text(thought)


@pytest.mark.parametrize("kind", ["tool_use", "function_call", "tool_call"])
def test_a_call_that_the_content_repeats_is_counted_once(kind: str) -> None:
    call = {"type": kind, "id": "a", "name": "look_up", "input": {"what": "fish " * 20}}
    part = {"role": "assistant", "content": [call]}
    assert message_tokens({**calls("a"), "content": [call]}) == message_tokens(calls("a"))
    assert message_tokens(part) > 20


def test_calls_that_are_no_json_are_counted() -> None:
    loop: Dict = {}
    loop["self"] = loop
    for call in ({("a",): 1}, loop):
        assert message_tokens({"role": "assistant", "tool_calls": [call]}) > MESSAGE_TOKENS


def test_a_message_without_the_form_of_one_is_not_counted() -> None:
    with pytest.raises(QueryError, match="Message 7"):
        message_tokens({"role": "user", "content": 3}, position=7)


@pytest.mark.parametrize(
    "text", ["", " ", "🙂" * 50, "\ud800", "a" * 10_000, "\n" * 99, "\uff11\uff12", "\x00"]
)
def test_any_text_can_be_counted(text: str) -> None:
    assert count_tokens(text) >= 0
    assert count_tokens(text + " word") > 0


def test_a_long_text_is_counted_by_its_beginning_and_end() -> None:
    text = "The town council met on Tuesday, at 7:30.\n"
    assert count_tokens(text * 20_000) == pytest.approx(200 * count_tokens(text * 100), rel=0.01)


def test_the_estimate_is_near_a_real_tokenizer() -> None:
    tokenize = get_tokenizer()
    code = "for name, value in found.items():\n    total += value * 2  # in USD\n" * 5
    table = "\n".join(f"| {n} | {n * 37.5:.2f} | {n**5} |" for n in range(40))
    prose = "The town council met on Tuesday to talk about the bridge that was closed in May. " * 4
    for text in (code, table, prose, json.dumps({"city": "Paris", "days": [1, 2, 3]}) * 5):
        assert count_tokens(text) == pytest.approx(len(tokenize(text)), rel=0.12)


@pytest.mark.parametrize(
    "text",
    [
        "ACGTTGCA" * 500,
        "x" * 10_000,
        "\n" * 5_000,
        " " * 5_000 + "x",
        "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND RUNS ON. " * 20,
        "\u2200x\u2208\u211d: x\u00b2 \u2265 0 \u2227 \u2211\u03b1\u1d62 \u2264 \u221e " * 20,
        "გამარჯობა " * 50,
    ],
)
def test_no_text_is_counted_far_too_low(text: str) -> None:
    assert count_tokens(text) >= 0.85 * len(get_tokenizer()(text))


def test_no_language_is_counted_too_low() -> None:
    texts = yaml.safe_load((ROOT / "benchmarks" / "data" / "languages.yaml").read_text("utf-8"))
    assert len(texts) > 15
    for language, text in texts.items():
        assert count_tokens(text) >= 0.94 * len(get_tokenizer()(text)), language


@pytest.mark.parametrize("pattern", ["docs/**/*.md", "shared/**/*.py", "benchmarks/**/*.yaml"])
def test_the_estimate_keeps_a_budget_by_a_real_tokenizer(pattern: str) -> None:
    tokenize, random = get_tokenizer(), Random(0)
    whole = "".join(path.read_text("utf-8") for path in sorted(ROOT.glob(pattern)))
    messages = [
        says("user", whole[start : start + random.randrange(20, 900)])
        for start in random.sample(range(len(whole)), 60)
    ]
    fitted = fit_context([*messages, ASKED], budget_tokens=2_000)
    assert fitted.tokens > 1_900
    real = sum(MESSAGE_TOKENS + len(tokenize(one["content"])) for one in fitted.messages)
    assert real <= 1.05 * 2_000


@pytest.mark.parametrize("seed", range(20))
def test_a_real_tokenizer_keeps_the_budget_to_the_token(seed: int) -> None:
    tokenize = get_tokenizer()

    def count(text: str) -> int:
        return len(tokenize(text))

    messages = [SYSTEM, *conversation(Random(seed)), ASKED]
    fitted = fit_context(messages, budget_tokens=150, count=count)
    again = sum(MESSAGE_TOKENS + count(message_text(one)) for one in fitted.messages)
    assert again == fitted.tokens <= 150


def test_a_models_window_is_a_budget() -> None:
    model = ModelDescriptor(id="small", context_window_tokens=100, max_output_tokens=10)
    messages = [*[RAIN] * 20, ASKED]
    assert fit_context(messages, model=model).budget_tokens == 90
    assert fit_context(messages, model=model, budget_tokens=50).budget_tokens == 50
    assert fit_context(messages, model=model, budget_tokens=500).budget_tokens == 90
    # An answer as long as the window would leave nothing.
    long = ModelDescriptor(id="long", context_window_tokens=100, max_output_tokens=100)
    assert fit_context(messages, model=long).budget_tokens == 75
    unknown = ModelDescriptor(id="unknown")
    assert fit_context(messages, model=unknown, budget_tokens=50).budget_tokens == 50
    with pytest.raises(ConstraintError, match="context_window_tokens"):
        fit_context(messages, model=unknown)


# What is refused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "budget_tokens is None"),
        ({"budget_tokens": 0}, "budget_tokens is 0"),
        ({"budget_tokens": True}, "budget_tokens is True"),
        ({"budget_tokens": 9.5}, "budget_tokens is 9.5"),
        ({"budget_tokens": 99, "role": " "}, "role is ' '"),
        ({"budget_tokens": 99, "stage": ""}, "stage is ''"),
        ({"budget_tokens": 99, "stage": {"plan": 2}}, "'plan': 2"),
        ({"budget_tokens": 99, "stage": {1: 1.0}}, "stage holds 1"),
        ({"budget_tokens": 99, "count": 3}, "count is 3"),
        ({"budget_tokens": 99, "weights": {"names": 1}}, "weights is {'names': 1}"),
        ({"budget_tokens": 99, "attention": "x"}, "attention is 'x'"),
        ({"budget_tokens": 99, "model": "gpt"}, "model is 'gpt'"),
        ({"budget_tokens": 99, "count": lambda text: -1}, "has -1 tokens"),
        ({"budget_tokens": 99, "count": lambda text: float("nan")}, "has nan tokens"),
        ({"budget_tokens": 99, "count": lambda text: None}, "has None tokens"),
    ],
)
def test_arguments_that_make_no_sense(settings: Dict, said: str) -> None:
    with pytest.raises(ConstraintError) as raised:
        fit_context([CAT, ASKED], **settings)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "messages", ["text", [{"content": "x"}], [3], None, [{"role": "user", "content": 3}]]
)
def test_what_are_no_messages(messages: Any) -> None:
    with pytest.raises(QueryError):
        fit_context(messages, budget_tokens=99)


@pytest.mark.parametrize("name", ["meaning", "role", "stage", "recency", "half_life"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, "1"])
def test_weights_that_make_no_sense(name: str, value: Any) -> None:
    with pytest.raises(ConstraintError, match=name):
        ContextWeights(**{name: value})


def test_no_half_life() -> None:
    with pytest.raises(ConstraintError, match="half_life is 0"):
        ContextWeights(half_life=0)


def test_a_tool_loop_leaves_what_is_kept_alone_for_a_quarter_of_the_budget() -> None:
    """So that a provider's prompt cache holds."""
    talk = [
        {"role": role, "content": f"Of matter {place} we say this and that, at some length. " * 3}
        for place in range(40)
        for role in ("user", "assistant")
    ]
    talk.append({"role": "user", "content": "And what of matter 7?"})
    kept = []
    for step in range(9):
        call = {"id": f"{step}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        talk.append({"role": "assistant", "content": "", "tool_calls": [call]})
        talk.append({"role": "tool", "content": f"matter {step} " * 8, "tool_call_id": f"{step}"})
        found = fit_context(talk, budget_tokens=800)
        assert found.tokens <= 800
        kept.append(tuple(place for place in found.kept if place <= 80))
    assert len(set(kept)) <= 4
    assert len(kept[0]) > len(kept[-1]) > 1
    # It changes once, and stays so.
    assert [a == b for a, b in pairwise(kept)].count(False) == len(set(kept)) - 1
