"""Draws docs/pictures/pca_components.png and whitening.png: principal components of CIFAR-10, and whitened images.

    python docs/draw/whitening.py

Fitted by datamodules/images/preprocessing.py to the training images, 45,000 of the 50,000, seed 0 of the split.
"""

import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from callbacks.pictures import image_grid, stretch
from datamodules import CIFAR10
from datamodules.images.preprocessing import Preprocessing

_PICTURES = Path(__file__).resolve().parents[1] / "pictures"
_COMPONENTS = (10, 50, 200, 1000)
_IMAGES = 8


def main() -> None:
    data = CIFAR10()
    data.setup("validate")
    images = data.splits["train"][0]
    pca, whiten = Preprocessing("pca"), Preprocessing("whiten")
    pca.fit(images)
    whiten.fit(images)
    directions = pca.fitted["directions"]  # (D, D)
    centered = (images[:_IMAGES].float() / 255 - pca.fitted["mean"]).flatten(1)
    variances = 1 / whiten.fitted["directions"].square().sum(0) - 1e-5  # whitening divides by √(variance + 1e-5)
    shares = variances.cumsum(0) / variances.sum()
    for number in (1, 10, 50, 200, 1000):
        print(f"{number} components: {float(shares[number - 1]):.1%} of the variance")
    components = stretch(directions.mT[:24].unflatten(1, (3, 32, 32)))
    titles = [f"{i + 1}: {float(variances[i] / variances.sum()):.1%}" for i in range(24)]
    title = "The first 24 principal components and their shares of the variance"
    _save(image_grid(components, titles, 8, title, side=1.0), "pca_components.png")

    shown = images[:_IMAGES]
    rows: list[tuple[str, Tensor]] = [("image", shown.float() / 255), ("− mean", _around_gray(centered))]
    outputs = pca(shown)
    for number in _COMPONENTS:
        part = outputs.clone()
        part[:, number:] = 0
        rows.append((f"{number} of 3,072", pca.inverse(part)))
    white = whiten(shown) @ directions.mT  # rotated back: whitening that changes the pixels as little as possible
    rows.append(("whitened", _around_gray(white)))
    pixels = torch.cat([row for _, row in rows])
    titles = [name if index == 0 else "" for name, _ in rows for index in range(_IMAGES)]
    _save(image_grid(pixels, titles, _IMAGES, "From images to whitened images", side=0.9), "whitening.png")
    covariance = whiten(images[:20_000]).mT.cov()
    off = (covariance - torch.eye(len(covariance))).abs()
    print(f"covariance of 20,000 whitened images: diagonal {float(covariance.diagonal()[:500].mean()):.3f} (first 500)")
    print(f"largest off-diagonal of the first 500 {float((off - off.diagonal().diag())[:500, :500].max()):.3f}")


def _around_gray(values: Tensor) -> Tensor:
    """Images (N, 3, 32, 32) of values (N, D): each scaled by its own size, 0 gray."""
    images = values.unflatten(1, (3, 32, 32))
    return (0.5 + images / (6 * images.flatten(1).std(1)[:, None, None, None])).clamp(0, 1)


def _save(picture: object, name: str) -> None:
    Image.fromarray(picture).save(_PICTURES / name, optimize=True)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
