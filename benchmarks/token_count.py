"""How near count_tokens is to a real tokenizer, and what that does to a budget.

    python benchmarks/token_count.py FILE...

The real one is cl100k, which comes with llama-index-core; beside count_tokens stand
estimate_tokens, by which queries are routed, and the word pieces of the shipped encoder. FILEs are
routing data (docs/data.md), of which prompts are taken; the other texts are this repository's code,
descriptors and pages, drawn numbers, and benchmarks/data/languages.yaml. A budget is filled by
fit_context with pieces of the texts as messages. No network is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
import yaml
from llama_index.core.utils import get_tokenizer
from rich.console import Console
from rich.table import Table

from crossroute import StaticEncoder
from crossroute.context import MESSAGE_TOKENS, count_tokens, fit_context
from crossroute.query import estimate_tokens
from crossroute.training.data import RoutingData

ROOT = Path(__file__).resolve().parent.parent
TEXTS = 400
"""Of a set, at most."""
PIECE = 400
"""Characters of a message."""
BUDGET, FILLED = 2_000, 30
"""Tokens of a budget, and how many are filled of a set."""


def sets(files: list[str], random: Random) -> Iterator[tuple[str, Sequence[str]]]:
    """Texts of many kinds, by their names."""
    for name, data in RoutingData.load(files).by_dataset() if files else ():
        prompts = sorted(set(data.prompts))
        yield name, random.sample(prompts, min(TEXTS, len(prompts)))
    code = [path.read_text("utf-8") for path in sorted((ROOT / "shared").rglob("*.py"))]
    yield "Python", [text[:1_500] for text in code if text]
    models = ROOT / "shared" / "crossroute" / "assets" / "default" / "models"
    yield "YAML of numbers", [path.read_text("utf-8")[:1_500] for path in sorted(models.iterdir())]
    pages = [path.read_text("utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))]
    yield "Markdown", [part for page in pages for part in page.split("\n\n") if len(part) > 80]
    numbers = [random.random() * 10 ** random.randint(0, 8) for _ in range(6_000)]
    yield "numbers", [" ".join(map(str, numbers[i : i + 60])) for i in range(0, 6_000, 60)]
    languages = yaml.safe_load(
        (Path(__file__).parent / "data" / "languages.yaml").read_text("utf-8")
    )
    yield from ((name, [text]) for name, text in languages.items())


def main(files: list[str]) -> None:
    random = Random(0)  # noqa: S311  # No secret hangs on it.
    tokenize, encoder = get_tokenizer(), StaticEncoder()
    counts: dict[str, Callable[[str], float]] = {
        "count_tokens": count_tokens,
        "estimate_tokens": estimate_tokens,
        "word pieces": lambda text: len(encoder.token_ids(text)),
    }

    def real(text: str) -> int:
        return len(tokenize(text))

    table = Table("texts", *counts, f"real tokens of a budget of {BUDGET:,}")
    for name, texts in sets(files, random):
        right = np.array([real(text) for text in texts])
        cells = []
        for count in counts.values():
            said = np.array([count(text) for text in texts])
            error = np.median(abs(said / right - 1))
            cells.append(f"{said.sum() / right.sum():.2f} ({error:.0%})")
        filled = sorted(budgets(texts, real, random))
        low, high = filled[0], filled[-1]
        table.add_row(
            f"{name} ({len(texts)})", *cells, f"{np.median(filled):.0f} ({low} to {high})"
        )
    Console().print(table)
    print("all of the texts, counted / real (median error of a text)")


def budgets(texts: Sequence[str], real: Callable[[str], int], random: Random) -> Iterator[int]:
    """The real tokens of budgets that were filled."""
    pieces = [text[i : i + PIECE] for text in texts for i in range(0, len(text), PIECE)]
    for _ in range(FILLED):
        messages = [{"role": "user", "content": random.choice(pieces)} for _ in range(100)]
        kept = fit_context(messages, budget_tokens=BUDGET).messages
        yield sum(MESSAGE_TOKENS + real(message["content"]) for message in kept)


if __name__ == "__main__":
    main(sys.argv[1:])
