"""Data sets as LightningDataModules: files, splits, preprocessing, augmentation. They do not depend on models."""

from datamodules.captions.caption_data_module import CaptionDataModule
from datamodules.captions.coco import COCOCaptions
from datamodules.captions.shape_captions import ShapeCaptions
from datamodules.gaussian_mixture import GaussianMixture
from datamodules.image_folders.image_folder import ImageFolder
from datamodules.images.cifar10 import CIFAR10
from datamodules.images.digits import Digits
from datamodules.images.image_data_module import ImageDataModule
from datamodules.images.mnist import MNIST, FashionMNIST
from datamodules.images.shapes import Shapes

__all__ = [
    "CIFAR10",
    "MNIST",
    "COCOCaptions",
    "CaptionDataModule",
    "Digits",
    "FashionMNIST",
    "GaussianMixture",
    "ImageDataModule",
    "ImageFolder",
    "ShapeCaptions",
    "Shapes",
]
