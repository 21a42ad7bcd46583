from __future__ import annotations

import asyncio
import datetime
import json
import math
import threading

import numpy as np
import pytest

from crossroute import (
    CrossRouter,
    Decision,
    ModelPool,
    PoolError,
    Price,
    QueryError,
    StaticEncoder,
    UnknownModelError,
)
from crossroute.network.attention import Readers
from crossroute.network.features import Features
from crossroute.network.predictor import HELD_BACK, Network
from crossroute.query import Query
from crossroute.ranking import switching_point


def logit(quality: float) -> float:
    return math.log(quality / (1 - quality))


STORY = "Write a short story about a lynx who lives by the marsh and meets a wren."
SUM = "What is 4711 * 12 + 99?"


def test_it_learns_who_is_good_at_what(toy_router: CrossRouter) -> None:
    pair = toy_router.subset(["poet", "clerk"])
    assert pair.route(STORY, math.inf).model == "poet"
    assert pair.route(SUM, math.inf).model == "clerk"


def test_willingness_to_pay_decides_between_good_and_dear(toy_router: CrossRouter) -> None:
    decisions = [toy_router.route(STORY, w) for w in (0.0, 1e-5, 1e-3, 1e-1, math.inf)]
    costs = [decision.cost_usd for decision in decisions]
    qualities = [decision.quality for decision in decisions]
    assert costs == sorted(costs)
    assert qualities == sorted(qualities)
    assert costs[0] < costs[-1] or decisions[0].model == decisions[-1].model
    assert decisions[-1].quality == max(c.quality for c in decisions[-1].candidates)
    assert decisions[0].cost_usd == min(c.cost_usd for c in decisions[0].candidates)


def test_a_decision_holds_all_candidates_the_preferred_first(router: CrossRouter) -> None:
    decision = router.route(SUM, willingness_to_pay=0.01)
    assert isinstance(decision, Decision)
    assert {c.model for c in decision.candidates} == set(router.pool)
    first = decision.candidates[0]
    assert (first.model, first.quality, first.cost_usd) == (
        decision.model,
        decision.quality,
        decision.cost_usd,
    )
    rewards = [c.reward for c in decision.candidates]
    assert rewards == sorted(rewards, reverse=True)
    assert all(0 < c.quality < 1 and c.cost_usd > 0 for c in decision.candidates)


def test_one_many_and_async_agree(router: CrossRouter) -> None:
    queries = [STORY, SUM, [{"role": "user", "content": SUM}]]
    single = [router.route(query, 0.001) for query in queries]
    batch = router.route_batch(queries, willingness_to_pay=0.001)

    async def run() -> list[Decision]:
        return list(await asyncio.gather(*(router.aroute(query, 0.001) for query in queries)))

    awaited = asyncio.run(run())
    for one, two, three in zip(single, batch, awaited, strict=True):
        assert one == three
        assert one.model == two.model
        assert one.quality == pytest.approx(two.quality, abs=1e-5)
        assert one.cost_usd == pytest.approx(two.cost_usd, rel=1e-4)


def test_predictions_have_the_promised_shape(router: CrossRouter) -> None:
    found = router.predict([STORY, SUM])
    assert found.models == tuple(router.pool)
    for array in (found.quality, found.cost_usd, found.output_tokens):
        assert array.shape == (2, len(router.pool))
    assert ((found.quality > 0) & (found.quality < 1)).all()
    assert (found.cost_usd > 0).all()
    assert np.isfinite(found.cost_usd).all()


def test_a_batch_larger_than_a_chunk_is_predicted_row_by_row_alike(toy_router: CrossRouter) -> None:
    prompts = [f"What is {n} * {n + 1}?" for n in range(1100)]
    found = toy_router.predict(prompts)
    for row in (0, 511, 512, 1099):
        alone = toy_router.predict([prompts[row]])
        assert found.quality[row] == pytest.approx(alone.quality[0], abs=1e-5)


def test_an_empty_batch_is_empty(router: CrossRouter) -> None:
    assert router.route_batch([]) == []
    assert router.predict([]).quality.shape == (0, len(router.pool))


def test_prices_come_from_the_descriptor(toy_router: CrossRouter) -> None:
    dear = toy_router.pool["poet"]
    assert dear.learned is not None
    assert dear.learned.cost_target == "usd"
    date = datetime.date(2026, 1, 1)
    learned = dear.learned.model_copy(update={"cost_target": "output_tokens"})

    def cost(output_usd: float) -> float:
        price = Price(input_usd_per_1m=0, output_usd_per_1m=output_usd, date=date, source="test")
        model = dear.model_copy(update={"price": price, "learned": learned})
        pool = ModelPool([model, toy_router.pool["sage"]])
        found = CrossRouter(toy_router.checkpoint, pool).predict([STORY])
        return float(found.cost_usd[0, found.models.index("poet")])

    assert cost(4.0) == pytest.approx(2 * cost(2.0))


def test_the_longest_answer_bounds_the_predicted_tokens(router: CrossRouter) -> None:
    ids = ["gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"]
    models = [router.pool[i].model_copy(update={"max_output_tokens": 5}) for i in ids]
    found = CrossRouter(router.checkpoint, ModelPool(models)).predict([STORY])
    assert found.output_tokens.max() == 5


def test_explain_says_what_why_and_what_else(router: CrossRouter) -> None:
    decision = router.route(SUM, 0.001)
    text = decision.explain()
    assert text.startswith(decision.model)
    assert "willingness to pay" in text
    assert "it would be" in text
    for candidate in decision.candidates[:5]:
        assert candidate.model in text


def test_what_explain_promises_happens(router: CrossRouter) -> None:
    decision = router.route(SUM, 0.001)
    quality = np.array([c.quality for c in decision.candidates])
    cost = np.array([c.cost_usd for c in decision.candidates])
    found = switching_point("exponential", quality, cost, 0, dearer=True, willingness_to_pay=0.001)
    assert found is not None
    rival = decision.candidates[found[0]].model
    assert rival in decision.explain()
    assert router.route(SUM, found[1] * 1.0001).model == rival


@pytest.mark.parametrize("willingness", [0.0, 0.01, math.inf])
def test_a_decision_is_json(router: CrossRouter, willingness: float) -> None:
    content = json.loads(json.dumps(router.route(SUM, willingness).to_dict(), allow_nan=False))
    assert content["model"] == router.route(SUM, willingness).model
    assert len(content["candidates"]) == len(router.pool)


def test_a_linear_reward_may_be_chosen(toy_router: CrossRouter) -> None:
    linear = CrossRouter(toy_router.checkpoint, toy_router.pool, reward="linear")
    decision = linear.route(SUM, 0.01)
    best = decision.candidates[0]
    assert best.reward == pytest.approx(best.quality - best.cost_usd / 0.01)
    with pytest.raises(ValueError, match="cubic"):
        CrossRouter(toy_router.checkpoint, toy_router.pool, reward="cubic")  # type: ignore[arg-type]


def test_bad_queries_are_named(router: CrossRouter) -> None:
    with pytest.raises(QueryError, match="list of messages"):
        router.route(7)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match=r"Query 1: .*no role"):
        router.route_batch([SUM, [{}]])
    with pytest.raises(QueryError, match="list of queries"):
        router.predict(SUM)


@pytest.mark.parametrize("willingness", [0.0, 0.01, math.inf])
def test_blank_input_is_routed_by_the_fixed_order(router: CrossRouter, willingness: float) -> None:
    decision = router.route("", willingness)
    assert decision.blank
    assert decision.to_dict()["blank"]
    assert "no text" in decision.explain()
    assert [c.model for c in router.route([], willingness).candidates] == [
        c.model for c in decision.candidates
    ]
    # By levels, of which what is held back of a model that is barely known is taken off.
    learned = [model.learned for model in router.pool.values() if model.learned]
    of = router.checkpoint.network.layout.split(np.array([one.embedding for one in learned]))
    error = np.array([one.quality_error for one in learned])
    level = dict(zip(router.pool, of.level - of.elsewhere - HELD_BACK * error, strict=True))
    found = {c.model: c.quality for c in decision.candidates}
    assert set(found) == set(level)
    apart = np.array([logit(found[model]) - level[model] for model in level])
    assert apart == pytest.approx(apart.mean(), abs=1e-4)
    assert not router.route("?").blank
    mixed = router.route_batch([SUM, " ", SUM])
    assert [one.blank for one in mixed] == [False, True, False]
    assert mixed[0].candidates == mixed[2].candidates


def test_a_prediction_does_not_depend_on_where_a_model_stands(router: CrossRouter) -> None:
    whole = router.predict([SUM, STORY])
    for step in (2, 3, 5, 7):
        part = router.subset(whole.models[::step]).predict([SUM, STORY])
        assert part.models == whole.models[::step]
        assert np.array_equal(part.quality, whole.quality[:, ::step])
        assert np.array_equal(part.cost_usd, whole.cost_usd[:, ::step])


def test_of_twins_the_cheaper_is_preferred_wherever_it_stands(router: CrossRouter) -> None:
    (model,) = router.pool.subset(["gpt-4o-2024-08-06"]).values()
    assert model.price is not None
    cheap = model.price.model_copy(update={"output_usd_per_1m": 1.0})
    for id_ in ("a-twin", "gpt-4o-twin", "z-twin"):
        twin = model.model_copy(update={"id": id_, "price": cheap})
        decision = router.over(ModelPool([*router.pool.values(), twin])).route(SUM, math.inf)
        places = [c.model for c in decision.candidates]
        assert places.index(id_) + 1 == places.index(model.id)


def test_bad_pools_are_refused(router: CrossRouter) -> None:
    with pytest.raises(PoolError, match="at least two models"):
        router.subset(["gpt-4o-2024-08-06"])
    with pytest.raises(PoolError, match="at least two models"):
        router.subset([])
    with pytest.raises(UnknownModelError, match="did you mean 'gpt-4o-2024-08-06'"):
        router.subset(["gpt-4o-2024-08-0", "claude-v1"])


def test_a_model_in_a_smaller_pool_is_predicted_the_same(router: CrossRouter) -> None:
    ids = ["gpt-4o-2024-08-06", "claude-opus-5"]
    whole, part = router.predict([SUM]), router.subset(ids).predict([SUM])
    for model in ids:
        assert part.quality[0, part.models.index(model)] == pytest.approx(
            whole.quality[0, whole.models.index(model)], abs=1e-6
        )


def test_a_long_prompt_is_routed_by_its_end_too(router: CrossRouter) -> None:
    filler = "Some background that nobody needs to read. " * 2_400
    assert len(filler) > 100_000
    one = router.predict([filler + "Prove that the square root of two is irrational."])
    two = router.predict([filler + "Which of these is a mammal? A. trout B. whale C. gecko"])
    assert abs(one.quality - two.quality).max() > 0.001


def test_a_strange_text_is_no_runaway(router: CrossRouter) -> None:
    for text in ("x" * 8_000, "$" * 5_000, "7" * 3_000, "\n" * 50 + "a"):
        found = router.predict([text])
        assert ((found.quality > 0) & (found.quality < 1)).all()
        assert np.isfinite(found.cost_usd).all()


def test_threads_share_a_router(router: CrossRouter) -> None:
    expected = router.route(SUM, 0.01)
    wrong: list[Decision] = []

    def work() -> None:
        for _ in range(20):
            decision = router.route(SUM, 0.01)
            if decision != expected:
                wrong.append(decision)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_forward_pass_is_the_one_that_was_trained() -> None:
    import torch

    from crossroute.training.network import CrossAttention

    torch.manual_seed(3)
    network = CrossAttention(20, 5, 2, heads=3, slots=4, slot_size=6, rank=2, dropout=0.5)
    network.quality_offset.data = torch.randn(5)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.data = 0.3 * torch.randn_like(parameter)
    network.eval()
    mean, scale = torch.randn(20), torch.rand(20) + 0.5
    x = torch.randn(7, 20)
    with torch.no_grad():
        logit, log_factor, _ = network((x - mean) / scale)
    attention = network.export(mean.numpy(), scale.numpy(), np.zeros(7, np.float32))
    embeddings = np.concatenate(list(network.embeddings.detach().numpy()), axis=1)
    seen = Readers(attention, embeddings.astype(np.float64)).read(x.numpy())
    offsets = network.quality_offset.detach().numpy()
    assert seen.logit + offsets == pytest.approx(logit.mean(dim=0).numpy(), abs=1e-5)
    assert seen.log_factor == pytest.approx(log_factor.mean(dim=0).numpy(), abs=1e-5)
    # Neither says the same of every model and query.
    assert np.ptp(seen.logit, axis=0).min() > 0.01
    assert np.ptp(seen.logit, axis=1).min() > 0.01


def test_network_arrays_must_fit_together(toy_router: CrossRouter) -> None:
    arrays = toy_router.checkpoint.network.arrays()
    Network.from_arrays(arrays)
    for name, array in arrays.items():
        # Of one more row: the toy has arrays of a single one.
        longer = np.concatenate([array, array[:1]])
        for wrong in (longer, array[None], array[..., None]):
            with pytest.raises(ValueError, match=r"shape|expected|dimensions"):
                Network.from_arrays(arrays | {name: wrong})
        with pytest.raises(ValueError, match="not finite"):
            Network.from_arrays(arrays | {name: np.full_like(array, np.nan)})


def test_features_are_vectors_form_and_what_is_asked() -> None:
    encoder = StaticEncoder()
    told = "You are a calculator. Answer in one sentence."
    queries = [
        Query.of(query)
        for query in (SUM, [{"role": "system", "content": told}, {"role": "user", "content": SUM}])
    ]
    bare, with_system = (Features.of([query], encoder) for query in queries)
    vector = encoder.encode([SUM])
    for features in (bare, with_system):
        assert features.text == pytest.approx(vector)
        assert features.form[0] == pytest.approx(queries[0].form)
    assert bare.kind == pytest.approx(vector)
    assert with_system.kind == pytest.approx(encoder.encode([told]))
    assert np.isnan(bare.asked[0])
    assert with_system.asked[0] == pytest.approx(math.log(25))
    assert bare.of_instance[0] == pytest.approx([*vector[0], *queries[0].form])
    assert with_system.of_all[0] == pytest.approx(
        [*with_system.kind[0], *vector[0], *queries[0].form]
    )


def test_features_of_many_are_those_of_each() -> None:
    encoder = StaticEncoder()
    queries = [Query.of(text) for text in (SUM, "", STORY + " Write 300 words.")]
    together = Features.of(queries, encoder)
    apart = Features.concatenated([Features.of([query], encoder) for query in queries])
    assert together.blank.tolist() == [False, True, False]
    for one, other in (
        (together.of_all, apart.of_all),
        (together.asked, apart.asked),
        (together.take(np.array([2])).of_all, apart.take(slice(2, 3)).of_all),
    ):
        assert one == pytest.approx(other, abs=1e-6, nan_ok=True)
    assert len(together) == 3
    assert Features.of([], encoder).of_all.shape[0] == 0
