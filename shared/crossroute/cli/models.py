"""The commands `crossroute models ...`: what a folder of descriptors holds, and changes to it."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Column, Table

from crossroute.cli.common import (
    AsJson,
    CheckpointOption,
    FolderArgument,
    FolderOption,
    err,
    load_pool,
    load_router,
    made,
    out,
    print_json,
)
from crossroute.errors import DescriptorError, PoolError, UnknownModelError
from crossroute.files import replace_file
from crossroute.models.descriptor import ModelDescriptor, json_schema
from crossroute.models.pool import ModelPool, descriptor_files, descriptor_folder
from crossroute.network.checkpoint import Checkpoint, check_fit, checkpoint_folder


def models_list(
    folder: FolderArgument = None,
    every: Annotated[
        bool, typer.Option("--all", help="Shipped models that cannot be called, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the models of a folder of descriptors; of the shipped ones, those that can be called."""
    pool = load_pool(folder)
    hidden = 0
    if folder is None and not every:
        listed = pool.subset(pool.reachable())
        pool, hidden = listed, len(pool) - len(listed)
    if as_json:
        print_json([_facts(model) for model in pool.values()])
        return
    table = Table(
        # Ids are what other commands and code are given: never cut off, and within 80 columns.
        Column("model", no_wrap=True),
        Column("provider", no_wrap=True),
        Column("in", justify="right"),
        Column("out", justify="right"),
        Column("until", no_wrap=True),
        Column("answers", justify="right", no_wrap=True),
        title="Models, USD per 1M tokens in and out, answers that were learned from",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for model in pool.values():
        price = model.price
        until = "disabled" if model.disabled else str(model.retired or "")
        table.add_row(
            escape(model.id),
            _served_by(model),
            f"{price.input_usd_per_1m:g}" if price else "-",
            f"{price.output_usd_per_1m:g}" if price else "-",
            until,
            f"{model.learned.examples:,}" if model.learned else "-",
        )
    out.print(table)
    if hidden:
        out.print(f"{hidden} more ship that cannot be called today: --all lists them.")


def models_show(
    model: Annotated[str, typer.Argument(metavar="ID", help="Id of the model.")],
    folder: FolderOption = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known of one model, and how sure that is."""
    pool = load_pool(folder)
    # Decisions name efforts, which files list.
    descriptor = pool[model] if model in pool else pool.expanded()[model]
    if as_json:
        print_json(_facts(descriptor))
        return
    table = Table(show_header=False, title=escape(descriptor.id))
    for field, value in _lines(_facts(descriptor)):
        table.add_row(field, escape(value))
    reason = descriptor.unreachable(datetime.date.today())
    table.add_row("reachable", escape(f"no: {reason}") if reason else "yes")
    if descriptor.kind == "model" or descriptor.learned:
        table.add_row("embedding", escape(made(descriptor.learned)))
    out.print(table)


def models_validate(
    folder: FolderArgument = None, checkpoint: CheckpointOption = None, as_json: AsJson = False
) -> None:
    """Check every descriptor of a folder; all that is wrong is said at once.

    Embeddings are checked against the checkpoint too, if one is named or the folder is that of one.
    """
    models, errors = _read_all(folder)
    found = checkpoint or (folder and checkpoint_folder(folder))
    if found is not None:
        fitting = Checkpoint.load(found)
        for model in models:
            try:
                check_fit(fitting, ModelPool([model]))
            except PoolError as error:
                errors.append(str(error))
    unlearned = [m.id for m in models if m.learned is None and m.kind == "model"]
    if as_json:
        print_json({"valid": len(models), "unlearned": unlearned, "errors": errors})
    elif not errors:
        out.print(f"{len(models)} descriptors are valid.")
        if unlearned:
            out.print(
                f"Without a learned embedding, so routed by a guess: {escape(', '.join(unlearned))}"
            )
    if errors:
        for problem in errors:
            err.print(f"[bold red]Error:[/] {escape(problem)}")
        raise typer.Exit(1)


def models_add(
    file: Annotated[Path, typer.Argument(help="Descriptor of the new model.")],
    folder: Annotated[Path, typer.Option("--to", help="Folder of descriptors.")],
    checkpoint: CheckpointOption = None,
    as_json: AsJson = False,
) -> None:
    """Check a descriptor against a pool and its checkpoint, and copy it into the folder."""
    new = ModelDescriptor.load(file)
    target = descriptor_folder(folder)
    if not target.is_dir():
        raise PoolError(f"{folder}: no such folder; make it first.")
    pool = ModelPool.load(target) if descriptor_files(target) else ModelPool([])
    path = target / new.file_name
    if new.id in pool or path.exists():
        raise PoolError(
            f"{file}: the id {new.id!r} is taken in {target}, or its file {path.name} is; remove "
            f"that model first (crossroute models remove ID --from {folder}), or choose another id."
        )
    ModelPool([*pool.values(), new])  # Refuses ids that differ in a way that file names do not.
    router = load_router(checkpoint or checkpoint_folder(folder))
    check_fit(router.checkpoint, ModelPool([new]))
    measured = [model for model in pool.values() if model.learned]
    if new.learned is None and measured:
        router.over(ModelPool([*measured, new]))  # Refuses it where not even a guess can be made.
    if new.learned and new.learned.scores_file:
        _copy_scores(new.learned.scores_file, file.parent, target)
    replace_file(path, file.read_bytes())
    if as_json:
        print_json({"added": new.id, "file": str(path)})
    else:
        how = made(new.learned) if new.kind == "model" or new.learned else new.kind
        out.print(escape(f"Added {new.id}: {path} ({how})"))


def models_remove(
    model: Annotated[str, typer.Argument(metavar="ID", help="Exact id of the model.")],
    folder: Annotated[Path, typer.Option("--from", help="Folder of descriptors.")],
    as_json: AsJson = False,
) -> None:
    """Remove a model's descriptor from a folder (`disabled: true` in it keeps it, unused)."""
    target = descriptor_folder(folder)
    pool = ModelPool.load(target)
    if model not in pool:
        raise UnknownModelError(model, pool)
    # Its name is free; the id is what counts.
    (path,) = (p for p in descriptor_files(target) if ModelDescriptor.load(p).id == model)
    path.unlink()
    if as_json:
        print_json({"removed": model, "file": str(path)})
    else:
        out.print(escape(f"Removed {model}: {path}"))


def models_schema() -> None:
    """Print the JSON Schema of a descriptor, for editors."""
    print_json(json_schema())


def _read_all(folder: Path | None) -> tuple[list[ModelDescriptor], list[str]]:
    """The valid descriptors of a folder, and what is wrong with the others or with the pool."""
    models: list[ModelDescriptor] = []
    errors: list[str] = []
    target = None if folder is None else descriptor_folder(folder)
    for path in descriptor_files(target) if target and target.is_dir() else ():
        try:
            models.append(ModelDescriptor.load(path))
        except DescriptorError as error:
            errors.append(str(error))
    if not errors:
        try:
            pool = load_pool(folder)
            models = list(pool.values())
            pool.expanded()  # Refuses ids of which an effort makes another one.
        except PoolError as error:
            errors.append(str(error))
    return models, errors


def _copy_scores(name: str, source: Path, target: Path) -> None:
    """Take the scores of a model along, from which `crossroute models rebase` works."""
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    if inside and (source / name).is_file() and (target / name).exists():
        if (source / name).read_bytes() != (target / name).read_bytes():
            raise PoolError(
                f"{target / name} holds the scores of another model; rename {source / name}, and "
                "scores_file in the descriptor."
            )
    elif inside and (source / name).is_file():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    if not (target / name).is_file():
        err.print(
            escape(f"Its scores, {name}, are not there from {target}: put them there for rebase.")
        )


def _served_by(model: ModelDescriptor) -> str:
    """The provider of a model; of an agent that has none, what it is."""
    if model.provider is not None:
        return escape(model.provider.chat_model.partition(":")[0])
    return "-" if model.kind == "model" else model.kind


def _facts(model: ModelDescriptor) -> dict[str, object]:
    facts: dict[str, object] = model.model_dump(mode="json", exclude_none=True)
    return facts


def _lines(facts: dict[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Facts as dotted fields and their values, without the numbers of the embedding."""
    lines: list[tuple[str, str]] = []
    for name, value in facts.items():
        if name in ("id", "embedding") or value is False or value in ([], {}):
            continue
        if isinstance(value, dict):
            lines += _lines(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append((prefix + name, text))
    return lines
