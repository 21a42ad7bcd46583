"""Decision: which model was chosen, why, and what would change it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from crossroute.agents import CLOSE
from crossroute.ranking import RewardName, switching_point
from crossroute.topsis import Topsis


class CandidateScore(NamedTuple):
    """What was predicted for one candidate.

    Attributes:
        model: Id of the model.
        quality: Predicted quality of its answer, 0..1.
        cost_usd: Predicted cost of its answer in USD.
        reward: Its reward at the willingness to pay of the decision; of one by TOPSIS, its
            closeness to the ideal, 0..1.
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
        reward: Name of the reward that ordered the candidates; of a decision by TOPSIS, the one by
            which a strategy weighs whether a further ask is worth it.
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
        topsis: The weights of TOPSIS, where it ordered the candidates in place of the reward.
        fit: How well each agent of the pool fits the query, by its id (`crossroute.agents`); empty
            where there is no agent, or no text.
        margin: The least fit of an agent that serves; None where there is no agent.
        unknown_cost: Ids of the agents whose cost nobody knows: it counts as that of the dearest
            candidate.
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
    topsis: Topsis | None = None
    fit: Mapping[str, float] = field(default_factory=dict)
    margin: float | None = None
    unknown_cost: frozenset[str] = frozenset()

    @property
    def tiers(self) -> list[int]:
        """Of each candidate, whom it is chosen among: those of a lower number go before it.

        The agents that fit the query best come before the others that fit it (`tiers_of`), these
        before models.
        """
        found = tiers_of(
            {one.model: self.fit[one.model] for one in self.candidates if one.model in self.fit}
        )
        last = len(set(found.values()))
        return [found.get(one.model, last) for one in self.candidates]

    @property
    def peers(self) -> list[CandidateScore]:
        """The candidates that the choice was among, the chosen one too."""
        tiers = self.tiers
        return [one for one, tier in zip(self.candidates, tiers, strict=True) if tier == min(tiers)]

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
        tokens = f"about {self.input_tokens:.0f} input tokens"
        if self.topsis is None:
            how = (
                f"at a willingness to pay of {usd(self.willingness_to_pay)} a unit of quality "
                f"({self.reward} reward, {tokens})"
            )
        else:
            how = f"by {self.topsis}; the willingness to pay is not used ({tokens})"
        named = "reward" if self.topsis is None else "C"
        lines = [
            f"{self.model}: predicted quality {self.quality:.2f} for {usd(self.cost_usd)}, {how}.",
            "",
            f"  {'candidate':<34} {'quality':>7} {'cost':>11} {named:>8}",
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
        lines += self._fits(top)
        if self.topsis is not None and any(
            one.reward < other.reward for one, other in pairwise(self.candidates)
        ):
            lines.append(
                "C compares candidates of one front: who is beaten by another in every respect, "
                "and who stands in for an agent, comes after the others."
            )
        if self.blank:
            lines.append("The query has no text: this is the order of the models in the mean.")
        if self.kept:
            lines.append("It is kept because it answered before, and the gain is below the margin.")
        if unknown := [one.model for one in shown if one.model in self.unknown_cost]:
            lines.append(
                f"What a call of {', '.join(unknown)} costs is not known: it counts as the dearest "
                "candidate's."
            )
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
        if self.topsis is None and (self.shadow is None or self.shadow.model == self.model):
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
        if self.topsis is not None:
            found["topsis"] = asdict(self.topsis)
        if self.margin is not None:
            found |= {"fit": dict(self.fit), "margin": _finite(self.margin)}
        if self.shortened:
            found["shortened"] = dict(self.shortened)
        if self.unknown_cost:
            found["unknown_cost"] = sorted(self.unknown_cost)
        return found

    def _fits(self, top: int) -> list[str]:
        """How well the agents that fit best do."""
        if not self.fit or self.margin is None:
            return []
        best = sorted(self.fit.items(), key=lambda item: -item[1])[:top]
        listed = ", ".join(f"{agent} {fit:.2f}" for agent, fit in best)
        more = f", and {len(self.fit) - len(best)} more less" if len(self.fit) > len(best) else ""
        lines = [
            f"Fit of the query to agents (from {self.margin:.2f} up one serves): {listed}{more}."
        ]
        if self.model in self.fit and len(self.peers) < len(self.candidates):
            lines.append("It is chosen among the agents that fit best; others stand in for them.")
        return lines

    def _alternatives(self) -> list[str]:
        peers = self.peers
        if not peers or peers[0].model != self.model:
            return []
        quality = np.array([c.quality for c in peers])
        cost = np.array([self.counted_usd(c) for c in peers])
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
                rival = peers[index]
                lines.append(
                    f"{direction.capitalize()} a willingness to pay of {usd(point)} it would be "
                    f"{rival.model} (quality {rival.quality:.2f} for {usd(rival.cost_usd)})."
                )
        return lines or ["No other candidate would be chosen at any willingness to pay."]


def tiers_of(fits: Mapping[str, float]) -> dict[str, int]:
    """Which of some agents are chosen from first, next and so on, by their ids.

    Of one number, from 0 up, are those that fit nearly as well as the best one of it.
    """
    found: dict[str, int] = {}
    tier, best = -1, math.inf
    for agent, fit in sorted(fits.items(), key=lambda item: -item[1]):
        if fit < best - CLOSE:
            tier, best = tier + 1, fit
        found[agent] = tier
    return found


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
