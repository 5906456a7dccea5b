"""k-nearest neighbors: the classifier, the exact search behind it and the votes."""
