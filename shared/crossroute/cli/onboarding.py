"""The command `crossroute models onboard`: an embedding without training."""

from __future__ import annotations

import datetime
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.markup import escape

from crossroute.cli.common import (
    AsJson,
    CheckpointOption,
    confirmed,
    err,
    load_router,
    made,
    out,
    print_json,
    progress,
)
from crossroute.decision import usd
from crossroute.errors import (
    CrossRouteError,
    DataError,
    DescriptorError,
    MissingExtraError,
    shortened,
)
from crossroute.lines import mend_last_line
from crossroute.models.descriptor import Learned, ModelDescriptor
from crossroute.onboarding.embedding import error_in_points, onboard
from crossroute.onboarding.scores import FEW_SCORES, ScoredAnswer, load_scores
from crossroute.router import CrossRouter

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from crossroute.onboarding.anchors import Anchor
    from langchain_crossroute.ask import Answer

SHOWN_FAILURES = 3
SHOWN_CHARACTERS = 300
LEAST_ANSWERS = 5
"""So many must look wrong before a model is doubted."""


def models_onboard(
    file: Annotated[
        Path, typer.Argument(metavar="DESCRIPTOR", help="The new model's file (*.yaml).")
    ],
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Its scored answers, as JSON lines; with --run the file that they are added to, "
            "by default beside the descriptor."
        ),
    ] = None,
    run: Annotated[
        bool, typer.Option("--run", help="Ask the model itself the anchor prompts; needs its key.")
    ] = False,
    anchors: Annotated[
        Path | None, typer.Option(help="Your own anchor prompts instead of the shipped ones.")
    ] = None,
    checkpoint: CheckpointOption = None,
    folder: Annotated[
        Path | None,
        typer.Option("--to", help="Write the descriptor there instead of into its own file."),
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Calls under way at a time.")] = 8,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    as_json: AsJson = False,
) -> None:
    """Learn a new model's embedding from scored answers, without training (docs/onboarding.md).

    With --run every answer is checked and its score kept as it comes: after a break or a failure,
    the same command asks what is missing.
    """
    # Here, as they take long to import.
    from crossroute.models.edit import update_file
    from crossroute.onboarding.anchors import load_anchors

    if run:
        path = scores or file.with_name(f"{file.stem}.scores.jsonl")
    elif scores is not None and anchors is None:
        path = scores
    else:
        raise DataError("Give scored answers with --scores FILE, or --run to ask the model itself.")
    if run and path.suffix != ".jsonl":
        raise DataError(f"{path}: --run adds lines to its file; name one that ends in .jsonl.")
    descriptor = ModelDescriptor.load(file)
    if descriptor.efforts:
        raise DescriptorError(
            f"{file}: lists efforts, each of which is scored by itself: write a descriptor of "
            f"{descriptor.id}@{descriptor.efforts[0]} (crossroute models new --effort), and "
            "onboard that; it takes the place of the listed one."
        )
    router = load_router(checkpoint)
    if run:
        _run(descriptor, router, load_anchors(anchors), path, at_once=at_once, yes=yes)
    answers = load_scores(path, descriptor.id)
    new = onboard(router, descriptor, answers)
    target = file
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / descriptor.file_name
    new = scored_in(new, _relative(path, target.parent))
    update_file(file, new, target)
    learned = _learned(new)
    mean = float(np.mean([answer.score for answer in answers]))
    if len(answers) < FEW_SCORES:
        err.print(
            f"[bold yellow]Warning:[/] {len(answers)} scored answers say little of a model; give "
            f"{FEW_SCORES} at least, better 100."
        )
    if as_json:
        facts = learned.model_dump(mode="json", exclude={"embedding"})
        facts["error_in_points"] = round(error_in_points(learned), 1)
        print_json({"model": descriptor.id, "file": str(target), "mean_score": mean, **facts})
        return
    out.print(escape(f"{target}: {descriptor.id}: {made(learned)}; mean score {mean:.3f}."))


def _run(
    descriptor: ModelDescriptor,
    router: CrossRouter,
    anchors: Sequence[Anchor],
    scores: Path,
    *,
    at_once: int,
    yes: bool,
) -> None:
    """Ask the model those anchors that it has no score of, and add the scores to the file.

    Raises:
        DescriptorError: If its chat model cannot be built, or the user says that it is not the
            right one.
        DataError: If calls failed; what was answered is in the file.
        typer.Exit: After Ctrl-C; what was answered is in the file.
    """
    mend_last_line(scores)
    size = scores.stat().st_size if scores.exists() else 0
    known = load_scores(scores, descriptor.id) if size else []
    prompts_known = {answer.prompt for answer in known if isinstance(answer.prompt, str)}
    missing = [anchor for anchor in anchors if anchor.prompt not in prompts_known]
    if not missing:
        err.print(f"All {len(anchors)} anchors are scored in {escape(str(scores))}.")
        return
    chat_model = _chat_model(descriptor)
    prompts = [anchor.prompt for anchor in missing]
    err.print(escape(_estimate(descriptor, router, prompts, asked=len(anchors))))
    if not yes and not confirmed("Ask it?"):
        raise typer.Abort
    failures: list[str] = []
    given: list[tuple[str, float]] = []
    with scores.open("a", encoding="utf-8") as file, progress("Asking") as bar:
        task = bar.add_task("", total=len(anchors), completed=len(anchors) - len(missing))

        def tell(position: int, answer: Answer | Exception) -> None:
            if isinstance(answer, Exception):
                text = f"{type(answer).__name__}: {answer}"
                failures.append(text[:SHOWN_CHARACTERS])
            else:
                scored = _scored(missing[position], answer, descriptor)
                file.write(scored.model_dump_json(exclude_none=True) + "\n")
                file.flush()
                given.append((answer.text.strip(), scored.score))
                bar.advance(task)
            right = sum(score for _, score in given)
            bar.update(task, description=f"{right:.0f} right, {len(failures)} failed")

        import asyncio

        from langchain_crossroute.ask import ask

        try:
            asyncio.run(ask(chat_model, prompts, tell, at_once=at_once))
        except KeyboardInterrupt:
            bar.stop()
            err.print(f"Stopped. The same command goes on from what is in {escape(str(scores))}.")
            raise typer.Exit(130) from None
    if doubt := _doubt(given):
        _ask_about(doubt, descriptor, scores, size, yes=yes)
    if failures:
        said = [
            f"  {count} x {text}" for text, count in Counter(failures).most_common(SHOWN_FAILURES)
        ]
        raise DataError(
            f"{len(failures)} of {len(prompts)} calls of {descriptor.id!r} failed:\n"
            + "\n".join(said)
            + f"\n{scores} holds {len(known) + len(given)} scored answers. The same command asks "
            "for the others; to take what there is, leave out --run and give --scores."
        )


def _doubt(given: Sequence[tuple[str, float]]) -> str | None:
    """What makes answers look as if no such model had given them: texts and their scores."""
    count = len(given)
    if count < LEAST_ANSWERS or all(score == 1 for _, score in given):
        return None
    texts = {text for text, _ in given}
    empty = sum(not text for text, _ in given)
    if empty > count / 2:
        return f"{empty} of {count} answers are empty"
    if len(texts) == 1:
        return f"all {count} answers are the same, {shortened(texts.pop())}"
    if not any(score for _, score in given):
        return f"none of {count} answers is right"
    return None


def _ask_about(
    doubt: str, descriptor: ModelDescriptor, scores: Path, size: int, *, yes: bool
) -> None:
    """Ask whether the right model was asked; if not, take its scores out of the file again."""
    provider = descriptor.provider
    place = f"{provider.chat_model} at {provider.base_url or 'its vendor'}" if provider else ""
    err.print(f"[bold yellow]Warning:[/] {escape(doubt)}. It was asked as {escape(place)}.")
    if yes or confirmed("Is that the right endpoint, and are its answers to be taken?"):
        return
    with scores.open("r+b") as file:
        file.truncate(size)
    if not size:
        scores.unlink()
    raise DescriptorError(
        f"Model {descriptor.id!r} is not onboarded, and its scores of this run are dropped. Mend "
        "provider in its descriptor, and run the command again."
    )


def _chat_model(descriptor: ModelDescriptor) -> BaseChatModel:
    # A disabled model may be asked: it is onboarded before it is put into service.
    enabled = descriptor.model_copy(update={"disabled": False})
    reason = enabled.unreachable(datetime.date.today())
    if descriptor.provider is None or reason is not None:
        raise DescriptorError(
            f"Model {descriptor.id!r} cannot be asked: {reason}. Give its descriptor a provider "
            "that serves it, or give scores with --scores."
        )
    try:
        from langchain_crossroute.lazy import LazyChatModel
    except ImportError as error:
        raise MissingExtraError("langchain-core", "langchain") from error
    try:
        return LazyChatModel(descriptor.id, descriptor.provider).load()
    except CrossRouteError:
        raise
    except Exception as error:
        # A provider's package raises what it likes: it is missing, lacks a key, or dislikes an
        # argument.
        raise DescriptorError(
            f"Model {descriptor.id!r}: its chat model cannot be built: {error}"
        ) from error


def _estimate(
    descriptor: ModelDescriptor, router: CrossRouter, prompts: Sequence[str], *, asked: int
) -> str:
    """What asking will cost about: with as many tokens as known models use."""
    text = f"{len(prompts)} of {asked} anchors are to be asked of {descriptor.id!r}"
    price = descriptor.price
    if price is None:
        return f"{text}. Its descriptor has no price: the cost is not known."
    found = router.predict(prompts)
    counted = ~np.isnan(found.output_tokens).any(axis=0)
    if not counted.any():
        return f"{text}. The checkpoint predicts no tokens: the cost is not known."
    tokens = found.output_tokens[:, counted].sum(axis=0)
    sent = float(found.input_tokens.sum())
    median, most = (
        float(price.cost_usd(sent, float(n))) for n in (np.median(tokens), tokens.max())
    )
    return (
        f"{text}: about {usd(median)} by its price table, {usd(most)} if it is as wordy as the "
        "wordiest known model; hidden reasoning is not counted."
    )


def _scored(anchor: Anchor, answer: Answer, descriptor: ModelDescriptor) -> ScoredAnswer:
    cost = None
    if descriptor.price and answer.tokens:
        cost = float(descriptor.price.cost_usd(*answer.tokens))
    return ScoredAnswer(
        prompt=anchor.prompt,
        score=anchor.score(answer.text),
        cost_usd=cost,
        output_tokens=answer.tokens and answer.tokens[1],
    )


def _learned(model: ModelDescriptor) -> Learned:
    if model.learned is None:
        raise ValueError(f"{model.id} has no learned embedding")
    return model.learned


def scored_in(model: ModelDescriptor, scores_file: str | None) -> ModelDescriptor:
    """The model, whose scores are in that file, beside its descriptor."""
    learned = _learned(model).model_copy(update={"scores_file": scores_file})
    return model.model_copy(update={"learned": learned})


def _relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder, with slashes on every system."""
    return Path(os.path.relpath(path, folder)).as_posix()
