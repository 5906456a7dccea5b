"""Models as LightningModules, one topic a file. They know tensors, losses and metrics, nothing else."""

from modules.caption_lstm import CaptionLSTM
from modules.caption_rnn import CaptionRNN
from modules.caption_transformer import CaptionTransformer
from modules.classifier import Classifier
from modules.conv_net import ConvNet
from modules.fast_convnet import FastConvNet
from modules.fully_connected_net import FullyConnectedNet
from modules.gan import GAN
from modules.k_nearest_neighbors import KNearestNeighbors
from modules.linear_probe import LinearProbe
from modules.linear_svm import LinearSVM
from modules.schedules import Triangular, WarmupCosine
from modules.simclr import SimCLR
from modules.softmax_regression import SoftmaxRegression
from modules.timm_classifier import TimmClassifier
from modules.two_layer_net import TwoLayerNet

__all__ = [
    "GAN",
    "CaptionLSTM",
    "CaptionRNN",
    "CaptionTransformer",
    "Classifier",
    "ConvNet",
    "FastConvNet",
    "FullyConnectedNet",
    "KNearestNeighbors",
    "LinearProbe",
    "LinearSVM",
    "SimCLR",
    "SoftmaxRegression",
    "TimmClassifier",
    "Triangular",
    "TwoLayerNet",
    "WarmupCosine",
]
