"""A shorter conversation for models that have no room for all of it."""

from typing import Any

import pytest

from crossroute import (
    ConstraintError,
    Constraints,
    CrossRouter,
    ModelDescriptor,
    ModelPool,
    NoCandidateError,
    Query,
)
from crossroute.ceiling import Ceiling
from crossroute.strategies import Ask, Flow, PickOne, Reply, Task, Together, charge
from crossroute.strategies.wrappers import flow_of

SMALL, LARGE = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"
WINDOW = 1_000
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sea"}'}}
TALK = [
    {"role": "user", "content": "What is the weather at the sea?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "The sea is calm today. " * 10, "tool_call_id": "1"},
    {"role": "assistant", "content": "It is calm."},
]
LONG: list[dict[str, Any]] = [
    {"role": "system", "content": "You know the sea."},
    *TALK,
    *(
        {"role": role, "content": f"Of other things, number {place}, we talk at length. " * 12}
        for place in range(10)
        for role in ("user", "assistant")
    ),
    {"role": "user", "content": "So, how is the weather at the sea?"},
]


@pytest.fixture(scope="module")
def router() -> CrossRouter:
    found = CrossRouter.default().subset([SMALL, LARGE])
    small = found.pool[SMALL].model_copy(update={"context_window_tokens": WINDOW})
    return found.over(ModelPool([small, found.pool[LARGE]]))


def test_what_always_stays_is_counted() -> None:
    query = Query.of(LONG, tools="a tool of six or seven tokens")
    stays = Query.of([LONG[0], LONG[-1]], tools="a tool of six or seven tokens")
    assert query.least_tokens == pytest.approx(stays.input_tokens)
    assert stays.least_tokens is None
    assert Query.of("a prompt").least_tokens is None


def test_a_model_without_room_is_removed_unless_the_call_allows_less(router: CrossRouter) -> None:
    plain = router.route(LONG, 0)
    assert plain.model == LARGE
    assert "context window" in plain.removed[SMALL]
    assert not plain.shortened
    decision = router.route(LONG, 0, constraints={"shorten": True})
    assert decision.model == SMALL
    assert dict(decision.shortened) == {SMALL: WINDOW * 3 // 4}
    assert f"{SMALL} gets the conversation shortened to about 750 input tokens" in (
        decision.explain()
    )
    assert decision.to_dict()["shortened"] == {SMALL: 750}


def test_a_shorter_conversation_costs_less_and_is_worth_less(router: CrossRouter) -> None:
    whole = router.predict([LONG])
    decision = router.route(LONG, 0, constraints={"shorten": True})
    short = next(one for one in decision.candidates if one.model == SMALL)
    at = whole.models.index(SMALL)
    share = 750 / whole.input_tokens[0]
    price = router.pool[SMALL].price
    assert price is not None
    saved = (whole.input_tokens[0] - 750) * price.input_usd_per_1m / 1e6
    assert short.quality == pytest.approx(whole.quality[0, at] * share**0.2)
    assert short.cost_usd == pytest.approx(whole.cost_usd[0, at] - saved)
    other = next(one for one in decision.candidates if one.model == LARGE)
    assert other.quality == pytest.approx(whole.quality[0, whole.models.index(LARGE)])


def test_what_always_stays_must_have_room(router: CrossRouter) -> None:
    long = [*LONG[:-1], {"role": "user", "content": "Word after word. " * 400}]
    decision = router.route(long, 0, constraints={"shorten": True})
    assert decision.model == LARGE
    assert "context window" in decision.removed[SMALL]
    with pytest.raises(NoCandidateError, match="context window"):
        router.route(long, 0, constraints={"shorten": True, "allowed": [SMALL]})
    asked = Query.of(LONG, output_tokens=WINDOW)
    assert SMALL in router.route(asked, 0, constraints={"shorten": True}).removed


def test_many_queries_are_shortened_each_for_itself(router: CrossRouter) -> None:
    short, long = router.allocate(
        ["Hello", LONG], budget_usd=1e-3, constraints={"shorten": True}
    ).decisions
    assert not short.shortened
    assert set(long.shortened) == {SMALL}


def test_an_ask_gets_what_fits_with_whole_tool_pairs(router: CrossRouter) -> None:
    decision = router.route(LONG, 0, constraints={"shorten": True})
    task = Task(decision, Query.of(LONG), LONG)
    ask = next(flow_of(PickOne(2), task))
    assert isinstance(ask, Ask)
    assert ask.keep is not None
    kept = set(ask.keep)
    assert {0, len(LONG) - 1} < kept
    assert {2, 3} <= kept, "the call and its result have to do with the question"
    sent = Query.of([LONG[place] for place in ask.keep]).input_tokens
    assert 300 < sent <= 750


def test_every_ask_is_shortened_but_those_that_say_what_they_take(router: CrossRouter) -> None:
    decision = router.route(LONG, 0, constraints={"shorten": True})
    task = Task(decision, Query.of(LONG), LONG)

    class Several:
        def answer(self, task: Task) -> Flow:
            yield Together((Ask(SMALL), Ask(LARGE)))
            yield (Ask(SMALL, keep=(0,)),)
            return (yield Ask(SMALL))

    flow = flow_of(Several(), task)
    first = next(flow)
    assert isinstance(first, Together)
    assert first.asks[0].keep is not None
    assert first.asks[1].keep is None
    second = flow.send((Reply(SMALL), Reply(LARGE)))
    assert isinstance(second, tuple)
    assert second[0].keep == (0,)
    third = flow.send((Reply(SMALL),))
    assert isinstance(third, Ask)
    assert third.keep == first.asks[0].keep
    answer = Reply(SMALL, done=True)
    with pytest.raises(StopIteration) as ended:
        flow.send(answer)
    assert ended.value.value is answer


def test_tools_leave_less_room(router: CrossRouter) -> None:
    query = Query.of(LONG, needs=["tools"], tools="A tool with a long description. " * 60)
    decision = router.route(query, 0, constraints={"shorten": True})
    ask = next(flow_of(PickOne(2), Task(decision, query, LONG)))
    assert isinstance(ask, Ask)
    assert ask.keep is not None
    beside = query.input_tokens - Query.of(LONG).input_tokens
    sent = Query.of([LONG[place] for place in ask.keep]).input_tokens
    assert sent + beside <= 750


def test_what_a_strategy_adds_leaves_less_room(router: CrossRouter) -> None:
    decision = router.route(LONG, 0, constraints={"shorten": True})

    class Judging:
        def answer(self, task: Task) -> Flow:
            draft = {"role": "assistant", "content": "It is as calm as it was. " * 40}
            return (yield Ask(SMALL, then=(draft,), role="judge"))

    ask = next(flow_of(Judging(), Task(decision, Query.of(LONG), LONG)))
    assert isinstance(ask, Ask)
    assert ask.keep is not None
    added = Query.of([*ask.then]).input_tokens
    sent = Query.of([LONG[place] for place in ask.keep]).input_tokens
    assert added > 200
    assert sent + added <= 750


def test_what_nobody_has_counted_is_estimated_by_what_was_sent(router: CrossRouter) -> None:
    decision, query = router.route(LONG, 0, constraints={"shorten": True}), Query.of(LONG)
    ask = next(flow_of(PickOne(2), Task(decision, query, LONG)))
    assert isinstance(ask, Ask)
    reply, shortened = Reply(SMALL, text="Calm."), decision.shortened
    assert charge(ask, reply, None, query, shortened=shortened)["input_tokens"] == 750
    whole = charge(Ask(LARGE), reply, None, query, shortened=shortened)
    assert whole["input_tokens"] == round(query.input_tokens) > 750


def test_an_agent_costs_what_it_states_of_a_shorter_conversation_too(router: CrossRouter) -> None:
    agent = ModelDescriptor(
        id="shipping",
        kind="agent",
        description="Forecasts of the sea for ships.",
        context_window_tokens=WINDOW,
        price=router.pool[LARGE].price,
        cost_usd_a_call=1e-4,
    )
    decision = router.add_model(agent).route(
        LONG, 0, constraints={"shorten": True, "model": "shipping"}
    )
    assert set(decision.shortened) == {"shipping"}, "others are no candidates"
    assert decision.cost_usd == 1e-4


@pytest.mark.parametrize("shorten", [1, "yes", None])
def test_shorten_is_yes_or_no(shorten: object, router: CrossRouter) -> None:
    with pytest.raises(ConstraintError, match=r"shorten is .*; give True or False"):
        router.route("Hello", 0, constraints={"shorten": shorten})


def test_a_hard_limit_goes_by_what_is_sent(router: CrossRouter) -> None:
    price = router.pool[SMALL].price
    assert price is not None
    # Of the whole conversation it would buy nothing.
    usd = 2.5 * 1.2 * price.cost_usd(750, 200)
    assert usd < 2.5 * price.cost_usd(Query.of(LONG).input_tokens, 0)
    limits = {"shorten": True, "hard_max_cost_usd": usd}
    decision = router.route(LONG, 0, constraints=limits)
    assert decision.model == SMALL
    ceiling = Ceiling.of(Constraints(**limits), router.pool, Query.of(LONG))
    assert ceiling is not None
    bought = ceiling.longest_answer(SMALL)
    assert isinstance(bought, int)
    assert 100 <= bought <= WINDOW - 750
    assert ceiling.most_usd(SMALL, bought) <= usd
    whole = {**limits, "shorten": False}
    with pytest.raises(NoCandidateError):
        router.route(LONG, 0, constraints=whole)
