"""What `crossroute evaluate --answers` and `train --answers` do with strategies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from importlib.resources import as_file, files
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from crossroute.cli.common import err, out
from crossroute.errors import DataError
from crossroute.evaluation.strategies import Reached, StrategyComparison, compare_strategies
from crossroute.network.checkpoint import checkpoint_folder
from crossroute.router import CrossRouter
from crossroute.strategies.panel import FILE, Panels
from crossroute.training.answers import Answers, check_ids, load_answers
from crossroute.training.data import RoutingData
from crossroute.training.strategies import choose_strategies


def answers_to(folder: Path, data_files: Iterable[Path], data: RoutingData) -> Answers:
    """What models answered to the rows of some files."""
    stems = [file.name.removesuffix(".gz").removesuffix(".jsonl") for file in data_files]
    found = load_answers(folder, [*stems, *data.names])
    check_ids(data, found)
    return found


def compare(
    router: CrossRouter,
    checkpoint: Path | None,
    data: RoutingData,
    answers: Path,
    data_files: Sequence[Path],
    split: str,
) -> list[StrategyComparison]:
    """Compare routing alone with routing and strategies, and print it."""
    found = answers_to(answers, data_files, data)
    with err.status("Strategies") as status:
        compared = compare_strategies(
            router,
            data,
            found,
            split,
            panels=_trained(router, checkpoint),
            on_step=lambda step: status.update(escape(step)),
        )
    for one in compared:
        out.print(_table(one, split))
        gain = one.gain
        out.print(
            f"Strategies add {gain.mean:+.4f} to AIQ ({gain.low:+.4f} to {gain.high:+.4f})."
            if one.panels
            else "No strategies: each prompt goes to one model."
        )
        out.print(escape(f"Chosen: {one.why}"))
        for models in one.panels:
            out.print(escape(f"  {', then '.join(models)}"))
    return compared


def choose(router: CrossRouter, data: RoutingData, answers: Answers, seed: int) -> Panels:
    """Choose strategies for a router that was trained on data, and print why."""
    with err.status("Strategies") as status:
        learned = data.without_test()
        found = choose_strategies(
            router, learned, answers, seed=seed, on_step=lambda step: status.update(escape(step))
        )
    for name, chosen in found.items():
        out.print(escape(f"Strategies for {name}: {chosen.why}"))
    panels = tuple(panel for chosen in found.values() for panel in chosen.panels.panels)
    return Panels(checkpoint=router.checkpoint.id, panels=panels)


def _trained(router: CrossRouter, checkpoint: Path | None) -> Panels | None:
    """The panels that were chosen in training the checkpoint; None if none were."""
    own = None if checkpoint is None else checkpoint_folder(checkpoint)
    shipped = files("crossroute") / "assets" / "default" / FILE
    with nullcontext(own / FILE) if own else as_file(shipped) as path:
        if not path.exists():
            return None
        panels = Panels.load(path)
    if panels.checkpoint != router.checkpoint.id:
        raise DataError(
            f"{path}: checkpoint: it is of {panels.checkpoint}, and the folder holds "
            f"{router.checkpoint.id}; remove the file, or train with --answers again."
        )
    return panels


def _table(one: StrategyComparison, split: str) -> Table:
    table = Table(
        "",
        "AIQ",
        "best quality",
        "cost of the best single's quality",
        title=escape(
            f"{one.dataset}: {one.prompts} prompts ({split}), answers known to {one.answered}"
        ),
    )
    for name, reached in (("routing alone", one.routing), ("with strategies", one.strategies)):
        table.add_row(name, *_figures(reached))
    return table


def _figures(reached: Reached) -> tuple[str, str, str]:
    share = reached.cost_at_best_single
    return (
        f"{reached.aiq:.4f}",
        f"{reached.best_quality:.4f}",
        "not reached" if share is None else f"{100 * share:.0f} %",
    )
