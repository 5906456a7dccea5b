"""Callbacks that measure a run and draw pictures of it; they use models through small protocols, not classes."""

from callbacks.accuracy_by_k import AccuracyByK
from callbacks.class_visualization import ClassVisualization
from callbacks.confident_mistakes import ConfidentMistakes
from callbacks.confusion_matrix import ConfusionMatrix
from callbacks.discriminator_accuracy import DiscriminatorAccuracy
from callbacks.embedding_map import EmbeddingMap
from callbacks.feature_maps import FeatureMaps
from callbacks.fooling_images import FoolingImages
from callbacks.generated_captions import GeneratedCaptions
from callbacks.generated_density import GeneratedDensity
from callbacks.histograms import Histograms
from callbacks.mistakes_by_class import MistakesByClass
from callbacks.nearest_training_images import NearestTrainingImages
from callbacks.neighbors import Neighbors
from callbacks.positive_pairs import PositivePairs
from callbacks.precision_recall_curve import PrecisionRecallCurve
from callbacks.prediction_table import PredictionTable
from callbacks.saliency_maps import SaliencyMaps
from callbacks.sample_quality import SampleQuality
from callbacks.samples import LatentWalk, SampleGrid
from callbacks.self_attention_maps import SelfAttentionMaps
from callbacks.state_gradients import StateGradients
from callbacks.templates import Templates
from callbacks.training_health import TrainingHealth
from callbacks.transformer_diagram import TransformerDiagram

__all__ = [
    "AccuracyByK",
    "ClassVisualization",
    "ConfidentMistakes",
    "ConfusionMatrix",
    "DiscriminatorAccuracy",
    "EmbeddingMap",
    "FeatureMaps",
    "FoolingImages",
    "GeneratedCaptions",
    "GeneratedDensity",
    "Histograms",
    "LatentWalk",
    "MistakesByClass",
    "NearestTrainingImages",
    "Neighbors",
    "PositivePairs",
    "PrecisionRecallCurve",
    "PredictionTable",
    "SaliencyMaps",
    "SampleGrid",
    "SampleQuality",
    "SelfAttentionMaps",
    "StateGradients",
    "Templates",
    "TrainingHealth",
    "TransformerDiagram",
]
