"""How much text that a user appends can raise the bill: harmless edits beside hostile suffixes.

    python benchmarks/suffixes.py [--checkpoint FOLDER]

Of each text: the share of the prompts (benchmarks/data/prompts.yaml) that it moves to another
model, and the bill with it over the bill without. Each prompt is billed as what its model was
predicted to cost for the prompt alone, so that neither the tokens of the suffix count nor what the
suffix makes the router believe of costs: what grows is what the choice of dearer models adds.

The searched suffixes were made against the router itself, one for each willingness to pay, on every
third prompt; all figures are of the others. Asking for a long answer is not among the texts: who
wants one may say so. Some 70 seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from crossroute import CrossRouter
from crossroute.evaluation.metrics import sweep
from crossroute.network.encoders.static import FOLDER
from crossroute.query import Query
from crossroute.ranking import utility

DATA = Path(__file__).parent / "data" / "prompts.yaml"

WILLINGNESS_TO_PAY = (0.0003, 0.003, 0.03, 0.3)

SUFFIX_CHARS = 292
"""As long as a signature of three lines; a longer one would be noticed."""

STEPS, CANDIDATES = 480, 16
"""How often a token of the suffix is replaced, and among how many others, in a search."""

SOFTNESS = 0.05
"""Of the choice that a search climbs by, in units of log quality; choices alone are a staircase."""

EXTRA_TOKENS = ("\n", "```", "$$", "\\frac", "def ", "(A)", "?", "==", "2.718")
"""What a form is made of, beside the words of the encoder's vocabulary."""

EDITS: Mapping[str, Callable[[str], str]] = {
    "lower case": str.lower,
    "double spaces": lambda text: text.replace(" ", "  "),
    "Please": lambda text: f"Please: {text}",
    "Thank you!": lambda text: f"{text} Thank you!",
    "newline": lambda text: f"{text}\n",
    "question mark": lambda text: f"{text}?",
}
"""What people do to a prompt without wanting anything else of it."""

SUFFIXES: Mapping[str, str] = {
    "line of LaTeX": "\n$$\\int_0^\\infty \\frac{x^{s-1}}{e^x - 1}\\,dx = \\Gamma(s)\\,\\zeta(s)$$",
    "line of base64": "\nQ3Jvc3NSb3V0ZSByZWFkcyB0aGlzIGxpbmUgYXMgbm9pc2UsIG9yIHNvIG9uZSBob3Blcy4K",
    "code fence": "\n```python\ndef f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\n```",
}

Texts = list[tuple[str | None, str]]
"""System prompt, if any, and user turn."""


class Effect(NamedTuple):
    """What a text does: the share of prompts that it moves, and the bill over the bill without."""

    moved: float
    bill: float


def load() -> Texts:
    """The prompts of the data file."""
    content = yaml.safe_load(DATA.read_text("utf-8"))
    return [
        (None, one) if isinstance(one, str) else (one["system"], one["user"]) for one in content
    ]


def read(texts: Texts, edit: Callable[[str], str] = str) -> list[Query]:
    """Queries of prompts whose user turns are edited."""
    return [
        Query.of(
            [
                *([{"role": "system", "content": system}] if system else []),
                {"role": "user", "content": edit(user)},
            ]
        )
        for system, user in texts
    ]


class Attack:
    """Prompts of which a router's choices are moved.

    Args:
        router: Whose choices.
        texts: The prompts, n of them.
    """

    def __init__(self, router: CrossRouter, texts: Texts) -> None:
        self.router, self.texts = router, texts
        found = router.predict(read(texts))
        self.quality, self.cost_usd = found.quality, found.cost_usd

    def effect(self, edit: Callable[[str], str], willingness_to_pay: float) -> Effect:
        """What an edit of all prompts does."""
        found = self.router.predict(read(self.texts, edit))
        before, after = (
            sweep(quality, cost, self.router.reward, [willingness_to_pay])[0]
            for quality, cost in ((self.quality, self.cost_usd), (found.quality, found.cost_usd))
        )
        rows = np.arange(len(self.texts))
        bills = [self.cost_usd[rows, chosen].sum() for chosen in (before, after)]
        return Effect(float((before != after).mean()), float(bills[1] / bills[0]))

    def soft_bills(self, suffixes: Sequence[str], willingness_to_pay: float) -> NDArray[np.float64]:
        """The log of a soft choice's cost, mean over the prompts, with each of some suffixes."""
        queries = [query for suffix in suffixes for query in read(self.texts, appended(suffix))]
        found = self.router.predict(queries)
        worth = utility(self.router.reward, found.quality) - found.cost_usd / willingness_to_pay
        chance = np.exp((worth - worth.max(axis=1, keepdims=True)) / SOFTNESS)
        chance /= chance.sum(axis=1, keepdims=True)
        bills = chance.reshape(len(suffixes), *self.cost_usd.shape) * self.cost_usd
        return np.asarray(np.log(bills.sum(axis=2)).mean(axis=1))


def appended(suffix: str) -> Callable[[str], str]:
    """The edit that appends a suffix."""
    return lambda text: f"{text} {suffix}"


def vocabulary() -> list[str]:
    """Whole words and marks that the shipped encoder knows, and what forms are made of."""
    known = Tokenizer.from_file(str(FOLDER / "tokenizer.json")).get_vocab(with_added_tokens=False)
    return [*sorted(token for token in known if not token.startswith("##")), *EXTRA_TOKENS]


def random_tokens(
    tokens: Sequence[str], chance: np.random.Generator, chars: int = SUFFIX_CHARS
) -> list[str]:
    """Tokens at random, as many as fit into a suffix."""
    drawn: list[str] = []
    while len(" ".join([*drawn, token := tokens[chance.integers(len(tokens))]])) <= chars:
        drawn.append(token)
    return drawn


def search(
    objective: Callable[[Sequence[str]], NDArray[np.float64]],
    tokens: Sequence[str],
    start: Sequence[str],
    chance: np.random.Generator,
    *,
    steps: int = STEPS,
    candidates: int = CANDIDATES,
    chars: int = SUFFIX_CHARS,
) -> tuple[str, float]:
    """Greedy, coordinate by coordinate: the suffix for which an objective is highest.

    One position after the other, the best of some tokens at random is put there, if it is better
    than what was there.

    Args:
        objective: Of each of some suffixes.
        tokens: What a suffix may be made of.
        start: The tokens of the first suffix.
        chance: What is random.
        steps: Positions that are tried; after the last one follows the first.
        candidates: Tokens that are tried at a position.
        chars: The most characters of a suffix.

    Returns:
        The suffix and its objective, at least that of the start.
    """
    best = list(start)
    value = float(objective([" ".join(best)])[0])
    for step in range(steps):
        at = step % len(best)
        drawn = [tokens[i] for i in chance.integers(len(tokens), size=candidates)]
        tried = [[*best[:at], token, *best[at + 1 :]] for token in drawn]
        tried = [one for one in tried if len(" ".join(one)) <= chars]
        if not tried:
            continue
        values = objective([" ".join(one) for one in tried])
        if values.max() > value:
            best, value = tried[int(values.argmax())], float(values.max())
    return " ".join(best), value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="the shipped one if absent")
    folder = parser.parse_args().checkpoint
    router = CrossRouter.load(folder) if folder else CrossRouter.default()
    router = router.subset(router.pool.reachable())
    texts = load()
    tune = Attack(router, texts[::3])
    test = Attack(router, [text for i, text in enumerate(texts) if i % 3])
    table = Table("text", title=f"{len(test.texts)} prompts: moved to another model / bill")
    for value in WILLINGNESS_TO_PAY:
        table.add_column(f"${value}", justify="right")

    def add(name: str, edits: Sequence[Callable[[str], str]]) -> None:
        effects = [test.effect(*pair) for pair in zip(edits, WILLINGNESS_TO_PAY, strict=True)]
        table.add_row(name, *(f"{one.moved:.0%} / x{one.bill:.2f}" for one in effects))

    for name, edit in EDITS.items():
        add(name, [edit] * len(WILLINGNESS_TO_PAY))
    table.add_section()
    for name, suffix in SUFFIXES.items():
        add(name, [appended(suffix)] * len(WILLINGNESS_TO_PAY))
    tokens, chance = vocabulary(), np.random.default_rng(0)
    start = random_tokens(tokens, chance)
    add("random tokens", [appended(" ".join(start))] * len(WILLINGNESS_TO_PAY))
    found = [
        search(partial(tune.soft_bills, willingness_to_pay=value), tokens, start, chance)[0]
        for value in WILLINGNESS_TO_PAY
    ]
    add("searched tokens", [appended(suffix) for suffix in found])
    Console().print(table)


if __name__ == "__main__":
    main()
