"""What is read of a text is counted and looked up fast; here it is done the plain way."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from crossroute import Query, StaticEncoder
from crossroute.network.encoders.static import FOLDER
from crossroute.query import FORM_FEATURES, estimate_tokens

PIECES = [
    *map(chr, range(128)),
    *"éÉß漢ñ°😀\u2019\u2013\xd7\x85\xa0\u0301\u2028\ufffd",
    *("[UNK]", "[PAD]", "##ing", "hello ", "Unbelievable", " 1234567 ", "z" * 101),
    *("\n(A) yes", "\n\nB. no", "```", "def "),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def plain_counts(text: str) -> dict[str, int]:
    patterns = {
        "words": r"[A-Za-z]+",
        "letters": r"[A-Za-z]",
        "digits": r"[0-9]",
        "punctuation": r"[!-/:-@\[-`{-~]",
        "lines": r"\n",
        "tex": r"[$\\]",
        "math_signs": r"[=+*/^<>]",
        "choices": r"(?m)^\W?\(?[A-Z0-9][.):]",
        "question_marks": r"\?",
        "upper": r"[A-Z]",
        "non_ascii": r"[^\x00-\x7f]",
    }
    return {name: len(re.findall(pattern, text)) for name, pattern in patterns.items()}


@given(TEXTS)
@example("1.\n(A) one\n\n-B: two\nC) three é")
def test_the_form_of_a_text_is_what_regular_expressions_count(text: str) -> None:
    query = Query.of(text)
    if query.is_blank:
        return
    form, n, chars = (
        dict(zip(FORM_FEATURES, query.form, strict=True)),
        plain_counts(text),
        len(text),
    )
    for name in ("words", "digits", "lines", "tex", "math_signs", "choices", "question_marks"):
        assert form[f"log_{name}"] == pytest.approx(math.log1p(n[name]))
    assert form["log_chars"] == pytest.approx(math.log1p(chars))
    assert form["log_non_ascii"] == pytest.approx(math.log1p(n["non_ascii"]))
    assert form["has_code"] == ("```" in text or "def " in text)
    assert form["word_length"] == pytest.approx(n["letters"] / max(n["words"], 1) / 5)
    for name, count in (("digit", "digits"), ("line", "lines"), ("upper", "upper")):
        assert form[f"{name}_share"] == pytest.approx(10 * n[count] / chars)
    assert form["punctuation_share"] == pytest.approx(10 * n["punctuation"] / chars)


@given(TEXTS)
@example("lone \ud800 surrogate")
def test_tokens_are_estimated_from_what_regular_expressions_count(text: str) -> None:
    n = plain_counts(text)
    beyond = sum(max(len(word) - 6, 0) for word in re.findall(r"[A-Za-z]+", text))
    expected = 1.03 * n["words"] + 0.06 * beyond + 0.98 * n["digits"] + 0.52 * n["punctuation"]
    expected += 1.29 * n["lines"] + 1.25 * n["non_ascii"]
    assert estimate_tokens(text) == pytest.approx(expected)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


@pytest.fixture(scope="module")
def encoder() -> StaticEncoder:
    return StaticEncoder()


@given(text=TEXTS)
@example(
    text="It\u2019s 650°F, naïve [UNK] Ünbelievable\x00ness of\x85being\n\tunbelievably\r\nlight"
)
def test_tokens_are_those_of_the_tokenizer(
    encoder: StaticEncoder, tokenizer: Tokenizer, text: str
) -> None:
    assert encoder.token_ids(text) == tokenizer.encode(text, add_special_tokens=False).ids
