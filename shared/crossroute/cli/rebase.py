"""The command `crossroute models rebase`: embeddings for another checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.markup import escape
from rich.table import Table

from crossroute.cli.common import AsJson, confirmed, err, out, print_json
from crossroute.cli.onboarding import scored_in
from crossroute.errors import CrossRouteError, PoolError
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.pool import ModelPool, descriptor_files, descriptor_folder
from crossroute.network.checkpoint import checkpoint_folder, fits
from crossroute.onboarding.embedding import onboard
from crossroute.onboarding.guess import guess
from crossroute.onboarding.scores import load_scores
from crossroute.router import CrossRouter, load_checkpoint


def models_rebase(
    folder: Annotated[Path, typer.Argument(help="Folder of descriptors, or a checkpoint folder.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint folder that the embeddings are for; if absent, FOLDER where it is "
            "one, else the shipped one."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before writing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the embeddings of a folder again for another checkpoint, and write them.

    A model that the checkpoint was trained on gets its embedding from there, any other one from its
    stored scores; what was a guess is guessed again. What is to be written is shown first. The exit
    code is 1 if a model is left that cannot be mended.
    """
    checkpoint = checkpoint or checkpoint_folder(folder)
    folder = descriptor_folder(folder)
    ModelPool.load(folder)  # Nothing is written where a file is broken.
    router = _router(checkpoint)
    found = [_rebase(path, router) for path in descriptor_files(folder)]
    table = Table("model", "embedding", "", title=f"For checkpoint {router.checkpoint.id}")
    for one in found:
        table.add_row(escape(one.model), one.embedding, escape(one.note))
    if not as_json:
        out.print(table)
    changed = [(one.path, one.new) for one in found if one.new is not None]
    if changed and not yes:
        question = f"Write {len(changed)} of {len(found)} files in {folder}?"
        if not confirmed(question):
            err.print("Nothing was written.")
            raise typer.Exit(1)
    from crossroute.models.edit import update_file

    for path, new in changed:
        update_file(path, new)
    if as_json:
        content = [{"model": x.model, "embedding": x.embedding, "note": x.note} for x in found]
        print_json({"checkpoint": router.checkpoint.id, "models": content})
    elif changed:
        out.print(escape(f"Wrote {len(changed)} of {len(found)} files in {folder}."))
    left = [one.model for one in found if one.embedding == "not mended"]
    if left:
        err.print(f"[bold red]Not mended:[/] {escape(', '.join(left))}")
        raise typer.Exit(1)


class _Rebased(NamedTuple):
    """What becomes of one file; without a new descriptor it stays as it is."""

    path: Path
    model: str
    embedding: str
    note: str
    new: ModelDescriptor | None = None


def _rebase(path: Path, router: CrossRouter) -> _Rebased:
    model = ModelDescriptor.load(path)
    learned = model.learned
    if learned is None:
        note = "guessed when the folder is loaded, or onboard it"
        return _Rebased(path, model.id, "none", note)
    if fits(router.checkpoint, model):
        return _Rebased(path, model.id, "fits", "left as it is")
    known = router.pool[model.id].learned if model.id in router.pool else None
    try:
        if known is not None and known.source == "training":
            source, note = "trained", "that of the checkpoint"
            new = model.model_copy(update={"learned": known})
        elif learned.scores_file is not None:
            answers = load_scores(path.parent / learned.scores_file, model.id)
            source, note = "from its scores", f"{len(answers)} scored answers"
            new = onboard(router, model, answers)
        elif learned.source == "guess":
            source, note, new = "guessed again", "", guess(router, model)
        else:
            note = (
                "the checkpoint was not trained on it, and no scores are stored; onboard it: "
                f"crossroute models onboard {path} --scores FILE (or --run)"
            )
            return _Rebased(path, model.id, "not mended", note)
    except CrossRouteError as error:
        return _Rebased(path, model.id, "not mended", str(error))
    # Also beside a trained embedding: the next checkpoint may know the model no more.
    return _Rebased(path, model.id, source, note, scored_in(new, learned.scores_file))


def _router(folder: Path | None) -> CrossRouter:
    """The router of a checkpoint, without the models beside it that are of another one."""
    if folder is None:
        return CrossRouter.shipped()
    checkpoint = load_checkpoint(folder)
    pool = ModelPool.load(folder)
    own = ModelPool(model for model in pool.values() if fits(checkpoint, model))
    if len(own) < 2:
        raise PoolError(
            f"{folder}: {len(own)} models have an embedding of this checkpoint; two "
            "are needed to compare others with. Train the checkpoint again."
        )
    return CrossRouter(checkpoint, own)
