"""Models as LightningModules, one topic a file. They know tensors, losses and metrics, nothing else."""

from modules.classifier import Classifier
from modules.linear_svm import LinearSVM
from modules.softmax_regression import SoftmaxRegression

__all__ = ["Classifier", "LinearSVM", "SoftmaxRegression"]
