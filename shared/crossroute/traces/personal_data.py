"""Masking personal data that has a form of its own: by placeholders, so that texts can be learned.

Names, addresses, dates of birth and the like have none, and are not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple
from unicodedata import category

from crossroute.errors import DataError, MissingExtraError, shortened

# Repetitions are bounded: a hostile text must not take quadratic time.
_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-]{1,64}(?:@|%40)(?:[\w-]{1,63}\.){1,8}"
    r"(?:xn--[A-Za-z\d-]{1,59}|[^\W\d_]{2,24})"
)
# Of all places where one may begin: what looks like the beginning of another may stand before it.
_IBAN = re.compile(r"(?<![A-Za-z0-9])(?=([A-Za-z]{2}\d{2}(?:[ \u00a0-]?[A-Za-z0-9]){11,30}))")
_CARD = re.compile(r"(?<!\d)(?<!\d\.)(?=([2-6](?:[ \u00a0\u2009.\u2010-\u2015-]{0,3}\d){12,18}))")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:])(?=[\da-fA-F:]{0,40}\d)[\da-fA-F]{0,4}(?::[\da-fA-F]{0,4}){2,7}(?![\w:])"
)
_MAY_BE_PHONE = re.compile(r"\d(?:[^\d\n]{0,4}\d){6}")
_DIGITS = re.compile(r"\d+")
# A sum is no number of a phone or a card, nor is an amount. Dashes, slashes, asterisks and plus
# signs stand beside those, too, so they count only as a sum has them.
_OPERATOR = r"(?:\s?(?:==?|[\u00d7\u00f7\u2248^]|\\(?:times|cdot|div|approx)\b)\s?|\s\*\s|\*)"
_COMPUTED_BEFORE = re.compile(
    rf"(?:(?<![A-Za-z_\d])\d[\d.,]{{0,30}}|[)}}]){_OPERATOR}[-\u2212(]?\Z"
    r"|(?<![\w])\d{1,6}\s?/\s?\Z|\d[.]\Z|[$\u20ac\u00a3\u00a5]\s?\Z|\\boxed{\Z"
)
_COMPUTED_AFTER = re.compile(
    rf"[)}}]?{_OPERATOR}[-\u2212(]?\d|\s?/\s?\d{{1,6}}(?!\d)|[.]\d"
    r"|(?:\s[-\u2212+]\s|\+)\d[\d.,]{0,30}\s?[=?]"
)
_COMPUTED_WITHIN = 40
_CARD_GROUPS = {(4, 6, 5), (4, 6, 4), (4, 3, 3, 3), (6, 13), (8, 8)}
"""Beside fours."""
_DECIMAL = re.compile(r"\d[.]\Z|[.]\d")
_EQUALS = re.compile(r"\s?=\s?[-\u2212(]?\d")
_JOINT = re.compile(r"\d\s{0,2}[-\u2212/.]\s{0,2}\d")
_PLUS = re.compile(r"[+\uff0b](\s?)")
# What has a plus behind it in a sum: a number, a bracket, a variable.
_TERM = re.compile(r"(?:[\d)]|(?<![^\W_])[A-Za-z])\Z")
LEAST_DIGITS = 7
"""Of a phone number with its country code."""


class _Found(NamedTuple):
    """Where a text holds something, and what tells it from others of its kind."""

    start: int
    end: int
    value: str


class PersonalData:
    """Masks e-mail and IP addresses, IBANs, card and phone numbers, as `<EMAIL_1>`.

    The same value gets the same placeholder in all texts that one object masks.

    Args:
        regions: ISO 3166 codes of the regions whose phone numbers are found without a country code;
            those with one always are.

    Raises:
        DataError: If there is no such region.
        MissingExtraError: If the extra `traces` is not installed.
    """

    def __init__(self, regions: Sequence[str] = ("US",)) -> None:
        self._phones = _package("phonenumbers")
        self._iban, self._luhn = _package("stdnum.iban"), _package("stdnum.luhn")
        for region in regions:
            if region not in self._phones.SUPPORTED_REGIONS:
                raise DataError(
                    f"phone region {shortened(region)}: give the ISO 3166 code of one, such as DE."
                )
        self._regions = regions
        self.forget()

    def forget(self) -> None:
        """Begin anew with the numbers of placeholders, as for another example."""
        self._placeholders: dict[tuple[str, str], str] = {}
        self._counts: Counter[str] = Counter()

    def masked(self, text: str) -> str:
        """A text with placeholders for what was found."""
        found = self._masked(text)
        if not text.isascii():
            # Characters that nobody sees may part what is to be found.
            bare = "".join(c for c in text if category(c) != "Cf")
            if bare != text and (seen := self._masked(bare)) != bare:
                return seen
        return found

    def masked_values(self, value: Any) -> Any:  # noqa: ANN401  # Whatever JSON may hold.
        """Nested values with placeholders in their texts, names and whole numbers."""
        if isinstance(value, str):
            return self.masked(value)
        if isinstance(value, Mapping):
            return {self.masked(name): self.masked_values(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.masked_values(one) for one in value]
        if isinstance(value, int) and not isinstance(value, bool):
            text = str(value)
            return value if (seen := self.masked(text)) == text else seen
        return value

    def _masked(self, text: str) -> str:
        finders: tuple[tuple[str, Callable[[str], Iterator[_Found]]], ...] = (
            ("EMAIL", _emails),
            ("IBAN", self._ibans),
            ("CARD", self._cards),
            ("IP", _addresses),
            ("PHONE", self._numbers),
        )
        for kind, find in finders:
            parts: list[str] = []
            end = 0
            for one in sorted(find(text)):
                if one.start >= end:
                    parts += [text[end : one.start], self._placeholder(kind, one.value)]
                    end = one.end
            text = "".join([*parts, text[end:]])
        return text

    def _placeholder(self, kind: str, value: str) -> str:
        if (kind, value) not in self._placeholders:
            self._counts[kind] += 1
            self._placeholders[kind, value] = f"<{kind}_{self._counts[kind]}>"
        return self._placeholders[kind, value]

    def _ibans(self, text: str) -> Iterator[_Found]:
        return _checked(_IBAN, text, 15, lambda value, *_: self._iban.is_valid(value))

    def _cards(self, text: str) -> Iterator[_Found]:
        def is_card(value: str, start: int, end: int) -> bool:
            return self._luhn.is_valid(value) and not _is_series(text, start, end)

        return _checked(_CARD, text, 13, is_card)

    def _numbers(self, text: str) -> Iterator[_Found]:
        if _MAY_BE_PHONE.search(text) is None:
            return
        phones = self._phones
        # With a country code, what has the length of a number is one.
        ways: list[tuple[str | None, Any]] = [(None, phones.Leniency.POSSIBLE)]
        ways += [(region, phones.Leniency.VALID) for region in self._regions]
        for region, leniency in ways:
            for match in phones.PhoneNumberMatcher(text, region, leniency=leniency):
                number, start = match.number, match.start + _unclosed(match.raw_string)
                if self._is_sum(number, text, start, match.end):
                    continue
                value = f"+{number.country_code}{number.national_number}"
                yield _Found(start, match.end, value)

    def _is_sum(self, number: Any, text: str, start: int, end: int) -> bool:  # noqa: ANN401  # Theirs.
        """Whether what may be a number of a phone is rather part of a sum."""
        said = text[start:end]
        groups = _DIGITS.findall(said)
        if plus := _PLUS.search(said):
            before = text[max(start + plus.start() - 2, 0) : start + plus.start()]
            spaced = plus[1] and (len(groups) == 1 or _TERM.search(before.rstrip()))
            if spaced or _TERM.search(before) or sum(map(len, groups)) < LEAST_DIGITS:
                return True
        if len(groups) == 1:
            return _is_computed(text, start, end)
        if _DECIMAL.search(text[max(start - 2, 0) : start]) or _DECIMAL.match(text[end : end + 2]):
            return True
        if _EQUALS.match(text[end : end + _COMPUTED_WITHIN]):
            return "(" not in said
        if len(groups) == 2 and _JOINT.search(said) and not number.extension:
            # What joins them stands behind the area code, or the country's.
            code = self._phones.length_of_national_destination_code(number)
            country = sum(map(len, groups)) - len(self._phones.national_significant_number(number))
            return code > 0 and len(groups[0]) not in (country, country + code)
        return False


def _is_computed(text: str, start: int, end: int) -> bool:
    """Whether a number is part of a sum, a decimal or an amount."""
    before = text[max(start - _COMPUTED_WITHIN, 0) : start]
    after = text[end : end + _COMPUTED_WITHIN]
    return bool(_COMPUTED_BEFORE.search(before) or _COMPUTED_AFTER.match(after))


def _is_series(text: str, start: int, end: int) -> bool:
    """Whether digits are several numbers, a decimal or part of a sum; cards are 4-4-4-4, 4-6-5.."""
    groups = _DIGITS.findall(text[start:end])
    if len(groups) == 1:
        return _is_computed(text, start, end)
    if len(groups) == 2 and re.search(r"\.|\s[-\u2212]\s", text[start:end]):
        return True
    sizes = (*map(len, groups),)
    return sizes not in _CARD_GROUPS and not (set(sizes[:-1]) == {4} and sizes[-1] <= 4)


def _unclosed(said: str) -> int:
    """How many characters of a number are a bracket that does not close in it."""
    return sum(1 for pair in ("()", "[]") if said.startswith(pair[0]) and pair[1] not in said)


def _checked(
    pattern: re.Pattern[str], text: str, least: int, is_valid: Callable[[str, int, int], bool]
) -> Iterator[_Found]:
    """What a pattern finds and a check digit confirms; what stands behind it may look like more.

    `is_valid` gets it, and where it begins and ends in the text.
    """
    for match in pattern.finditer(text):
        places = [match.start(1) + place for place, c in enumerate(match[1]) if c.isalnum()]
        for count in range(len(places), least - 1, -1):
            end = places[count - 1] + 1
            value = "".join(text[place] for place in places[:count]).upper()
            if not text[end : end + 1].isalnum() and is_valid(value, match.start(1), end):
                yield _Found(match.start(1), end, value)
                break


def _emails(text: str) -> Iterator[_Found]:
    for match in _EMAIL.finditer(text):
        yield _Found(match.start(), match.end(), match[0].lower().replace("%40", "@"))


def _addresses(text: str) -> Iterator[_Found]:
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(match[0])
            except ValueError:
                continue
            # Of those, everybody has the same.
            if not (address.is_loopback or address.is_unspecified):
                yield _Found(match.start(), match.end(), str(address))


def _package(name: str) -> Any:  # noqa: ANN401  # Of a package that may be absent.
    try:
        return import_module(name)
    except ImportError:
        package = {"stdnum": "python-stdnum"}.get(name.partition(".")[0], name)
        raise MissingExtraError(package, "traces") from None
