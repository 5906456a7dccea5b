"""Multi-head attention: every position of a sequence attends to all positions of a sequence, in H parallel heads.

    head_h = softmax(Q_h K_hᵀ / √D_h) V_h,    Q = X W_q + b_q,  K = Y W_k + b_k,  V = Y W_v + b_v,  split into H parts
    output = [head_1 … head_H] W_o + b_o

Self-attention has Y = X, cross-attention another sequence. With a causal mask, position t attends only to positions up
to t. Source: A. Vaswani et al., arXiv 1706.03762, section 3.2. The softmax is torch's fused
F.scaled_dot_product_attention.

Shapes: B sequences in a batch, T query positions, S key positions, H heads of D_h = D/H features each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError

KeysValues = tuple[Tensor, Tensor]  # (B, H, S, D_h) each


class MultiHeadAttention(nn.Module):
    """Multi-head attention of queries (B, T, D) to keys (B, S, D).

    Args:
        width: Number of features D.
        num_heads: Number of heads H, a divisor of D.
        dropout: Probability of dropping an attention weight, in [0, 1).

    Raises:
        ValueError: If the number of heads does not divide the width.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise UserError(
                f"num_heads is {num_heads}, which does not divide the width {width}; it must be one of "
                f"{', '.join(str(n) for n in range(1, width + 1) if width % n == 0)}."
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)  # both in one product
        self.output = nn.Linear(width, width)
        for weight in (self.query.weight, *self.keys_values.weight.chunk(2)):
            nn.init.xavier_uniform_(weight)
        for bias in (self.query.bias, self.keys_values.bias, self.output.bias):
            nn.init.zeros_(bias)

    def project(self, key: Tensor) -> KeysValues:
        """Projects a sequence (B, S, D) to keys and values: (B, H, S, D_h) each."""
        keys, values = self.keys_values(key).chunk(2, 2)
        return self._split_heads(keys), self._split_heads(values)

    def forward(self, query: Tensor, keys_values: KeysValues, causal: bool = False) -> Tensor:
        """Attention output (B, T, D) of the queries (B, T, D) over projected keys and values; `causal` needs S = T."""
        queries, dropout = self._split_heads(self.query(query)), self.dropout if self.training else 0.0
        heads = F.scaled_dot_product_attention(queries, *keys_values, dropout_p=dropout, is_causal=causal)
        output: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return output

    def weights(self, query: Tensor, keys: Tensor, causal: bool = False) -> Tensor:
        """Attention weights (B, H, T, S) of the queries (B, T, D) over the keys (B, H, S, D_h), for pictures."""
        queries = self._split_heads(self.query(query))
        scores = queries @ keys.mT / keys.shape[3] ** 0.5
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -torch.inf)
        return scores.softmax(3)

    def _split_heads(self, sequences: Tensor) -> Tensor:
        return sequences.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, D_h)


@contextmanager
def recorded_self_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Records the weights (B, H, T, T) of every self-attention of `model` that runs in the block, for pictures.

    Self-attention is a `MultiHeadAttention` named self_attention; the dictionary has the name of the module that holds
    it, such as layers.0, and is filled while the block runs.
    """
    recorded: dict[str, Tensor] = {}

    def record(name: str, attention: nn.Module, given: tuple[Any, ...]) -> None:
        query, (keys, _), causal = given
        assert isinstance(attention, MultiHeadAttention)
        recorded[name] = attention.weights(query, keys, causal).detach()

    holders = [(name, module) for name, module in model.named_modules() if hasattr(module, "self_attention")]
    hooks = [module.self_attention.register_forward_pre_hook(partial(record, name)) for name, module in holders]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()
