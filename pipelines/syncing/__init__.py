"""What W&B has of a run and what it lacks: after a kill, after an offline start, after a server that died."""
