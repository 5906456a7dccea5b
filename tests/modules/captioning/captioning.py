"""Helpers for tests of captioners: a small vocabulary, formulas in numpy, and models in float64 with random weights."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float64]

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "red", "blue", "circle", "square", "left", "right", "of"]


def random_captions(number: int, longest: int, seed: int = 0) -> Tensor:
    """START w₁ … wₙ END PAD …, of 1 to `longest` words: (number, longest + 2), the first of the full length."""
    generator = torch.Generator().manual_seed(seed)
    captions = torch.randint(4, len(WORDS), (number, longest + 2), generator=generator)
    lengths = torch.randint(1, longest + 1, (number,), generator=generator)
    lengths[0] = longest
    captions[:, 0] = 1
    for caption, length in zip(captions, lengths.tolist(), strict=True):
        caption[length + 1] = 2
        caption[length + 2 :] = 0
    return captions


def scrambled(model: Any, scale: float = 0.5) -> Any:
    """The model in float64 and evaluation mode with all weights redrawn, so that no initial 0 or 1 hides a term."""
    torch.manual_seed(1)
    model = model.double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=scale)
    return model


def weights(module: nn.Module) -> dict[str, Floats]:
    return {name: value.detach().numpy() for name, value in module.named_parameters()}


def affine(x: Floats, module: nn.Module, rows: slice = slice(None)) -> Floats:
    """W x + b, of some of its rows."""
    own = weights(module)
    return np.asarray(x @ own["weight"][rows].T + own["bias"][rows])


def softmax(x: Floats) -> Floats:
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def layer_norm(x: Floats, module: nn.Module) -> Floats:
    own = weights(module)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return np.asarray(own["weight"] * (x - mean) / np.sqrt(variance + 1e-5) + own["bias"])


def grid_of(model: Any, features: Floats) -> Floats:
    """LayerNorm(W f_l + b + p_l) of features (L, D′): (L, D)."""
    encoder = model.encoder
    return layer_norm(affine(features, encoder.project) + weights(encoder)["positions"], encoder.norm)


def vector_of(model: Any, word: int) -> Floats:
    """√D E[w]."""
    table = weights(model.embedding)["weight"]
    return np.asarray(np.sqrt(table.shape[1]) * table[word])
