"""Traces that teach: recorded calls ranked, and exported in the formats that TRL trains on.

After Optima (arXiv 2410.08115): generate, rank, select, train; the training is the user's own.
"""
