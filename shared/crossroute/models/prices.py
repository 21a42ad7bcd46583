"""Price files: what the models of a pool cost now. A new price needs no training.

The files are LiteLLM's `model_prices_and_context_window.json` and tokencost's `model_prices.json`,
which have one format: `{"gpt-4o": {"input_cost_per_token": 2.5e-06, ...}, ...}`.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossroute.errors import DataError
from crossroute.files import read_file
from crossroute.models.descriptor import ModelDescriptor, Price, Provider
from crossroute.models.pool import descriptor_files

PER_TOKEN = {
    "input_usd_per_1m": "input_cost_per_token",
    "output_usd_per_1m": "output_cost_per_token",
    "cached_input_usd_per_1m": "cache_read_input_token_cost",
    "reasoning_output_usd_per_1m": "output_cost_per_reasoning_token",
}
"""The price file's names of a price table's numbers."""

MOST_BYTES = 32 * 2**20
"""Of a price file; LiteLLM's has less than two million."""

REQUIRED = ("input_usd_per_1m", "output_usd_per_1m")

LISTED_VENDORS: dict[str, tuple[str, ...]] = {
    "azure_openai": ("azure",),
    "bedrock_converse": ("bedrock_converse", "bedrock"),
    "bedrock": ("bedrock", "bedrock_converse"),
    "cohere": ("cohere", "cohere_chat"),
    "fireworks": ("fireworks_ai",),
    "google_anthropic_vertex": ("vertex_ai",),
    "google_genai": ("gemini",),
    "google_vertexai": ("vertex_ai",),
    "ibm": ("watsonx",),
    "mistralai": ("mistral",),
    "nvidia": ("nvidia_nim",),
    "together": ("together_ai",),
}
"""What price files call a provider of LangChain's `init_chat_model`, where it is not the same."""


@dataclass(frozen=True, slots=True)
class PriceCheck:
    """What a price file says of one model.

    Attributes:
        model: Id of the model.
        path: File of its descriptor.
        listed_as: Its name in the price file; None where it was not found for sure.
        before: Its price table.
        after: Its price table by the file; None where it was not found for sure.
        problem: Why it was not found.
    """

    model: str
    path: Path
    listed_as: str | None
    before: Price | None
    after: Price | None
    problem: str | None

    @property
    def changes(self) -> dict[str, tuple[float | None, float | None]]:
        """The numbers that differ, before and after, in USD per 1M tokens."""
        if self.after is None:
            return {}
        pairs = {
            name: (getattr(self.before, name, None), getattr(self.after, name))
            for name in PER_TOKEN
        }
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def check_prices(
    folder: str | Path, price_file: str | Path, today: datetime.date | None = None
) -> list[PriceCheck]:
    """Compare the price tables of a folder's descriptors with a price file.

    A model is looked up by the name in `provider.chat_model`; what is not found for sure is not
    guessed.

    Args:
        folder: The descriptors.
        price_file: In LiteLLM's or tokencost's format.
        today: Date of the new prices.

    Raises:
        DescriptorError: If a descriptor is not valid.
        DataError: If the price file cannot be read, has another format, or a price of a model that
            is looked up is not a number from 0 up.
    """
    price_file = Path(price_file)
    entries = _load(price_file)
    checks = []
    for path in descriptor_files(Path(folder)):
        model = ModelDescriptor.load(path)
        found = _find(entries, model.provider, price_file)
        if isinstance(found, str):
            checks.append(PriceCheck(model.id, path, None, model.price, None, found))
            continue
        name, numbers = found
        facts = {"date": today or datetime.date.today(), "source": price_file.name}
        after = _update(model.price, numbers, facts)
        checks.append(PriceCheck(model.id, path, name, model.price, after, None))
    return checks


def write_price(check: PriceCheck) -> None:
    """Write a changed price into its descriptor; the rest of the file stays as it is.

    Raises:
        DescriptorError: If the price stands there in a way that cannot be edited; says what to
            write by hand.
    """
    if check.after is None:
        raise ValueError(f"{check.model}: no price was found: {check.problem}.")
    from crossroute.models.edit import update_file

    before = ModelDescriptor.load(check.path)
    update_file(check.path, before.model_copy(update={"price": check.after}))


def _load(path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        content = json.loads(read_file(path, MOST_BYTES).decode("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    entries = content if isinstance(content, dict) else {}
    entries = {name: entry for name, entry in entries.items() if isinstance(entry, dict)}
    if not any(PER_TOKEN["input_usd_per_1m"] in entry for entry in entries.values()):
        raise DataError(
            f"{path}: not a price file of LiteLLM or tokencost: no model in it has "
            f"{PER_TOKEN['input_usd_per_1m']}."
        )
    return entries


def _find(
    entries: Mapping[str, Mapping[str, Any]], provider: Provider | None, path: Path
) -> tuple[str, dict[str, float]] | str:
    """A model's name in the price file and its prices per 1M, or why they are not known."""
    if provider is None:
        return "it has no provider, whose name for it would be looked up"
    if provider.base_url is not None:
        return "it is served at its own base_url, whose prices are not in the file"
    vendor, _, name = provider.chat_model.partition(":")
    vendors = LISTED_VENDORS.get(vendor, (vendor,))
    found: dict[str, dict[str, float]] = {}
    for key in dict.fromkeys((*(f"{one}/{name}" for one in vendors), name)):
        entry = entries.get(key, {})
        of = entry.get("litellm_provider")
        # "vertex_ai-language-models" is a part of vertex_ai. A name with a slash names a vendor.
        foreign = "/" in key if of is None else str(of).partition("-")[0] not in vendors
        if key == name and foreign:
            continue
        numbers = {
            field: _per_1m(path, key, listed, entry[listed])
            for field, listed in PER_TOKEN.items()
            if entry.get(listed) is not None
        }
        if all(field in numbers for field in REQUIRED):
            found[key] = numbers
    if not found:
        return f"{provider.chat_model} is not in the file with a price by its provider"
    if any(numbers != next(iter(found.values())) for numbers in found.values()):
        return f"the file has two prices for it, as {' and '.join(found)}"
    return next(iter(found.items()))


def _per_1m(path: Path, model: str, field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise DataError(f"{path}: {model}: {field} is {value!r}; it must be a number from 0 up.")
    # 0.8, not 0.7999999999999999.
    return float(f"{value * 1e6:.10g}")


def _update(before: Price | None, numbers: Mapping[str, float], facts: Mapping[str, Any]) -> Price:
    """The new price table; the old one if nothing changed, with what the file does not have."""
    if before is None:
        return Price.model_validate({**numbers, **facts})
    changed = dict(numbers)
    for field, value in numbers.items():
        old = getattr(before, field)
        # Reasoning is listed with every model that reasons, mostly at the price of other output.
        implied = old is None and field.startswith("reasoning") and value == numbers[REQUIRED[1]]
        if implied or (old is not None and math.isclose(old, value, rel_tol=1e-6)):
            del changed[field]
    return before.model_copy(update={**changed, **facts}) if changed else before
