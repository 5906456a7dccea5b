"""k-fold cross-validation: its plan, its results and their plot, and the final run."""
