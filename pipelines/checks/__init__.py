"""The course's sanity checks of a model before it is trained."""
