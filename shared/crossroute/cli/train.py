"""The command `crossroute train`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from crossroute.cli.common import (
    ModelsOption,
    SkipBroken,
    err,
    known_models,
    need,
    out,
    progress,
)
from crossroute.cli.strategies import answers_to, choose
from crossroute.errors import CheckpointError, ConstraintError
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.pool import MODELS, ModelPool
from crossroute.network.checkpoint import check_target
from crossroute.network.encoders import load_encoder
from crossroute.strategies.panel import FILE
from crossroute.training.data import RoutingData


def train(
    folder: Annotated[Path, typer.Option("--out", help="Folder to write the checkpoint to.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Routing data: .jsonl or .jsonl.gz (docs/data.md). May be absent with "
            "--preferences."
        ),
    ] = None,
    preferences: Annotated[
        list[Path] | None,
        typer.Option(
            help="Comparisons of two models' answers, .jsonl or .jsonl.gz (docs/data.md), to learn "
            "from alone or beside FILES; repeat it."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")] = 0,
    models: ModelsOption = None,
    encoder: Annotated[
        str, typer.Option(help="'static' (shipped) or 'sentence-transformers:NAME'.")
    ] = "static",
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Folder of what each model answered (docs/data.md): also chooses which strategies "
            f"are worth having, and writes them as {FILE}."
        ),
    ] = None,
    skip_broken: SkipBroken = False,
) -> None:
    """Train a checkpoint on scored answers, or comparisons: of their splits train and valid."""
    need("torch", "train")
    if not files and not preferences:
        raise ConstraintError("Give FILES of scored answers, --preferences, or both.")
    if answers is not None and not files:
        raise ConstraintError(
            "--answers needs the scores of what each model answered: give FILES with them."
        )
    check_target(folder)
    _keep_onboarded(folder)
    from crossroute.training.fit import Epoch
    from crossroute.training.preferences import Preferences
    from crossroute.training.train import train as train_router

    data = compared = None
    with err.status("Reading prompts"):
        if preferences:
            compared = Preferences.load(preferences, skip_broken=skip_broken)
        if files:
            data = RoutingData.load(files, skip_broken=skip_broken)
        query_encoder = load_encoder(encoder)
        answered = None
        if answers is not None and files and data is not None:
            answered = answers_to(answers, files, data)
    if data is not None:
        err.print(f"{len(data)} prompts, {len(data.models)} models, encoder {encoder}")
    if compared is not None:
        pairs, prompts = compared.pairs, compared.data
        err.print(
            f"{len(pairs.row)} comparisons ({pairs.ties:.0%} ties) on {len(prompts)} prompts, "
            f"{len(prompts.models)} models, encoder {encoder}"
        )
    with progress("Training") as bar:
        task = bar.add_task("", total=None)

        def on_epoch(epoch: Epoch) -> None:
            bar.update(
                task,
                completed=epoch.number,
                total=epoch.epochs,
                description=f"train {epoch.train_loss:.4f}, valid {epoch.valid_loss:.4f}",
            )

        router = train_router(
            data,
            preferences=compared,
            known=known_models(models, folder),
            encoder=query_encoder,
            seed=seed,
            on_epoch=on_epoch,
        )
    rest = _untrained(folder, router.pool)
    # Those of the checkpoint that is replaced were learned on its predictions.
    (folder / FILE).unlink(missing_ok=True)
    router.checkpoint.save(folder, ModelPool([*router.pool.values(), *rest]))
    if answered is not None and data is not None:
        choose(router, data, answered, seed).save(folder / FILE)
    if rest:
        out.print(f"{len(rest)} models without scores stay beside them, to be guessed.")
    if judged := router.checkpoint.training.get("preferences"):
        out.print(_judged(judged["position_bias"]))
    out.print(f"Wrote checkpoint {router.checkpoint.id} with {len(router.pool)} models: {folder}")


def _judged(position_bias: float) -> str:
    """What a judge's position bias, in logits, means."""
    share = 1 / (1 + math.exp(-position_bias))
    return f"The answer that stands first wins {share:.0%} of evenly matched, decided comparisons."


def _untrained(checkpoint: Path, trained: ModelPool) -> list[ModelDescriptor]:
    """The models of a checkpoint that is replaced which have no embedding, and get none."""
    if not (checkpoint / MODELS).is_dir():
        return []
    before = ModelPool.load(checkpoint).values()
    return [model for model in before if model.learned is None and model.id not in trained]


def _keep_onboarded(checkpoint: Path) -> None:
    """Refuse to replace a checkpoint whose models nobody trained: training would lose them."""
    folder = checkpoint / MODELS
    if not folder.is_dir():
        return
    pool = ModelPool.load(folder).values()
    onboarded = [m.id for m in pool if m.learned and m.learned.source != "training"]
    if onboarded:
        raise CheckpointError(
            f"{folder}: {', '.join(onboarded)} would be lost: onboarded, not trained. "
            "Train into another folder, copy their files into its models/ and run: crossroute "
            "models rebase FOLDER/models --checkpoint FOLDER"
        )
