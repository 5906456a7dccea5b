"""Linear classifiers: multiclass hinge loss and softmax regression."""
