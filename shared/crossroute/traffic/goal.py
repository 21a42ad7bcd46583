"""What a user wants of routing, in the user's own terms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from crossroute.errors import ConstraintError, shortened
from crossroute.ranking import amount

MAX_LOSS = 0.01
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Goal:
    """How much may be lost, and spent.

    The mean score may be at most `max_loss` below `kept` times the baseline's.

    Attributes:
        max_loss: In units of quality, 0..1.
        kept: Share of the baseline's quality that is to be kept, above 0 to 1.
        confidence: With which that is to hold, above 0.5 and below 1.
        usd_a_prompt: A prompt may cost at most this in the mean; the best quality for it is looked
            for then, not the lowest cost.
        shares: At most this share of the calls may go to a model, by its id.

    Raises:
        ConstraintError: If a number makes no sense.
    """

    max_loss: float = MAX_LOSS
    kept: float = 1.0
    confidence: float = CONFIDENCE
    usd_a_prompt: float | None = None
    shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _between("max_loss", self.max_loss, 0, 1, "0.01 is one point of 100")
        _between("the share of the quality to keep", self.kept, 0, 1, "0.97 is 97 %", open_low=True)
        _between(
            "confidence", self.confidence, 0.5, 1, "0.95 is 95 %", open_low=True, open_high=True
        )
        for model, share in self.shares.items():
            _between(f"the share of {model!r}", share, 0, 1, "0.3 is 30 % of the calls")
        usd = self.usd_a_prompt
        if usd is not None and not (amount(usd) is not None and 0 < usd < math.inf):
            raise ConstraintError(
                f"The budget is {shortened(usd)} USD a prompt; give a number above 0."
            )
        if not self.max_loss and self.kept == 1:
            raise ConstraintError(
                "max_loss is 0: no number of prompts shows that nothing at all is lost. Give what "
                "may be lost, such as 0.01."
            )

    @property
    def error(self) -> float:
        """The chance with which the guarantee may fail."""
        return 1 - self.confidence


def _between(
    name: str,
    value: object,
    low: float,
    high: float,
    example: str,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    number = amount(value)
    inside = (
        number is not None
        and (low < number if open_low else low <= number)
        and (number < high if open_high else number <= high)
    )
    if not inside:
        raise ConstraintError(
            f"{name} is {shortened(value)}; give a number from {low:g} to {high:g}: {example}."
        )
