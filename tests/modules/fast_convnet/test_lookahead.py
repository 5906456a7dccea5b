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
        for number, update in enumerate(rng.normal(size=2)):  # of an optimizer
            fast[number] += update
            expected_fast[number] += update
        lookahead.after_step(fast, step, total)
        if step % 3 == 0:
            alpha = 0.95**3 * (step / total) ** 3
            slow = [alpha * s + (1 - alpha) * f for s, f in zip(slow, expected_fast, strict=True)]
            expected_fast = [weight.copy() for weight in slow]
        if step == total:
            expected_fast = [weight.copy() for weight in slow]
        for weight, expected in zip(fast, expected_fast, strict=True):
            np.testing.assert_allclose(weight, expected, rtol=1e-12)
    for weight, expected in zip(lookahead.slow, slow, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-12)


def test_slow_weights_of_a_checkpoint_are_kept() -> None:
    lookahead = Lookahead(1)
    lookahead.slow = [torch.tensor([5.0])]
    lookahead.begin([torch.tensor([1.0])])
    assert lookahead.slow[0].tolist() == [5.0]
    with pytest.raises(ValueError, match="lookahead is 0; it must be at least 1 step"):
        Lookahead(0)
