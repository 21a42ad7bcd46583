"""What the modules of the command `crossroute` share."""

from __future__ import annotations

import datetime
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from crossroute.errors import ConstraintError, MissingExtraError
from crossroute.models.descriptor import Learned
from crossroute.models.pool import MODELS, ModelPool
from crossroute.onboarding.embedding import error_in_points
from crossroute.onboarding.scores import FEW_SCORES
from crossroute.router import CrossRouter

if TYPE_CHECKING:
    from rich.progress import Progress

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        help="Folder of a checkpoint, or of descriptors for the shipped one, which it is if "
        "absent.",
    ),
]
Files = Annotated[
    list[Path], typer.Argument(help="Routing data: .jsonl or .jsonl.gz (docs/data.md).")
]
HeldOut = Annotated[
    list[Path] | None,
    typer.Option(
        help="Routing data that the checkpoint has not learned from (docs/data.md): half of it "
        "corrects what is predicted, half says what is realised. Repeat it."
    ),
]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave broken rows out instead of stopping at them.")
]
FolderArgument = Annotated[
    Path | None, typer.Argument(help="Folder of descriptors; the shipped ones if absent.")
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--models", help="Folder of descriptors; the shipped ones if absent."),
]
ModelsOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of descriptors with prices and providers. If absent: the shipped ones and "
        "those of the checkpoint that is replaced."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def need(package: str, extra: str) -> None:
    """Refuse a command whose optional dependency is not installed, before it starts."""
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(package, extra)


def known_models(models: Path | None, checkpoint: Path | None) -> ModelPool:
    """Descriptors whose facts training may use: those of a checkpoint to be replaced among them."""
    known = ModelPool.load(models) if models else ModelPool.shipped()
    if not models and checkpoint and (checkpoint / MODELS).is_dir():
        known = ModelPool({**known, **ModelPool.load(checkpoint)}.values())
    # Data may be of a model, which it then measures without an effort, or of its efforts.
    bare = {one.id: one.model_copy(update={"efforts": ()}) for one in known.values()}
    return ModelPool({**known.expanded(), **bare}.values())


def load_pool(folder: Path | None) -> ModelPool:
    """The models of a folder, or the shipped ones."""
    return ModelPool.shipped() if folder is None else ModelPool.load(folder)


def load_router(checkpoint: Path | None) -> CrossRouter:
    """The router of a checkpoint, with all models of it; None is the shipped one."""
    return CrossRouter.shipped() if checkpoint is None else CrossRouter.load(checkpoint)


def candidates_of(
    checkpoint: Path | None, models: list[str] | None, *, every: bool = False
) -> CrossRouter:
    """The router between the models that a command names.

    Args:
        checkpoint: As in `load_router`.
        models: Ids of the candidates; None are those that can be reached today, or all where none
            can.
        every: Whether models without a provider are candidates, too, where none is named.
    """
    named = bool(models) or every
    router = load_router(checkpoint) if checkpoint or named else CrossRouter.default()
    today = datetime.date.today()
    served = [one.id for one in router.pool.values() if not one.is_retired(today)]
    reachable = router.pool.reachable()
    if not any(router.pool[model].provider for model in reachable):
        reachable = []  # Agents alone, which are called by no provider.
    candidates = models or (served if every else reachable)
    if candidates and len(candidates) < len(router.pool):
        router = router.subset(candidates)
    return router


def made(learned: Learned | None) -> str:
    """How an embedding was made and how sure it is."""
    if learned is None:
        return "none yet; guessed from the descriptor when it is routed"
    points = f"its mean quality is known within {error_in_points(learned):.0f} points (1 s.e.)"
    if learned.source == "guess":
        return f"guessed without any scores; {points}"
    if learned.source == "scores":
        few = ", which are few" if learned.examples < FEW_SCORES else ""
        return f"onboarded from {learned.examples:,} scored answers{few}; {points}"
    # Scored or compared.
    return f"trained on {learned.examples:,} answers"


def read_shares(given: list[str], option: str = "--share") -> dict[str, float]:
    """The values of an option such as `--share MODEL=0.3`, by their models."""
    shares: dict[str, float] = {}
    for text in given:
        # Ids may hold it, too.
        model, _, number = text.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            raise ConstraintError(f"{option} is {text!r}; give MODEL=0.3.") from None
        if not model:
            raise ConstraintError(f"{option} is {text!r}; give MODEL=0.3.")
        if model in shares:
            raise ConstraintError(f"{option} is given twice for {model}; give one.")
        shares[model] = share
    return shares


def progress(title: str) -> Progress:
    """A bar with a title in front, and behind it the description of its task."""
    from rich import progress as rich

    columns = (rich.TextColumn(title), rich.BarColumn(), rich.MofNCompleteColumn())
    told = rich.TextColumn("{task.description}")
    return rich.Progress(*columns, told, rich.TimeElapsedColumn(), console=err)


def confirmed(question: str) -> bool:
    """Whether the user says yes.

    Raises:
        typer.Abort: After Ctrl-C.
        typer.Exit: If there is nobody to answer, which is said.
    """
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        err.print("\n[bold red]Error:[/] nobody is there to answer; give --yes to say yes.")
        raise typer.Exit(1) from None


def print_json(content: object) -> None:
    """Print JSON as it is, whatever the terminal's width."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
