"""What a reasoning effort changes: quality and length of answers, from data with several efforts.

    python scripts/effort_offsets.py mcpmark.jsonl.gz zoonk.jsonl.gz

Reads routing data (`docs/data.md`) in which a model stands more than once, as `model@effort`; the
model without one is at its provider's default, which `--default` says. Efforts of a model are
compared on the prompts that two of them have answered. Prints each pair, and for each model what
its answers gain in quality, in logits, from the efforts below `medium` to those from `medium` on,
and by how much their log length grows a step from `low` on; and how well the mean of the other
models predicts either, as a root of mean squares, beside no difference. The means are the constants
of `crossroute.onboarding.guess`.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from crossroute.onboarding.guess import EFFORT_STEPS
from crossroute.training.data import RoutingData

LEAST_ROWS = 15
"""Prompts that two efforts share: with fewer, they say nothing."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument(
        "--default",
        nargs="*",
        default=["gpt-5.2=none", "gpt-5.6-luna=none"],
        help="MODEL=EFFORT of models that stand without an effort.",
    )
    arguments = parser.parse_args()
    default = dict(one.split("=") for one in arguments.default)
    gains, slopes = {}, {}
    for file in arguments.files:
        for model, arms in _arms(RoutingData.load([file]), default).items():
            for less, more, rows in _pairs(arms):
                quality, length = _logits(rows), _logs(rows)
                print(f"{model:14} {less:>7} {more:>7} {len(rows):4} {quality:+.2f} {length:+.2f}")
            gain, slope = _gain(arms), _slope(arms)
            if gain is not None:
                gains[model] = gain
            if slope is not None:
                slopes[model] = slope
    _show("quality, logits, from medium on", gains)
    _show("log of output tokens, a step", slopes)


Arms = Mapping[str, Mapping[int, tuple[float, float]]]
"""By the effort, by the row, score and output tokens."""


def _arms(data: RoutingData, default: Mapping[str, str]) -> dict[str, Arms]:
    found: dict[str, dict[str, dict[int, tuple[float, float]]]] = defaultdict(dict)
    for j, name in enumerate(data.models):
        model, _, effort = name.partition("@")
        effort = effort or default.get(model, "")
        if effort not in EFFORT_STEPS:
            continue
        rows = np.flatnonzero(~np.isnan(data.score[:, j]) & (data.output_tokens[:, j] > 0))
        answers = {int(i): (data.score[i, j], data.output_tokens[i, j]) for i in rows}
        found[model][effort] = answers
    return {model: arms for model, arms in found.items() if len(arms) > 1}


def _pairs(arms: Arms) -> list[tuple[str, str, np.ndarray]]:
    """Two efforts, the lesser first, and [n, 4] score and tokens of the one and of the other."""
    order = sorted(arms, key=lambda effort: EFFORT_STEPS[effort])
    pairs = []
    for i, less in enumerate(order):
        for more in order[i + 1 :]:
            both = arms[less].keys() & arms[more].keys()
            if len(both) >= LEAST_ROWS:
                rows = np.array([[*arms[less][row], *arms[more][row]] for row in sorted(both)])
                pairs.append((less, more, rows))
    return pairs


def _gain(arms: Arms) -> float | None:
    """Of quality, in logits, to the mean of the efforts from `medium` on."""
    medium = EFFORT_STEPS["medium"]
    found = [
        _logits(rows)
        for less, more, rows in _pairs(arms)
        if EFFORT_STEPS[less] < medium <= EFFORT_STEPS[more]
    ]
    return float(np.mean(found)) if found else None


def _slope(arms: Arms) -> float | None:
    """Of the mean log length, a step, by least squares through all pairs."""
    steps, grown = [], []
    for less, more, rows in _pairs(arms):
        steps.append(EFFORT_STEPS[more] - EFFORT_STEPS[less])
        grown.append(_logs(rows))
    return float(np.dot(steps, grown) / np.dot(steps, steps)) if any(steps) else None


def _logits(rows: np.ndarray) -> float:
    """How much better the more of two efforts is."""
    less, more = rows[:, 0].mean(), rows[:, 2].mean()
    return math.log(more / (1 - more)) - math.log(less / (1 - less))


def _logs(rows: np.ndarray) -> float:
    """How much longer it is, in the mean."""
    return float(np.log(rows[:, 3] / rows[:, 1]).mean())


def _show(title: str, of: Mapping[str, float]) -> None:
    print(f"{title}:")
    values = list(of.values())
    for model, value in of.items():
        print(f"  {model:20} {value:+.2f}")
    print(f"  {'mean':20} {np.mean(values):+.2f}")
    left_out = [np.mean([*values[:i], *values[i + 1 :]]) for i in range(len(values))]
    print(f"  left out, by the mean of the others: {_root(values, left_out):.2f}")
    print(f"  left out, by no difference: {_root(values, [0.0] * len(values)):.2f}")


def _root(values: Sequence[float], predicted: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(np.subtract(values, predicted)))))


if __name__ == "__main__":
    main()
