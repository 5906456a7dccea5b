"""Models as LightningModules, one folder per subject. They depend on neither data modules nor the command line."""

from modules.base.classifier import Classifier
from modules.captioning.caption_lstm import CaptionLSTM
from modules.captioning.caption_rnn import CaptionRNN
from modules.captioning.caption_transformer import CaptionTransformer
from modules.contrastive.linear_probe import LinearProbe
from modules.contrastive.simclr import SimCLR
from modules.fast_convnet.fast_convnet import FastConvNet
from modules.gan.gan import GAN
from modules.linear.linear_svm import LinearSVM
from modules.linear.softmax_regression import SoftmaxRegression
from modules.neighbors.k_nearest_neighbors import KNearestNeighbors
from modules.networks.conv_net import ConvNet
from modules.networks.fully_connected_net import FullyConnectedNet
from modules.networks.timm_classifier import TimmClassifier
from modules.networks.two_layer_net import TwoLayerNet
from modules.optimizers.schedules import Triangular, WarmupCosine

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
