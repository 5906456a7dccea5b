"""Lightning's Trainer: which of its settings and callbacks a run takes, and how a run went."""
