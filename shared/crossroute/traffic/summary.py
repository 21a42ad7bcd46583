"""What records come to: who answered, what it cost beside what was predicted, how good it was."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from crossroute.traffic.records import CallRecord


@dataclass
class Answered:
    """What the calls that one model answered came to.

    The costs are sums over the calls whose cost is known.

    Attributes:
        calls: Calls that it answered, or had begun to.
        priced: Those of them whose cost is known.
        cost_usd: What they cost, with all their asks.
        predicted_usd: What answers of this model to them were predicted to cost.
        scored: Calls with feedback.
        score: Sum of their feedback, each 0..1.
        predicted_quality: Sum of the predicted quality of the calls with feedback, each 0..1.
    """

    calls: int = 0
    priced: int = 0
    cost_usd: float = 0.0
    predicted_usd: float = 0.0
    scored: int = 0
    score: float = 0.0
    predicted_quality: float = 0.0


@dataclass
class Summary:
    """What the records of a file come to.

    Attributes:
        calls: All calls.
        first: When the first was made.
        last: When the last was made.
        failed: Calls that ended with an error.
        left: Calls whose callers left, or were cancelled.
        passed_on: Calls in which an ask failed or was refused, and another model answered.
        drawn: Calls whose model was drawn with a known probability.
        shadowed: Calls where something else than the router had a say in whom to ask.
        agreed: Those of them that the router's own choice answered.
        models: By the model that answered.
    """

    calls: int = 0
    first: datetime | None = None
    last: datetime | None = None
    failed: int = 0
    left: int = 0
    passed_on: int = 0
    drawn: int = 0
    shadowed: int = 0
    agreed: int = 0
    models: dict[str, Answered] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[CallRecord]) -> Summary:
        """Sum up calls."""
        found = cls()
        for record in records:
            found._add(record)
        return found

    def _add(self, record: CallRecord) -> None:
        self.calls += 1
        self.first = min(self.first or record.at, record.at)
        self.last = max(self.last or record.at, record.at)
        self.failed += record.outcome == "failed"
        self.left += record.outcome == "left"
        self.drawn += record.probability is not None
        if (own := record.decision.shadow) is not None:
            self.shadowed += 1
            self.agreed += own.model == record.model
        if record.model is None or (predicted := record.predicted) is None:
            return
        self.passed_on += any(ask.error is not None for ask in record.asks)
        row = self.models.setdefault(record.model, Answered())
        row.calls += 1
        if record.cost_usd is not None:
            row.priced += 1
            row.cost_usd += record.cost_usd
            row.predicted_usd += predicted.cost_usd
        if (score := record.score()) is not None:
            row.scored += 1
            row.score += score
            row.predicted_quality += predicted.quality
