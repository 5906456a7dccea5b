"""Checkpoints of a run: which are kept, which is the best, and what of one is used when a run is resumed."""
