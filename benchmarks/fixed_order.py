"""What routing by the query is worth beside a fixed order of the models, on test rows.

    python benchmarks/fixed_order.py [FILE...] [--checkpoint FOLDER]

Writes docs/fixed-order.md. Without files, the eight data sets that the shipped checkpoint was
trained on are read from ../shared/data; those that are absent are passed over. The rows of the
split test are measured on; the fixed order learns its levels and mean costs from the others. Less
than a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from crossroute import CrossRouter
from crossroute.evaluation.evaluate import Evaluation, evaluate
from crossroute.evaluation.metrics import Interval, brier
from crossroute.evaluation.references import CROSSROUTE, FIXED, predicted
from crossroute.evaluation.saving import SURE, UTILITY_AT, UtilityGain
from crossroute.ranking import RewardName
from crossroute.training.data import RoutingData

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
SETS = (
    *("routerbench", "zeroeval", "mmlu-pro", "mmlu-helm"),
    *("today/zoonk", "today/mcpmark", "today/scale-sql", "today/shaberi"),
)
PAGE = ROOT / "docs" / "fixed-order.md"
REWARDS: tuple[RewardName, ...] = get_args(RewardName)

FAR = 0.1
"""Of a predicted total cost: a share of the real one that is told of."""

WHY = {
    "zeroeval": "Its questions are hard, and the exponential reward measures quality by its "
    "logarithm: where quality is low, a point of it counts for more than in the linear reward and "
    "in this table, so more is spent on it than the table says it is worth.",
    "mcpmark": "It has few test rows, and an agent's run costs sixty times and more what an answer "
    "of any other set does: one run more or less of a dear model decides.",
    "scale-sql": "Most of it are a dozen prompts whose two best models have the same level to the "
    "third digit: the fixed order has one in front, CrossRoute the other, which scores half as "
    "well on these.",
    "shaberi": "It has few test rows, and one judge scored them.",
}
"""What is known of the reasons, for a data set on which CrossRoute is below the fixed order."""


class Measured(NamedTuple):
    """What was measured of one data set.

    Attributes:
        by_reward: Of each of `REWARDS`.
        brier: Of the predicted quality.
        mean_brier: Of each model's mean score over the rows of the other splits.
        cost_total: Predicted over realised cost, summed over the answers whose cost is known.
    """

    by_reward: dict[RewardName, Evaluation]
    brier: float
    mean_brier: float
    cost_total: float

    @property
    def name(self) -> str:
        """Of the data set."""
        return self.by_reward[REWARDS[0]].dataset


def measure(routers: dict[RewardName, CrossRouter], data: RoutingData) -> list[Measured]:
    """Measure each data set on its test rows."""
    test, past = data.of_split("test"), data.select(data.split != "test")
    evaluated = [evaluate(router, test, past) for router in routers.values()]
    router = routers[REWARDS[0]]
    before = dict(past.by_dataset())
    found = []
    for (name, rows), *evaluations in zip(test.by_dataset(), *evaluated, strict=True):
        rows = rows.of_models([model for model in rows.models if model in router.pool])
        quality, cost = predicted(router, rows)
        has_score = ~np.isnan(rows.score)
        of = dict(zip(before[name].models, np.nanmean(before[name].score, axis=0), strict=True))
        overall = float(np.nanmean(before[name].score))
        mean = np.broadcast_to([of.get(model, overall) for model in rows.models], quality.shape)
        paid = rows.priced(router.pool).cost_usd
        has_cost = has_score & ~np.isnan(paid)
        found.append(
            Measured(
                dict(zip(REWARDS, evaluations, strict=True)),
                brier(quality[has_score], rows.score[has_score]),
                brier(mean[has_score], rows.score[has_score]),
                float(cost[has_cost].sum() / paid[has_cost].sum()),
            )
        )
    return found


def page(found: Sequence[Measured], checkpoint: str, command: str) -> str:
    """The figures as a Markdown page."""
    lines = [
        "# CrossRoute beside a fixed order of the models",
        "",
        f"Made by `{command}`, of checkpoint {checkpoint}, which was trained on the other rows of "
        "these data sets, less those that ask what a test row asks.",
        "",
        "The fixed order knows each model's level (its score, corrected for the rows that it was "
        "run on) and mean cost from the rows of the splits train and valid, and nothing of the "
        "query: at one willingness to pay it takes the same model for every prompt, or, where not "
        "every model answered, the first of its order that did. Utility is the mean of score - "
        "cost / willingness to pay over the test rows, whichever reward chooses; a table says what "
        "CrossRoute's is above the fixed order's under the same reward, in units of quality, with "
        "its 95 % interval (paired bootstrap over the prompts, 500 resamples). 0 is where both "
        "choose alike. Bold is a figure whose interval does not hold 0.",
    ]
    for reward in REWARDS:
        lines += ["", f"## Utility, {reward} reward", ""]
        lines += _table(
            ["data set (test prompts)", *(f"${value:g}" for value in UTILITY_AT)],
            [
                [f"{one.name} ({one.by_reward[reward].prompts:,})"]
                + [_marked(gain) for gain in one.by_reward[reward].utility]
                for one in found
            ],
        )
    lines += ["", *_below(found)]
    lines += ["", "## Saving, the area under the curve, and the predictions", ""]
    lines += _table(
        [
            *("data set", "models", "AIQ", "AIQ of the fixed order", "saved at the best's quality"),
            *("Brier score", "of each model's mean", "predicted / real cost"),
        ],
        [_row(one) for one in found],
    )
    lines += [
        "",
        "AIQ and saving are by the exponential reward. AIQ is the mean quality over the cost range "
        "of the single models (*: not every model answered every prompt, and it is between the "
        "cost of the cheapest and that of the dearest answer to each). What is saved is the "
        "buyer's number of `crossroute evaluate`: the share of the best single model's cost that "
        "is saved at its mean score (*: of the fixed order's at an infinite willingness to pay), "
        f'with its 95 % interval; "nothing for sure" where that begins below {SURE:.0%}. The Brier '
        "scores are of all answers with a score; the mean is each model's over the rows of the "
        "splits train and valid.",
        "",
        _named(
            "The predicted quality is further from the scores than each model's mean",
            [one.name for one in found if one.brier > one.mean_brier],
        ),
        _named(
            "A saving is sure",
            [
                one.name
                for one in found
                if (saved := one.by_reward["exponential"].saving) is not None and saved.is_sure
            ],
        ),
        _named(
            f"The predicted total cost is more than {FAR:.0%} off",
            [one.name for one in found if abs(one.cost_total - 1) > FAR],
        ),
        "",
        "## What is not known",
        "",
        "- How it does on traffic of yours. These are test rows of the data sets that it was "
        "trained on. Of prompts that are like none of them it knows no topic, and takes the models "
        "in a fixed order by level and cost, which is as good or as bad as the levels are there.",
        "- How it compares with other learned routers: [benchmark.md](benchmark.md) was measured "
        "on the network before this one.",
        "- Small differences: an interval of a small data set is wide, and among so many figures "
        "some intervals miss 0 by chance.",
        "- Retried, cached or negotiated prices: costs are list prices times tokens.",
        "",
    ]
    return "\n".join(lines)


def _row(one: Measured) -> list[str]:
    evaluation = one.by_reward["exponential"]
    results = {result.router: result.aiq for result in evaluation.results}
    mark = "" if evaluation.answers[0] == len(evaluation.models) else " *"
    aiq = [f"{results[name]:.4f}{mark}" for name in (CROSSROUTE, FIXED)]
    found = evaluation.saving
    saved = "too few prompts"
    if found is not None:
        low, high = found.share.low, found.share.high
        saved = f"{found.share.mean:.0%} ({low:.0%} to {high:.0%})"
        if not found.is_sure:
            saved = f"nothing for sure: {saved}"
    figures = [f"{one.brier:.4f}", f"{one.mean_brier:.4f}", f"{one.cost_total:.2f}"]
    return [one.name, str(len(evaluation.models)), *aiq, saved, *figures]


def _named(what: str, names: Sequence[str]) -> str:
    return f"- {what}: {', '.join(names) if names else 'nowhere'}."


def _below(found: Sequence[Measured]) -> Iterator[str]:
    """In words, where the fixed order is better as far as the rows can tell."""
    places = {
        one.name: [
            f"${gain.willingness_to_pay:g} ({reward})"
            for reward in REWARDS
            for gain in one.by_reward[reward].utility
            if gain.gain.high < 0
        ]
        for one in found
    }
    names = [name for name, at in places.items() if at]
    if not names:
        yield "Nowhere is an interval wholly below 0."
        return
    yield "**Where the fixed order is better**, its interval wholly below 0:"
    yield ""
    for name in names:
        yield f"- {name}, at {', '.join(places[name])}. {WHY.get(name, '')}".rstrip()


def _marked(gain: UtilityGain) -> str:
    value: Interval = gain.gain
    if value.mean == value.low == value.high == 0:
        return "0"
    bold = "**" if value.low > 0 or value.high < 0 else ""
    return f"{bold}{value.mean:+.4f}{bold} ({value.low:+.4f} to {value.high:+.4f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    divider = f"|{'---|' * len(head)}"
    return [f"| {' | '.join(head)} |", divider, *(f"| {' | '.join(row)} |" for row in rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="routing data; else the eight sets")
    parser.add_argument("--checkpoint", type=Path, help="instead of the shipped one")
    parser.add_argument("--out", type=Path, default=PAGE, help="where to write the page")
    given = parser.parse_args()
    files = given.files or [DATA / f"{name}.jsonl.gz" for name in SETS]
    for path in files:
        if not path.is_file():
            print(f"{path} is absent, and passed over", file=sys.stderr)
    files = [path for path in files if path.is_file()]
    if not files:
        sys.exit("No data to measure on: name files of routing data.")
    base = CrossRouter.load(given.checkpoint) if given.checkpoint else CrossRouter.shipped()
    routers = {
        reward: CrossRouter(base.checkpoint, base.pool, encoder=base.encoder, reward=reward)
        for reward in REWARDS
    }
    found = measure(routers, RoutingData.load(files))
    options = [*(path.name for path in given.files)]
    if given.checkpoint is not None:
        options += ["--checkpoint", "FOLDER"]
    command = " ".join(["python benchmarks/fixed_order.py", *options])
    given.out.write_text(page(found, base.checkpoint.id, command), "utf-8")


if __name__ == "__main__":
    main()
