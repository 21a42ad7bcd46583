"""What it is worth to ask, in the order of a decision's reward."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossroute.decision import CandidateScore, Decision
from crossroute.ranking import preference
from crossroute.strategies.calibration import ROUNDING

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


def worth_more(
    decision: Decision,
    candidates: Sequence[CandidateScore],
    p: float,
    threshold: float | None = None,
) -> CandidateScore | None:
    """The candidate that it is worth most to ask beside an answer; None if none is worth it.

    Args:
        decision: With the reward and the willingness to pay.
        candidates: Who may be asked.
        p: Probability that the answer is right.
        threshold: Ask below this p whoever is likelier right; None goes by the reward alone.
    """
    if threshold is None:
        best = most_worth(decision, candidates)
        is_more = worth(decision, [best])[0] > worth_of(decision, p, 0.0)
        return best if is_more else None
    better = [one for one in candidates if one.quality > p]
    # A share of the drafts may have just this p, but for the last digits.
    if not better or p >= threshold - ROUNDING:
        return None
    return most_worth(decision, better)


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
