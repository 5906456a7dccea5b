"""Hyperparameter search: sweep files as W&B takes them, and engines that carry them out."""
