"""Data sets as LightningDataModules: files, splits, preprocessing, augmentation. Nothing of models."""

from datamodules.captions import CaptionDataModule
from datamodules.cifar10 import CIFAR10
from datamodules.coco import COCOCaptions
from datamodules.digits import Digits
from datamodules.image_data import ImageDataModule
from datamodules.mnist import MNIST, FashionMNIST
from datamodules.shape_captions import ShapeCaptions
from datamodules.shapes import Shapes

__all__ = [
    "CIFAR10",
    "MNIST",
    "COCOCaptions",
    "CaptionDataModule",
    "Digits",
    "FashionMNIST",
    "ImageDataModule",
    "ShapeCaptions",
    "Shapes",
]
