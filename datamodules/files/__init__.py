"""Data files: downloads, archives and readers of the official formats."""
