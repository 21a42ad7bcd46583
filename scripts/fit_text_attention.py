"""Fit the projection with which questions and other texts are compared (`TextAttention`).

    python scripts/fit_text_attention.py ../shared/data/*.jsonl.gz

The encoder's vectors lie close together: what all texts share hides what tells them apart. The
mean and the covariance C of the vectors of many sentences tell what that is. A vector x is
projected to (x - mean) C^(-1/4), which makes the shared directions weigh less; the product of two
such vectors has C^(-1/2) between them. No label is used. The sentences are those of the training
questions of routing data (docs/data.md); what ships is the mean and the matrix alone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from crossroute import StaticEncoder
from crossroute.network.text_attention import FILE
from crossroute.training.data import RoutingData

OUT = Path(str(FILE))
FEWEST_WORDS = 4
RIDGE = 1e-4
"""Added to the variances, of which the smallest are about four times as large."""


def main(files: list[str]) -> None:
    questions = RoutingData.load(files).of_split("train").questions
    sentences = sorted(
        {
            sentence.strip()
            for question in questions
            for sentence in re.split(r"(?<=[.?!])\s+|\n", question)
            if len(sentence.split()) >= FEWEST_WORDS
        }
    )
    vectors = StaticEncoder().encode(sentences).astype(np.float64)
    variances, directions = np.linalg.eigh(np.cov(vectors.T))
    projection = directions * (variances + RIDGE) ** -0.25 @ directions.T
    save_file(
        {
            "mean": vectors.mean(axis=0).astype(np.float16),
            "projection": projection.astype(np.float16),
        },
        OUT,
        metadata={"encoder": StaticEncoder.name, "sentences": str(len(sentences))},
    )
    print(f"{OUT}: fitted to {len(sentences)} sentences")


if __name__ == "__main__":
    main(sys.argv[1:])
