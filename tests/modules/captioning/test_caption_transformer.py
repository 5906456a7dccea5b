"""The Transformer captioner: positions, stack and mask against loops of their formulas."""

from math import cos, sin

import numpy as np
import pytest
import torch

from modules import CaptionTransformer
from modules.captioning.positional_encoding import positional_encoding
from modules.captioning.transformer_layer import NormPosition
from tests.modules.captioning.captioning import (
    WORDS,
    affine,
    grid_of,
    layer_norm,
    random_captions,
    scrambled,
    softmax,
    vector_of,
)
from tests.modules.captioning.test_transformer_layer import D, H, layer_by_hand


def test_positions_equal_the_formula() -> None:
    found = positional_encoding(torch.arange(3, 9, dtype=torch.float64), 8).numpy()
    for row, t in zip(found, range(3, 9), strict=True):
        for i in range(4):
            angle = t / 10_000 ** (2 * i / 8)
            assert row[2 * i] == pytest.approx(sin(angle), abs=1e-12)
            assert row[2 * i + 1] == pytest.approx(cos(angle), abs=1e-12)


@pytest.mark.parametrize("encoder_layers", [0, 1])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_logits_and_attention_equal_the_formula(norm: NormPosition, encoder_layers: int) -> None:
    model = scrambled(CaptionTransformer((4, 3), WORDS, D, 2, H, 7, encoder_layers, norm))
    inputs, words = torch.randn(2, 4, 3, dtype=torch.float64), random_captions(2, 5)[:, :-1]
    found, maps = model(inputs, words).detach().numpy(), model.attention_maps(inputs, words).detach().numpy()
    encodings = positional_encoding(torch.arange(words.shape[1], dtype=torch.float64), D).numpy()
    for n in range(2):
        grid = grid_of(model, inputs[n].numpy())
        for layer in model.encoder_layers:
            grid = layer_by_hand(layer, grid, None, norm, causal=False)
        if norm == "pre" and encoder_layers:
            grid = layer_norm(grid, model.grid_norm)
        x = np.array([vector_of(model, word) for word in words[n].tolist()]) + encodings
        x = layer_by_hand(model.layers[0], x, grid, norm, causal=True)
        weights = model.layers[1].attention_weights(
            torch.from_numpy(x)[None], model.layers[1].cross_attention.project(torch.from_numpy(grid)[None])
        )
        np.testing.assert_allclose(maps[n], weights[0].detach().numpy().mean(0), rtol=1e-9, atol=1e-12)
        x = layer_by_hand(model.layers[1], x, grid, norm, causal=True)
        x = layer_norm(x, model.norm) if norm == "pre" else x
        np.testing.assert_allclose(found[n], affine(x, model.output), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(maps.sum(2), 1, rtol=1e-12)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_self_attention_maps_are_those_of_the_formula_in_every_layer(norm: NormPosition) -> None:
    model = scrambled(CaptionTransformer((4, 3), WORDS, D, 2, H, 7, 1, norm))
    inputs, words = torch.randn(2, 4, 3, dtype=torch.float64), random_captions(2, 5)[:, :-1]
    encoder, decoder = model.self_attention_maps(inputs, words)
    length = words.shape[1]
    assert [tuple(w.shape) for w in encoder] == [(2, H, 4, 4)]
    assert [tuple(w.shape) for w in decoder] == [(2, H, length, length)] * 2
    for weights in (*encoder, *decoder):
        torch.testing.assert_close(weights.sum(3), torch.ones_like(weights[..., 0]))
    assert all((weights.triu(1) == 0).all() for weights in decoder) and (encoder[0].triu(1) > 0).any()
    encodings = positional_encoding(torch.arange(length, dtype=torch.float64), D).numpy()
    for n in range(2):
        x = np.array([vector_of(model, word) for word in words[n].tolist()]) + encodings
        for index, (stack, found, first) in enumerate(
            ((model.encoder_layers, encoder, grid_of(model, inputs[n].numpy())), (model.layers, decoder, x))
        ):
            layer = stack[0]
            normed = layer_norm(first, layer.self_attention_norm) if norm == "pre" else first
            queries = affine(normed, layer.self_attention.query)
            keys = affine(normed, layer.self_attention.keys_values)[:, :D]
            for h in range(H):
                part = slice(h * D // H, (h + 1) * D // H)
                scores = queries[:, part] @ keys[:, part].T / np.sqrt(D / H)
                if index:
                    scores[np.triu_indices(length, 1)] = -np.inf
                np.testing.assert_allclose(found[0][n, h].detach().numpy(), softmax(scores), atol=1e-12)
    assert not any(layer.self_attention._forward_pre_hooks for layer in (*model.encoder_layers, *model.layers))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_layers": 0}, r"num_layers is 0; it must be in \[1, 1000\]"),
        ({"encoder_layers": -1}, r"encoder_layers is -1; it must be in \[0, 1000\]"),
        ({"width": 9, "num_heads": 3}, "width is 9; it must be even"),
        ({"num_heads": 5}, "num_heads is 5, which does not divide the width 8"),
        ({"norm": "both"}, "norm is both; it must be pre or post"),
        ({"hidden": 0}, "hidden is 0; it must be at least 1"),
    ],
)
def test_refusals(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CaptionTransformer((4, 3), WORDS, **({"width": 8} | settings))  # type: ignore[arg-type]
