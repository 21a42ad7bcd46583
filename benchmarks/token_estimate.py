"""How near the token estimate is to recorded cl100k counts.

    python benchmarks/token_estimate.py FILE...

FILEs are routing data with `input_tokens` (docs/data.md); rows without it are passed over.
"""

from __future__ import annotations

import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from crossroute.query import Query
from crossroute.training.data import RoutingData


def main(files: list[str]) -> None:
    table = Table("data set", "prompts", "median error", "95 % within", "total, estimated / real")
    for name, data in RoutingData.load(files).by_dataset():
        known = ~np.isnan(data.input_tokens).all(axis=1)
        if not known.any():
            continue
        data = data.select(known)
        # What models were sent alike, they may count in different ways.
        real = np.nanmedian(data.input_tokens, axis=1)
        estimated = np.array([Query.of(prompt).input_tokens for prompt in data.prompts])
        error = abs(estimated - real) / real
        table.add_row(
            name,
            str(len(data)),
            f"{np.median(error):.1%}",
            f"{np.quantile(error, 0.95):.1%}",
            f"{estimated.sum() / real.sum():.3f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
