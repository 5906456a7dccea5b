"""Attention and the Transformer's layer, pre- and post-norm, against loops of their formulas; the causal mask."""

import numpy as np
import pytest
import torch
from torch import Tensor

from modules.captioning.attention import MultiHeadAttention
from modules.captioning.transformer_layer import NormPosition, TransformerLayer
from tests.modules.captioning.captioning import Floats, affine, layer_norm, scrambled, softmax

D, H = 6, 3


def attention(module: MultiHeadAttention, x: Floats, y: Floats, causal: bool) -> tuple[Floats, Floats]:
    """Attention output (T, D) of x (T, D) over y (S, D), and the weights (H, T, S)."""
    size = D // H
    q, k, v = (
        affine(x, module.query),
        affine(y, module.keys_values, slice(D)),
        affine(y, module.keys_values, slice(D, None)),
    )
    heads, weights = [], np.zeros((H, len(x), len(y)))
    for h in range(H):
        part = slice(h * size, (h + 1) * size)
        outputs = np.zeros((len(x), size))
        for t in range(len(x)):
            visible = t + 1 if causal else len(y)
            weights[h, t, :visible] = softmax(
                np.array([q[t, part] @ k[s, part] / np.sqrt(size) for s in range(visible)])
            )
            outputs[t] = weights[h, t] @ v[:, part]
        heads.append(outputs)
    return affine(np.concatenate(heads, 1), module.output), weights


def layer_by_hand(layer: TransformerLayer, x: Floats, grid: Floats | None, norm: str, causal: bool) -> Floats:
    parts = [(layer.self_attention_norm, lambda y: attention(layer.self_attention, y, y, causal)[0])]
    if grid is not None:
        cross = layer.cross_attention
        assert cross is not None
        parts.append((layer.cross_attention_norm, lambda y: attention(cross, y, grid, False)[0]))
    linear_1, _, linear_2 = layer.feed_forward
    parts.append((layer.feed_forward_norm, lambda y: affine(np.maximum(affine(y, linear_1), 0), linear_2)))
    for normalize, part in parts:
        x = x + part(layer_norm(x, normalize)) if norm == "pre" else layer_norm(x + part(x), normalize)
    return x


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("cross", [True, False])
def test_a_layer_equals_the_formula(norm: NormPosition, cross: bool) -> None:
    layer = scrambled(TransformerLayer(D, H, 7, cross, norm))
    x, grid = torch.randn(2, 5, D, dtype=torch.float64), torch.randn(2, 4, D, dtype=torch.float64)
    memory = layer.cross_attention.project(grid) if cross else None
    for causal in (True, False):
        found = layer(x, memory, causal=causal)[0].detach().numpy()
        for n in range(2):
            expected = layer_by_hand(layer, x[n].numpy(), grid[n].numpy() if cross else None, norm, causal)
            np.testing.assert_allclose(found[n], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_cross_attention_weights_equal_the_formula(norm: NormPosition) -> None:
    layer = scrambled(TransformerLayer(D, H, 7, True, norm))
    x, grid = torch.randn(1, 5, D, dtype=torch.float64), torch.randn(1, 4, D, dtype=torch.float64)
    found = layer.attention_weights(x, layer.cross_attention.project(grid))[0].detach().numpy()
    query = x[0].numpy()
    if norm == "pre":
        y = layer_norm(query, layer.self_attention_norm)
        query = layer_norm(query + attention(layer.self_attention, y, y, True)[0], layer.cross_attention_norm)
    else:
        attended = attention(layer.self_attention, query, query, True)[0]
        query = layer_norm(query + attended, layer.self_attention_norm)
    np.testing.assert_allclose(found, attention(layer.cross_attention, query, grid[0].numpy(), False)[1], rtol=1e-9)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_later_position_changes_no_earlier_one(norm: NormPosition) -> None:
    layer = scrambled(TransformerLayer(D, H, 7, True, norm))
    x, grid = torch.randn(2, 6, D, dtype=torch.float64), torch.randn(2, 4, D, dtype=torch.float64)
    changed = x.clone()
    changed[:, 3] += torch.randn(2, D, dtype=torch.float64)

    def outputs(y: Tensor) -> Tensor:
        return layer(y, layer.cross_attention.project(grid), causal=True)[0]

    before, after = outputs(x), outputs(changed)
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=0)
    assert (before[:, 3:] - after[:, 3:]).abs().amin((0, 2)).min() > 0


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_acts_only_in_training_and_keeps_the_mean(dropout: float) -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(64, 1, dropout)
    with torch.no_grad():
        layer.output.weight.copy_(torch.eye(64))
    x = torch.randn(1, 3, 64)
    memory = layer.project(torch.randn(1, 500, 64))
    evaluated = layer.eval()(x, memory)
    trained = layer.train()(x, memory)
    assert torch.equal(evaluated, trained) == (dropout == 0)
    many = torch.stack([layer(x, memory) for _ in range(400)])
    torch.testing.assert_close(many.mean(0), evaluated, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_heads": 4}, "num_heads is 4, which does not divide the width 6; it must be one of 1, 2, 3, 6"),
        ({"num_heads": 0}, "num_heads is 0, which does not divide"),
        ({"norm": "middle"}, "norm is middle; it must be pre or post"),
        ({"hidden": 0}, "hidden is 0; it must be at least 1"),
    ],
)
def test_refusals(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TransformerLayer(**({"width": 6, "num_heads": 2, "hidden": 8, "cross": True} | settings))  # type: ignore[arg-type]
