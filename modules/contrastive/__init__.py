"""Contrastive learning: SimCLR with the NT-Xent loss, and the linear probe that evaluates it."""
