"""Evaluation: metrics, and routers beside their baselines."""
