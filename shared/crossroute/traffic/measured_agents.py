"""What agents, chains, retrievers and tools cost, how long they take and how good they are.

Learned from the records of their calls, and written into their descriptors, by which they are
chosen. Models are left alone: theirs is learned a query.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from crossroute.errors import DataError, PoolError
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.pool import ModelPool, descriptor_files, descriptor_folder
from crossroute.traffic.records import CallRecord

LEAST_CALLS = 20
"""Of fewer calls a mean says little."""

FIELDS = ("cost_usd_a_call", "expected_latency_seconds", "expected_quality")
"""The fields of a descriptor that are measured."""

DIGITS = 4
"""That are written; more of them are noise."""

TWO_SIDED = 1.96
"""Standard errors on each side of a 95 % interval."""


class Figure(NamedTuple):
    """What was measured of one field.

    Attributes:
        value: Mean, of latency the median.
        low: Lower end of its 95 % interval.
        high: Upper end.
        calls: From how many.
    """

    value: float
    low: float
    high: float
    calls: int


class MeasuredAgent(NamedTuple):
    """What records say of an agent.

    Attributes:
        agent: Its descriptor, as it was.
        path: The descriptor's file.
        calls: How many calls it answered alone.
        figures: By the name of the descriptor's field; those of too few calls are not there.
        stated: Calls whose cost is what the descriptor stated: of that, nothing is measured.
    """

    agent: ModelDescriptor
    path: Path
    calls: int
    figures: dict[str, Figure]
    stated: int

    @property
    def updated(self) -> ModelDescriptor:
        """The descriptor with what was measured."""
        values = {name: _rounded(figure.value) for name, figure in self.figures.items()}
        return self.agent.model_copy(update=values)


def measure_agents(
    folder: str | Path,
    records: Iterable[CallRecord],
    *,
    least: int = LEAST_CALLS,
    source: str | None = None,
) -> list[MeasuredAgent]:
    """What records say of the agents of a folder; nothing is written (see `write_measured`).

    Calls count that an agent answered with a single ask: in others, its time, cost or score is not
    its own. The cost counts where it came of tokens that were counted: neither what the descriptor
    states nor what is estimated is measured.

    Args:
        folder: Of descriptors, or a checkpoint.
        records: From `crossroute.traffic.read_records`.
        least: A figure of fewer calls is left out.
        source: The source of feedback to go by; None is the mean over the sources of a call.

    Raises:
        PoolError: If the folder holds no agent, chain, retriever or tool, or an id twice.
        DescriptorError: If a descriptor is not valid.
        DataError: If `least` is less than 2.
    """
    if least < 2:
        raise DataError(f"least is {least}; give 2 at least: one call alone has no interval.")
    if not Path(folder).is_dir():
        raise PoolError(f"{folder}: no such folder of descriptors.")
    paths = descriptor_files(descriptor_folder(folder))
    read = [(ModelDescriptor.load(path), path) for path in paths]
    ModelPool(one for one, _ in read)  # Refuses an id that is there twice.
    agents = {one.id: (one, path) for one, path in read if one.kind != "model"}
    if not agents:
        raise PoolError(
            f"{folder}: none of its {len(read)} descriptors is of an agent, a chain, a retriever "
            "or a tool; what models cost and how good they are is learned a query."
        )
    calls, stated = dict.fromkeys(agents, 0), dict.fromkeys(agents, 0)
    values: dict[str, dict[str, list[float]]] = {
        agent: {name: [] for name in FIELDS} for agent in agents
    }
    for record in records:
        agent = record.model
        if agent not in agents or record.outcome != "answered" or len(record.asks) != 1:
            continue
        if (ask := record.answering) is None:
            continue
        calls[agent] += 1
        stated[agent] += ask.stated is True
        cost = None if ask.stated or ask.estimated else ask.cost_usd
        found = cost, record.latency_s, record.score(source)
        for name, value in zip(FIELDS, found, strict=True):
            if value is not None:
                values[agent][name].append(value)
    return [
        MeasuredAgent(
            *agents[agent],
            calls[agent],
            {
                name: _median(of) if name == "expected_latency_seconds" else _mean(of)
                for name, of in values[agent].items()
                # A latency of 0 is none that a descriptor takes.
                if len(of) >= least
                and (name != "expected_latency_seconds" or statistics.median(of) > 0)
            },
            stated[agent],
        )
        for agent in sorted(agents)
    ]


def write_measured(measured: MeasuredAgent) -> bool:
    """Write what was measured of an agent into its descriptor; returns whether that changed it.

    Raises:
        DescriptorError: If the file has a form in which fields cannot be changed alone.
        OSError: If it cannot be written.
    """
    # It takes long to import.
    from crossroute.models.edit import update_file

    if measured.updated == measured.agent:
        return False
    update_file(measured.path, measured.updated)
    return True


def _mean(values: Sequence[float]) -> Figure:
    """Mean, and 95 % interval of it by its standard error; no value is below the least."""
    mean = statistics.fmean(values)
    side = TWO_SIDED * statistics.stdev(values) / math.sqrt(len(values))
    return Figure(mean, max(mean - side, min(values)), min(mean + side, max(values)), len(values))


def _median(values: Sequence[float]) -> Figure:
    """Median, and 95 % interval of it by order statistics."""
    ordered, count = sorted(values), len(values)
    side = TWO_SIDED * math.sqrt(count) / 2
    low = max(math.floor(count / 2 - side), 0)
    high = min(math.ceil(count / 2 + side), count - 1)
    return Figure(statistics.median(ordered), ordered[low], ordered[high], count)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
