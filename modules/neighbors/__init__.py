"""k-nearest neighbors: the classifier, the fast exact search behind it, and the votes."""
