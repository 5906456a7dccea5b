"""k-fold cross-validation: what is tried, what came out, its picture, and the final run."""
