from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes_core import Run
from numpy.typing import NDArray

from crossroute import (
    BudgetPacer,
    CandidateScore,
    ConstraintError,
    CrossRouter,
    Decision,
    ModelDescriptor,
    ModelPool,
    NoCandidateError,
    PoolError,
    Query,
    Stay,
)
from crossroute.evaluation.evaluate import evaluate
from crossroute.exploration import Exploration
from crossroute.traffic.records import RecordedDecision
from crossroute.training.data import RoutingData

SUM = "What is 4711 * 12 + 99?"


def agent(id_: str, **facts: object) -> ModelDescriptor:
    given = {"kind": "agent", "description": f"Serves {id_}.", **facts}
    return ModelDescriptor.model_validate({"id": id_, **given})


def test_an_agent_needs_no_embedding_and_counts_as_its_descriptor_says(
    toy_router: CrossRouter,
) -> None:
    pool = ModelPool(
        [
            *toy_router.pool.values(),
            agent("booking", expected_quality=0.75, cost_usd_a_call=0.002),
            agent("archive", kind="retriever", expected_quality=0.25),
            agent("weather", kind="tool", cost_usd_a_call=0.5),
        ]
    )
    router = toy_router.over(pool)
    found, before = router.predict([SUM, "hi"]), toy_router.predict([SUM, "hi"])
    column = {model: j for j, model in enumerate(found.models)}
    models = [column[model] for model in before.models]
    np.testing.assert_array_equal(found.quality[:, models], before.quality)
    np.testing.assert_array_equal(found.cost_usd[:, models], before.cost_usd)
    agents = [column[one] for one in ("booking", "archive", "weather")]
    # An unknown quality is the mean of the agents', an unknown cost that of the dearest candidate.
    np.testing.assert_allclose(found.quality[:, agents], [[0.75, 0.25, 0.5]] * 2)
    np.testing.assert_allclose(found.cost_usd[:, agents], [[0.002, 0.5, 0.5]] * 2)
    assert np.isnan(found.output_tokens[:, agents]).all()


def test_where_no_agent_says_its_quality_the_best_model_stands_for_it(
    toy_router: CrossRouter,
) -> None:
    found = toy_router.add_model(agent("booking")).predict([SUM])
    column = found.models.index("booking")
    assert found.quality[0, column] == toy_router.predict([SUM]).quality.max()
    assert found.cost_usd[0, column] == toy_router.predict([SUM]).cost_usd.max()


def test_agents_alone_are_a_pool(toy_router: CrossRouter) -> None:
    router = toy_router.over(ModelPool([agent("booking"), agent("archive")]))
    assert router.predict([SUM]).cost_usd.tolist() == [[0.0, 0.0]]
    with pytest.raises(PoolError, match="at least two"):
        router.subset(["booking"])


def test_an_agent_of_unknown_cost_keeps_no_limit(toy_router: CrossRouter) -> None:
    pool = ModelPool([agent("booking"), agent("archive")])
    router = toy_router.over(pool).with_margin(-100)
    with pytest.raises(NoCandidateError, match="write cost_usd_a_call into the descriptor"):
        router.route(SUM, constraints={"max_cost_usd": 1.0})


def test_scores_make_an_agent_one_that_is_predicted(toy_router: CrossRouter) -> None:
    scores = [
        {"prompt": f"Book a flight number {i}", "score": i % 2, "cost_usd": 0.01} for i in range(30)
    ]
    router = toy_router.add_model(agent("booking", expected_quality=1.0), scores)
    assert router.pool["booking"].learned is not None
    assert 0.2 < router.predict([SUM]).quality[0, router.predict([SUM]).models.index("booking")] < 1


def test_a_pool_with_agents_is_saved_listed_and_valid(
    toy_router: CrossRouter, tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "with agents"
    booking = agent("booking", skills=["Book trains"], examples=["A seat to Bern"])
    toy_router.add_model(booking).save(folder)
    loaded = CrossRouter.load(folder)
    assert loaded.pool["booking"] == booking
    assert "booking" in loaded.pool.reachable()
    code, said, _ = run("models", "validate", folder)
    assert code == 0
    assert "guess" not in said
    code, said, _ = run("models", "list", folder)
    assert code == 0
    assert "agent" in said
    code, said, _ = run("models", "show", "booking", "--models", folder)
    assert code == 0
    assert "embedding" not in said
    assert "Book trains" in said
    with pytest.raises(PoolError) as refused:
        loaded.pool.providers()
    assert "booking" not in str(refused.value)


def test_constraints_name_agents_as_they_name_models(toy_router: CrossRouter) -> None:
    router = toy_router.add_model(agent("booking", cost_usd_a_call=0.1, expected_quality=0.5))
    assert router.route(SUM, math.inf, constraints={"model": "booking"}).model == "booking"
    without = router.route(SUM, math.inf, constraints={"excluded": ["booking"]})
    assert "booking" in without.removed


@pytest.fixture(scope="module")
def office(router: CrossRouter) -> CrossRouter:
    """Today's models, and agents of an office."""
    return router.over(
        ModelPool(
            [
                *list(router.pool.values())[:4],
                agent("leave", description="Vacation, sick days and parental leave of employees."),
                agent("payroll", description="Salaries, payslips, bonuses and bank details."),
                agent(
                    "travel-desk",
                    description="Books flights, trains and hotels for business trips.",
                    examples=["I need a room in Ghent on Tuesday"],
                ),
            ]
        )
    )


def test_an_agent_serves_what_is_like_its_texts_and_models_serve_the_rest(
    office: CrossRouter,
) -> None:
    agents = {"leave", "payroll", "travel-desk"}
    for query, served_by in {
        "How many vacation days do I have left?": "leave",
        "Why is my salary lower this month?": "payroll",
        "Book me a train to Lyon": "travel-desk",
        # Like the example, not like the description.
        "A room in Bruges on Friday": "travel-desk",
    }.items():
        decision = office.route(query)
        assert decision.model == served_by, decision.explain()
        assert decision.fit[served_by] >= office.margin > 0
        # Models stand in for an agent that fails.
        assert decision.candidates[-1].model not in agents
        assert decision.tiers == sorted(decision.tiers)
    for query in ("Write a sonnet about the sea", "What is 17 times 23?", "Tell me a joke"):
        decision = office.route(query)
        assert decision.model not in agents, decision.explain()
        assert agents <= decision.removed.keys()
        assert "the margin is 1.25" in decision.removed["leave"]


def test_queries_without_a_word_of_the_texts_find_their_agents_and_exams_find_none(
    office: CrossRouter,
) -> None:
    for query, served_by in {
        "I have the flu and stay at home": "leave",
        "My wages have not arrived": "payroll",
        "I want to fly to Madrid in June": "travel-desk",
    }.items():
        assert office.route(query).model == served_by, office.route(query).explain()
    for exam in (
        "A train travels 60 miles in 45 minutes. What is its mean speed?\nA. 60\nB. 70\nC. 80",
        "A patient who was sick for three days has a fever and a rash. Which is the most likely "
        "diagnosis?\nA. Measles\nB. Influenza\nC. Scurvy\nD. Gout",
    ):
        assert office.route(exam).model not in {"leave", "payroll", "travel-desk"}


def test_neither_a_low_price_nor_a_high_quality_makes_up_for_a_worse_fit(
    office: CrossRouter,
) -> None:
    query = "Why is my salary lower this month?"
    bribed = office.add_model(
        agent(
            "leave",
            description="Vacation, sick days and parental leave of employees.",
            cost_usd_a_call=0.0,
            expected_quality=1.0,
        )
    )
    payroll = office.pool["payroll"].model_copy(
        update={"cost_usd_a_call": 5.0, "expected_quality": 0.1}
    )
    bribed = bribed.add_model(payroll).with_margin(-100)
    assert set(bribed.route(query).fit) == {"leave", "payroll", "travel-desk"}
    for willingness in (0.0, 0.01, math.inf):
        assert bribed.route(query, willingness).model == "payroll"
    assert bribed.with_ranking("topsis").route(query).model == "payroll"


def test_agents_stand_in_for_each_other_by_their_fit(office: CrossRouter) -> None:
    query = "Why is my salary lower this month?"
    router = office.with_margin(-100)
    fits = sorted(router.route(query).fit.items(), key=lambda item: -item[1])
    best, middle, worst = (agent for agent, _ in fits)
    free = office.pool[worst].model_copy(update={"cost_usd_a_call": 0.0, "expected_quality": 1.0})
    decision = router.add_model(free).route(query, 0.0)
    assert decision.fit[middle] - decision.fit[worst] > math.log(2)
    assert [one.model for one in decision.candidates][:3] == [best, middle, worst]
    assert decision.tiers[:4] == [0, 1, 2, 3]
    left = decision.without({best: "it failed"})
    assert left.tiers == sorted(left.tiers)
    assert [one.model for one in left.peers] == [left.model] == [middle]


def test_agents_that_fit_alike_are_chosen_by_quality_and_cost(office: CrossRouter) -> None:
    said = "Salaries, payslips, bonuses and bank details."
    both = office.over(
        ModelPool(
            [
                *(one for one in office.pool.values() if one.id != "payroll"),
                agent("pay-a", description=said, cost_usd_a_call=0.1, expected_quality=0.9),
                agent("pay-b", description=said, cost_usd_a_call=0.001, expected_quality=0.7),
            ]
        )
    )
    query = "Why is my salary lower this month?"
    cheap, good = both.route(query, 0.0), both.route(query, math.inf)
    assert (cheap.model, good.model) == ("pay-b", "pay-a")
    assert [one.model for one in good.peers] == ["pay-a", "pay-b"]
    # Half of its quality each: which is the right one is not known.
    assert 0.4 < good.quality < 0.5
    assert "pay-a" in cheap.explain().splitlines()[-1]


def test_the_margin_decides_who_may_serve(office: CrossRouter) -> None:
    query = "Book me a train to Lyon"
    never = office.with_margin(math.inf).route(query)
    assert "travel-desk" in never.removed
    assert never.to_dict()["margin"] == "inf"
    assert office.with_margin(-math.inf).route("Tell me a joke").model in never.fit
    with pytest.raises(ConstraintError, match="margin is 'high'"):
        office.with_margin("high")  # type: ignore[arg-type]
    with pytest.raises(ConstraintError, match="margin is nan"):
        office.with_margin(math.nan)


def test_what_constraints_and_needs_say_goes_before_the_fit(office: CrossRouter) -> None:
    query = "Book me a train to Lyon"
    forced = office.route("Tell me a joke", constraints={"model": "travel-desk"})
    assert forced.model == "travel-desk"
    without = office.route(query, constraints={"excluded": ["travel-desk", "payroll"]})
    assert without.removed["travel-desk"].startswith("excluded by the call")
    assert "margin" not in without.removed["payroll"]
    tools = office.route(Query.of(query, needs=["tools"]))
    assert "tools is not among the capabilities" in tools.removed["travel-desk"]
    blank = office.route("")
    assert blank.blank
    assert not blank.fit
    assert "nothing says" in blank.removed["leave"]
    with pytest.raises(NoCandidateError, match="lower the margin"):
        office.route("Tell me a joke", constraints={"allowed": ["leave", "payroll"]})


def test_a_decision_says_and_records_how_agents_fit(office: CrossRouter) -> None:
    decision = office.route("Book me a train to Lyon")
    said = decision.explain()
    assert f"travel-desk {decision.fit['travel-desk']:.2f}" in said
    assert "stand in" in said
    assert "What a call of travel-desk costs is not known" in said
    plain = decision.to_dict()
    assert plain["unknown_cost"] == ["leave", "payroll", "travel-desk"]
    assert plain["fit"] == dict(decision.fit)
    assert plain["margin"] == office.margin
    assert RecordedDecision.model_validate(plain).model == "travel-desk"
    assert "fit" not in CrossRouter.default().route("hi").to_dict()


def test_a_batch_allows_only_agents_where_they_serve(office: CrossRouter) -> None:
    queries = ["Book me a train to Lyon", "Write a sonnet about the sea"]
    allocation = office.allocate(queries, budget_usd=100)
    first, second = allocation.decisions
    assert first.model == "travel-desk"
    (every,) = office.with_margin(-100).allocate(queries[:1], budget_usd=100).decisions
    assert every.tiers == sorted(every.tiers) != first.tiers
    assert second.model not in first.fit
    single = office.route_batch(queries)
    assert [one.model for one in single] == [office.route(query).model for query in queries]


def test_staying_for_good_goes_before_an_agent_and_a_margin_does_not(office: CrossRouter) -> None:
    query = "Book me a train to Lyon"
    model = office.route(query, constraints={"excluded": ["travel-desk"]}).model
    stays = office.route(query, stay=Stay(model, math.inf))
    assert stays.model == model
    assert stays.kept
    decision = office.route(query, stay=Stay(model))
    assert decision.model == "travel-desk"
    assert not decision.kept


def test_a_pacer_and_exploration_keep_to_the_agents(office: CrossRouter) -> None:
    decision = office.route("Book me a train to Lyon")
    paced = BudgetPacer(1.0, 10).paced(decision)
    assert paced.model == "travel-desk"
    drawn = Exploration(explore=1.0).chosen(decision, [])
    assert drawn.model == "travel-desk"
    assert drawn.probability == 1.0


@pytest.mark.parametrize(("agent_usd", "agents"), [(0.05, 100), (10.0, 0)])
def test_a_pacer_plans_with_the_agents_where_models_only_stand_in(
    agent_usd: float, agents: int
) -> None:
    agent, cheap = (
        CandidateScore("agent", 0.4, agent_usd, 0.0),
        CandidateScore("cheap", 0.5, 0.001, 0.0),
    )
    # Half of the requests are the agent's, of which each costs a 120th of the budget, or too much.
    pacer = BudgetPacer(6.0, 200)
    for number in range(1, 201):
        dear = CandidateScore("dear", 0.5 + 0.5 * (number * 0.618 % 1), 0.05, 0.0)
        decision = Decision("dear", dear.quality, 0.05, (dear, cheap), 1.0, "linear", 10.0)
        if number % 2:
            fit = {"agent": 3.0}
            candidates = (agent, dear, cheap)
            decision = replace(decision, model="agent", candidates=candidates, fit=fit)
        paced = pacer.paced(decision)
        pacer.settle(paced, paced.cost_usd)
    calls = {model: of.calls for model, of in pacer.report().by_model.items()}
    assert calls.get("agent", 0) == agents
    assert calls["dear"] > 10


def test_agents_are_told_apart_by_an_encoder_of_their_own(office: CrossRouter) -> None:
    class Letters:
        """Knows two words."""

        name, dimension = "letters", 2

        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            known = ["payroll" in text or "Lyon" in text for text in texts]
            return np.array([[1, 0] if one else [0, 1] for one in known], np.float32)

    query = "Book me a train to Lyon"
    assert office.route(query).model == "travel-desk"
    # The margin is one of attention, of which two numbers a vector give less.
    other = office.with_margin(0.5).with_agent_encoder(Letters())
    assert other.route(query).model == "payroll"
    assert other.subset(["payroll", "leave"]).route(query).model == "payroll"
    assert other.encoder is office.encoder
    with pytest.raises(ConstraintError, match="agent_encoder is 'all-MiniLM-L6-v2'"):
        office.with_agent_encoder("all-MiniLM-L6-v2")  # type: ignore[arg-type]


def test_a_router_with_agents_goes_to_other_processes(office: CrossRouter) -> None:
    query = "Book me a train to Lyon"
    assert pickle.loads(pickle.dumps(office)).route(query) == office.route(query)


def test_evaluation_and_held_out_rows_are_of_models(
    toy_router: CrossRouter, toy_data: RoutingData
) -> None:
    scores = [{"prompt": f"Book train {i}", "score": i % 2, "cost_usd": 0.01} for i in range(30)]
    for given in (scores, None):
        router = toy_router.add_model(agent("trains", description="Books trains."), given)
        assert router.predicted == toy_router.predicted
    with_agent, without = evaluate(router, toy_data)[0], evaluate(toy_router, toy_data)[0]
    assert with_agent.models == without.models
    assert [r.aiq for r in with_agent.results] == [r.aiq for r in without.results]
    with pytest.raises(ConstraintError, match="ranks by TOPSIS"):
        evaluate(router.with_ranking("topsis"), toy_data)
    queries = ["Book a train to Bern", SUM]
    allocation = router.allocate(queries, budget_usd=1, held_out=toy_data)
    assert allocation.checked is not None
    assert allocation.decisions[0].model == "trains"
