"""The length of answer that a text asks for: "in one word", "a 3,000-word essay", "yes or no"."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal

from crossroute import asked_words as lexicon

HEAD_CHARS, TAIL_CHARS = 300, 600
"""How much of a long text is read: what is asked stands at its beginning or at its end."""

LEAST_TOKENS, MOST_TOKENS = 1.0, 50_000.0

MOST_KEYS = 20
"""JSON of more keys is more likely what the text is about than what it asks for."""

FEWEST_CHARACTERS = 40
"""A limit of fewer characters is one of passwords and names, not of answers."""

_WINDOW = 120
"""Characters before a size in which the words stand that ask for it."""

_FEW_WORDS = 4
"""Before a bound without a word that asks: "a story, at most 300 words"."""

_OF_ONE = (lexicon.WORD, lexicon.SENTENCE, lexicon.PARAGRAPH)
"""Units of which "a" may be said to ask for one: "use it in a sentence"."""

_MOST_CUES = 100
"""So many are looked at, lest a text of nothing else take long."""

_LAST = frozenset(["", *"?):.!\uff09\u3002"])
"""With such a character a sentence ends, or an aside; with none, the text."""

_Kind = Literal["unit", "list", "yes_or_no", "only", "json", "leaning"]

_CUES: dict[str, tuple[_Kind, float]] = {
    **{name: ("unit", tokens) for tokens, names in lexicon.UNITS.items() for name in names},
    **dict.fromkeys(lexicon.LISTS, ("list", lexicon.ITEM_TOKENS)),
    **dict.fromkeys(lexicon.YES_OR_NO, ("yes_or_no", lexicon.BARE_TOKENS)),
    **dict.fromkeys(lexicon.ONLY_CUES, ("only", lexicon.BARE_TOKENS)),
    "json": ("json", lexicon.KEY_TOKENS),
    **dict.fromkeys(lexicon.BRIEF, ("leaning", lexicon.BRIEF_TOKENS)),
    **dict.fromkeys(lexicon.DETAILED, ("leaning", lexicon.DETAILED_TOKENS)),
    **dict.fromkeys(lexicon.THOROUGH, ("leaning", lexicon.ESSAY_TOKENS)),
}
"""All that is looked for in languages that put spaces between words, how a word begins."""


def _one_of(names: Iterable[str]) -> str:
    """A pattern of names that takes them by first letters, which is fast, and the longest first."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names, key=len, reverse=True):
        groups[name[0]].append(re.escape(name[1:]))
    return "|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in groups.items())


_CUE = re.compile(rf"[ (/'\u2011-](?=({_one_of(_CUES)}))")

_CJK_CUES: dict[str, tuple[_Kind, float]] = {
    **dict.fromkeys(lexicon.CJK_YES_OR_NO, ("yes_or_no", lexicon.BARE_TOKENS)),
    **dict.fromkeys(lexicon.CJK_ONLY, ("only", lexicon.BARE_TOKENS)),
    **dict.fromkeys(lexicon.CJK_BRIEF, ("leaning", lexicon.BRIEF_TOKENS)),
    **dict.fromkeys(lexicon.CJK_DETAILED, ("leaning", lexicon.DETAILED_TOKENS)),
}


def asked_tokens(text: str) -> float | None:
    """How many tokens of visible answer a text asks for.

    Read in English, German, French, Spanish, Portuguese and Italian, the plainest forms in Japanese
    and Chinese too. In this order:

    1. A bare answer: "yes or no", "only the number", "just the answer"; unless it is to be
       explained, or thought through step by step.
    2. Sizes: a number with a unit ("two paragraphs", "3,000 words"), a list of so many, JSON and
       nothing else, by its keys. Of several the largest counts, which holds the others; one "each"
       or "per" something is a part and does not count.
    3. Leanings without a number: "briefly", "in detail", "an essay"; not where a text has both.

    A size counts only where it is asked for, not where it is told ("the novel has 3000 words").
    Right before it stands a word that asks ("write 300 words"); or such a word in its sentence, and
    before it "in", "of", "with" or a bound ("at most", "about"); or a bound right after it ("200
    words max"); or it stands alone: in brackets, as a sentence, or at the end of one. Sizes of what
    a program handles do not count ("a function that joins two words").

    Args:
        text: What the model is asked; of a long text only the first 300 and the last 600
            characters are read.

    Returns:
        From `LEAST_TOKENS` to `MOST_TOKENS`, rough; None where the text says nothing.
    """
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n\n{text[-TAIL_CHARS:]}"
    plain = _plain(text)
    is_cjk = not plain.isascii() and lexicon.CJK.search(plain) is not None
    cues = _cues(plain, is_cjk=is_cjk)
    leaning = _leaning({tokens for _, tokens in cues["leaning"]})
    bare = None if leaning and leaning > lexicon.BRIEF_TOKENS else _bare(plain, cues)
    if bare == lexicon.BARE_TOKENS:
        return bare
    sizes = [
        *(_size(plain, at, tokens) for at, tokens in cues["unit"]),
        *(_list_size(plain, at) for at, _ in cues["list"]),
        _json_size(text, plain) if cues["json"] else None,
        *(_cjk_sizes(plain) if is_cjk else ()),
    ]
    asked = max(filter(None, sizes), default=bare or leaning)
    return None if asked is None else min(max(asked, LEAST_TOKENS), MOST_TOKENS)


def _cues(text: str, *, is_cjk: bool) -> Mapping[_Kind, list[tuple[int, float]]]:
    """By its kind, where each cue stands in a text, and the tokens that it stands for."""
    found: dict[_Kind, list[tuple[int, float]]] = defaultdict(list)
    for cue in islice(_CUE.finditer(text), _MOST_CUES):
        (kind, tokens), at = _CUES[cue[1]], cue.end()
        if kind != "leaning" or _leans(text, at, cue[1]):
            found[kind].append((at, tokens))
    if is_cjk:
        for name, (kind, tokens) in _CJK_CUES.items():
            if (at := text.find(name)) >= 0:
                found[kind].append((at, tokens))
    return found


def _plain(text: str) -> str:
    """A text in lower case, with single spaces, without marks; paragraphs end sentences."""
    text = text.lower().replace("\n\n", " ; ").replace("*", "").replace("`", "").replace('"', "")
    text = text.replace("\u2019", "'")
    return f" {' '.join(text.split())} "


def _sentence_before(text: str, at: int) -> str:
    return lexicon.ENDS.split(text[max(at - _WINDOW, 0) : at])[-1].strip()


def _sentence_after(text: str, at: int) -> str:
    return lexicon.ENDS.split(text[at : at + _WINDOW], maxsplit=1)[0].strip()


def _size(text: str, at: int, tokens: float) -> float | None:
    """The tokens of the unit at a place of a text as often as it is asked for there."""
    before = _sentence_before(text, at)
    if not before:
        return None
    is_joined = before[-1] in "-\u2011"
    words = before.rstrip("-\u2011").split()
    while words and words[-1] in lexicon.BETWEEN:
        words.pop()
    value, words, first = _last_number(words)
    if value is None or (tokens == lexicon.CHARACTER and value < FEWEST_CHARACTERS):
        return None
    if first in lexicon.ARTICLES and tokens not in _OF_ONE:
        return None
    # Lines are what programs have themselves, and what options of a question count.
    if not words if tokens == lexicon.LINE else lexicon.PROGRAM.search(before):
        return None
    unit, *after = _sentence_after(text, at).split()[:4] or [""]
    is_last = not after or not unit[-1].isalpha()
    is_asked = _is_asked(words, first, after, is_joined=is_joined, is_last=is_last)
    return value * tokens if is_asked else None


def _last_number(words: list[str]) -> tuple[float | None, list[str], str]:
    """The number at the end of words, the words before it, and its first word as it stands."""
    if not words:
        return None, words, ""
    value, first = _number(words[-1]), words[-1]
    words = words[:-1]
    if value is None:
        return None, words, first
    if words and first in lexicon.FACTORS and (factor := _number(words[-1])):
        # "five hundred", "a single".
        first, value = words.pop(), factor * value
    elif words and first == "000" and words[-1].isdecimal():
        first = words.pop()
        value = 1000 * float(first[-3:])
    if len(words) > 1 and words[-1] in lexicon.RANGES and _number(words[-2]):
        # Of a range, the upper end; "between" is no "the two words between".
        first, words = words[-2], words[:-2]
        if words and words[-1] in lexicon.RANGE_BEGINS:
            words[-1] = "about"
    return value, words, first


def _number(word: str) -> float | None:
    if word.startswith("(") or not word.isalnum():
        word = lexicon.DASHES.split(word.strip("(['~≈"))[-1]
    if (value := lexicon.NUMBERS.get(word)) is not None:
        return float(value)
    found = lexicon.DIGITS.fullmatch(word)
    if found is None:
        return None
    digits, thousands = found.groups()
    decimal = len(digits) > 1 and not digits[-2].isdecimal()
    number = float(digits.replace(",", ".")) if decimal else float(re.sub(r"\D", "", digits))
    return number * (1000 if thousands else 1)


def _is_asked(
    before: Sequence[str], number: str, after: Sequence[str], *, is_joined: bool, is_last: bool
) -> bool:
    """Whether a size is asked for.

    Args:
        before: The words of its sentence before the number.
        number: The first word of the number.
        after: The first words after the unit.
        is_joined: Whether number and unit are one word, as in "300-word".
        is_last: Whether the unit ends its sentence, or a part of it.
    """
    near = {word.strip(".,:)") for word in (*before[-4:], *after[:2])}
    if not lexicon.PARTS.isdisjoint(near):
        return False
    following = after[0].strip(".,:)") if after else ""
    if not before:
        return number not in lexicon.ARTICLES and (is_last or following in lexicon.ALONE)
    told = " ".join(before)
    bound = lexicon.BOUND.search(told)
    rest = told[: bound.start()].split() if bound else list(before)
    while rest and rest[-1] in lexicon.ARTICLES:
        rest.pop()
    if not rest:
        # "A 300-word story", "max. 100 tokens", "a sentence that rhymes".
        return bound is not None or is_joined
    last = rest[-1].strip(",(:")
    is_demanded = bool(lexicon.MODALS.intersection(rest))
    if last in lexicon.STATES:
        return is_demanded
    if last in lexicon.NOT_ASKED:
        return False
    asks = is_demanded or any(lexicon.ASKS.match(word) for word in rest)
    is_apart = rest[-1][-1] in ",:-(" or number.startswith("(")
    if following in lexicon.AFTER or (
        following == "or" and after[1:] and after[1] in lexicon.OR_LESS
    ):
        return True
    if bound or is_joined:
        return asks or is_apart or len(rest) < _FEW_WORDS
    if last in lexicon.IN:
        return asks or len(rest) == 1 or (is_last and number not in lexicon.ARTICLES)
    if is_apart:
        # "A slogan, 200 characters."
        is_short = is_last and len(rest) < _FEW_WORDS
        return asks or is_short or number.startswith("(") or last in lexicon.LENGTHS
    if last in lexicon.OF:
        return asks
    while rest and (rest[-1] in lexicon.FILLERS or rest[-1] in lexicon.BETWEEN):
        rest.pop()
    return bool(rest) and bool(lexicon.ASKS.match(rest[-1]))


def _leans(text: str, at: int, name: str) -> bool:
    """Whether a word that may tell of other things is said of an answer."""
    if lexicon.ADJECTIVES.isdisjoint(name.split()):
        return True
    words = text[at + len(name) : at + len(name) + 40].split()[:3]
    return any(lexicon.ANSWERS.match(word) for word in words)


def _list_size(text: str, at: int) -> float | None:
    """Of "a list of ten rivers" and "name three animals"."""
    before = _sentence_before(text, at)
    words = _sentence_after(text, at)[:80].split()
    if words[1:2] == ["of"]:
        is_asked = not before or any(lexicon.ASKS.match(word) for word in before.split())
    else:
        is_asked = (
            not before or before[-1] in ",:" or before.split()[-1] in lexicon.IMPERATIVE_AFTER
        )
    words = words[2:] if words[1:2] in (["of"], ["me"]) else words[1:]
    while words and words[0] in lexicon.LIST_FILLERS:
        words.pop(0)
    if not is_asked or len(words) < 2 or not words[1][0].isalpha():
        return None
    value = _number(words[0])
    cue = _CUE.match(f" {words[1]} ")
    # A unit has its own tokens.
    is_unit = cue is not None and _CUES[cue[1]][0] == "unit"
    return None if value is None or value <= 1 or is_unit else value * lexicon.ITEM_TOKENS


def _bare(text: str, cues: Mapping[_Kind, list[tuple[int, float]]]) -> float | None:
    """Of a bare answer; more where it is explained."""
    for at, _ in cues["yes_or_no"]:
        before = _sentence_before(text, at)
        name = next(
            n for n in (*lexicon.YES_OR_NO, *lexicon.CJK_YES_OR_NO) if text.startswith(n, at)
        )
        after = text[at + len(name) :]
        # Where it is the whole sentence it may be one of several options.
        is_last = after.lstrip(" '」か")[:1] in (_LAST if before else set("?:,"))
        if _is_bare_asked(before, name, is_last=is_last):
            return _explained(after)
    for at, _ in cues["only"]:
        found = lexicon.ONLY.search(text, max(at - 20, 0), at + 100)
        if found:
            before = _sentence_before(text, found.start())
            is_last = not before or not _sentence_after(text, found.end()).strip(" )',:")
            if _is_bare_asked(before, found[0], is_last=is_last):
                return _explained(text[found.end() :])
    return None


def _is_bare_asked(before: str, found: str, *, is_last: bool) -> bool:
    """Whether the sentence asks for the bare answer of which it speaks."""
    if lexicon.PROGRAM.search(before):
        return False
    if is_last or before[-1:] in ("(", ":") or not f"{before}{found}".isascii():
        return True
    return any(lexicon.ASKS.match(word) for word in (*before.split(), *found.split()))


def _explained(after: str) -> float:
    return lexicon.BRIEF_TOKENS if lexicon.EXPLAINED.search(after[:80]) else lexicon.BARE_TOKENS


def _json_size(text: str, plain: str) -> float | None:
    """Of JSON and nothing else, by its keys; None where a key holds a text of any length."""
    if not lexicon.JSON.search(plain):
        return None
    keys = set(lexicon.KEY.findall(text))
    if len(keys) > MOST_KEYS or any(lexicon.REASONING.search(key.lower()) for key in keys):
        return None
    return lexicon.KEY_TOKENS * max(len(keys), 3)


def _leaning(tokens: set[float]) -> float | None:
    """Of all leanings in a text; None where they contradict each other."""
    if lexicon.BRIEF_TOKENS in tokens and len(tokens) > 1:
        return None
    return max(tokens, default=None)


def _cjk_sizes(text: str) -> Iterator[float]:
    for found in lexicon.CJK_SIZE.finditer(text):
        number, unit, after = found.groups()
        before = text[max(found.start() - 12, 0) : found.start()]
        value = _cjk_number(number)
        tokens = lexicon.CJK_UNITS[unit]
        if tokens == 1.0 and value < FEWEST_CHARACTERS:
            continue
        if unit in "つ個个点條条項项":
            asked = lexicon.CJK_LISTED_AFTER.match(after) or lexicon.CJK_LISTED_BEFORE.search(
                before
            )
        else:
            asked = lexicon.CJK_ASKED_AFTER.match(after) or lexicon.CJK_ASKED_BEFORE.search(before)
        if asked and not lexicon.CJK_PARTS.intersection(before[-3:]):
            yield value * tokens


def _cjk_number(number: str) -> float:
    if number.isdecimal():
        return float(number)
    total, digit = 0, 0
    for sign in number:
        if sign in lexicon.CJK_TENS:
            total += max(digit, 1) * lexicon.CJK_TENS[sign]
            digit = 0
        else:
            digit = lexicon.CJK_DIGITS[sign]
    return float(total + digit)
