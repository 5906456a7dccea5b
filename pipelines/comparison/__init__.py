"""Comparing runs: reading their folders, ranking them, and showing them in the terminal, as a page and on W&B."""
