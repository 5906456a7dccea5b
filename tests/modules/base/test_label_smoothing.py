"""Label smoothing against its formula in numpy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from modules.base.label_smoothing import check_label_smoothing


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_torchs_loss_equals_the_formula(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 5)), rng.integers(5, size=7)
    labels[3] = 99  # left out
    kept = labels != 99
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = (1 - smoothing) * np.eye(5)[labels[kept]] + smoothing / 5
    expected = -(targets * log_probabilities[kept]).sum(1).mean()
    scores, classes = torch.from_numpy(logits), torch.from_numpy(labels)
    loss = F.cross_entropy(scores, classes, label_smoothing=smoothing, ignore_index=99)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_values_out_of_range_are_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=r"label_smoothing is .*; it must be in \[0, 1\)\."):
        check_label_smoothing(smoothing)
