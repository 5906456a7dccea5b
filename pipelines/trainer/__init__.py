"""Lightning's Trainer: checks of its arguments and callbacks, and the outcome of a run."""
