"""The descriptors that ship: what each of them has to say."""

from __future__ import annotations

import datetime
from importlib.resources import as_file, files

import pytest

from crossroute import CrossRouter, ModelDescriptor, ModelPool
from crossroute.models.price import ListedPrice
from crossroute.models.provider_arguments import effort_arguments
from crossroute.strategies.panel import FILE, Panels

TODAY = datetime.date.today()
POOL = ModelPool.shipped()
EFFORTS = ("low", "medium", "high", "xhigh")


@pytest.fixture(params=list(POOL))
def model(request: pytest.FixtureRequest) -> ModelDescriptor:
    return POOL[request.param]


def test_they_are_many_of_many_vendors() -> None:
    callable_today = [POOL[id_] for id_ in POOL.reachable()]
    providers = {m.provider.chat_model.partition(":")[0] for m in callable_today if m.provider}
    assert len(callable_today) >= 30
    assert len(providers) >= 5


def test_each_says_what_it_is_and_what_it_costs(model: ModelDescriptor) -> None:
    assert model.description
    assert model.context_window_tokens
    assert model.price is not None
    if not isinstance(model.price, ListedPrice):
        assert model.price.source
        assert model.price.date


def test_without_a_provider_a_note_says_why(model: ModelDescriptor) -> None:
    assert model.provider or "No provider" in (model.note or "")


def test_an_effort_in_an_id_is_an_argument(model: ModelDescriptor) -> None:
    effort = model.id.partition("@")[2]
    if effort in EFFORTS:
        assert model.provider is not None
        provider = model.provider.chat_model.partition(":")[0]
        assert model.provider.arguments == effort_arguments(provider, effort)
        base = POOL[model.id.partition("@")[0]]
        assert base.provider is not None
        assert base.provider.chat_model == model.provider.chat_model
        # It is not said that they go on from a message, too.
        can = tuple(one for one in base.capabilities if one != "prefill")
        assert (base.retired, can) == (model.retired, model.capabilities)
    elif model.provider is not None and not effort:
        assert model.provider.arguments == {}


def test_a_guess_says_so(model: ModelDescriptor) -> None:
    if model.behaves_like is not None:
        assert model.behaves_like.model in POOL
        assert "A guess" in (model.note or "")
    if "A guess" in (model.note or ""):
        learned = CrossRouter.shipped().pool[model.id].learned
        assert learned is not None
        assert learned.source == "guess"
        assert learned.quality_error > 0


def test_log_probabilities_are_of_openais_models_that_do_not_reason(model: ModelDescriptor) -> None:
    # No other provider is documented to give them for these models, by the classes that are used.
    gives = model.provider is not None and model.provider.chat_model.startswith(
        ("openai:gpt-4o", "openai:gpt-4.1")
    )
    assert ("logprobs" in model.capabilities) == gives


def test_prefill_is_of_anthropics_last_models_that_go_on_from_a_message(
    model: ModelDescriptor,
) -> None:
    # From Claude 4.6 on it is an error; with thinking it never was possible.
    does = {"claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5"}
    assert ("prefill" in model.capabilities) == (model.id in does)


def test_the_shipped_strategies_are_of_the_shipped_checkpoint() -> None:
    with as_file(files("crossroute") / "assets" / "default" / FILE) as path:
        panels = Panels.load(path)
    router = CrossRouter.shipped()
    assert panels.checkpoint == router.checkpoint.id
    assert {panel.dataset for panel in panels.panels} <= set(router.checkpoint.training["rows"])
    assert {model for panel in panels.panels for model in panel.models} <= set(router.pool)
