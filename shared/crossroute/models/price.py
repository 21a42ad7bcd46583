"""What a model's tokens cost: by its descriptor's own table, else as genai-prices lists it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from crossroute.models.fields import PositiveCount, Strict, Text, Usd

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

FloatArray = NDArray[np.float64]
Amount = TypeVar("Amount", float, FloatArray)

LISTED_AS = {
    "anthropic": "anthropic",
    "anthropic_bedrock": "aws",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "baseten": "baseten",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "google_anthropic_vertex": "google",
    "google_genai": "google",
    "google_vertexai": "google",
    "groq": "groq",
    "meta": "meta",
    "mistralai": "mistral",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "xai": "x-ai",
}
"""What genai-prices calls a provider of LangChain's `init_chat_model`."""

_LISTED_RATES = {
    "input_usd_per_1m": "input_mtok",
    "output_usd_per_1m": "output_mtok",
    "cached_input_usd_per_1m": "cache_read_mtok",
}


class Rates(Strict):
    """What tokens cost."""

    input_usd_per_1m: Usd
    """USD per 1M input tokens."""
    output_usd_per_1m: Usd
    """USD per 1M output tokens."""
    cached_input_usd_per_1m: Usd | None = None
    """USD per 1M input tokens that were read from the provider's prompt cache; those of other input
    if None."""
    reasoning_output_usd_per_1m: Usd | None = None
    """USD per 1M output tokens that are reasoning, where the provider bills them apart; those of
    other output if None."""

    def _cost_usd(
        self, input_tokens: Amount, output_tokens: Amount, cached: float, reasoning: float
    ) -> Amount:
        cost = input_tokens * self.input_usd_per_1m + output_tokens * self.output_usd_per_1m
        cost = cost / 1e6 - self._cache_saving_usd(cached)
        if self.reasoning_output_usd_per_1m is None:
            return cost
        extra = self.reasoning_output_usd_per_1m - self.output_usd_per_1m
        return cost + reasoning * extra / 1e6

    def _cache_saving_usd(self, cached_tokens: float) -> float:
        if self.cached_input_usd_per_1m is None:
            return 0.0
        return cached_tokens * (self.input_usd_per_1m - self.cached_input_usd_per_1m) / 1e6


class PriceTier(Rates):
    """What the tokens of a long prompt cost, its output too."""

    above_input_tokens: PositiveCount
    """Prompts with more input tokens than this cost so much, from their first token on."""


class Price(Rates):
    """What a model's tokens cost."""

    date: datetime.date | None = None
    """The day from which the price held."""
    source: Text | None = None
    """Where the numbers are from."""
    tiers: tuple[PriceTier, ...] = ()
    """Other prices of long prompts, the shortest first."""

    @field_validator("tiers")
    @classmethod
    def _in_order(cls, tiers: tuple[PriceTier, ...]) -> tuple[PriceTier, ...]:
        starts = [tier.above_input_tokens for tier in tiers]
        if starts != sorted(set(starts)):
            raise ValueError("above_input_tokens must grow from tier to tier")
        return tiers

    def cost_usd(
        self,
        input_tokens: Amount,
        output_tokens: Amount,
        cached_tokens: float = 0,
        reasoning_tokens: float = 0,
    ) -> Amount:
        """Cost in USD of so many tokens: numbers, or arrays of one shape.

        Args:
            input_tokens: All input tokens.
            output_tokens: All output tokens.
            cached_tokens: Those of the input that came from the prompt cache.
            reasoning_tokens: Those of the output that are reasoning.
        """
        tokens = input_tokens, output_tokens, cached_tokens, reasoning_tokens
        cost = self._cost_usd(*tokens)
        for tier in self.tiers:
            is_long = input_tokens > tier.above_input_tokens
            # What has no dimension is taken out of its array again.
            cost = cast("Amount", np.where(is_long, tier._cost_usd(*tokens), cost)[()])
        return cost

    def cache_saving_usd(self, cached_tokens: float) -> float:
        """What so many input tokens cost less, in USD, when they come from the prompt cache."""
        rates: Rates = self
        for tier in self.tiers:
            rates = tier if cached_tokens > tier.above_input_tokens else rates
        return rates._cache_saving_usd(cached_tokens)


class ListedPrice(Price):
    """A price that genai-prices lists: it is looked up anew, and never written into a file."""


class PriceList:
    """The prices of m models, for the costs of many queries at once.

    Args:
        prices: One a model; None is free.
    """

    def __init__(self, prices: Sequence[Price | None]) -> None:
        self._input = np.array([one.input_usd_per_1m / 1e6 if one else 0.0 for one in prices])
        self._output = np.array([one.output_usd_per_1m / 1e6 if one else 0.0 for one in prices])
        self._tiered = [(at, one) for at, one in enumerate(prices) if one and one.tiers]
        starts = [one.tiers[0].above_input_tokens for _, one in self._tiered]
        self._first_tier = min(starts, default=np.inf)

    def cost_usd(
        self, input_tokens: FloatArray, output_tokens: FloatArray, more_input: FloatArray
    ) -> FloatArray:
        """Cost in USD [n, m] of answers.

        Args:
            input_tokens: [n] of the prompts, whose length decides on the tier.
            output_tokens: [n, m].
            more_input: [n, m] input tokens of further calls.
        """
        sent = input_tokens[:, None] + more_input
        cost = sent * self._input + output_tokens * self._output
        # Nearly no prompt is that long.
        if len(input_tokens) and input_tokens.max() > self._first_tier:
            for at, price in self._tiered:
                once = price.cost_usd(input_tokens, output_tokens[:, at])
                cost[:, at] = once + more_input[:, at] * self._input[at]
        return np.asarray(cost)


def listed_price(chat_model: str, base_url: str | None = None) -> ListedPrice | None:
    """The price that genai-prices lists for a model today, by the table that it ships with.

    Args:
        chat_model: `provider:model`, as in a descriptor.
        base_url: Address of the server, where it is not the provider's own.

    Returns:
        The price; None where the provider, the server or the model is not listed, or it has no
        price by tokens.
    """
    return _listed_price(chat_model, base_url, datetime.datetime.now(datetime.UTC).date())


@lru_cache(maxsize=4096)
def _listed_price(
    chat_model: str, base_url: str | None, today: datetime.date
) -> ListedPrice | None:
    found = listed_model(chat_model, base_url)
    if found is None:
        return None
    import genai_prices

    # Some prices change by the hour; one of the day keeps decisions the same all day.
    noon = datetime.datetime.combine(today, datetime.time(12), datetime.UTC)
    prices = found.get_prices(noon)
    if prices.input_mtok is None or prices.output_mtok is None:
        return None
    listed = [getattr(prices, name) for name in _LISTED_RATES.values()]
    starts = {tier.start for one in listed for tier in getattr(one, "tiers", ())}
    return ListedPrice.model_validate(
        {
            **_rates(prices, 0),
            "source": f"genai-prices {genai_prices.__version__}",
            "tiers": [
                {"above_input_tokens": start, **_rates(prices, start + 1)}
                for start in sorted(starts)
            ],
        }
    )


def listed_model(chat_model: str, base_url: str | None = None) -> ModelInfo | None:
    """What genai-prices says of a model, or None; see `listed_price`."""
    provider, _, model = chat_model.partition(":")
    # Of an unknown provider it would take one whose name is a part of it.
    if base_url is None and provider not in LISTED_AS:
        return None
    # Here, as importing it takes longer than to load a pool, and few need it.
    from genai_prices.data_snapshot import get_snapshot

    at = None if base_url is not None else LISTED_AS[provider]
    try:
        return get_snapshot().find_provider_model(model, None, at, base_url)[1]
    except LookupError:
        return None


def listed_models(provider: str) -> list[str]:
    """The names of the models that genai-prices lists of a provider; empty where it is unknown."""
    from genai_prices.data_snapshot import get_snapshot

    at = LISTED_AS.get(provider)
    return [model.id for one in get_snapshot().providers if one.id == at for model in one.models]


def _rates(prices: ModelPrice, input_tokens: int) -> dict[str, float]:
    """The rates at a length of the prompt, by our names."""
    rates = {}
    for name, listed in _LISTED_RATES.items():
        price = getattr(prices, listed)
        for tier in getattr(price, "tiers", ()):
            if input_tokens > tier.start:
                rates[name] = float(tier.price)
        if price is not None:
            rates.setdefault(name, float(getattr(price, "base", price)))
    return rates
