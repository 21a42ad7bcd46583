"""The command `crossroute collect`: answers of models to prompts, and scores of the answers."""

from __future__ import annotations

import asyncio
import datetime
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from crossroute.cli.common import AsJson, confirmed, err, out, print_json, progress
from crossroute.decision import usd
from crossroute.errors import (
    CrossRouteError,
    DataError,
    DescriptorError,
    MissingExtraError,
    PoolError,
    plain,
)
from crossroute.models.descriptor import ModelDescriptor, Provider
from crossroute.models.pool import ModelPool
from crossroute.models.provider_arguments import BY_PROVIDER
from crossroute.router import CrossRouter

if TYPE_CHECKING:
    from crossroute.traffic.collect import Collected, Progress
    from crossroute.traffic.collection import Collection, Estimate
    from langchain_crossroute.ask import AskChatModels

SHOWN_FAILURES = 10
DEFAULT_MAX_TOKENS = 8192


def collect(
    prompts: Annotated[
        Path,
        typer.Argument(
            help="JSON lines with `prompt` and, where known, `task`, `reference` and `check`; or a "
            "text file, one prompt a line."
        ),
    ],
    result: Annotated[Path, typer.Option("--out", help="The result: routing data, *.jsonl.")],
    budget_usd: Annotated[
        float,
        typer.Option(min=0, help="What all calls into --out may cost, earlier runs included."),
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--models", help="Folder of descriptors; the shipped ones if absent."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A candidate; repeat it.")
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="A model that scores answers: an id, PROVIDER:MODEL, or a descriptor's file. "
            "Repeat it for the mean of several."
        ),
    ] = None,
    rubric: Annotated[
        Path | None, typer.Option(help="What judges grade by: a text, or YAML.")
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(
            help="A score without a judge: check, reference, or package.module:function. Repeat "
            "it: the first that can score a prompt does."
        ),
    ] = None,
    answers_a_prompt: Annotated[
        int | None,
        typer.Option(min=2, help="Ask so many models a prompt: those that tell most."),
    ] = None,
    at_once: Annotated[
        int, typer.Option("--concurrency", min=1, help="Calls under way at a time.")
    ] = 8,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="The longest answer, hidden reasoning included.")
    ] = DEFAULT_MAX_TOKENS,
    seed: Annotated[int, typer.Option(help="Of the order in which a judge sees answers.")] = 0,
    judge_own_vendor: Annotated[
        bool, typer.Option("--judge-own-vendor", help="Let a judge judge its own vendor's models.")
    ] = False,
    allow_unpriced: Annotated[
        bool,
        typer.Option(
            "--allow-unpriced",
            help="Ask models without a price, and send attachments: the budget does not hold "
            "for them.",
        ),
    ] = False,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Keep the judges' reasons in the result.")
    ] = False,
    keep_answers: Annotated[
        bool, typer.Option(help="Keep the answers' texts beside the result.")
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the candidates your prompts, and score the answers (docs/traffic/collect.md).

    You see what it will cost before anything is asked. Every answer and score is kept as it comes:
    after a break, the same command goes on.
    """
    # Here, as they take long to import.
    from crossroute.traffic.cases import load_cases
    from crossroute.traffic.collect import open_journal, run
    from crossroute.traffic.collection import Collection
    from crossroute.traffic.judge import RUBRIC, load_rubric
    from crossroute.traffic.scorers import load_scorer

    router = _router(folder, model)
    if any(":" in name for name in score or ()):
        # As Python does for a script: a function of the user is where the command is run.
        sys.path.insert(0, str(Path.cwd()))
    collection = Collection.of(
        load_cases(prompts),
        router,
        model,
        judges=[_judge(name, router.pool) for name in dict.fromkeys(judge or ())],
        scorers=[load_scorer(name) for name in score or ()],
        rubric=RUBRIC if rubric is None else load_rubric(rubric),
        answers_a_prompt=answers_a_prompt,
        max_tokens=max_tokens,
        seed=seed,
        judge_own_vendor=judge_own_vendor,
        allow_unpriced=allow_unpriced,
    )
    with open_journal(collection, result, keep_answers=keep_answers) as journal:
        estimate = collection.estimate(journal)
        _show(collection, estimate, budget_usd)
        if estimate.prompts:
            ask = _asker({**collection.models, **collection.judges})
            if not yes and not confirmed(f"Ask, and spend up to {usd(budget_usd)} in all?"):
                raise typer.Abort
        else:
            ask = None
        with progress("Collecting") as bar:
            task = bar.add_task("", total=len(collection.cases))

            def tell(now: Progress) -> None:
                bar.update(
                    task,
                    completed=now.done,
                    description=f"{usd(now.spent_usd)} spent, {now.failures} failed",
                )

            try:
                found = asyncio.run(
                    run(
                        collection,
                        ask or _nobody,
                        journal,
                        budget_usd=budget_usd,
                        out=result,
                        at_once=at_once,
                        keep_reasons=reasons,
                        tell=tell,
                    )
                )
            except KeyboardInterrupt:
                bar.stop()
                err.print(f"Stopped. The same command goes on from {escape(str(result))}.")
                raise typer.Exit(130) from None
    _tell(found, result, budget_usd, as_json=as_json)


def _router(folder: Path | None, named: Sequence[str] | None) -> CrossRouter:
    if folder is not None:
        return CrossRouter.load(folder)
    if not named:
        raise PoolError(
            f"Name the candidates with --model, or give a folder of descriptors with --models: the "
            f"shipped pool has {len(CrossRouter.default().pool)} models."
        )
    return CrossRouter.default()


def _judge(name: str, pool: ModelPool) -> ModelDescriptor:
    """The judge that a user means: of the pool, of the shipped ones, of a file, or any other."""
    if name.lower().endswith((".yaml", ".yml")):
        return ModelDescriptor.load(name)
    for models in (pool, ModelPool.shipped()):
        if name in models:
            return models[name]
        # Not one with a reasoning effort of its own, unless it is the only one.
        served = [m for m in models.values() if m.provider and m.provider.chat_model == name]
        if served:
            return min(served, key=lambda m: (bool(m.provider and m.provider.arguments), m.id))
    provider, _, rest = name.partition(":")
    if provider not in BY_PROVIDER or not rest:
        raise PoolError(
            f"There is no judge {plain(name)!r}: give the id of a model, PROVIDER:MODEL such as "
            "openai:gpt-5.5, or the file of a descriptor."
        )
    return ModelDescriptor(id=name, provider=Provider(chat_model=name))


def _asker(models: Mapping[str, ModelDescriptor]) -> AskChatModels:
    """Asks the models by their descriptors; builds all of them, so that none is missing later."""
    try:
        from langchain_crossroute.ask import AskChatModels, without_retries
        from langchain_crossroute.lazy import LazyChatModel
    except ImportError as error:
        raise MissingExtraError("langchain-core", "langchain") from error
    built, today = {}, datetime.date.today()
    for model in models.values():
        provider = model.provider
        reason = model.model_copy(update={"disabled": False}).unreachable(today)
        if provider is None or reason is not None:
            raise DescriptorError(
                f"Model {model.id!r} cannot be asked: {reason}. Give its descriptor a provider "
                "that serves it, or name other models with --model."
            )

        def build(
            more: Mapping[str, Any], model: str = model.id, provider: Provider = provider
        ) -> Any:  # noqa: ANN401  # A chat model.
            arguments = {**provider.arguments, **more}
            return LazyChatModel(model, provider.model_copy(update={"arguments": arguments})).load()

        try:
            built[model.id] = without_retries(build)
        except CrossRouteError:
            raise
        except Exception as error:
            # A provider's package raises what it likes: it is missing, lacks a key, or dislikes an
            # argument.
            raise DescriptorError(
                f"Model {model.id!r}: its chat model cannot be built: {error}"
            ) from error
    return AskChatModels(built)


async def _nobody(*_: object, **__: object) -> Any:  # noqa: ANN401
    """Where all is asked already."""
    raise DataError("Nothing was to be asked any more.")


def _show(collection: Collection, estimate: Estimate, budget_usd: float) -> None:
    """What will be asked, and for how much."""
    if estimate.spent_usd:
        err.print(f"Spent before: {usd(estimate.spent_usd)}.")
    for reason, count in collection.left_out.items():
        err.print(escape(f"Left out: {count} prompts that no model can be asked: {reason}."))
    by_judges = Counter(
        tuple(j for j, models in collection.judged_by.items() if m in models)
        for m in collection.models
    )
    if len(by_judges) > 1:
        err.print(
            "[bold yellow]Warning:[/] not all models have the same judges, since none judges its "
            "own vendor's. One judge may be milder than another: a judge of a vendor that has no "
            "candidate would be fairer."
        )
    if not estimate.prompts:
        err.print(f"All {len(collection.cases)} prompts are asked and scored.")
        return
    table = Table(title=escape(f"{estimate.prompts} of {len(collection.cases)} prompts"))
    for header in ("model", "as", "calls", "about", "at most"):
        table.add_column(header, justify="left" if header in ("model", "as") else "right")
    for row in estimate.rows:
        about = "no price" if row.expected_usd is None else usd(row.expected_usd)
        table.add_row(escape(row.model), row.role, str(row.calls), about, usd(row.most_usd))
    most = sum(row.most_usd for row in estimate.rows)
    calls = sum(row.calls for row in estimate.rows)
    table.add_section()
    table.add_row("all", "", str(calls), usd(estimate.expected_usd), usd(most))
    err.print(table)
    err.print(
        "About: with the lengths that the router predicts; hidden reasoning of a judge is not in "
        "it, nor what fails and is tried again. At most: if every answer is as long as it may be."
    )
    left = budget_usd - estimate.spent_usd
    if estimate.expected_usd > left:
        share = max(left, 0.0) / estimate.expected_usd
        err.print(
            f"[bold yellow]Warning:[/] the budget is {usd(budget_usd)}: it will do for about "
            f"{share:.0%} of that, and stops there."
        )


def _tell(found: Collected, result: Path, budget_usd: float, *, as_json: bool) -> None:
    """What came of it; exits with 1 where nothing is scored, or something failed."""
    failed = sum(found.failures.values())
    if as_json:
        print_json(
            {
                "file": str(result),
                "prompts": found.total,
                "scored_prompts": len(found.rows),
                "scored_answers": found.scores,
                "spent_usd": found.spent_usd,
                "is_out_of_budget": found.is_out_of_budget,
                "failures": [
                    {"model": who, "error": text, "count": count}
                    for (who, text), count in found.failures.items()
                ],
            }
        )
    else:
        out.print(
            escape(
                f"{result}: {found.scores} scored answers to {len(found.rows)} of {found.total} "
                f"prompts; {usd(found.spent_usd)} spent."
            )
        )
    if found.is_out_of_budget:
        err.print(
            f"Stopped at the budget of {usd(budget_usd)}: what the next call could cost at most "
            "was not left (a smaller --max-tokens makes it less). All that was scored is kept; the "
            "same command with a higher --budget-usd goes on."
        )
    listed = Counter(found.failures).most_common(SHOWN_FAILURES)
    for (who, text), count in listed:
        err.print(escape(f"  {count} x {who}: {text}"))
    if failed:
        err.print(f"{failed} answers or verdicts failed; the same command asks for them again.")
    if failed or not found.rows:
        raise typer.Exit(1)
