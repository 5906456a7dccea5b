"""Lookahead against its formula in numpy."""

import numpy as np
import pytest
import torch

from modules.fast_convnet.lookahead import Lookahead


def test_slow_weights_equal_the_formula() -> None:
    rng = np.random.default_rng(0)
    fast = [torch.from_numpy(rng.normal(size=shape)) for shape in ((3, 2), (4,))]
    expected_fast = [weight.numpy().copy() for weight in fast]
    slow = [weight.copy() for weight in expected_fast]
    lookahead, total = Lookahead(3), 8
    lookahead.begin(fast)
    for step in range(1, total + 1):
        for number, move in enumerate(rng.normal(size=2)):  # what an optimizer does
            fast[number] += move
            expected_fast[number] += move
        lookahead.after_step(fast, step, total)
        if step % 3 == 0:
            alpha = 0.95**3 * (step / total) ** 3
            slow = [alpha * s + (1 - alpha) * f for s, f in zip(slow, expected_fast, strict=True)]
            expected_fast = [weight.copy() for weight in slow]
        if step == total:
            expected_fast = [weight.copy() for weight in slow]
        for found, wanted in zip(fast, expected_fast, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12)
    for found, wanted in zip(lookahead.slow, slow, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_slow_weights_of_a_checkpoint_are_kept() -> None:
    lookahead = Lookahead(1)
    lookahead.slow = [torch.tensor([5.0])]
    lookahead.begin([torch.tensor([1.0])])
    assert lookahead.slow[0].tolist() == [5.0]
    with pytest.raises(ValueError, match="every 0 steps is not possible"):
        Lookahead(0)
