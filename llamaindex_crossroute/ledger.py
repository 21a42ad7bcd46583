"""CostLedger: what the calls of a `with` block, or of an LLM, really cost."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from crossroute import CrossRouter, FollowedFolder, ModelDescriptor
from crossroute.ledger import Ledger
from crossroute.strategies import Charge, Reply

if TYPE_CHECKING:
    from llamaindex_crossroute.llm import CrossRouteLLM

_OPEN: ContextVar[tuple[CostLedger, ...]] = ContextVar("crossroute_ledgers", default=())


class CostLedger(Ledger):
    """Adds up what the asks of a `CrossRouteLLM` really cost.

    It counts the calls that begin in its `with` block, also within query engines, and within agents
    and workflows whose `run` is called in it; a stream is counted when it ends. Blocks nest, and
    one ledger may serve many threads and tasks, each with a block of its own. For all calls of an
    LLM, whoever makes them, it is `CrossRouteLLM(ledger=...)`. A call counts once in each ledger.

        ledger = CostLedger(llm, baseline="gpt-4o-2024-08-06")
        with ledger:
            query_engine.query("...")
        print(ledger.report())

    What is counted is what stands on the bill of each call (`crossroute.strategies.bill`): every
    ask, at the prices of its call, and estimated where no provider has counted.

    Args:
        models: Where the baseline's price is, if a call's own pool does not have it: what routes
            the calls, a router, a pool, or what follows a folder.
        baseline: Id of the model to compare with, as if it had got every call.

    Raises:
        UnknownModelError: If the baseline is not in the pool.
        DescriptorError: If the baseline has no price.
        PoolError: If `models` has no prices.
    """

    def __init__(
        self,
        models: (CrossRouteLLM | CrossRouter | Mapping[str, ModelDescriptor] | FollowedFolder[Any]),
        baseline: str | None = None,
    ) -> None:
        super().__init__(models, baseline)

    def __enter__(self) -> Self:
        _OPEN.set((*_OPEN.get(), self))
        return self

    def __exit__(self, *error: object) -> None:
        # Not the last of all: the block of a generator may end within one that began later.
        opened = list(reversed(_OPEN.get()))
        if self in opened:
            opened.remove(self)
        _OPEN.set(tuple(reversed(opened)))

    def count(
        self,
        charge: Charge,
        reply: Reply,
        predicted_usd: float,
        pool: Mapping[str, ModelDescriptor],
        *,
        failed: bool,
    ) -> None:
        """Count an ask that has ended.

        Args:
            charge: What stands on the bill.
            reply: What has come back.
            predicted_usd: What an answer of the model was predicted to cost.
            pool: The models of the call.
            failed: Whether it ended with an error.
        """
        self._count_charge(
            charge,
            reply,
            predicted_usd,
            baseline=self._baseline_in(pool),
            is_model=pool[charge["model"]].kind == "model",
            failed=failed,
        )


def open_ledgers(own: CostLedger | None) -> tuple[CostLedger, ...]:
    """The ledgers of a call that begins now, each once.

    Args:
        own: That of the LLM that is called.
    """
    found = _OPEN.get() if own is None else (*_OPEN.get(), own)
    return tuple(dict.fromkeys(found))
