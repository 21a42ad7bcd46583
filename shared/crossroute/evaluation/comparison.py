"""Where one model would be chosen over another: over prompts, by the willingness to pay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from crossroute.errors import DataError, PoolError, problems
from crossroute.lines import read_lines
from crossroute.query import QueryLike
from crossroute.ranking import utility
from crossroute.router import CrossRouter
from crossroute.training.data import Messages, Name, Prompt


class TopicPrompt(NamedTuple):
    """A prompt, and what kind of work it is."""

    prompt: QueryLike
    topic: str | None = None


class _PromptRow(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    prompt: Prompt | Messages
    topic: Name | None = None
    task: Name | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models over prompts of one kind; of a pair, the first number is of the first model.

    Attributes:
        topic: What kind of work the prompts are; None for all of them.
        prompts: How many there are.
        quality: Mean predicted quality.
        cost_usd: Mean predicted cost in USD.
        points: [k] willingnesses to pay, ascending, at which the choice for a prompt changes.
        shares: [k + 1] share of the prompts for which the second model is chosen between them.
    """

    topic: str | None
    prompts: int
    quality: tuple[float, float]
    cost_usd: tuple[float, float]
    points: NDArray[np.float64]
    shares: NDArray[np.float64]

    def share(self, willingness_to_pay: float) -> float:
        """For which share of the prompts the second model is chosen."""
        return float(self.shares[np.searchsorted(self.points, willingness_to_pay)])

    @property
    def wins(self) -> list[tuple[float, float]]:
        """Where the second model is chosen for most of the prompts: ranges of lambda in USD."""
        edges = [0.0, *self.points.tolist(), math.inf]
        ranges: list[tuple[float, float]] = []
        for start, end, share in zip(edges, edges[1:], self.shares, strict=False):
            if share <= 0.5 or start == end:
                continue
            if ranges and ranges[-1][1] == start:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((start, end))
        return ranges


def compare(
    router: CrossRouter, first: str, second: str, prompts: Sequence[TopicPrompt]
) -> list[Comparison]:
    """Compare two models of a router, as if they were the only candidates.

    Args:
        router: Knows both.
        first: Id of one.
        second: Id of the other.
        prompts: At least one.

    Returns:
        The comparison over all prompts, then one a topic, in the order of their names.

    Raises:
        UnknownModelError: If a model is not in the router's pool.
        PoolError: If they are one model.
        DataError: If there are no prompts.
        QueryError: If a prompt has not the form of one.
    """
    # Before anything is predicted: an unknown one is named.
    ids = [router.pool[model].id for model in (first, second)]
    if first == second:
        raise PoolError(f"Both models are {first!r}; name two.")
    if not prompts:
        raise DataError("There are no prompts to compare the models on; give at least one.")
    found = router.predict([prompt for prompt, _ in prompts])
    columns = [found.models.index(model) for model in ids]
    quality, cost = found.quality[:, columns], found.cost_usd[:, columns]
    worth = utility(router.reward, quality)
    by_topic: dict[str, list[int]] = {}
    for row, (_, topic) in enumerate(prompts):
        if topic is not None:
            by_topic.setdefault(topic, []).append(row)
    groups: list[tuple[str | None, list[int]]] = [(None, list(range(len(prompts))))]
    groups += sorted(by_topic.items())
    comparisons = []
    for group, rows in groups:
        points, shares = _choices(worth[rows], cost[rows])
        comparisons.append(
            Comparison(
                group,
                len(rows),
                (float(quality[rows, 0].mean()), float(quality[rows, 1].mean())),
                (float(cost[rows, 0].mean()), float(cost[rows, 1].mean())),
                points,
                shares,
            )
        )
    return comparisons


def load_prompts(path: str | Path) -> list[TopicPrompt]:
    """Read prompts from a text file, one a line, or from JSON lines.

    Args:
        path: `*.jsonl` or `*.jsonl.gz` has a `prompt` a line, a text or messages, and, where known,
            its `topic` (or `task`, as routing data has it); any other file has a prompt a line.

    Raises:
        DataError: If the file cannot be read, a line is broken, or it has no prompt.
    """
    path = Path(path)
    is_text = not path.name.endswith((".jsonl", ".jsonl.gz"))
    prompts = []
    for number, line in read_lines(path):
        try:
            if is_text:
                prompts.append(TopicPrompt(line.decode().rstrip("\r\n")))
            else:
                row = _PromptRow.model_validate_json(line)
                prompts.append(
                    TopicPrompt(row.prompt, row.task if row.topic is None else row.topic)
                )
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: not text in UTF-8: {error}") from error
        except ValidationError as error:
            raise DataError(
                f"{path}, line {number}: not a prompt: {problems(error, _PromptRow)}. "
                'Write {"prompt": "..."}.'
            ) from None
    if not prompts:
        raise DataError(f"{path}: holds no prompt.")
    return prompts


def _choices(
    worth: NDArray[np.float64], cost_usd: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the choice between two models changes, and the second one's share between: `points`.

    Args:
        worth: [n, 2] utility of the predicted quality.
        cost_usd: [n, 2] predicted cost in USD.
    """
    gain, extra = worth[:, 1] - worth[:, 0], cost_usd[:, 1] - cost_usd[:, 0]
    at_zero = np.count_nonzero((extra < 0) | ((extra == 0) & (gain > 0)))
    # Better and dearer wins above a point, worse and cheaper below one; else nothing changes.
    changing = gain * extra > 0
    points = extra[changing] / gain[changing]
    order = np.argsort(points)
    steps = np.sign(gain[changing])[order]
    shares = (at_zero + np.concatenate([[0.0], np.cumsum(steps)])) / len(gain)
    return points[order], shares
