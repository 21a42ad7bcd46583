"""Log-probabilities of an answer's tokens, as providers list them."""

from __future__ import annotations

import math
from collections.abc import Iterable

Token = tuple[object, object]
"""The text of a token, and its log-probability."""


def of_answer(tokens: Iterable[Token], text: str | None = None) -> list[float]:
    """Log-probabilities of the tokens of an answer, in their order.

    Args:
        tokens: All that a provider lists.
        text: The answer, where a model has reasoned before it: servers list the tokens of that
            too, and those at the end that spell the answer are its own. None takes all of them.

    Returns:
        One for each token that has one, at most 0; not of the end, which is a token without text
        that llama.cpp lists in whole answers and leaves out of streams.
    """
    tokens = [*tokens]
    while tokens and tokens[-1][0] == "":
        tokens.pop()
    if text is not None:
        tokens = tokens[_begin(tokens, len(text)) :]
    found = (value for _, value in tokens if isinstance(value, (int, float)))
    # Rounding may take a certain token over 0.
    return [min(float(value), 0.0) for value in found if not math.isnan(value)]


def _begin(tokens: list[Token], characters: int) -> int:
    """Where the tokens begin whose texts together have that many characters."""
    at = len(tokens)
    while at and characters > 0:
        at -= 1
        token = tokens[at][0]
        # Without their texts nobody can say which are the answer's.
        if not isinstance(token, str):
            return len(tokens)
        characters -= len(token)
    return at
