"""The course's sanity checks of a model before training."""
