"""The command `crossroute`: what it is made of, and how its errors are shown."""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from crossroute.cli.allocate import allocate_command
from crossroute.cli.collect import collect
from crossroute.cli.common import err
from crossroute.cli.compare import models_compare
from crossroute.cli.demo import demo
from crossroute.cli.evaluate import (
    benchmark_command,
    evaluate_command,
    import_routerbench_command,
)
from crossroute.cli.measure import models_measure
from crossroute.cli.models import (
    models_add,
    models_list,
    models_remove,
    models_schema,
    models_show,
    models_validate,
)
from crossroute.cli.monitor import monitor_command
from crossroute.cli.new import models_new
from crossroute.cli.onboarding import models_onboard
from crossroute.cli.plan import plan_command
from crossroute.cli.prices import models_prices
from crossroute.cli.rebase import models_rebase
from crossroute.cli.records import records_app
from crossroute.cli.route import route
from crossroute.cli.traces import traces_app
from crossroute.cli.traffic import traffic_import
from crossroute.cli.train import train
from crossroute.cli.tune import tune_command
from crossroute.errors import CrossRouteError

app = typer.Typer(
    help="A cost-aware LLM router: the best answer your willingness to pay can buy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("route")(route)
app.command("train")(train)
app.command("evaluate")(evaluate_command)
app.command("benchmark")(benchmark_command)
app.command("plan")(plan_command)
app.command("allocate")(allocate_command)
app.command("tune")(tune_command)
app.command("monitor")(monitor_command)
app.command("import-routerbench")(import_routerbench_command)
app.command("demo")(demo)
app.command("collect")(collect)

models_app = typer.Typer(help="The models of a pool.", no_args_is_help=True)
app.add_typer(models_app, name="models")
models_app.command("list")(models_list)
models_app.command("show")(models_show)
models_app.command("validate")(models_validate)
models_app.command("new")(models_new)
models_app.command("add")(models_add)
models_app.command("remove")(models_remove)
models_app.command("prices")(models_prices)
models_app.command("compare")(models_compare)
models_app.command("schema")(models_schema)
models_app.command("onboard")(models_onboard)
models_app.command("rebase")(models_rebase)
models_app.command("measure")(models_measure)

traffic_app = typer.Typer(help="The prompts of your own traffic.", no_args_is_help=True)
app.add_typer(traffic_app, name="traffic")
traffic_app.command("import")(traffic_import)
app.add_typer(records_app, name="records")
app.add_typer(traces_app, name="traces")


def main() -> None:
    """Run the command; an error that CrossRoute raises is a message, not a traceback."""
    try:
        app()
    except (CrossRouteError, OSError) as error:
        err.print(f"[bold red]Error:[/] {escape(str(error))}")
        sys.exit(1)
