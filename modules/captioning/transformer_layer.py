"""A Transformer layer: self-attention, optional cross-attention, and a feed-forward network at each position.

    pre-norm     x ← x + f(LayerNorm(x))        gradients reach every layer directly, so it trains without warm-up
    post-norm    x ← LayerNorm(x + f(x))        as published; needs a warm-up of the learning rate

for f = self-attention, cross-attention to the memory, and ReLU(x W_1 + b_1) W_2 + b_2, one after the other. A stack of
pre-norm layers ends with one more LayerNorm, which belongs to the stack.

Sources: A. Vaswani et al., arXiv 1706.03762, section 3.1; R. Xiong et al., arXiv 2002.04745 for pre-norm.

Shapes: B sequences in a batch, T positions of a sequence, S of the memory, H heads of D_h = D/H features each.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from common.ranges import check_range
from modules.captioning.attention import KeysValues, MultiHeadAttention
from modules.captioning.earlier_keys import read_earlier_keys

NormPosition = Literal["pre", "post"]


class TransformerLayer(nn.Module):
    """A Transformer layer of width D.

    Args:
        width: Number of features D.
        num_heads: Number of heads H, a divisor of D.
        hidden: Number of hidden units of the feed-forward network, ≥ 1.
        cross: Whether the layer has cross-attention to a memory.
        norm: Position of the LayerNorm, pre or post.
        dropout: Probability of dropping a value of a residual branch or an attention weight, in [0, 1).

    Raises:
        ValueError: If a value is out of the range given above.
    """

    def __init__(
        self, width: int, num_heads: int, hidden: int, cross: bool, norm: NormPosition = "pre", dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_range("norm", norm, norm in ("pre", "post"), "pre or post")
        check_range("hidden", hidden, hidden >= 1, "at least 1")
        self.norm_first = norm == "pre"
        self.self_attention = MultiHeadAttention(width, num_heads, dropout)
        self.cross_attention = MultiHeadAttention(width, num_heads, dropout) if cross else None
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.self_attention_norm = nn.LayerNorm(width)
        if cross:
            self.cross_attention_norm = nn.LayerNorm(width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        names = [name for name, layer in self.named_children() if isinstance(layer, nn.LayerNorm)]
        read_earlier_keys(self, {f"norms.{i}.": f"{name}." for i, name in enumerate(names)})

    def forward(
        self, x: Tensor, memory: KeysValues | None = None, past: KeysValues | None = None, causal: bool = False
    ) -> tuple[Tensor, KeysValues]:
        """Applies the layer to sequences.

        Args:
            x: Sequences (B, T, D).
            memory: Keys and values from the `project` of cross-attention. If it has fewer sequences, a divisor of B,
                successive sequences of x share one of them.
            past: Keys and values of the positions before x, which self-attention attends to as well.
            causal: Whether self-attention is causal. With a past, T is 1 and this must be False.

        Returns:
            Sequences (B, T, D), and the keys and values of the past and x.
        """
        if self.norm_first:
            attended, keys_values = self._self_attention(self.self_attention_norm(x), past, causal)
            x = x + attended
            if self.cross_attention is not None:
                x = x + self._cross_attention(self.cross_attention_norm(x), memory)
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        else:
            attended, keys_values = self._self_attention(x, past, causal)
            x = self.self_attention_norm(x + attended)
            if self.cross_attention is not None:
                x = self.cross_attention_norm(x + self._cross_attention(x, memory))
            x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x, keys_values

    def attention_weights(self, x: Tensor, memory: KeysValues) -> Tensor:
        """Weights (B, H, T, S) of cross-attention from causal sequences (B, T, D) to the memory, for pictures."""
        assert self.cross_attention is not None
        if self.norm_first:
            query = self.cross_attention_norm(x + self._self_attention(self.self_attention_norm(x), None, True)[0])
        else:
            query = self.self_attention_norm(x + self._self_attention(x, None, True)[0])
        return self.cross_attention.weights(query, memory[0])

    def _self_attention(self, x: Tensor, past: KeysValues | None, causal: bool) -> tuple[Tensor, KeysValues]:
        keys, values = self.self_attention.project(x)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        return self.dropout(self.self_attention(x, (keys, values), causal)), (keys, values)

    def _cross_attention(self, x: Tensor, memory: KeysValues | None) -> Tensor:
        assert self.cross_attention is not None and memory is not None
        query = x.reshape(len(memory[0]), -1, x.shape[2])  # all positions that share one memory in one sequence
        return self.dropout(self.cross_attention(query, memory).reshape(x.shape))
