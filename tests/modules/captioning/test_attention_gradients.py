"""Gradients of attention by hand."""

from functools import partial

import pytest
import torch.nn.functional as F

from modules.captioning.attention_gradients import attention, attention_backward
from tests.modules.gradients import assert_gradients, tensors


@pytest.mark.parametrize(("length", "causal"), [(3, False), (5, True)])
def test_attention(length: int, causal: bool) -> None:
    queries, keys, values = tensors((2, length, 4), (2, 5, 4), (2, 5, 4))
    assert_gradients(
        partial(attention, causal=causal),
        partial(F.scaled_dot_product_attention, is_causal=causal),
        lambda dy: attention_backward(dy, queries, keys, values, causal),
        queries,
        keys,
        values,
    )
