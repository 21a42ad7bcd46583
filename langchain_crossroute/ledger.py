"""CostLedger: what routed calls cost, beside what was predicted and what a baseline would cost."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import ChatGeneration, LLMResult
from typing_extensions import override

from crossroute import CrossRouter, DescriptorError, ModelDescriptor, PoolError, Price
from crossroute.decision import usd
from crossroute.models.followed_folder import FollowedFolder
from crossroute.query import estimate_tokens
from langchain_crossroute.marks import tokens_of

if TYPE_CHECKING:
    from langchain_crossroute.chat_model import ChatCrossRoute
    from langchain_crossroute.middleware import CrossRouteMiddleware
    from langchain_crossroute.runnable import CrossRouteRunnable

MAX_OPEN_RUNS = 10_000
"""Runs that have started and not ended; beyond that, the oldest is given up."""


@dataclass
class Spend:
    """What the calls of one model, or in one role, came to.

    The sums are of the calls whose cost is known; the others are counted apart, and are not free.

    Attributes:
        calls: Model runs that have ended, however they did.
        failures: Those that ended with an error.
        estimated: Those in the sums whose tokens nobody has counted: of a stream that was abandoned
            or failed midway, they are estimated from its text.
        without_usage: Those whose tokens are not known: the answer had no usage.
        without_price: Those with usage, of a model without a price.
        cached_answers: Those answered from LangChain's LLM cache; they cost nothing, and their
            tokens are not counted.
        input_tokens: All input tokens.
        cached_tokens: Those of them that came from the provider's prompt cache.
        output_tokens: Output tokens.
        cost_usd: Realised cost in USD, by the price table.
        predicted_usd: Cost of the same calls as it was predicted, in USD.
        baseline_usd: Cost of the same tokens at the baseline's price, in USD, of what was asked as
            an answer: a baseline needs no drafts and judges. 0 without a baseline.
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


class _Run(NamedTuple):
    """A model run that has not ended, and the prices that it began with."""

    model: str
    role: str
    input_tokens: float
    predicted_usd: float
    price: Price | None
    baseline: Price | None


class CostLedger(BaseCallbackHandler):
    """Adds up what the model runs that a CrossRoute router started really cost.

    A callback for sync, async, streamed and batched calls; one ledger may serve many of them at
    once. Other models' runs are ignored.

        ledger = CostLedger(chat, baseline="gpt-4o-2024-08-06")
        chain.invoke(question, config={"callbacks": [ledger]})
        print(ledger.report())

    Args:
        models: Where the prices are: what routes the calls, a router, or a pool. Where a folder is
            followed, each run is counted at the prices with which it began.
        baseline: Id of the model to compare with, as if it had got every call.

    Raises:
        UnknownModelError: If the baseline is not in the pool.
        DescriptorError: If the baseline has no price.
    """

    # In an async run, a thread for each event would take longer than the addition.
    run_inline = True

    def __init__(
        self,
        models: (
            ChatCrossRoute
            | CrossRouteRunnable
            | CrossRouteMiddleware[Any, Any]
            | CrossRouter
            | Mapping[str, ModelDescriptor]
            | FollowedFolder[Any]
        ),
        baseline: str | None = None,
    ) -> None:
        self._models = models
        if not isinstance(self._pool, Mapping):
            raise PoolError(
                "A ledger needs the prices of what routes (a ChatCrossRoute, CrossRouteRunnable or "
                f"CrossRouteMiddleware), a router or a pool, got {type(models).__name__}."
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
        self._open: OrderedDict[UUID, _Run] = OrderedDict()

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

    @override
    def __repr__(self) -> str:
        return f"CostLedger({usd(self.total_usd)}, baseline={self.baseline!r})"

    @override
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[Any]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._start(run_id, metadata)

    @override
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._start(run_id, metadata)

    @override
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        with self._lock:
            if run_id in self._open:
                self._add(self._open.pop(run_id), _usage(response))

    @override
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        with self._lock:
            if run_id in self._open:
                # What is no Exception is a caller that has left or was cancelled.
                failed = isinstance(error, Exception)
                self._add(self._open.pop(run_id), {}, _text(kwargs.get("response")), failed=failed)

    def _start(self, run_id: UUID, metadata: Mapping[str, Any] | None) -> None:
        if metadata is None or "crossroute" not in metadata:
            return
        model = metadata["crossroute_model"]
        # Of the model that runs, which is not the decision's when an attempt before it failed.
        candidates = metadata["crossroute"]["candidates"]
        predicted = next(c["cost_usd"] for c in candidates if c["model"] == model)
        pool = self._pool
        price = pool[model].price if model in pool else None
        baseline = self._baseline_price
        if self.baseline is not None and self.baseline in pool:
            baseline = pool[self.baseline].price or baseline
        with self._lock:
            self._open[run_id] = _Run(
                model,
                metadata.get("crossroute_role", "answer"),
                metadata["crossroute"]["input_tokens"],
                predicted,
                price,
                baseline,
            )
            if len(self._open) > MAX_OPEN_RUNS:
                _, given_up = self._open.popitem(last=False)
                self._add(given_up, {})

    def _add(
        self, run: _Run, usage: Mapping[str, Any], text: str = "", *, failed: bool = False
    ) -> None:
        """Count a run that has ended; without usage by the text that it left, if any."""
        tokens = tokens_of(usage)
        if estimated := bool(text) and tokens is None:
            tokens = round(run.input_tokens), round(estimate_tokens(text)), 0, 0
        for rows, name in ((self._spend, run.model), (self._roles, run.role)):
            row = rows.setdefault(name, Spend())
            row.calls += 1
            row.failures += failed
            # LangChain marks an answer from its cache so; the tokens in it are of the first answer.
            if usage.get("total_cost") == 0:
                row.cached_answers += 1
            elif tokens is None:
                row.without_usage += not failed
            elif run.price is None:
                row.without_price += 1
            else:
                row.estimated += estimated
                row.input_tokens += tokens[0]
                row.output_tokens += tokens[1]
                row.cached_tokens += tokens[2]
                row.cost_usd += run.price.cost_usd(*tokens)
                row.predicted_usd += run.predicted_usd
                if run.baseline is not None and run.role == "answer" and not failed:
                    row.baseline_usd += run.baseline.cost_usd(*tokens)


def _text(response: LLMResult | None) -> str:
    """The text that a run has left which did not come to its end."""
    match response and response.generations:
        case [[ChatGeneration(message=message), *_], *_]:
            return str(message.text)
    return ""


def _usage(response: LLMResult) -> Mapping[str, Any]:
    """The usage of an answer; empty where it has none, such as that of a text completion."""
    match response.generations:
        case [[ChatGeneration(message=message), *_], *_]:
            return getattr(message, "usage_metadata", None) or {}
    return {}


def _total(spend: Mapping[str, Spend]) -> Spend:
    total = Spend()
    for row in spend.values():
        for name, value in vars(row).items():
            setattr(total, name, getattr(total, name) + value)
    return total
