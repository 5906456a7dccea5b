"""Optimizers and learning rate schedules: update rules, Muon, LARS, warmup, scaling and weight averaging."""
