"""The vanilla recurrent captioner against a loop of its formula."""

import numpy as np
import pytest
import torch

from modules import CaptionRNN
from tests.modules.captioning.captioning import WORDS, affine, grid_of, random_captions, scrambled, vector_of, weights


@pytest.mark.parametrize("tied", [True, False])
def test_logits_equal_the_formula(tied: bool) -> None:
    model = scrambled(CaptionRNN((4, 3), WORDS, width=5, tie_embeddings=tied))
    inputs, words = torch.randn(2, 4, 3, dtype=torch.float64), random_captions(2, 6)[:, :-1]
    found = model(inputs, words).detach().numpy()
    own = weights(model.rnn)
    for features, caption, logits in zip(inputs.numpy(), words.tolist(), found, strict=True):
        h = affine(grid_of(model, features).ravel(), model.initial)
        for word, expected in zip(caption, logits, strict=True):
            x = vector_of(model, word)
            h = np.tanh(own["weight_ih_l0"] @ x + own["bias_ih_l0"] + own["weight_hh_l0"] @ h + own["bias_hh_l0"])
            np.testing.assert_allclose(affine(h, model.output), expected, rtol=1e-9, atol=1e-9)
    same = np.array_equal(weights(model.embedding)["weight"], model.output.weight.detach().numpy())
    assert same == tied


def test_pooled_features_are_a_grid_of_one_position() -> None:
    model = CaptionRNN((7,), WORDS, width=6)
    assert model.initial.in_features == 6
    assert model(torch.randn(3, 7), random_captions(3, 4)).shape == (3, 6, len(WORDS))
