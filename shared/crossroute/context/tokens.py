"""How many tokens a text and a message have, where there is no tokenizer of the model's own."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping

from crossroute.errors import ConstraintError, shortened
from crossroute.network.encoders import shared_encoder
from crossroute.query import Message, clip, content_text, encodable, part_needs
from crossroute.ranking import amount

Count = Callable[[str], float]
"""Says how many tokens a text has."""

MESSAGE_TOKENS = 4
"""Of a message beside what is in it: its role, and the marks of its beginning and end."""

ATTACHMENT_TOKENS = 1_000
"""Of an image, a sound or a file; vendors count by its size, each in a way of its own."""

COUNTED_CHARS = 200_000
"""How much of a text is counted; a longer one as much as its beginning and its end tell."""

_CALLS = ("tool_call", "tool_use", "function_call")
"""Types of content parts that repeat a message's `tool_calls` in a vendor's form."""

_PIECE = re.compile(
    r"([A-Za-z\u00c0-\u024f]{1,32})|([0-9]{1,3})|([!-/:-@\[-`{-~]+)"
    r"|([\r\n]\s{0,31}|[^\S\r\n]{2,64}|\t| (?=[0-9]))"
    r"|([\u0400-\u052f])|([\u0370-\u03ff\u0590-\u06ff\u3040-\u30ff])"
    r"|([\u0080-\u036f\u0900-\u09ff\u0e00-\u0e7f\u1e00-\u206f\u2500-\u257f\u3000-\uffff])"
    r"|([\U00010000-\U0010ffff])|([^\x00-\x7f])"
)
"""Words, groups of digits, runs of marks, white space that is a token; then single characters:
Cyrillic; Greek, Hebrew, Arabic and kana; common others; emoji and what else lies beyond 16 bits;
rare ones, such as signs of mathematics. No piece is long: a tokenizer's are not, either."""

_CAPITALS = re.compile(r"(?<=[A-Z])[A-Z]")

# Least squares of cl100k's counts on half of the texts of `benchmarks/token_count.py`, relative
# error weighted; rounded, and up where the texts were few. _CAPITAL, of each after another, and
# _ACCENT come on top of a word: its pieces are those of lower case without accents.
_WORD, _PART, _DIGITS, _RUN, _MARK, _SPACE = 0.98, 0.8, 1.02, 0.85, 0.07, 1.03
_CAPITAL, _ACCENT = 0.1, 0.6
_CYRILLIC, _LETTER, _COMMON, _ASTRAL, _RARE = 0.65, 1.1, 1.3, 2.6, 2.1
_MARGIN = 1.03
"""A budget is a ceiling: rather a little too many than too few."""


def count_tokens(text: str) -> int:
    """About how many tokens a text has, by its pieces and the shipped encoder's word pieces.

    For budgets: on code, tables, numbers and most languages it is nearer to a real tokenizer than
    `estimate_tokens`, and slower; how near, is in `docs/context.md`.
    """
    counted = clip(text, COUNTED_CHARS // 2, COUNTED_CHARS // 2)
    kinds = [
        [piece for piece in kind if piece] for kind in zip(*_PIECE.findall(counted), strict=True)
    ]
    words, digits, runs, spaces, cyrillic, letters, common, astral, rare = kinds or [[]] * 9
    spelled = " ".join(words)
    parts = len(shared_encoder().token_ids(spelled))
    tokens = (
        _WORD * len(words)
        + _PART * max(parts - len(words), 0)
        + _CAPITAL * len(_CAPITALS.findall(spelled))
        + _ACCENT * sum(not letter.isascii() for letter in spelled)
        + _DIGITS * len(digits)
        + _RUN * len(runs)
        + _MARK * sum(len(run) - 1 for run in runs)
        + _SPACE * len(spaces)
        + _CYRILLIC * len(cyrillic)
        + _LETTER * len(letters)
        + _COMMON * len(common)
        + _ASTRAL * len(astral)
        + _RARE * len(rare)
    )
    return math.ceil(_MARGIN * tokens * len(text) / max(len(counted), 1))


def message_tokens(message: Message, count: Count = count_tokens, position: int = 0) -> int:
    """How many tokens a message has, with its tool calls, its name and its frame.

    Args:
        message: In OpenAI's dict form.
        count: Says how many tokens a text has.
        position: Of the message, for an error.

    Raises:
        QueryError: If its content has not that form.
        ConstraintError: If `count` is no function, or what it says is no number of tokens.
    """
    text = message_text(message, position)
    content = message.get("content")
    attachments = 0 if isinstance(content, str) else sum(1 for _ in part_needs(content or ()))
    frame = MESSAGE_TOKENS + ATTACHMENT_TOKENS * attachments
    return frame + (text_tokens(text, count) if text else 0)


def check_function(count: object) -> None:
    """See that something can be asked how many tokens a text has.

    Raises:
        ConstraintError: If it is no function.
    """
    if not callable(count):
        raise ConstraintError(f"count is {shortened(count)}; give a function of a text.")


def text_tokens(text: str, count: Count) -> int:
    """What `count` says, as a whole number.

    Raises:
        ConstraintError: If it is no function, or says no number of tokens.
    """
    check_function(count)
    said = count(encodable(text))
    tokens = amount(said)
    if tokens is None or math.isinf(tokens):
        raise ConstraintError(
            f"count says that a text has {shortened(said)} tokens; give a function of a text that "
            "returns a number from 0 up."
        )
    # Room for the last digits of a mean.
    return math.ceil(tokens - 1e-6)


def message_text(message: Message, position: int = 0) -> str:
    """All that a model reads of a message as text: its content, its tool calls, its name.

    Raises:
        QueryError: If its content has not the form of a message's.
    """
    found = [content_text(message.get("content"), position), *_structures(message)]
    return "\n".join(text for text in found if text)


def _structures(message: Message) -> Iterator[str]:
    for name in ("name", "tool_call_id"):
        if isinstance(message.get(name), str):
            yield message[name]
    for name in ("tool_calls", "function_call"):
        if message.get(name):
            yield _json(message[name])
    content = message.get("content")
    if content and not isinstance(content, str):
        for part in content:
            if not isinstance(part, Mapping) or "text" in part or any(part_needs([part])):
                continue
            # Such as a model's thoughts. Calls are sent once, in whatever form.
            if not (message.get("tool_calls") and part.get("type") in _CALLS):
                yield _json(dict(part))


def _json(value: object) -> str:
    try:
        return json.dumps(value, default=str, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return shortened(value, limit=10**9)
