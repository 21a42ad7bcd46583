"""The command `crossroute`: route, train, evaluate, models, demo."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import crossroute.cli.onboarding  # noqa: F401  # registers onboard and rebase
from crossroute.cli.common import AsJson, CheckpointOption, err, out, print_json
from crossroute.cli.models import models_app
from crossroute.decision import usd
from crossroute.errors import (
    CheckpointError,
    CrossRouteError,
    DataError,
    MissingExtraError,
    PoolError,
    did_you_mean,
)
from crossroute.evaluation.evaluate import Evaluation, evaluate
from crossroute.failures import LEAST_SECRET, describe, masked
from crossroute.models.pool import MODELS, ModelPool
from crossroute.network.checkpoint import check_target
from crossroute.network.encoders import load_encoder
from crossroute.router import DEFAULT_WILLINGNESS_TO_PAY, CrossRouter
from crossroute.training.data import RoutingData

app = typer.Typer(
    help="A cost-aware LLM router: the best answer your willingness to pay can buy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models")

Files = Annotated[
    list[Path], typer.Argument(help="Routing data: .jsonl or .jsonl.gz (docs/data.md).")
]
ModelsOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of descriptors with prices and providers. If absent: the shipped ones and "
        "those of the checkpoint that is replaced."
    ),
]
OnlyModels = Annotated[
    list[str] | None, typer.Option("--model", "-m", help="Only this model; repeat it.")
]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave broken rows out instead of stopping at them.")
]


def main() -> None:
    """Run the command; an error that CrossRoute raises is a message, not a traceback."""
    try:
        app()
    except (CrossRouteError, OSError) as error:
        err.print(f"[bold red]Error:[/] {escape(str(error))}")
        sys.exit(1)


@app.command()
def route(
    text: Annotated[str, typer.Argument(help="The prompt to route.")],
    willingness_to_pay: Annotated[
        float,
        typer.Option(
            "--willingness-to-pay", "-w", help="USD a unit of quality; 0: cheapest, inf: best."
        ),
    ] = DEFAULT_WILLINGNESS_TO_PAY,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A candidate; repeat it.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All models of the checkpoint as candidates.")
    ] = False,
    checkpoint: CheckpointOption = None,
    as_json: AsJson = False,
) -> None:
    """Say which model would answer TEXT, and why.

    Candidates are the models that can be reached today (a provider, and not retired), or all where
    none can, unless --model names them or --all takes every model of the checkpoint.
    """
    router = CrossRouter.load(checkpoint)
    candidates = model or ([] if every else router.pool.reachable())
    if candidates:
        router = router.subset(candidates)
    decision = router.route(text, willingness_to_pay)
    if as_json:
        print_json(decision.to_dict())
    else:
        out.print(escape(decision.explain()), highlight=False)


@app.command()
def train(
    files: Files,
    folder: Annotated[Path, typer.Option("--out", help="Folder to write the checkpoint to.")],
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")] = 0,
    models: ModelsOption = None,
    encoder: Annotated[
        str, typer.Option(help="'static' (shipped) or 'sentence-transformers:NAME'.")
    ] = "static",
    skip_broken: SkipBroken = False,
) -> None:
    """Train a checkpoint on scored answers: the splits train and valid of FILES."""
    _need("torch", "train")
    check_target(folder)
    _keep_onboarded(folder)
    from crossroute.training.fit import Epoch
    from crossroute.training.train import train as train_router

    with err.status("Reading prompts"):
        data = RoutingData.load(files, skip_broken=skip_broken)
        query_encoder = load_encoder(encoder)
    err.print(f"{len(data)} prompts, {len(data.models)} models, encoder {encoder}")
    columns = (
        TextColumn("Training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err) as progress:
        task = progress.add_task("", total=None)

        def on_epoch(epoch: Epoch) -> None:
            progress.update(
                task,
                completed=epoch.number,
                total=epoch.epochs,
                description=f"train {epoch.train_loss:.4f}, valid {epoch.valid_loss:.4f}",
            )

        router = train_router(
            data,
            known=_known(models, folder),
            encoder=query_encoder,
            seed=seed,
            on_epoch=on_epoch,
        )
    router.save(folder)
    out.print(f"Wrote checkpoint {router.checkpoint.id} with {len(router.pool)} models: {folder}")


@app.command(name="evaluate")
def evaluate_command(
    files: Files,
    checkpoint: CheckpointOption = None,
    model: OnlyModels = None,
    split: Annotated[str, typer.Option(help="Rows to evaluate on: train, valid or test.")] = "test",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file, too.")
    ] = None,
    skip_broken: SkipBroken = False,
) -> None:
    """Evaluate a checkpoint on scored answers, beside baselines that need no training."""
    data = _load(files, model, skip_broken=skip_broken).of_split(split)
    evaluations = evaluate(CrossRouter.load(checkpoint), data)
    for evaluation in evaluations:
        out.print(_evaluation_table(evaluation, split))
        if evaluation.left_out:
            err.print(f"Left out, unknown to the checkpoint: {', '.join(evaluation.left_out)}")
    if json_file:
        content = [evaluation.to_dict() for evaluation in evaluations]
        json_file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


@app.command(name="benchmark")
def benchmark_command(
    files: Files,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for benchmark.md, .json and the plots.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of whatever is random.")] = 3,
    models: ModelsOption = None,
    model: OnlyModels = None,
    leave_out: Annotated[
        bool,
        typer.Option("--leave-one-out", help="Also train without each data set and test on it."),
    ] = False,
    skip_broken: SkipBroken = False,
) -> None:
    """Train, tune and compare CrossRoute and the usual routers on FILES."""
    # What would end a long run at its end is looked at before.
    _need("torch", "train")
    if folder is not None:
        _need("matplotlib", "benchmark")
        folder.mkdir(parents=True, exist_ok=True)
    from crossroute.evaluation.benchmark import benchmark
    from crossroute.evaluation.leave_one_out import leave_one_out
    from crossroute.evaluation.report import markdown, tables

    data = _load(files, model, skip_broken=skip_broken)
    with err.status("Benchmark") as status:
        known = _known(models, None)
        unseen = leave_one_out(data, known=known, on_step=status.update) if leave_out else []
        report = benchmark(data, known=known, seeds=seeds, on_step=status.update)
    for table in tables(report):
        out.print(table)
    for evaluation in unseen:
        out.print(_evaluation_table(evaluation, "test, left out of training"))
    if folder is None:
        return
    from crossroute.evaluation.plots import plot

    content = report.to_dict() | {"leave_one_out": [item.to_dict() for item in unseen]}
    (folder / "benchmark.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    names = " ".join(path.name for path in files)
    option = " --leave-one-out" if leave_out else ""
    command = f"crossroute benchmark {names} --seeds {seeds}{option} --out FOLDER"
    page = markdown(report, unseen, plot(report, folder), command)
    (folder / "benchmark.md").write_text(page, "utf-8")


@app.command(name="import-routerbench")
def import_routerbench_command(
    file: Annotated[Path, typer.Argument(help="RouterBench's table: .csv, .csv.gz or .parquet.")],
    out_file: Annotated[Path, typer.Option("--out", help="Where to write: .jsonl or .jsonl.gz.")],
) -> None:
    """Make routing data of RouterBench's public release (docs/data.md)."""
    from crossroute.evaluation.routerbench import import_routerbench, write_rows

    rows = import_routerbench(file)
    write_rows(rows, out_file)
    models = {model for row in rows for model in row.outputs}
    out.print(f"{escape(str(out_file))}: {len(rows)} prompts, {len(models)} models")


@app.command()
def demo(
    live: Annotated[
        bool, typer.Option("--live", help="Ask the descriptors' providers; needs their keys.")
    ] = False,
) -> None:
    """Route a couple of dozen prompts through a LangChain chain at three willingnesses to pay."""
    try:
        from langchain_crossroute.demo import run
    except ImportError as error:
        raise MissingExtraError("langchain-core", "langchain") from error
    try:
        run(out, live=live)
    except CrossRouteError:
        raise
    except Exception as error:
        if not live:
            raise
        # A provider's package raises what it likes: it is missing, lacks a key, or was refused.
        keys = [
            value
            for name, value in os.environ.items()
            if name.endswith("_API_KEY") and len(value) >= LEAST_SECRET
        ]
        # The last note names every candidate that was tried.
        said = masked("\n".join([describe(error), *getattr(error, "__notes__", [])[-1:]]), keys)
        raise PoolError(
            f"The providers could not be asked: {said}\nInstall the package of each provider and "
            "set its key, or leave out --live: the answers are simulated then."
        ) from error


def _load(files: list[Path], models: list[str] | None, *, skip_broken: bool) -> RoutingData:
    """Routing data, of some models or of all."""
    data = RoutingData.load(files, skip_broken=skip_broken)
    for model in models or ():
        if model not in data.models:
            raise DataError(f"No row has an answer of {model!r}{did_you_mean(model, data.models)}")
    return data.of_models(models) if models else data


def _need(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(package, extra)


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


def _known(models: Path | None, checkpoint: Path | None) -> ModelPool:
    """Descriptors whose facts training may use: those of a checkpoint to be replaced among them."""
    if models:
        return ModelPool.load(models)
    known = dict(ModelPool.shipped())
    if checkpoint and (checkpoint / MODELS).is_dir():
        known |= ModelPool.load(checkpoint)
    return ModelPool(known.values())


def _evaluation_table(evaluation: Evaluation, split: str) -> Table:
    table = Table(
        "router",
        "AIQ",
        "best quality",
        "at cost a query",
        title=f"{evaluation.dataset}: {evaluation.prompts} prompts ({split}), "
        f"{len(evaluation.models)} models",
    )
    for result in evaluation.results:
        table.add_row(
            escape(result.router),
            "-" if result.aiq is None else f"{result.aiq:.4f}",
            f"{result.quality:.4f}",
            usd(result.cost_usd),
        )
    return table
