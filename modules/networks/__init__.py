"""Fully connected and convolutional networks, normalization layers, weight initialization and timm backbones."""
