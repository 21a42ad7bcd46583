"""Matrix factorisation of scores: a baseline, after RouteLLM (arXiv 2406.18665), for N models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

FloatArray = NDArray[np.float64]

EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 15, 128, 3e-3, 0.1


def fit_factorisation(
    features: FloatArray, score: FloatArray, *, rank: int, seed: int
) -> Callable[[FloatArray], FloatArray]:
    """Fit `logit quality = w . (v_m * (W q + b)) + b_m` by cross entropy.

    Args:
        features: [n, D].
        score: [n, m].
        rank: Length of the model vectors v_m.
        seed: Of everything random.

    Returns:
        From features [k, D] to quality [k, m].
    """
    torch.manual_seed(seed)
    x = torch.as_tensor(features, dtype=torch.float32)
    target = torch.as_tensor(score, dtype=torch.float32)
    # v_m with the weights w folded in, and b_m, are one linear layer over the projected query.
    network = nn.Sequential(nn.Linear(x.shape[1], rank), nn.Linear(rank, target.shape[1]))
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH_SIZE):  # type: ignore[no-untyped-call]
            loss = functional.binary_cross_entropy_with_logits(network(x[rows]), target[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def predict(features: FloatArray) -> FloatArray:
        with torch.no_grad():
            logit = network(torch.as_tensor(features, dtype=torch.float32))
        return np.asarray(torch.sigmoid(logit).numpy(), np.float64)

    return predict
