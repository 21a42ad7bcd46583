"""New models without training: from a few scores, or by a guess."""
