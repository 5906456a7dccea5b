"""Checkpoints as artifacts of W&B: sent with a run, and used from there by every command."""
