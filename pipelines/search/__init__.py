"""Hyperparameter search with W&B sweep files: locally with Optuna, on a Ray cluster, or by W&B's service."""
