"""Tracking of runs: Weights & Biases, metrics.csv and the flat configuration."""
