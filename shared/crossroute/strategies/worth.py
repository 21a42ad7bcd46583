"""What it is worth to ask, in the order of a decision's reward."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossroute.decision import CandidateScore, Decision
from crossroute.ranking import preference

FloatArray = NDArray[np.float64]


def beside(decision: Decision, model: str) -> list[CandidateScore]:
    """The candidates beside one, in their order."""
    return [one for one in decision.candidates if one.model != model]


def worth(decision: Decision, candidates: Sequence[CandidateScore]) -> FloatArray:
    """What it is worth to ask candidates: [m]."""
    quality = np.array([one.quality for one in candidates])
    return worth_of(decision, quality, np.array([decision.counted_usd(one) for one in candidates]))


def worth_of(
    decision: Decision, quality: FloatArray | float, cost_usd: FloatArray | float
) -> FloatArray:
    """What answers of some quality are worth, if they cost so much yet."""
    return preference(
        decision.reward,
        np.asarray(quality, dtype=np.float64),
        np.asarray(cost_usd, dtype=np.float64),
        decision.willingness_to_pay,
    )


def most_worth(decision: Decision, candidates: Sequence[CandidateScore]) -> CandidateScore:
    """The candidate that it is worth most to ask."""
    return candidates[int(np.argmax(worth(decision, candidates)))]


def worth_of_draft(
    decision: Decision,
    drafting: CandidateScore,
    p: FloatArray,
    *,
    reading_usd: float = 0.0,
    targeted: bool = False,
) -> float:
    """What it is worth that a candidate drafts, and the best other one is asked where that is more.

    Args:
        decision: With the drafting one among its candidates, and another one.
        drafting: Who drafts.
        p: Equally likely probabilities that its draft is right.
        reading_usd: What it costs to learn which one it is.
        targeted: Whether a draft counts, too, that never changes who answers.

    Returns:
        The worth; minus infinity if the draft changes nothing.
    """
    kept = worth_of(decision, p, np.zeros(len(p)))
    other = worth(decision, beside(decision, drafting.model)).max()
    paid = 0.0 if math.isinf(decision.willingness_to_pay) else 1.0
    gain = float(np.maximum(other - kept, 0).mean()) - paid * reading_usd
    if gain <= 0 and not targeted:
        return -math.inf
    drafted = float(np.maximum(kept, other).mean()) - paid * (drafting.cost_usd + reading_usd)
    # The utility of uncertain quality may be below that of its mean: then what it is worth to
    # ask this candidate alone counts, which a look at its answer does not make worse.
    return max(drafted, float(worth(decision, [drafting])[0]))
