"""The blocks of a Transformer captioner with the shapes of its own configuration, for a diagram.

The shapes are those that the layers return for a batch; the numbers of parameters are counted in the layers.

Shapes: B images in a batch, L positions of the grid, T words, V words in the vocabulary, H heads of D_h, D width.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from modules.interpretation.feature_extraction import captured_outputs, evaluating

Kind = Literal["input", "attention", "feed-forward", "norm", "affine"]


class Block(NamedTuple):
    """A box of the diagram.

    Attributes:
        kind: Kind of the block, which sets its color: input, attention, feed-forward, norm or affine.
        text: What it computes, with its settings.
        shape: Shape of its output.
        parameters: Number of its parameters.
        repeated: Whether it is part of the layer that is stacked.
    """

    kind: Kind
    text: str
    shape: str
    parameters: int = 0
    repeated: bool = False


@torch.no_grad()
def transformer_blocks(model: Any, inputs: Tensor, words: Tensor) -> tuple[list[Block], list[Block]]:
    """Returns the blocks of encoder and decoder, from input to output.

    Args:
        model: Captioner with encoder, encoder_layers, layers, embedding and output.
        inputs: Inputs (B, ...).
        words: Ids of words (B, T), START first.
    """
    stacks = {"L": model.encoder_layers, "T": model.layers}
    heads = [getattr(layer, name) for stack in stacks.values() for layer in stack[:1] for name in _sublayers(layer)]
    with evaluating(model), captured_outputs([model.encoder, model.embedding, model.output, *heads]) as outputs:
        model(inputs, words)
    shapes = dict(zip([model.encoder, model.embedding, model.output, *heads], outputs, strict=True))
    height, width = model.encoder.grid
    encoder = [
        Block("input", "image" if inputs.ndim == 4 else "features", _shape(inputs)),
        Block(
            "affine", f"image encoder, grid of {height} × {width}", _shape(shapes[model.encoder]), _size(model.encoder)
        ),
    ]
    decoder = [
        Block("input", "words", "(B, T)"),
        Block(
            "affine",
            f"√D × embedding of {len(model.embedding.weight):,} words + positions",
            _shape(shapes[model.embedding], "T"),
            _size(model.embedding),
        ),
    ]
    for (letter, stack), blocks in zip(stacks.items(), (encoder, decoder), strict=True):
        for layer in stack[:1]:
            for name in _sublayers(layer):
                sublayer, norm = getattr(layer, name), getattr(layer, f"{name}_norm")
                text = _text(name, sublayer, masked=letter == "T")
                kind: Kind = "feed-forward" if name == "feed_forward" else "attention"
                shape = _shape(shapes[sublayer], letter)
                both = [
                    Block("norm", "layer norm", shape, _size(norm), True),
                    Block(kind, text, shape, _size(sublayer), True),
                ]
                blocks += both if layer.norm_first else both[::-1]
    for blocks, norm in ((encoder, model.grid_norm), (decoder, model.norm)):
        if isinstance(norm, nn.LayerNorm):
            blocks.append(Block("norm", "layer norm", blocks[-1].shape, _size(norm)))
    tied = model.output.weight is model.embedding.weight
    number = model.output.bias.numel() if tied else _size(model.output)
    text = "affine, logits; weights are the embedding's" if tied else "affine, logits"
    decoder.append(Block("affine", text, _shape(shapes[model.output], "T"), number))
    return encoder, decoder


def _sublayers(layer: Any) -> list[str]:
    names = ["self_attention", "cross_attention", "feed_forward"]
    return [name for name in names if getattr(layer, name) is not None]


def _text(name: str, sublayer: Any, masked: bool) -> str:
    if name == "feed_forward":
        return f"affine to {sublayer[0].out_features} – ReLU – affine"
    kind = "cross-attention" if name == "cross_attention" else "causal self-attention" if masked else "self-attention"
    return f"{kind}, {sublayer.num_heads} heads of {sublayer.query.out_features // sublayer.num_heads}"


def _shape(output: Tensor | None, second: str = "") -> str:
    """Shape of an output with a letter for the batch, and for the second dimension if one is given and variable."""
    assert output is not None
    sizes = ["B", *map(str, output.shape[1:])]
    if second == "T":
        sizes[1] = "T"
    return f"({', '.join(sizes)})"


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
