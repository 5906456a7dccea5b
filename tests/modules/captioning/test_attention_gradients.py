"""Gradients of attention by hand."""

import torch.nn.functional as F

from modules.captioning.attention_gradients import attention, attention_backward
from tests.modules.gradients import assert_gradients, tensors


def test_attention() -> None:
    queries, keys, values = tensors((2, 3, 4), (2, 5, 4), (2, 5, 4))
    assert_gradients(
        attention,
        F.scaled_dot_product_attention,
        lambda dy: attention_backward(dy, queries, keys, values),
        queries,
        keys,
        values,
    )
