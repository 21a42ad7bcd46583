"""The price tables of a folder's descriptors beside what genai-prices lists."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path

from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.pool import descriptor_files
from crossroute.models.price import ListedPrice, Price, Rates, listed_price

RATES = tuple(Rates.model_fields)
"""The numbers of a price table."""


@dataclass(frozen=True, slots=True)
class PriceCheck:
    """The price of one model, and what genai-prices lists.

    Attributes:
        model: What its file says.
        path: The file.
        own: Its own table; None where the listed price is its price.
        listed: The listed price; None where there is none.
    """

    model: ModelDescriptor
    path: Path
    own: Price | None
    listed: ListedPrice | None

    @property
    def after(self) -> Price | None:
        """Its own table with the listed numbers; itself where they are the same."""
        if self.own is None or self.listed is None or _says_the_same(self.own, self.listed):
            return self.own
        known = self.listed.model_dump(exclude_none=True, include={*RATES, "source"})
        today = datetime.date.today()
        return self.own.model_copy(update={**known, "date": today, "tiers": self.listed.tiers})

    @property
    def changes(self) -> dict[str, tuple[float | None, float | None]]:
        """The numbers that differ, own and listed, in USD per 1M tokens."""
        own, after = self.own, self.after
        pairs = {name: (getattr(own, name, None), getattr(after, name, None)) for name in RATES}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    @property
    def differs(self) -> bool:
        """Whether there is an own table that says something else than the list."""
        return self.after != self.own


def check_prices(folder: str | Path) -> list[PriceCheck]:
    """Look up the price of every descriptor of a folder.

    Raises:
        DescriptorError: If a descriptor is not valid.
    """
    checks = []
    for path in descriptor_files(Path(folder)):
        model = ModelDescriptor.load(path)
        provider = model.provider
        listed = None if provider is None else listed_price(provider.chat_model, provider.base_url)
        checks.append(PriceCheck(model, path, model.as_written.price, listed))
    return checks


def write_price(check: PriceCheck) -> None:
    """Write the listed numbers into a descriptor's own table; the rest of the file stays.

    Raises:
        DescriptorError: If the price stands there in a way that cannot be edited; says what to
            write by hand.
    """
    from crossroute.models.edit import update_file

    update_file(check.path, check.model.model_copy(update={"price": check.after}))


def _says_the_same(own: Price, listed: Price) -> bool:
    """Whether all listed numbers stand in the own table, beside which it may have others."""
    if [one.above_input_tokens for one in own.tiers] != [
        one.above_input_tokens for one in listed.tiers
    ]:
        return False
    pairs: list[tuple[Rates, Rates]] = [(own, listed), *zip(own.tiers, listed.tiers, strict=True)]
    return all(
        math.isclose(getattr(a, name) or 0, getattr(b, name), rel_tol=1e-6)
        for a, b in pairs
        for name in RATES
        if getattr(b, name) is not None
    )
