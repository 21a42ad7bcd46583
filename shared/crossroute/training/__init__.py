"""Training, in torch: nothing else of CrossRoute imports it."""
