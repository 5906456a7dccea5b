"""Packs: runs that differ in numbers alone, trained in one process that computes the training steps of all at once."""
