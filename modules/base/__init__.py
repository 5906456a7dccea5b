"""What every topic's module builds on: the classifier, logged metrics, several optimizers, the guard against NaN."""
