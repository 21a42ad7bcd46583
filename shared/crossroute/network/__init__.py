"""The predictor of quality and cost, what it reads, and how it is stored."""
