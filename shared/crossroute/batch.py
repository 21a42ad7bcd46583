"""Decisions for batches of rows, on as many machines as there are.

`Decide` is a callable for Ray Data's `map_batches`, and for pandas and Arrow as well:

    ds = ray.data.read_parquet("prompts/").map_batches(Decide(willingness_to_pay=0.02))
    frame = Decide()(pandas.read_parquet("prompts.parquet"))

A row is decided by itself, so the decisions are the same wherever and in whatever batches they are
taken. Rows that share one budget can be decided by its prices, which `CrossRouter.allocate` finds
on a sample of them: `Decide(reward="linear", willingness_to_pay=..., surcharge_usd=...)`. Where
many prompts are alike, a small change of a price moves all of them: look at the sum of what is
predicted before you ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args, overload

import numpy as np
from numpy.typing import NDArray

from crossroute.constraints import Constraints, ConstraintsLike
from crossroute.errors import ConstraintError, QueryError, shortened
from crossroute.ranking import RewardName, check_willingness_to_pay
from crossroute.router import DEFAULT_WILLINGNESS_TO_PAY, NO_SURCHARGE, CrossRouter

Batch = TypeVar("Batch")
Column = NDArray[Any]

MODEL, QUALITY, COST = "crossroute_model", "crossroute_quality", "crossroute_cost_usd"
"""The columns that are added: id of the model, its predicted quality, its predicted cost in USD."""

SHOWN_COLUMNS = 8


class Decide:
    """Adds to every row of a batch the model that is to answer it, with what is predicted of it.

    It holds settings alone and can be pickled; each process that calls it loads the router once.
    Nothing is asked.

    Args:
        folder: As in `CrossRouter.load`; None is the shipped models that can be called today.
        column: The column of the prompts: texts, or messages in OpenAI's dict form.
        models: Ids of the candidates; None is every model of the folder.
        willingness_to_pay: lambda, USD a unit of quality.
        reward: `exponential` or `linear`.
        surcharge_usd: See `CrossRouter.with_surcharges`.
        constraints: As in `CrossRouter.route`, for every row.

    Raises:
        WillingnessToPayError: If the willingness to pay is NaN, negative or no number.
        ConstraintError: If the constraints, or another argument, make no sense.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        column: str = "prompt",
        models: Sequence[str] | None = None,
        willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY,
        reward: RewardName = "exponential",
        surcharge_usd: Mapping[str, float] = NO_SURCHARGE,
        constraints: ConstraintsLike = None,
    ) -> None:
        if not isinstance(column, str) or not column:
            raise ConstraintError(f"column is {shortened(column)}; give the name of a column.")
        if not isinstance(surcharge_usd, Mapping):
            raise ConstraintError(
                f"surcharge_usd is {shortened(surcharge_usd)}; give a mapping of model ids to USD."
            )
        if isinstance(models, str):
            raise ConstraintError(f"models is {models!r}; give a list of model ids.")
        if reward not in get_args(RewardName):
            raise ConstraintError(f"reward is {reward!r}; give one of {get_args(RewardName)}.")
        self.column = column
        self.willingness_to_pay = check_willingness_to_pay(willingness_to_pay)
        self.constraints = Constraints.of(constraints)
        self._source = (
            None if folder is None else str(folder),
            None if models is None else tuple(models),
            reward,
            tuple(surcharge_usd.items()),
        )

    @property
    def router(self) -> CrossRouter:
        """The router of this process."""
        return _router(*self._source)

    @overload
    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]: ...

    @overload
    def __call__(self, batch: Batch) -> Batch: ...

    def __call__(self, batch: Any) -> Any:
        """The batch with three columns more: model, predicted quality, predicted cost in USD.

        Args:
            batch: A mapping of columns, a pandas data frame, or a table or record batch of Arrow;
                what is returned is of the same kind, and the batch itself stays as it is.

        Raises:
            QueryError: If there is no such column, or a row of it is no query; it is named by its
                position in the batch.
            NoCandidateError: If no model may serve a row.
        """
        decisions = self.router.route_batch(
            self._prompts(batch), self.willingness_to_pay, constraints=self.constraints
        )
        # Of the same types where there are no rows.
        columns: dict[str, Column] = {
            MODEL: np.array([one.model for one in decisions], np.str_),
            QUALITY: np.array([one.quality for one in decisions], np.float64),
            COST: np.array([one.cost_usd for one in decisions], np.float64),
        }
        return _with_columns(batch, columns)

    def _prompts(self, batch: Any) -> list[Any]:  # noqa: ANN401  # Of either kind.
        names = _names(batch)
        if self.column not in names:
            shown = ", ".join(map(str, names[:SHOWN_COLUMNS])) or "no columns"
            raise QueryError(
                f"The batch has no column {self.column!r} but {shown}; name that of the prompts "
                "with column=..."
            )
        found = batch[self.column]
        if isinstance(found, (str, Mapping)) or not np.iterable(found):
            raise QueryError(
                f"The column {self.column!r} is {shortened(found)}; give a batch of rows, each of "
                "which has a prompt there."
            )
        rows = found.to_pylist() if hasattr(found, "to_pylist") else [*found]
        return [_plain(row) for row in rows]


def _names(batch: Any) -> list[Any]:  # noqa: ANN401  # Of either kind.
    if isinstance(batch, Mapping):
        return [*batch]
    # Pandas, and Arrow.
    if hasattr(batch, "assign"):
        return [*batch.columns]
    if hasattr(batch, "append_column"):
        return [*batch.column_names]
    raise QueryError(
        f"{shortened(batch)} is no batch; give a mapping of columns, a pandas data frame or an "
        "Arrow table."
    )


def _with_columns(batch: Any, columns: Mapping[str, Column]) -> Any:  # noqa: ANN401
    if isinstance(batch, Mapping):
        return {**batch, **columns}
    if hasattr(batch, "assign"):
        return batch.assign(**columns)
    import pyarrow  # type: ignore[import-untyped]

    for name, values in columns.items():
        if name in batch.column_names:
            batch = batch.drop_columns([name])
        batch = batch.append_column(name, pyarrow.array(values))
    return batch


def _plain(value: Any) -> Any:  # noqa: ANN401  # What a cell holds.
    """A cell as a query: columns hold messages as arrays, and fields that are in none as None."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items() if part is not None}
    return str(value) if isinstance(value, np.str_) else value


@lru_cache(maxsize=8)
def _router(
    folder: str | None,
    models: tuple[str, ...] | None,
    reward: RewardName,
    surcharge_usd: tuple[tuple[str, float], ...],
) -> CrossRouter:
    router = CrossRouter.load(folder).with_reward(reward)
    if models is not None:
        # The shipped ones that no provider serves can be named, too.
        named = CrossRouter.shipped().with_reward(reward) if folder is None else router
        router = named.subset(models)
    return router.with_surcharges(dict(surcharge_usd))
