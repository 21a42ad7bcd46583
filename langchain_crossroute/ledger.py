"""CostLedger: a callback that keeps the books of routed calls."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import ChatGeneration, LLMResult
from typing_extensions import override

from crossroute import CrossRouter, ModelDescriptor, Price
from crossroute.ledger import Ledger
from crossroute.models.followed_folder import FollowedFolder
from crossroute.query import estimate_tokens
from crossroute.strategies import Charge, Reply
from langchain_crossroute.metadata import tokens_of, usage_of

if TYPE_CHECKING:
    from langchain_crossroute.chat_model import ChatCrossRoute
    from langchain_crossroute.middleware import CrossRouteMiddleware
    from langchain_crossroute.runnable import CrossRouteRunnable

MAX_OPEN_RUNS = 10_000
"""Runs that have started and not ended; beyond that, the oldest is given up."""


class _Run(NamedTuple):
    """A model run that has not ended, and the prices that it began with."""

    model: str
    role: str
    input_tokens: float
    predicted_usd: float
    price: Price | None
    baseline: Price | None


class CostLedger(Ledger, BaseCallbackHandler):
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
        PoolError: If `models` has no prices.
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
        super().__init__(models, baseline)
        self._open: OrderedDict[UUID, _Run] = OrderedDict()
        self._open_lock = threading.Lock()

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
        if (run := self._ended(run_id)) is not None:
            self._count(run, usage_of(response))

    @override
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        if (run := self._ended(run_id)) is not None:
            # What is no Exception is a caller that has left or was cancelled.
            failed = isinstance(error, Exception)
            self._count(run, {}, _text(kwargs.get("response")), failed=failed)

    def on_crossroute_ask(
        self, charge: Charge, reply: Reply, predicted_usd: float, *, failed: bool
    ) -> None:
        """Count what a router has asked of an agent, a chain, a retriever or a tool.

        Args:
            charge: What stands on the bill.
            reply: What has come back.
            predicted_usd: What it was predicted to cost.
            failed: Whether it ended with an error.
        """
        baseline = self._baseline_in(self._pool)
        self._count_charge(
            charge, reply, predicted_usd, baseline=baseline, is_model=False, failed=failed
        )

    def _start(self, run_id: UUID, metadata: Mapping[str, Any] | None) -> None:
        if metadata is None or "crossroute" not in metadata:
            return
        if metadata.get("crossroute_kind", "model") != "model":
            # One of those that it makes, of which the bill is one.
            return
        model = metadata["crossroute_model"]
        # Of the model that runs, which is not the decision's when an attempt before it failed.
        candidates = metadata["crossroute"]["candidates"]
        predicted = next(c["cost_usd"] for c in candidates if c["model"] == model)
        pool = self._pool
        run = _Run(
            model,
            metadata.get("crossroute_role", "answer"),
            metadata["crossroute"]["input_tokens"],
            predicted,
            pool[model].price if model in pool else None,
            self._baseline_in(pool),
        )
        given_up = None
        with self._open_lock:
            self._open[run_id] = run
            if len(self._open) > MAX_OPEN_RUNS:
                _, given_up = self._open.popitem(last=False)
        if given_up is not None:
            self._count(given_up, {})

    def _ended(self, run_id: UUID) -> _Run | None:
        with self._open_lock:
            return self._open.pop(run_id, None)

    def _count(
        self, run: _Run, usage: Mapping[str, Any], text: str = "", *, failed: bool = False
    ) -> None:
        """Count a run that has ended; without usage by the text that it left, if any."""
        tokens = tokens_of(usage)
        if estimated := bool(text) and tokens is None:
            tokens = round(run.input_tokens), round(estimate_tokens(text)), 0, 0
        price = run.price
        self._add(
            run.model,
            run.role,
            tokens,
            None if price is None or tokens is None else float(price.cost_usd(*tokens)),
            predicted_usd=run.predicted_usd,
            baseline=run.baseline,
            estimated=estimated,
            failed=failed,
            # LangChain marks an answer from its cache so; the tokens in it are of the first answer.
            cached=usage.get("total_cost") == 0,
        )


def _text(response: LLMResult | None) -> str:
    """The text that a run has left which did not come to its end."""
    match response and response.generations:
        case [[ChatGeneration(message=message), *_], *_]:
            return str(message.text)
    return ""
