"""Decision: which model was chosen, why, and what would change it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from crossroute.ranking import RewardName, switching_point


class CandidateScore(NamedTuple):
    """What was predicted for one candidate.

    Attributes:
        model: Id of the model.
        quality: Predicted quality of its answer, 0..1.
        cost_usd: Predicted cost of its answer in USD.
        reward: Its reward at the willingness to pay of the decision.
    """

    model: str
    quality: float
    cost_usd: float
    reward: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The model chosen for one query, and what it was chosen from.

    Attributes:
        model: Id of the chosen model.
        quality: Its predicted quality, 0..1.
        cost_usd: Its predicted cost in USD.
        candidates: Every candidate, the preferred first.
        willingness_to_pay: lambda, USD a unit of quality.
        reward: Name of the reward that ordered the candidates.
        input_tokens: Estimated input tokens of the query.
        removed: Why models of the pool are no candidates, by their ids.
        kept: Whether the model was chosen because it had answered before, although another one
            has the higher reward.
        blank: Whether there was nothing to route by, so that the order is that of the models' mean
            quality and cost.
        shadow: The router's own choice, where `shadow` or `explore` has a say in whom to ask
            (`crossroute.exploration`): the model may be another one then, and it stands first among
            the candidates. None where the router's choice is asked.
        probability: With which the model was drawn to be asked, 0..1; None where nothing was drawn.
        call_id: Id of the call in the records of a recorder, or of a budget that was asked by hand;
            None where nobody records.
        surcharge_usd: What was added to the cost of models where it decided, in USD, by their ids
            (`CrossRouter.with_surcharges`).
        shortened: To how many input tokens the conversation is shortened for candidates that have
            no room for more, by their ids (`Constraints.shorten`).
    """

    model: str
    quality: float
    cost_usd: float
    candidates: tuple[CandidateScore, ...]
    willingness_to_pay: float
    reward: RewardName
    input_tokens: float
    removed: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False
    blank: bool = False
    shadow: CandidateScore | None = None
    probability: float | None = None
    call_id: str | None = None
    surcharge_usd: Mapping[str, float] = field(default_factory=dict)
    shortened: Mapping[str, int] = field(default_factory=dict)

    def counted_usd(self, candidate: CandidateScore) -> float:
        """What a candidate's cost counts as where it decides, its surcharge included, in USD."""
        return candidate.cost_usd + self.surcharge_usd.get(candidate.model, 0.0)

    def without(self, missing: Mapping[str, str]) -> Decision:
        """The decision between the other candidates, of which there is one at least.

        Args:
            missing: Why some are none after all, by their ids.
        """
        candidates = tuple([one for one in self.candidates if one.model not in missing])
        best = candidates[0]
        return replace(
            self,
            model=best.model,
            quality=best.quality,
            cost_usd=best.cost_usd,
            candidates=candidates,
            removed={**self.removed, **missing},
            kept=self.kept and best.model == self.model,
        )

    def preferring(self, model: str) -> Decision:
        """The decision that asks another of its candidates first; the others keep their order.

        Args:
            model: Id of a candidate.
        """
        first = next(one for one in self.candidates if one.model == model)
        return replace(
            self,
            model=first.model,
            quality=first.quality,
            cost_usd=first.cost_usd,
            candidates=(first, *(one for one in self.candidates if one is not first)),
            kept=self.kept and first.model == self.model,
        )

    def explain(self, top: int = 5) -> str:
        """Say in plain text what was chosen, from what, and what would change it.

        Args:
            top: How many candidates to list.
        """
        lines = [
            f"{self.model}: predicted quality {self.quality:.2f} for {usd(self.cost_usd)}, "
            f"at a willingness to pay of {usd(self.willingness_to_pay)} a unit of quality "
            f"({self.reward} reward, about {self.input_tokens:.0f} input tokens).",
            "",
            f"  {'candidate':<34} {'quality':>7} {'cost':>11} {'reward':>8}",
        ]
        shown = self.candidates[:top]
        lines += [
            f"  {c.model:<34} {c.quality:>7.3f} {usd(c.cost_usd):>11} {c.reward:>8.3f}"
            for c in shown
        ]
        if len(self.candidates) > len(shown):
            lines.append(f"  ... and {len(self.candidates) - len(shown)} more")
        lines += [f"  {model} was removed: {reason}" for model, reason in self.removed.items()]
        lines.append("")
        if self.blank:
            lines.append("The query has no text: this is the order of the models in the mean.")
        if self.kept:
            lines.append("It is kept because it answered before, and the gain is below the margin.")
        if self.shadow is not None:
            lines.append(f"The router's own choice is {self.shadow.model}.")
        if self.probability is not None:
            lines.append(f"It was drawn with a probability of {self.probability:.3g}.")
        lines += [
            f"{one.model} counts as {usd(abs(extra))} {_than(extra)} than it is."
            for one in shown
            if (extra := self.surcharge_usd.get(one.model, 0.0))
        ]
        lines += [
            f"{one.model} gets the conversation shortened to about {self.shortened[one.model]} "
            "input tokens."
            for one in shown
            if one.model in self.shortened
        ]
        if self.shadow is None or self.shadow.model == self.model:
            lines += self._alternatives()
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The decision as plain JSON-ready values (an infinite number becomes a string)."""
        # By hand: `asdict` copies deeply, which takes longer than routing.
        found: dict[str, Any] = {
            "model": self.model,
            "quality": self.quality,
            "cost_usd": self.cost_usd,
            "candidates": [_plain(c) for c in self.candidates],
            "willingness_to_pay": _finite(self.willingness_to_pay),
            "reward": self.reward,
            "input_tokens": self.input_tokens,
            "removed": dict(self.removed),
            "kept": self.kept,
            "blank": self.blank,
        }
        if self.shadow is not None:
            found["shadow"] = _plain(self.shadow)
        if self.probability is not None:
            found["probability"] = self.probability
        if self.call_id is not None:
            found["call_id"] = self.call_id
        if self.surcharge_usd:
            found["surcharge_usd"] = dict(self.surcharge_usd)
        if self.shortened:
            found["shortened"] = dict(self.shortened)
        return found

    def _alternatives(self) -> list[str]:
        quality = np.array([c.quality for c in self.candidates])
        cost = np.array([self.counted_usd(c) for c in self.candidates])
        lines = []
        for dearer, direction in ((False, "below"), (True, "above")):
            other = switching_point(
                self.reward,
                quality,
                cost,
                0,
                dearer=dearer,
                willingness_to_pay=self.willingness_to_pay,
            )
            if other is not None:
                index, point = other
                rival = self.candidates[index]
                lines.append(
                    f"{direction.capitalize()} a willingness to pay of {usd(point)} it would be "
                    f"{rival.model} (quality {rival.quality:.2f} for {usd(rival.cost_usd)})."
                )
        return lines or ["No other candidate would be chosen at any willingness to pay."]


LEAST_WRITTEN_OUT = 1e-12
"""USD; what is less has more zeros than anybody counts."""


def usd(value: float) -> str:
    """A sum in USD with as many digits as it needs: `$0.00042`, `$1.50`."""
    if value == 0 or math.isinf(value) or value >= 1:
        return "$inf" if math.isinf(value) else f"${value:.2f}"
    if value < LEAST_WRITTEN_OUT:
        return f"${value:.1e}"
    return f"${value:.{max(2, 1 - math.floor(math.log10(value)))}f}"


def _than(extra_usd: float) -> str:
    return "dearer" if extra_usd > 0 else "cheaper"


def _plain(one: CandidateScore) -> dict[str, Any]:
    return {
        "model": one.model,
        "quality": one.quality,
        "cost_usd": one.cost_usd,
        "reward": _finite(one.reward),
    }


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
