"""Figures that anyone can repeat: the rows of results.yaml, their runs, and what they give."""
