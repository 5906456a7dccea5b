"""Checkpoints of a run: which are kept, which is the best, and what a resumed run restores."""
