"""How near the token estimate is to recorded cl100k counts.

    python benchmarks/token_estimate.py FILE...

FILEs are routing data with `input_tokens` (docs/data.md); rows without it are passed over.
"""

from __future__ import annotations

import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from crossroute.query import estimate_tokens
from crossroute.training.data import RoutingData


def main(files: list[str]) -> None:
    table = Table("data set", "prompts", "median error", "95 % within", "total, estimated / real")
    for name, data in RoutingData.load(files).by_dataset():
        # All of a row were sent the same.
        real = np.nanmax(data.input_tokens, axis=1, initial=0.0)
        real[real == 0] = np.nan
        known = ~np.isnan(real)
        if not known.any():
            continue
        estimated = np.array([estimate_tokens(prompt) for prompt in data.prompts])[known]
        error = abs(estimated - real[known]) / real[known]
        table.add_row(
            name,
            str(known.sum()),
            f"{np.median(error):.1%}",
            f"{np.quantile(error, 0.95):.1%}",
            f"{estimated.sum() / real[known].sum():.3f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
