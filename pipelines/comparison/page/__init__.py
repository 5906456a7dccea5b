"""Comparison of runs: reads their folders, ranks them, and shows them in the terminal, on a page and on W&B."""
