"""Backpropagation through CaptionTransformer by hand: residual layers of attention and feed-forward networks.

    pre-norm     y = x + f(LayerNorm(x))        dx = dy + the gradient that comes back through f and LayerNorm
    post-norm    y = LayerNorm(x + f(x))

A residual sum passes its gradient to both terms unchanged. The grid is the memory of every layer, so its gradient is
the sum of theirs. The gradients of attention are in `modules/captioning/attention_gradients.py`.

Shapes: B captions in a batch, T words, L positions of the grid, D width, H heads of D_h = D/H features each.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from modules.captioning.attention import MultiHeadAttention
from modules.captioning.attention_gradients import attention, attention_backward
from modules.captioning.caption_transformer import CaptionTransformer
from modules.captioning.positional_encoding import positional_encoding
from modules.captioning.transformer_layer import TransformerLayer
from pipelines.checks.by_hand.captioner_steps import embed, encode, word_loss
from pipelines.checks.by_hand.layer_steps import Backward, Gradients, from_last_to_first, step, steps

Branch = Callable[[Tensor], tuple[Tensor, Backward]]  # from x (B, T, D) to f(x) and its backward pass


def transformer_by_hand(model: Any, batch: tuple[Tensor, Tensor], gradients: Gradients) -> Tensor:
    """Adds the gradients of the training loss by hand and returns the loss.

    Args:
        model: CaptionTransformer in training mode, without dropout and label smoothing.
        batch: Inputs (B, ...) and words (B, T + 1) from START to END and PAD.
        gradients: Gradients of the model's parameters are added to it.
    """
    inputs, words = batch
    grid, grid_backward = _encode_grid(model, inputs, gradients)
    vectors, embedding_backward = embed(model, words[:, :-1], gradients)
    positions = torch.arange(vectors.shape[1], dtype=vectors.dtype)
    x = vectors + positional_encoding(positions, vectors.shape[2])
    dgrid = torch.zeros_like(grid)  # the layers add their parts in the backward pass
    backwards = []
    for layer in model.layers:
        x, layer_backward = _layer(layer, x, grid, dgrid, gradients)
        backwards.append(layer_backward)
    states, norm_backward = step(model.norm, x, gradients)
    loss, dstates = word_loss(model, states, words[:, 1:], gradients)
    embedding_backward(from_last_to_first([*backwards, norm_backward])(dstates))
    grid_backward(dgrid)
    return loss


def _encode_grid(model: CaptionTransformer, inputs: Tensor, gradients: Gradients) -> tuple[Tensor, Backward]:
    grid, first_backward = encode(model, inputs, gradients)
    backwards = [first_backward]
    for layer in model.encoder_layers:
        grid, layer_backward = _layer(layer, grid, None, None, gradients)
        backwards.append(layer_backward)
    grid, norm_backward = step(model.grid_norm, grid, gradients)
    return grid, from_last_to_first([*backwards, norm_backward])


def _layer(
    layer: Any, x: Tensor, grid: Tensor | None, dgrid: Tensor | None, gradients: Gradients
) -> tuple[Tensor, Backward]:
    """Applies a layer to sequences (B, T, D); its backward pass adds the gradient of the grid (B, L, D) to `dgrid`."""
    branches: list[tuple[nn.Module, Branch]] = [
        (layer.self_attention_norm, lambda x: _self_attention(layer.self_attention, x, grid is not None, gradients)),
        (layer.feed_forward_norm, lambda x: steps(layer.feed_forward, x, gradients)),
    ]
    if grid is not None and dgrid is not None:

        def cross_attention(x: Tensor) -> tuple[Tensor, Backward]:
            y, both_backward = _attend(layer.cross_attention, x, grid, False, gradients)

            def backward(dy: Tensor) -> Tensor:
                dx, from_here = both_backward(dy)
                dgrid.add_(from_here)
                return dx

            return y, backward

        branches.insert(1, (layer.cross_attention_norm, cross_attention))
    backwards = []
    for norm, branch in branches:
        x, branch_backward = _residual(layer, norm, branch, x, gradients)
        backwards.append(branch_backward)
    return x, from_last_to_first(backwards)


def _residual(
    layer: TransformerLayer, norm: nn.Module, branch: Branch, x: Tensor, gradients: Gradients
) -> tuple[Tensor, Backward]:
    if layer.norm_first:
        normalized, norm_backward = step(norm, x, gradients)
        y, branch_backward = branch(normalized)
        return x + y, lambda dy: dy + norm_backward(branch_backward(dy))
    y, branch_backward = branch(x)
    normalized, norm_backward = step(norm, x + y, gradients)

    def backward(dy: Tensor) -> Tensor:
        dsum = norm_backward(dy)
        return dsum + branch_backward(dsum)

    return normalized, backward


def _self_attention(
    layer: MultiHeadAttention, x: Tensor, causal: bool, gradients: Gradients
) -> tuple[Tensor, Backward]:
    y, both_backward = _attend(layer, x, x, causal, gradients)
    return y, lambda dy: torch.stack(both_backward(dy)).sum(0)  # x is both query and key


def _attend(
    layer: MultiHeadAttention, x: Tensor, key: Tensor, causal: bool, gradients: Gradients
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """Attention output of x (B, T, D) over `key` (B, S, D); the backward pass returns the gradients of both."""
    heads, batch = layer.num_heads, len(x)

    def split(sequences: Tensor) -> Tensor:  # (B, T, D) to (B·H, T, D_h)
        return sequences.unflatten(2, (heads, -1)).transpose(1, 2).flatten(0, 1)

    def join(parts: Tensor) -> Tensor:  # (B·H, T, D_h) to (B, T, D)
        return parts.unflatten(0, (batch, heads)).transpose(1, 2).flatten(2)

    query, query_backward = step(layer.query, x, gradients)
    keys_values, keys_values_backward = step(layer.keys_values, key, gradients)  # (B, S, 2D)
    keys, values = keys_values.chunk(2, 2)
    of_heads = split(query), split(keys), split(values)
    y, output_backward = step(layer.output, join(attention(*of_heads, causal)), gradients)

    def backward(dy: Tensor) -> tuple[Tensor, Tensor]:
        dquery, dkeys, dvalues = attention_backward(split(output_backward(dy)), *of_heads, causal)
        dkey = keys_values_backward(torch.cat([join(dkeys), join(dvalues)], 2))
        return query_backward(join(dquery)), dkey

    return y, backward
