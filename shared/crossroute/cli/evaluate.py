"""The commands `crossroute evaluate`, `benchmark` and `import-routerbench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from crossroute.cli.common import (
    CheckpointOption,
    Files,
    ModelsOption,
    SkipBroken,
    err,
    known_models,
    load_router,
    need,
    out,
)
from crossroute.cli.strategies import compare
from crossroute.decision import usd
from crossroute.errors import ConstraintError, DataError, did_you_mean
from crossroute.evaluation.evaluate import Evaluation, evaluate
from crossroute.evaluation.references import CROSSROUTE, FIXED
from crossroute.evaluation.saving import FEWEST
from crossroute.training.data import LEARNED, RoutingData

OnlyModels = Annotated[
    list[str] | None, typer.Option("--model", "-m", help="Only this model; repeat it.")
]


def evaluate_command(
    files: Files,
    checkpoint: CheckpointOption = None,
    model: OnlyModels = None,
    split: Annotated[
        str, typer.Option(help="Rows to evaluate on: test, or another split that rows have.")
    ] = "test",
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Folder of what each model answered (docs/data.md): compares routing alone with "
            "routing among single models and strategies."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file, too.")
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Draw the deferral curves: FILE.png.")
    ] = None,
    skip_broken: SkipBroken = False,
) -> None:
    """Evaluate a checkpoint on scored answers, beside baselines that need no training."""
    # What would end a long run at its end is looked at before.
    for file in (json_file, plot_file):
        if file is not None and not file.parent.is_dir():
            raise ConstraintError(f"{file} cannot be written: make the folder {file.parent} first.")
    if plot_file is not None:
        need("matplotlib", "benchmark")
        if plot_file.suffix != ".png":
            raise ConstraintError(f"--plot is {plot_file}; name a file that ends in .png.")
    if answers is not None:
        need("scipy", "train")
    data = _load(files, model, skip_broken=skip_broken)
    router = load_router(checkpoint)
    before = np.isin(data.split, LEARNED) & (data.split != split)
    if split == "valid":
        before = data.split == "train"
    past = data.select(before) if split != "train" and before.any() else None
    evaluations = evaluate(router, data.of_split(split), past)
    for evaluation in evaluations:
        _print(evaluation, split)
        if evaluation.left_out:
            left_out = escape(", ".join(evaluation.left_out))
            err.print(f"Left out, agents or unknown to the checkpoint: {left_out}")
    content: object = [evaluation.to_dict() for evaluation in evaluations]
    if answers is not None:
        compared = compare(router, checkpoint, data, answers, files, split)
        content = {
            one.dataset: one.to_dict() | comparison.to_dict()
            for one, comparison in zip(evaluations, compared, strict=True)
        }
    if json_file:
        json_file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    if plot_file is not None:
        from crossroute.evaluation.plots import plot_deferral

        drawn = plot_deferral(evaluations, plot_file)
        said = "Written" if drawn else "Not written, as no curve is defined"
        out.print(f"{said}: {escape(str(plot_file))}", highlight=False)


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
    need("torch", "train")
    if folder is not None:
        need("matplotlib", "benchmark")
        folder.mkdir(parents=True, exist_ok=True)
    from crossroute.evaluation.benchmark import benchmark
    from crossroute.evaluation.leave_one_out import leave_one_out
    from crossroute.evaluation.report import markdown, tables

    data = _load(files, model, skip_broken=skip_broken)
    with err.status("Benchmark") as status:
        known = known_models(models, None)
        unseen = leave_one_out(data, known=known, on_step=status.update) if leave_out else []
        report = benchmark(data, known=known, seeds=seeds, on_step=status.update)
    for table in tables(report):
        out.print(table)
    for evaluation in unseen:
        _print(evaluation, "test, left out of training")
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


def _load(files: list[Path], models: list[str] | None, *, skip_broken: bool) -> RoutingData:
    """Routing data, of some models or of all."""
    data = RoutingData.load(files, skip_broken=skip_broken)
    for model in models or ():
        if model not in data.models:
            raise DataError(f"No row has an answer of {model!r}{did_you_mean(model, data.models)}")
    return data.of_models(models) if models else data


def _compared(evaluation: Evaluation) -> str:
    """On which answers of a prompt the routers are compared, where it is not all of them."""
    fewest, most = evaluation.answers
    if fewest == len(evaluation.models):
        return ""
    return f"; each router chooses among the {fewest} to {most} that answered a prompt"


def _print(evaluation: Evaluation, split: str) -> None:
    out.print(_evaluation_table(evaluation, split))
    out.print(_deferral(evaluation), highlight=False)
    if evaluation.utility:
        out.print(_utility_table(evaluation))
    out.print(escape(_saving(evaluation)))


def _saving(evaluation: Evaluation) -> str:
    """The saving in a sentence."""
    found = evaluation.saving
    if found is None:
        return (
            f"Saving: not measured; that takes {FEWEST} prompts, and single models or a fixed "
            "order of models that cost something."
        )
    whose = "the fixed order's best" if found.baseline == FIXED else found.baseline
    share = found.share
    if not share.high:
        return f"Saves nothing: the quality of {whose} is not reached for less."
    low, mean, high = (f"{100 * part:.0f}" for part in (share.low, share.mean, share.high))
    if not found.is_sure:
        return f"Saves nothing for sure at the quality of {whose}: {mean} % ({low} to {high} %)."
    return f"Saves {mean} % ({low} to {high} %) at the quality of {whose}."


def _deferral(evaluation: Evaluation) -> Table | str:
    """PGR's figures of the routers that have a curve, or why none has."""
    between = evaluation.gap
    if between.undefined is not None:
        return f"APGR and CPT: not defined; {escape(between.undefined)}."
    way = f"{between.weak} (the cheapest) to {between.strong} (the best)"
    table = Table("router", "APGR", "CPT(50 %)", "CPT(80 %)", title=escape(f"From {way}"))
    for result in evaluation.results:
        if (found := result.deferral) is not None:
            reached = ("-" if x is None else f"{x:.1%}" for x in (found.cpt_50, found.cpt_80))
            table.add_row(result.router, f"{found.apgr:.3f}", *reached)
    return table


def _utility_table(evaluation: Evaluation) -> Table:
    title = escape(f"{evaluation.dataset}: {CROSSROUTE} less {FIXED}")
    table = Table("willingness to pay", "score - cost / willingness to pay (95 %)", title=title)
    for at in evaluation.utility:
        gain = at.gain
        table.add_row(
            usd(at.willingness_to_pay), f"{gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
        )
    return table


def _evaluation_table(evaluation: Evaluation, split: str) -> Table:
    table = Table(
        "router",
        "AIQ",
        "best quality",
        "at cost a query",
        title=escape(
            f"{evaluation.dataset}: {evaluation.prompts} prompts ({split}), "
            f"{len(evaluation.models)} models{_compared(evaluation)}"
        ),
    )
    for result in evaluation.results:
        table.add_row(
            escape(result.router),
            "-" if result.aiq is None else f"{result.aiq:.4f}",
            f"{result.quality:.4f}",
            usd(result.cost_usd),
        )
    return table
