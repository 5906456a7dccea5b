"""The LSTM captioner, with attention and without, against a loop of its formula."""

import numpy as np
import pytest
import torch

from modules import CaptionLSTM
from tests.modules.captioning.captioning import (
    WORDS,
    Floats,
    affine,
    grid_of,
    random_captions,
    scrambled,
    sigmoid,
    softmax,
    vector_of,
    weights,
)

D = 5


def logits_by_hand(model: CaptionLSTM, features: Floats, caption: list[int]) -> tuple[list[Floats], list[Floats]]:
    """Logits and attention weights of each step."""
    grid, logits, attended = grid_of(model, features), [], []
    state = affine(grid.mean(0) if model.attends else grid.ravel(), model.initial)
    h, c = state[:D], state[D:]
    own = weights(model.cell if model.attends else model.lstm)
    suffix = "" if model.attends else "_l0"
    for word in caption:
        x = vector_of(model, word)
        if model.attends:
            attended.append(softmax(grid @ affine(h, model.query) / np.sqrt(D)))
            x = np.concatenate([x, sum(weight * vector for weight, vector in zip(attended[-1], grid, strict=True))])
        gates = own["weight_ih" + suffix] @ x + own["bias_ih" + suffix]
        gates = gates + own["weight_hh" + suffix] @ h + own["bias_hh" + suffix]
        i, f, g, o = gates.reshape(4, D)  # in torch's order
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        logits.append(affine(h, model.output))
    return logits, attended


@pytest.mark.parametrize("attention", [True, False])
def test_logits_and_attention_equal_the_formula(attention: bool) -> None:
    model = scrambled(CaptionLSTM((4, 3), WORDS, width=D, attention=attention))
    inputs, words = torch.randn(2, 4, 3, dtype=torch.float64), random_captions(2, 6)[:, :-1]
    found = model(inputs, words).detach().numpy()
    maps = model.attention_maps(inputs, words).detach().numpy() if attention else [None, None]
    for features, caption, logits, attended in zip(inputs.numpy(), words.tolist(), found, maps, strict=True):
        expected, expected_weights = logits_by_hand(model, features, caption)
        np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-9)
        if attention:
            np.testing.assert_allclose(attended, expected_weights, rtol=1e-9, atol=1e-9)


def test_without_attention_there_is_none_to_show() -> None:
    model = CaptionLSTM((4, 3), WORDS, width=D, attention=False)
    with pytest.raises(ValueError, match=r"has no attention to show; train one with attention set to true"):
        model.attention_maps(torch.zeros(1, 4, 3), torch.ones(1, 2, dtype=torch.int64))
