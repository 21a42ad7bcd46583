"""What a router may read of a request: its text, its form, and an estimate of its tokens."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Literal, NamedTuple, cast, get_args

from crossroute.asked import asked_tokens
from crossroute.errors import QueryError, did_you_mean, shortened
from crossroute.ranking import amount

Message = Mapping[str, Any]
"""A chat message in OpenAI's dict form: `{"role": "user", "content": "..."}`."""

Capability = Literal[
    "tools", "structured_output", "image_input", "audio_input", "file_input", "logprobs", "prefill"
]
"""What a request may need of a model beside text to text. No request needs by what is in it, but a
strategy may ask for, `logprobs`, the log-probabilities of the answer's tokens, and `prefill`: to go
on from a last message of the assistant, which is the beginning of the answer."""

_PART_NEEDS: dict[str, Capability] = {
    **dict.fromkeys(("image", "image_url", "input_image"), "image_input"),
    **dict.fromkeys(("audio", "input_audio"), "audio_input"),
    **dict.fromkeys(("file", "input_file", "document", "video", "media"), "file_input"),
}
"""By the type of a part of a message's content."""

SYSTEM_ROLES = ("system", "developer")
USER_ROLES = ("user", "human")

HEAD_CHARS, TAIL_CHARS = 2_000, 6_000
"""How much of a long text is read. The tail is longer because a prompt ends with its question."""

KIND_CHARS, TEXT_KIND_CHARS = 2_000, 300
"""How much is read for the kind of task: of a system prompt, or of a text without one."""

SHORT_FOLLOW_UP_TOKENS = 8
"""A last turn of fewer tokens ("yes, do that") says little: it is read with the turns before it."""

LONGEST_ANSWER = 10**9
"""In tokens; whoever asks for more asks for no limit."""

MOST_DIGITS = 20
"""Of a number in a string; reading a longer one takes long."""

_OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_output")
"""What clients call the longest answer of a call."""

LIMIT_NAMES = (*_OUTPUT_LIMITS, "max_tokens_to_sample", "num_predict")
"""What they and their models call it, in whatever settings."""

ATTACHMENT = "[attachment]"
"""Read in place of a turn that has no text."""

_LETTERS = string.ascii_letters.encode()
_DIGITS = string.digits.encode()
_PUNCTUATION = string.punctuation.encode()
_MATH_SIGNS = b"=+*/^<>"
_TEX = b"$\\"
_UPPER = string.ascii_uppercase.encode()
_ASCII = bytes(range(128))
_WORDS = bytes(byte if byte in _LETTERS else ord(" ") for byte in range(256))
"""Translates all but letters to spaces."""

# Of a text with a line break before it: a fixed first character is found fast.
_CHOICE = re.compile(r"\n\W?\(?[A-Z0-9][.):]")

FORM_FEATURES = (
    "log_chars",
    "log_words",
    "log_digits",
    "digit_share",
    "punctuation_share",
    "log_lines",
    "line_share",
    "log_tex",
    "log_math_signs",
    "log_choices",
    "log_question_marks",
    "has_code",
    "upper_share",
    "word_length",
    "log_non_ascii",
)
"""The names of `Query.form`, in order."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a router may read of a request.

    Attributes:
        text: The text to encode, at most `HEAD_CHARS + TAIL_CHARS` characters of it; empty where
            there is nothing to route by.
        form: How the text looks, beside what it means: one number for each of `FORM_FEATURES`.
        input_tokens: Estimated input tokens of the whole request.
        past_tokens: Those of them that the last answer was made from, which may be in the prompt
            cache of the model that gave it.
        least_tokens: Estimated input tokens of what always stays where a conversation is shortened:
            system prompts, the last user turn and what comes after it; None where that is all.
        output_tokens: The longest answer that the request asks for, None if it does not say.
        needs: What a model must be able to take.
        kind: What says the kind of task: the beginning of the system prompt, of `text` where there
            is none; empty where there is nothing to route by.
        asked: Tokens of visible answer that the words of the request ask for, None if they do not
            say (`crossroute.asked`); a leaning, where `output_tokens` is a limit.

    Raises:
        QueryError: If a number of tokens is none, or a model cannot need to take such a thing.
    """

    text: str
    form: tuple[float, ...]
    input_tokens: float
    past_tokens: float = 0.0
    least_tokens: float | None = None
    output_tokens: int | None = None
    needs: frozenset[Capability] = frozenset()
    kind: str = ""
    asked: float | None = None

    def __post_init__(self) -> None:
        for name in ("input_tokens", "past_tokens", "least_tokens", "asked"):
            given = getattr(self, name)
            if name in ("least_tokens", "asked") and given is None:
                continue
            tokens = amount(given)
            if tokens is None or math.isinf(tokens):
                raise QueryError(f"{name} is {shortened(given)}; give a number from 0 up.")
        object.__setattr__(self, "output_tokens", _checked_limit(self.output_tokens))

    @classmethod
    def of(
        cls,
        query: QueryLike,
        *,
        needs: Iterable[Capability] = (),
        tools: str = "",
        output_tokens: int | None = None,
    ) -> Query:
        """Read a prompt, or a conversation in OpenAI's dict form.

        Of a conversation, the last user turn is what is routed; a very short one ("yes") is read
        together with the user turns before it. Of the system prompt (the role `system` or
        `developer`) it is read what kind of task this is, and how long an answer it asks for where
        the turn does not say: it is the developer's own, and harder to abuse than what a user
        writes. Answers, tool calls and tool results count as input tokens and are not read: within
        a tool loop, it is still the user's turn that is routed. A turn without text, such as a lone
        image, is read as `[attachment]`. Blank input, which chat models answer too, is a query
        without a text.

        Args:
            query: What to read; a `Query` is returned as it is.
            needs: What the request needs beside what its messages show.
            tools: Descriptions of the tools that are sent along; they are counted, not read.
            output_tokens: The longest answer that the request asks for.

        Raises:
            QueryError: If it has not the form of messages, or asks for what no model has.
        """
        if isinstance(query, Query):
            return query
        if isinstance(query, str):
            read = _Conversation(query, (query,), 0, frozenset(), "")
        else:
            read = _read_messages(query)
        text = read.text
        if read.needs and not text.strip():
            text = ATTACHMENT
        text, system = encodable(text), encodable(read.system)
        if not any(unicodedata.category(character)[0] not in "CZ" for character in text):
            text = ""
        clipped = clip(text)
        scanned = _Scan(clipped)
        tokens = scanned.tokens * len(text) / max(len(clipped), 1)
        # Where the routed text is not the whole request, the other parts are only counted.
        past, more, least = 0.0, estimate_tokens(tools), None
        if read.parts != (text,):
            counts = [estimate_tokens(part) for part in read.parts]
            tokens, past = sum(counts), sum(counts[: read.past])
            if len(read.staying) < len(counts):
                least = sum(counts[place] for place in read.staying) + more
        return cls(
            text=clipped,
            form=scanned.form(len(text)),
            input_tokens=tokens + more,
            past_tokens=past,
            least_tokens=least,
            output_tokens=output_tokens,
            needs=read.needs.union(_checked_needs(needs)),
            kind=(system[:KIND_CHARS] or text[:TEXT_KIND_CHARS]) if text else "",
            asked=asked_tokens(text) or (asked_tokens(system) if system else None),
        )

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to route by."""
        return not self.text


QueryLike = str | Sequence[Message] | Query
"""What callers may route: a prompt, a conversation, or a query that was read before."""


def clip(text: str, head: int = HEAD_CHARS, tail: int = TAIL_CHARS) -> str:
    """The beginning and the end of a long text: the end of a prompt holds its question."""
    return text if len(text) <= head + tail else f"{text[:head]}\n{text[-tail:]}"


def estimate_tokens(text: str) -> float:
    """Estimated number of tokens of a text, without a tokenizer.

    A long text is estimated from its beginning and end. Within 6 % of cl100k in the median on each
    of three sets of English prompts (`benchmarks/token_estimate.py`).
    """
    if not text:
        return 0.0
    clipped = clip(text)
    return _Scan(clipped).tokens * len(text) / len(clipped)


class _Scan:
    """The counts that both the form and the token estimate are made of, taken once.

    Of the bytes: in UTF-8, those of ASCII stand for nothing else, and they are counted much faster
    than by a regular expression.
    """

    def __init__(self, text: str) -> None:
        # A text that is only counted may hold lone surrogates.
        data = text.encode("utf-8", "surrogatepass")
        lengths = [len(word) for word in data.translate(_WORDS).split()]
        self.text = text
        self.data = data
        self.chars = len(text)
        self.words = len(lengths)
        self.letters = sum(lengths)
        self.long_letters = sum([length - 6 for length in lengths if length > 6])
        self.digits = _count(data, _DIGITS)
        self.punctuation = _count(data, _PUNCTUATION)
        self.lines = text.count("\n")
        self.non_ascii = 0 if text.isascii() else len(text) - _count(data, _ASCII)

    @property
    def tokens(self) -> float:
        # Non-negative least squares of cl100k counts on 22,000 prompts, relative error weighted.
        return (
            1.03 * self.words
            + 0.06 * self.long_letters
            + 0.98 * self.digits
            + 0.52 * self.punctuation
            + 1.29 * self.lines
            + 1.25 * self.non_ascii
        )

    def form(self, whole_chars: int) -> tuple[float, ...]:
        text, data, log1p, share = self.text, self.data, math.log1p, 10 / max(self.chars, 1)
        return (
            log1p(whole_chars),
            log1p(self.words * whole_chars / max(self.chars, 1)),
            log1p(self.digits),
            self.digits * share,
            self.punctuation * share,
            log1p(self.lines),
            self.lines * share,
            log1p(_count(data, _TEX)),
            log1p(_count(data, _MATH_SIGNS)),
            log1p(len(_CHOICE.findall(f"\n{text}"))),
            log1p(text.count("?")),
            float("```" in text or "def " in text),
            _count(data, _UPPER) * share,
            self.letters / max(self.words, 1) / 5,
            log1p(self.non_ascii),
        )


def _count(data: bytes, of: bytes) -> int:
    """How many of the bytes are among `of`."""
    return len(data) - len(data.translate(None, of))


class _Conversation(NamedTuple):
    """The text to route by, the texts of all messages, and how many came before the last answer.

    `system` is the text of the system prompts, empty where they are blank; `staying` are the
    positions of the messages that no shortening drops.
    """

    text: str
    parts: tuple[str, ...]
    past: int
    needs: frozenset[Capability]
    system: str
    staying: tuple[int, ...] = ()


def _read_messages(messages: Sequence[Message]) -> _Conversation:
    if not isinstance(messages, Sequence) or isinstance(messages, (bytes, bytearray)):
        raise QueryError(
            "A query is a string or a list of messages like "
            f'{{"role": "user", "content": "..."}}, got {type(messages).__name__}.'
        )
    parts: list[str] = []
    turns: list[str] = []
    system: list[str] = []
    needs: set[Capability] = set()
    past = 0
    prompts: list[int] = []
    last = max(len(messages) - 1, 0)
    for position, message in enumerate(messages):
        if not isinstance(message, Mapping) or "role" not in message:
            raise QueryError(
                f"Message {position} has no role; a message is a dict like "
                f'{{"role": "user", "content": "..."}}, got {shortened(message)}.'
            )
        content = message.get("content")
        part = content_text(content, position)
        role = message["role"]
        if role in USER_ROLES:
            last = position
            turns.append(part)
        elif role in ("assistant", "ai"):
            past = position
        elif role in SYSTEM_ROLES:
            prompts.append(position)
            if part.strip():
                system.append(part)
        if calls := message.get("tool_calls"):
            part += shortened(calls, limit=10**9)  # Counted in whatever form they are.
        parts.append(part)
        if content and not isinstance(content, str):
            needs.update(part_needs(content))
    text = _routed_text(turns or parts)
    staying = (*(place for place in prompts if place < last), *range(last, len(parts)))
    return _Conversation(text, tuple(parts), past, frozenset(needs), "\n\n".join(system), staying)


def check_messages(messages: object) -> None:
    """See that something is a list of messages in OpenAI's dict form.

    Raises:
        QueryError: If it is none.
    """
    _read_messages(cast("Sequence[Message]", messages))


def encodable(text: str) -> str:
    """A text that can be sent: a lone surrogate is no character, and becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def part_needs(content: Iterable[object]) -> Iterator[Capability]:
    """What each part of a message's content that is an attachment needs of a model."""
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(kind, str) and (need := _PART_NEEDS.get(kind)):
            yield need


def _checked_needs(needs: Iterable[Capability]) -> list[Capability]:
    # A string is one of letters.
    if isinstance(needs, str) or not isinstance(needs, Iterable):
        raise QueryError(f"needs is {shortened(needs)}; give a list of capabilities.")
    needs = list(needs)
    for need in needs:
        if need not in (known := get_args(Capability)):
            raise QueryError(
                f"There is no capability {shortened(need)} that a query could need"
                f"{did_you_mean(need, known)} They are {', '.join(known)}."
            )
    return needs


def _checked_limit(tokens: int | None) -> int | None:
    if tokens is None:
        return None
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
        raise QueryError(
            f"The longest answer (max_tokens) is {shortened(tokens)}; give a whole number of "
            "tokens from 0 up."
        )
    return min(tokens, LONGEST_ANSWER)


def output_limit(settings: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The most tokens that a call's settings let the answer have, as clients read them.

    Args:
        settings: Of the call, by their names.

    Returns:
        A number, that of a string of digits, too; None where there is no limit, as -1 says to some
        servers. What is no such thing is given back as it is, for `Query.of` to refuse.
    """
    limit: Any = next((settings[name] for name in _OUTPUT_LIMITS if settings.get(name)), None)
    digits = isinstance(limit, str) and limit.strip().isdecimal() and len(limit) <= MOST_DIGITS
    if digits or (isinstance(limit, float) and limit.is_integer()):
        limit = int(limit)
    elif hasattr(limit, "__index__"):
        # Such as one of numpy's integers.
        limit = index(limit)
    return None if limit == -1 else limit


def given_limit(settings: Mapping[str, Any]) -> int | None:
    """The same where it is one that an answer can have; None if it is not, or there is none."""
    limit = output_limit(settings)
    return limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None


def shortest_limit(most: int, held: Iterable[Mapping[str, Any]]) -> int:
    """The least of a limit on output tokens and of those that settings hold, under any name."""
    limits = (
        output_limit({"max_tokens": settings.get(name)})
        for settings in held
        for name in LIMIT_NAMES
    )
    return min([most, *(limit for limit in limits if isinstance(limit, int) and limit > 0)])


def _routed_text(turns: Sequence[str]) -> str:
    """The last turn, with the turns before it for as long as there are only a few words."""
    taken: list[str] = []
    tokens = 0.0
    for turn in reversed(turns):
        # Counted only where there is a turn before it.
        tokens += estimate_tokens(taken[-1]) if taken else 0.0
        if tokens >= SHORT_FOLLOW_UP_TOKENS:
            break
        taken.append(turn)
    return "\n".join(text for text in reversed(taken) if text.strip())


def content_text(content: object, position: int = 0) -> str:
    """The text of a message's content: a string, None (a tool call), or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and not isinstance(content, (bytes, bytearray)):
        texts = []
        for part in content:
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif not isinstance(part, Mapping):
                break
        else:
            return "\n".join(texts)
    raise QueryError(
        f"Message {position} has content of type {type(content).__name__}; it must be a string "
        "or a list of parts like {'type': 'text', 'text': '...'}."
    )
