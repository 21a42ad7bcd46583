"""The commands `crossroute models ...`: what a folder of descriptors holds, and changes to it."""

from __future__ import annotations

import datetime
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from crossroute.cli.common import (
    AsJson,
    CheckpointOption,
    err,
    load_pool,
    made,
    out,
    print_json,
)
from crossroute.decision import usd
from crossroute.errors import DescriptorError, PoolError, UnknownModelError
from crossroute.evaluation.comparison import Comparison, TopicPrompt, compare, load_prompts
from crossroute.files import replace_file
from crossroute.models.descriptor import ModelDescriptor, json_schema
from crossroute.models.pool import ModelPool, descriptor_files, descriptor_folder
from crossroute.models.prices import PER_TOKEN, PriceCheck, check_prices, write_price
from crossroute.network.checkpoint import Checkpoint, check_fit, checkpoint_folder
from crossroute.onboarding.anchors import load_anchors
from crossroute.router import DEFAULT_WILLINGNESS_TO_PAY, CrossRouter

models_app = typer.Typer(help="The models of a pool.", no_args_is_help=True)

FolderArgument = Annotated[
    Path | None, typer.Argument(help="Folder of descriptors; the shipped ones if absent.")
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--models", help="Folder of descriptors; the shipped ones if absent."),
]
SHARES_AT = (0.0, DEFAULT_WILLINGNESS_TO_PAY, math.inf)


@models_app.command(name="list")
def models_list(folder: FolderArgument = None, as_json: AsJson = False) -> None:
    """List the models of a folder of descriptors."""
    pool = load_pool(folder)
    if as_json:
        print_json([_facts(model) for model in pool.values()])
        return
    table = Table(
        # Ids are what other commands and code are given: never cut off.
        Column("model", no_wrap=True),
        *("provider", "USD per 1M in", "out", "context", "learned from"),
        title="Models",
    )
    for model in pool.values():
        price = model.price
        provider = model.provider.chat_model if model.provider else "-"
        notes = [f"retired {model.retired}"] if model.retired else []
        notes += ["disabled"] if model.disabled else []
        table.add_row(
            escape(model.id),
            escape(provider + (f" ({', '.join(notes)})" if notes else "")),
            f"{price.input_usd_per_1m:g}" if price else "-",
            f"{price.output_usd_per_1m:g}" if price else "-",
            f"{model.context_window_tokens:,}" if model.context_window_tokens else "-",
            f"{model.learned.examples:,} answers" if model.learned else "-",
        )
    out.print(table)


@models_app.command(name="show")
def models_show(
    model: Annotated[str, typer.Argument(metavar="ID", help="Id of the model.")],
    folder: FolderOption = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known of one model, and how sure that is."""
    descriptor = load_pool(folder)[model]
    if as_json:
        print_json(_facts(descriptor))
        return
    table = Table(show_header=False, title=escape(descriptor.id))
    for field, value in _lines(_facts(descriptor)):
        table.add_row(field, escape(value))
    reason = descriptor.unreachable(datetime.date.today())
    table.add_row("reachable", escape(f"no: {reason}") if reason else "yes")
    table.add_row("embedding", escape(made(descriptor.learned)))
    out.print(table)


@models_app.command(name="validate")
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
    unlearned = [model.id for model in models if model.learned is None]
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


@models_app.command(name="add")
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
    router = CrossRouter.load(checkpoint or checkpoint_folder(folder))
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
        out.print(escape(f"Added {new.id}: {path} ({made(new.learned)})"))


@models_app.command(name="remove")
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


@models_app.command(name="prices")
def models_prices(
    folder: Annotated[Path, typer.Argument(help="Folder of descriptors.")],
    price_file: Annotated[
        Path, typer.Option("--from", help="Price file in LiteLLM's or tokencost's format.")
    ],
    write: Annotated[
        bool, typer.Option("--write", help="Write what changed into the descriptors.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the price tables of a folder with a price file, and write what changed.

    Only the lines of the price change; a model that is not found for sure is left alone.
    """
    load_pool(folder)
    checks = check_prices(descriptor_folder(folder), price_file)
    changed = [check for check in checks if check.changes]
    for check in changed if write else ():
        write_price(check)
    if as_json:
        print_json([_price_facts(check, write) for check in checks])
        return
    if changed:
        table = Table(
            "model", "listed as", *(name.removesuffix("_usd_per_1m") for name in PER_TOKEN)
        )
        table.title = "Changed prices, USD per 1M tokens"
        for check in changed:
            cells = (check.changes.get(name) for name in PER_TOKEN)
            table.add_row(
                escape(check.model),
                escape(check.listed_as or ""),
                *(
                    "" if cell is None else f"{_number(cell[0])} -> {_number(cell[1])}"
                    for cell in cells
                ),
            )
        out.print(table)
    for check in checks:
        if check.problem:
            out.print(escape(f"Not compared: {check.model}: {check.problem}"))
    same = sum(1 for check in checks if check.after is not None and not check.changes)
    done = "written" if write else "not written; --write does"
    out.print(f"{same} unchanged, {len(changed)} changed{f' ({done})' if changed else ''}.")


@models_app.command(name="compare")
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
    prompts = (
        load_prompts(prompts_file)
        if prompts_file
        else [TopicPrompt(anchor.prompt, anchor.topic) for anchor in load_anchors()]
    )
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


@models_app.command(name="schema")
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
            models = list(load_pool(folder).values())
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


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _price_facts(check: PriceCheck, write: bool) -> dict[str, object]:
    status = "not compared" if check.after is None else "changed" if check.changes else "unchanged"
    return {
        "model": check.model,
        "file": str(check.path),
        "status": status,
        "listed_as": check.listed_as,
        "problem": check.problem,
        "changes": {
            name: {"before": old, "after": new} for name, (old, new) in check.changes.items()
        },
        "written": write and bool(check.changes),
    }


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
