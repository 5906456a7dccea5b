"""A layer of a Transformer: attention to its own sequence, perhaps to another one, then a small network at each place.

    post-norm    x ← LayerNorm(x + f(x))        as published; needs a warm-up of the learning rate
    pre-norm     x ← x + f(LayerNorm(x))        gradients reach every layer straight, so it trains without

for f = self-attention, cross-attention to the memory, and ReLU(x W_1 + b_1) W_2 + b_2, one after the other. With
pre-norm the sum of all of them is normalized once more where the last layer ends, by whoever stacks them.

Sources: A. Vaswani et al., arXiv 1706.03762, section 3.1; R. Xiong et al., arXiv 2002.04745 for pre-norm.

Shapes: B sequences in a batch, T places of a sequence, S of the memory, H heads of D_h = D/H numbers each.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import UserError
from modules.captioning.attention import KeysValues, MultiHeadAttention

NormPlace = Literal["pre", "post"]


class TransformerLayer(nn.Module):
    """A layer of width D.

    Args:
        width: D.
        num_heads: H, which divides D.
        hidden: units of the small network, at least 1.
        cross: attend to a memory too.
        norm: pre or post.
        dropout: Probability of dropping a value of a residual branch or an attention weight, in [0, 1).

    Raises:
        ValueError: a value out of the range given above.
    """

    def __init__(
        self, width: int, num_heads: int, hidden: int, cross: bool, norm: NormPlace = "pre", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise UserError(f"norm is {norm!r}; give pre or post.")
        if hidden < 1:
            raise UserError(f"hidden is {hidden}; give at least 1 unit.")
        self.norm_first = norm == "pre"
        self.self_attention = MultiHeadAttention(width, num_heads, dropout)
        self.cross_attention = MultiHeadAttention(width, num_heads, dropout) if cross else None
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if cross else 2))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, memory: KeysValues | None = None, past: KeysValues | None = None, causal: bool = False
    ) -> tuple[Tensor, KeysValues]:
        """One layer's work on sequences.

        Args:
            x: (B, T, D).
            memory: keys and values of what cross-attention asks, from its `project`; one of fewer sequences, a divisor
                of B, is asked by as many neighbors each.
            past: keys and values of places that x follows, which self-attention asks too.
            causal: whether a place asks those before it and itself alone; with a past, T is 1 and there are no others.

        Returns:
            (B, T, D), and the keys and values of the past and x.
        """
        x, keys_values = self._ask_itself(x, past, causal)
        if self.cross_attention is not None:
            assert memory is not None
            asking = self._normed(1, x).reshape(len(memory[0]), -1, x.shape[2])  # all places of one memory together
            x = self._add(1, x, self.cross_attention(asking, memory).reshape(x.shape))
        return self._add(-1, x, self.feed_forward(self._normed(-1, x))), keys_values

    def attention_weights(self, x: Tensor, memory: KeysValues) -> Tensor:
        """Where cross-attention looks in the memory, with causal sequences (B, T, D): (B, H, T, S)."""
        assert self.cross_attention is not None
        x, _ = self._ask_itself(x, None, causal=True)
        return self.cross_attention.weights(self._normed(1, x), memory[0])

    def _ask_itself(self, x: Tensor, past: KeysValues | None, causal: bool) -> tuple[Tensor, KeysValues]:
        y = self._normed(0, x)
        keys, values = self.self_attention.project(y)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        return self._add(0, x, self.self_attention(y, (keys, values), causal)), (keys, values)

    def _normed(self, number: int, x: Tensor) -> Tensor:
        """What the part of that number works on."""
        return self.norms[number](x) if self.norm_first else x

    def _add(self, number: int, x: Tensor, change: Tensor) -> Tensor:
        x = x + self.dropout(change)
        return x if self.norm_first else self.norms[number](x)
