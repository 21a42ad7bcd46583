"""The command `crossroute models compare`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from crossroute.cli.common import (
    AsJson,
    CheckpointOption,
    FolderOption,
    load_router,
    made,
    out,
    print_json,
)
from crossroute.decision import usd
from crossroute.evaluation.comparison import Comparison, TopicPrompt, compare, load_prompts
from crossroute.router import DEFAULT_WILLINGNESS_TO_PAY, CrossRouter

SHARES_AT = (0.0, DEFAULT_WILLINGNESS_TO_PAY, math.inf)


def models_compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Id of a model.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Id of another one.")],
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            help="Prompts: a text file, one a line, or JSON lines with `prompt` and `topic`. The "
            "shipped anchor prompts if absent.",
        ),
    ] = None,
    folder: FolderOption = None,
    checkpoint: CheckpointOption = None,
    as_json: AsJson = False,
) -> None:
    """Say where B would be chosen over A: by kind of prompt and willingness to pay."""
    # Here, as it takes long to import.
    from crossroute.onboarding.anchors import load_anchors

    prompts = (
        load_prompts(prompts_file)
        if prompts_file
        else [TopicPrompt(anchor.prompt, anchor.topic) for anchor in load_anchors()]
    )
    if folder is None:
        router = load_router(checkpoint)
    else:
        router = CrossRouter.load(checkpoint or folder, models=folder)
    found = compare(router, first, second, prompts)
    if as_json:
        print_json(_comparison_facts(router, (first, second), found))
        return
    table = Table(title=f"A: {escape(first)}, B: {escape(second)}")
    for header in ("prompts", "", "quality A, B", "cost A, B", "B is chosen"):
        table.add_column(header, no_wrap=True)
    for item in found:
        table.add_row(
            escape(item.topic or "all"),
            str(item.prompts),
            ", ".join(f"{quality:.3f}" for quality in item.quality),
            ", ".join(usd(cost) for cost in item.cost_usd),
            _ranges(item.wins),
        )
    out.print(table)
    out.print(
        "Quality and cost (USD a prompt) are predicted means. B is chosen for most of the prompts "
        "at these willingnesses to pay, USD a unit of quality."
    )
    for model in (first, second):
        out.print(escape(f"{model}: {made(router.pool[model].learned)}"))


def _comparison_facts(
    router: CrossRouter, models: tuple[str, str], found: Sequence[Comparison]
) -> dict[str, object]:
    learned = [router.pool[model].learned for model in models]
    return {
        "models": [
            {"model": model, "embedding": made(one)}
            for model, one in zip(models, learned, strict=True)
        ],
        "comparisons": [
            {
                "topic": item.topic,
                "prompts": item.prompts,
                "quality": dict(zip(models, item.quality, strict=True)),
                "cost_usd": dict(zip(models, item.cost_usd, strict=True)),
                "second_chosen": [
                    {"from_usd": _json_number(start), "to_usd": _json_number(end)}
                    for start, end in item.wins
                ],
                "second_share": [
                    {"willingness_to_pay": _json_number(at), "share": item.share(at)}
                    for at in SHARES_AT
                ],
            }
            for item in found
        ],
    }


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _ranges(ranges: Sequence[tuple[float, float]]) -> str:
    """Ranges of willingness to pay in words."""
    words = []
    for start, end in ranges:
        if start == 0:
            words.append("always" if math.isinf(end) else f"below {usd(end)}")
        else:
            words.append(
                f"above {usd(start)}" if math.isinf(end) else f"{usd(start)} to {usd(end)}"
            )
    return ", ".join(words) or "never"
