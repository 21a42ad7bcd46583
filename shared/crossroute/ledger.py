"""Ledger: what routed calls cost, beside what was predicted and what a baseline would cost.

What tells it of the asks is an integration's own.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from crossroute.decision import usd
from crossroute.errors import DescriptorError, PoolError
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.followed_folder import FollowedFolder
from crossroute.models.price import Price
from crossroute.router import CrossRouter
from crossroute.strategies import Charge, Reply, Usage


@dataclass
class Spend:
    """What the calls of one model, or in one role, came to.

    The sums are of the calls whose cost is known; the others are counted apart, and are not free.

    Attributes:
        calls: Calls of a model that have ended, however they did.
        failures: Those that ended with an error.
        estimated: Those in the sums whose tokens nobody has counted: of a stream that was abandoned
            or failed midway, they are estimated from its text.
        without_usage: Those whose tokens are not known: the answer had no usage.
        without_price: Those with usage, of a model without a price.
        cached_answers: Those answered from the framework's own cache; they cost nothing, and their
            tokens are not counted.
        input_tokens: All input tokens.
        cached_tokens: Those of them that came from the provider's prompt cache.
        output_tokens: Output tokens.
        cost_usd: Realised cost in USD, by the price table.
        predicted_usd: Cost of the same calls as it was predicted, in USD.
        baseline_usd: Cost of the same tokens at the baseline's price, in USD, of what was asked as
            an answer: a baseline needs no drafts and judges. What an agent, a chain, a retriever or
            a tool did is taken to cost a baseline as much. 0 without a baseline.
    """

    calls: int = 0
    failures: int = 0
    estimated: int = 0
    without_usage: int = 0
    without_price: int = 0
    cached_answers: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    predicted_usd: float = 0.0
    baseline_usd: float = 0.0

    @property
    def is_unknown(self) -> bool:
        """Whether there were answers and the cost of none is known: the sums say nothing."""
        unknown = self.without_usage + self.without_price
        return 0 < unknown == self.calls - self.failures - self.cached_answers


class Ledger:
    """Adds up what the calls of models cost; safe to share between threads and tasks.

    Args:
        models: Where the prices are: what routes the calls, a router, or a pool; what follows a
            folder has the prices of now.
        baseline: Id of the model to compare with, as if it had got every call.

    Raises:
        UnknownModelError: If the baseline is not in the pool.
        DescriptorError: If the baseline has no price.
        PoolError: If `models` has no prices.
    """

    def __init__(self, models: object, baseline: str | None = None) -> None:
        self._models = models
        if not isinstance(self._pool, Mapping):
            raise PoolError(
                "A ledger needs the prices of what routes, a router or a pool, got "
                f"{type(models).__name__}."
            )
        self.baseline = baseline
        self._baseline_price = None if baseline is None else self._pool[baseline].price
        if baseline is not None and self._baseline_price is None:
            raise DescriptorError(
                f"The baseline {baseline!r} has no price; add one to its descriptor."
            )
        self._lock = threading.Lock()
        self._spend: dict[str, Spend] = {}
        self._roles: dict[str, Spend] = {}

    @property
    def _pool(self) -> Mapping[str, ModelDescriptor]:
        """The prices, of a folder that is followed as they are now."""
        found: Any = self._models
        # Beside it, what follows a folder has the router of its start.
        found = getattr(found, "live", None) or found
        if isinstance(found, FollowedFolder):
            found = found.current
        found = getattr(found, "router", found)
        return found.pool if isinstance(found, CrossRouter) else found

    def _baseline_in(self, pool: Mapping[str, ModelDescriptor]) -> Price | None:
        """The baseline's price in a pool; where that has none, the one of the start."""
        if self.baseline is None or self.baseline not in pool:
            return self._baseline_price
        return pool[self.baseline].price or self._baseline_price

    @property
    def spend(self) -> dict[str, Spend]:
        """What each model has come to so far, by its id: a copy."""
        with self._lock:
            return {model: copy.copy(self._spend[model]) for model in sorted(self._spend)}

    @property
    def roles(self) -> dict[str, Spend]:
        """What the asks of each role (`answer`, `draft`, `judge` ...) have come to: a copy."""
        with self._lock:
            return {role: copy.copy(self._roles[role]) for role in sorted(self._roles)}

    @property
    def total_usd(self) -> float:
        """Realised cost of all calls in USD, as far as it is known."""
        return sum(spend.cost_usd for spend in self.spend.values())

    @property
    def saving_usd(self) -> float | None:
        """What the same tokens would have cost at the baseline beyond `total_usd`, in USD.

        None without a baseline; negative where the baseline is cheaper.
        """
        if self.baseline is None:
            return None
        return sum(spend.baseline_usd - spend.cost_usd for spend in self.spend.values())

    def to_dict(self) -> dict[str, Any]:
        """The ledger as plain JSON-ready values."""
        spend = self.spend
        total = _total(spend)
        return {
            "models": {model: asdict(row) for model, row in spend.items()},
            "roles": {role: asdict(row) for role, row in self.roles.items()},
            "total": asdict(total),
            "baseline": self.baseline,
            "saving_usd": None if self.baseline is None else total.baseline_usd - total.cost_usd,
        }

    def report(self) -> str:
        """The ledger as a plain text table, with what its sums leave out."""
        spend = self.spend
        total = _total(spend)
        lines = [
            f"{'model':<34} {'calls':>6} {'failed':>6} {'input':>9} {'cached':>9} {'output':>9} "
            f"{'cost':>11} {'predicted':>11}"
        ]
        for model, row in [*spend.items(), ("total", total)]:
            tokens = (row.input_tokens, row.cached_tokens, row.output_tokens)
            sums = [*map(str, tokens), usd(row.cost_usd), usd(row.predicted_usd)]
            if row.is_unknown:
                sums = ["?"] * len(sums)
            cells = zip(sums, (9, 9, 9, 11, 11), strict=True)
            lines.append(
                f"{model:<34} {row.calls:>6} {row.failures:>6} "
                + " ".join(f"{cell:>{width}}" for cell, width in cells)
            )
        if self.baseline is not None and total.is_unknown:
            lines.append(f"All by {self.baseline}: not known, for the cost of no call is.")
        elif self.baseline is not None:
            saving = total.baseline_usd - total.cost_usd
            share = f" ({saving / total.baseline_usd:.0%})" if total.baseline_usd else ""
            verb = "saved" if saving >= 0 else "spent more"
            lines.append(
                f"All by {self.baseline}: {usd(total.baseline_usd)}; {usd(abs(saving))} {verb}"
                f"{share}."
            )
        if len(roles := self.roles) > 1:
            parts = (f"{role} {usd(row.cost_usd)} ({row.calls})" for role, row in roles.items())
            lines.append(f"By role, with calls: {', '.join(parts)}.")
        if total.estimated:
            lines.append(f"Calls whose tokens are estimated, in the sums: {total.estimated}.")
        if total.cached_answers:
            lines.append(f"Answered from the LLM cache, at no cost: {total.cached_answers}.")
        if total.without_usage:
            lines.append(f"Calls without usage, NOT in the sums: {total.without_usage}.")
        if total.without_price:
            lines.append(
                f"Calls of models without a price, NOT in the sums: {total.without_price}."
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({usd(self.total_usd)}, baseline={self.baseline!r})"

    def _count_charge(
        self,
        charge: Charge,
        reply: Reply,
        predicted_usd: float,
        *,
        baseline: Price | None,
        is_model: bool = True,
        failed: bool,
    ) -> None:
        """Count an ask that has ended.

        Args:
            charge: What stands on the bill.
            reply: What has come back.
            predicted_usd: What an answer of the model was predicted to cost.
            baseline: The price of the baseline as the call began.
            is_model: Whether a model was asked, and no agent, chain, retriever or tool.
            failed: Whether it ended with an error.
        """
        tokens: Usage | None = Usage(
            charge["input_tokens"], charge["output_tokens"], charge["cached_tokens"]
        )
        is_free = is_model or charge["cost_usd"] is None
        if failed and is_free and reply.usage is None and not reply.text:
            tokens = None
        self._add(
            charge["model"],
            charge["role"],
            tokens,
            charge["cost_usd"],
            predicted_usd=predicted_usd,
            baseline=baseline,
            is_model=is_model,
            estimated=charge["estimated"],
            failed=failed,
        )

    def _add(
        self,
        model: str,
        role: str,
        tokens: tuple[int, int, int, int] | None,
        cost_usd: float | None,
        *,
        predicted_usd: float,
        baseline: Price | None,
        is_model: bool = True,
        estimated: bool = False,
        failed: bool = False,
        cached: bool = False,
    ) -> None:
        """Count a call of a model that has ended; the caller holds no lock.

        Args:
            model: Id of the model.
            role: What it was asked for.
            tokens: As `Price.cost_usd` takes them; None if they are not known.
            cost_usd: What they cost; None for a model without a price.
            predicted_usd: What the call was predicted to cost.
            baseline: The price of the baseline as the call began.
            is_model: Whether a model was called, and no agent, chain, retriever or tool.
            estimated: Whether nobody has counted the tokens.
            failed: Whether it ended with an error.
            cached: Whether the answer was in the framework's own cache.
        """
        with self._lock:
            for rows, name in ((self._spend, model), (self._roles, role)):
                row = rows.setdefault(name, Spend())
                row.calls += 1
                row.failures += failed
                if cached:
                    row.cached_answers += 1
                elif tokens is None:
                    row.without_usage += not failed
                elif cost_usd is None:
                    row.without_price += 1
                else:
                    row.estimated += estimated
                    row.input_tokens += tokens[0]
                    row.output_tokens += tokens[1]
                    row.cached_tokens += tokens[2]
                    row.cost_usd += cost_usd
                    row.predicted_usd += predicted_usd
                    if baseline is not None and not is_model:
                        row.baseline_usd += cost_usd
                    elif baseline is not None and role == "answer" and not failed:
                        row.baseline_usd += baseline.cost_usd(*tokens)


def _total(spend: Mapping[str, Spend]) -> Spend:
    total = Spend()
    for row in spend.values():
        for name, value in vars(row).items():
            setattr(total, name, getattr(total, name) + value)
    return total
