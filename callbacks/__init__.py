"""What watches a run and shows it. Callbacks ask a model through small protocols, never through its class."""

from callbacks.confusion import ConfusionMatrix
from callbacks.feature_maps import FeatureMaps
from callbacks.mistakes import ConfidentMistakes
from callbacks.templates import Templates
from callbacks.training_health import TrainingHealth

__all__ = ["ConfidentMistakes", "ConfusionMatrix", "FeatureMaps", "Templates", "TrainingHealth"]
