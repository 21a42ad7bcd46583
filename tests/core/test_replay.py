"""The benchmark of strategies: models are replayed as recorded, on rows with known outcomes."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay import Prompt, Replay, call, prompts_of, said, shown_in
from replay_roles import BLIND, SURE, UNSURE, Judges, controlling, guesses, judging, knowing, knows

from crossroute.decision import CandidateScore, Decision
from crossroute.models.descriptor import ModelDescriptor
from crossroute.query import estimate_tokens
from crossroute.strategies import Ask, Flow, Mixture, PickOne, Show, Task, Vote, drive
from crossroute.training.data import RoutingData, Row

BENCHMARK: Any = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "strategies.py"))
FullMixture, Routing, Single = (BENCHMARK[name] for name in ("FullMixture", "Routing", "Single"))

PRICES = {"small": (1.0, 2.0), "middle": (3.0, 6.0), "large": (10.0, 30.0)}
"""USD per 1M input and output tokens."""
TOKENS = {"small": 40, "middle": 100, "large": 200}
SENT = 50
SAID = [
    # small, middle, large; what is right
    ("1", "1", "1", "1"),
    ("2", "2", "3", "2"),
    ("4", "5", "5", "5"),
    ("6", "", "7", "7"),
    ("8", "9", "10", "10"),
    ("11,000", "11000", "12", "12"),
]
POOL = {
    model: ModelDescriptor.model_validate(
        {"id": model, "price": {"input_usd_per_1m": sent, "output_usd_per_1m": made}}
    )
    for model, (sent, made) in PRICES.items()
}


def usd(model: str, sent: float = SENT, made: float | None = None) -> float:
    made = TOKENS[model] if made is None else made
    return (sent * PRICES[model][0] + made * PRICES[model][1]) / 1e6


@pytest.fixture
def prompts() -> list[Prompt]:
    rows, answers = [], {}
    for i, (*labels, right) in enumerate(SAID):
        answers[str(i)] = dict(zip(PRICES, labels, strict=True))
        outputs = {
            model: {
                "score": float(label.replace(",", "") == right),
                "cost_usd": usd(model),
                "output_tokens": TOKENS[model],
            }
            for model, label in answers[str(i)].items()
        }
        row = {"id": str(i), "prompt": f"Question {i}?", "outputs": outputs, "input_tokens": SENT}
        rows.append(Row.model_validate(row))
    data = RoutingData.from_rows(rows)
    candidates = tuple(
        CandidateScore(model, quality, usd(model), quality)
        for model, quality in (("large", 0.8), ("middle", 0.6), ("small", 0.4))
    )
    decision = Decision("large", 0.8, usd("large"), candidates, 0.1, "linear", SENT)
    return prompts_of(data, answers, [decision] * len(data), POOL)


@pytest.mark.parametrize("model", PRICES)
def test_one_model_is_replayed_as_it_answered_for_what_it_cost(
    model: str, prompts: list[Prompt]
) -> None:
    found = [call(prompt, Single(model)) for prompt in prompts]
    place = list(PRICES).index(model)
    assert [one.score for one in found] == [
        float(row[place].replace(",", "") == row[3]) for row in SAID
    ]
    assert [one.cost_usd for one in found] == pytest.approx([usd(model)] * len(SAID))
    assert [one.asks for one in found] == [1] * len(SAID)


def test_plain_routing_bills_the_whole_answer_though_it_looks_at_its_beginning(
    prompts: list[Prompt],
) -> None:
    found = [call(prompt, PickOne()) for prompt in prompts]
    assert [one.cost_usd for one in found] == pytest.approx([usd("large")] * len(SAID))
    assert [one.score for one in found] == [1, 0, 1, 1, 1, 1]


def test_a_vote_counts_answers_that_are_alike(prompts: list[Prompt]) -> None:
    vote = Vote(tuple(PRICES), extract=said, weights="equal", early_stop=False)
    found = [call(prompt, vote) for prompt in prompts]
    # All alike; two right; two right; all apart, and one of nothing; all apart; two wrong.
    assert [one.score for one in found] == [1, 1, 1, 1, 1, 0]
    assert [one.cost_usd for one in found] == pytest.approx([sum(map(usd, PRICES))] * len(SAID))
    early = Vote(tuple(PRICES), extract=said, weights="equal", in_turn=True)
    assert [call(prompt, early).asks for prompt in prompts] == [2, 2, 3, 3, 3, 2]


def test_an_aggregator_says_what_most_say_and_of_equals_its_own(prompts: list[Prompt]) -> None:
    found = [call(prompt, FullMixture("large")) for prompt in prompts]
    # Its own draft counts once, and breaks the ties of the fourth and the fifth.
    assert [one.score for one in found] == [1, 1, 1, 1, 1, 0]
    assert [call(prompt, FullMixture("small")).score for prompt in prompts] == [1, 1, 1, 0, 0, 0]
    assert [one.asks for one in found] == [4] * len(SAID)
    drafts = sum(map(usd, PRICES))
    for one in found:
        # It reads the drafts, whose tokens are estimated from their texts, and writes an answer.
        read = (one.cost_usd - drafts - usd("large")) / PRICES["large"][0] * 1e6
        assert read == pytest.approx(sum(TOKENS.values()), rel=0.2)


def test_an_aggregator_that_knows_takes_what_is_right_if_anybody_says_it(
    prompts: list[Prompt],
) -> None:
    found = [call(prompt, FullMixture("small"), {"answer": knowing}) for prompt in prompts]
    assert [one.score for one in found] == [1] * len(SAID)
    alone = Replay(prompts[1])
    assert knowing(alone, Ask("large")).score == 0


def test_one_that_has_not_drafted_has_a_vote_beside_the_drafts(prompts: list[Prompt]) -> None:
    replay = Replay(prompts[4])
    shown = {"role": "user", "content": replay.prompt.answers["small"].text}
    assert said(replay.answer(Ask("large", then=(shown,))).text) == "10"
    both = ({"role": "user", "content": f"{shown['content']}\n{shown['content']}"},)
    outvoted = replay.answer(Ask("large", then=both))
    assert (said(outvoted.text), outvoted.score) == ("8", 0)
    assert shown_in(Ask("large", then=both)) == ["8", "8"]


def test_a_stream_that_is_left_costs_the_prompt_and_what_came(prompts: list[Prompt]) -> None:
    class Looks:
        def answer(self, task: Task) -> Flow:
            yield Ask("large", until=lambda reply: estimate_tokens(reply.text) > 50, role="probe")
            return (yield Ask("small"))

    found = call(prompts[0], Looks())
    made = (found.cost_usd - usd("small") - usd("large", made=0)) / PRICES["large"][1] * 1e6
    assert 50 <= made <= 70
    assert found.score == 1


def test_a_limit_on_output_cuts_the_answer_and_its_cost(prompts: list[Prompt]) -> None:
    class Begins:
        def answer(self, task: Task) -> Flow:
            return (yield Ask("large", settings={"max_tokens": 20}))

    assert call(prompts[2], Begins()).cost_usd == pytest.approx(usd("large", made=20))
    replay = Replay(prompts[2])
    (part,) = drive(prompts[2].task, Begins().answer(prompts[2].task), replay)
    assert said(part.text) == "5"
    assert estimate_tokens(part.text) == pytest.approx(20, abs=4)


def test_an_answer_that_is_passed_on_is_as_right_as_the_one_that_was_heard(
    prompts: list[Prompt],
) -> None:
    # Two say the same, of which the grader took one.
    answers = {**prompts[0].answers}
    answers["middle"] = answers["middle"]._replace(score=0.0)
    replay = Replay(replace(prompts[0], answers=answers))
    assert replay.score("1") == pytest.approx(2 / 3)
    for model, score in (("large", 1.0), ("middle", 0.5)):
        replay.exchange(Ask(model, role="draft"), {})
        assert replay.score("1") == score
    assert (replay.score("2"), replay.score(None)) == (0.0, 0.0)


def test_an_answer_has_the_recorded_length(prompts: list[Prompt]) -> None:
    for prompt in prompts:
        for one in prompt.answers.values():
            assert estimate_tokens(one.text) == pytest.approx(one.output_tokens, abs=5)
            assert said(one.text) == one.says


def test_judges_know_how_often_answers_like_their_own_are_right(prompts: list[Prompt]) -> None:
    judges = Judges.of(prompts)
    # Middle says as large does in the first and the third, which are right; small in the first.
    assert judges.alike["large"] == 1
    # Of its other peers' answers: two right of 2 and 2, none of 4, 6, 8, 9, 11000 and 11000.
    assert judges.other["large"] == pytest.approx(2 / 8)
    assert judges.own["large"] == pytest.approx(5 / 6)
    assert judges.score("large", prompts[2], "5", is_own=False) == 1
    assert judges.score("large", prompts[2], "4", is_own=False) == pytest.approx(2 / 8)
    assert judges.score("large", prompts[2], "5", is_own=True) == pytest.approx(5 / 6)
    assert judges.score("large", prompts[2], None, is_own=True) == 0


def test_a_judge_that_never_met_its_own_answer_knows_nothing(prompts: list[Prompt]) -> None:
    large = {model: replace_says(prompt) for model, prompt in zip(PRICES, prompts, strict=False)}
    assert Judges.of([*large.values()]).alike["large"] == BLIND


def replace_says(prompt: Prompt) -> Prompt:
    alone = prompt.answers["large"]._replace(says="alone")
    return replace(prompt, answers={**prompt.answers, "large": alone})


def test_a_judge_scores_what_it_is_shown(prompts: list[Prompt]) -> None:
    judges, replay = Judges.of(prompts), Replay(prompts[2])
    texts = [prompts[2].answers[model].text for model in PRICES]
    several = Ask("large", then=({"role": "user", "content": "\n\n".join(texts)},), role="judge")
    assert judging(judges)(replay, several).text == "1: 0.250\n2: 1.000\n3: 1.000"
    assert judging(None)(replay, several).text == "1: 0.500\n2: 0.500\n3: 0.500"
    own = Ask(
        "large",
        then=({"role": "assistant", "content": texts[2]}, {"role": "user", "content": "Sure?"}),
        role="judge",
    )
    assert judging(judges)(replay, own).text == "0.833"


def test_a_mixture_stops_or_is_aggregated(prompts: list[Prompt]) -> None:
    roles = {"judge": judging(Judges.of(prompts))}
    sure = call(prompts[2], Mixture(rounds=1, stop_above=0.5), roles)
    # Three drafts and three self-scores: the best draft is large's.
    assert (sure.asks, sure.score) == (6, 1)
    mixed = call(prompts[5], Mixture(rounds=1, stop_above=None, aggregator="large"), roles)
    # Two of three drafts are alike and wrong: so is what is made of them.
    assert (mixed.asks, mixed.score) == (4, 0)


def test_log_probabilities_come_where_they_are_asked_for(prompts: list[Prompt]) -> None:
    class Watches:
        def answer(self, task: Task) -> Flow:
            reply = yield Ask(
                "small", settings={"logprobs": True}, until=lambda reply: len(reply.logprobs) >= 20
            )
            assert set(reply.logprobs) == {-2.0}
            assert 20 <= len(reply.logprobs) < TOKENS["small"]
            shown = yield Show(reply, end=3)
            assert shown is reply
            return (yield Ask("large"))

    found = call(prompts[2], Watches(), sureness=lambda prompt, model: -2.0)
    assert (found.score, found.asks) == (1, 2)


def test_a_signal_knows_what_is_wrong_or_guesses(prompts: list[Prompt]) -> None:
    assert [knows(prompt, "small") == SURE for prompt in prompts] == [1, 1, 0, 0, 0, 0]
    models = [str(place) for place in range(2_000)]
    low = [guesses(0.3)(prompts[0], model) == UNSURE for model in models]
    assert low == [guesses(0.3)(prompts[0], model) == UNSURE for model in models]
    assert np.mean(low) == pytest.approx(0.3, abs=0.05)
    assert not any(guesses(0.0)(prompts[0], model) == UNSURE for model in models)
    assert all(guesses(1.0)(prompts[0], model) == UNSURE for model in models)


def test_a_scripted_controller_passes_the_question_on_and_takes_what_it_hears(
    prompts: list[Prompt],
) -> None:
    tools = [
        {
            "type": "function",
            "function": {"name": f"ask_{model}", "description": f"Asks {model}: quality 0.5"},
        }
        for model in ("large", "middle")
    ]
    replay = Replay(prompts[2])
    first = controlling(2)(replay, Ask("small", tools=tools, role="control"))
    assert [one.name for one in first.calls] == ["ask_large", "ask_middle"]
    assert {one.arguments["question"] for one in first.calls} == {"Question 2?"}
    assert first.tokens == pytest.approx(2 * estimate_tokens("Question 2?"))
    heard = "\n".join(prompts[2].answers[model].text for model in ("large", "middle"))
    told = ({"role": "user", "content": heard},)
    last = controlling(2)(replay, Ask("small", then=told, tools=tools, role="control"))
    assert (said(last.text), last.score, last.calls) == ("5", 1, ())
    one = controlling(1)(replay, Ask("small", tools=tools, role="control"))
    assert [call.name for call in one.calls] == ["ask_large"]
    heard = prompts[2].answers["large"].text
    told = ({"role": "user", "content": heard},)
    last = controlling(1)(replay, Ask("small", then=told, tools=tools, role="control"))
    assert (said(last.text), last.score, last.tokens) == ("5", 1, TOKENS["small"])
    # The router prefers nobody to it.
    itself = controlling(1)(replay, Ask("large", tools=tools[1:], role="control"))
    assert (said(itself.text), itself.calls) == ("5", ())


def test_who_has_not_got_the_prompt_pays_for_its_question_alone(prompts: list[Prompt]) -> None:
    class Asks:
        def answer(self, task: Task) -> Flow:
            told = {"role": "user", "content": "What is it?"}
            return (yield Ask("large", keep=(), then=(told,)))

    found = call(prompts[0], Asks())
    assert found.cost_usd == pytest.approx(usd("large", round(estimate_tokens("What is it?"))))


def test_plain_routing_at_a_cost_is_a_mix_of_two_willingnesses_to_pay() -> None:
    score = np.array([[0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
    routing = Routing(score, np.array([[1.0] * 4, [3.0] * 4]))
    assert routing.at_cost(1.5).tolist() == [0.25, 1.0, 0.25, 0.75]
    assert routing.at_cost(0.5).tolist() == score[0].tolist()
    assert routing.at_cost(9.0).tolist() == score[1].tolist()
