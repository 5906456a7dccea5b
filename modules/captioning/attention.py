"""Multi-head attention: every place of a sequence asks all places of a sequence, H times over.

    head_h = softmax(Q_h K_hᵀ / √D_h) V_h,    Q = X W_q + b_q,  K = Y W_k + b_k,  V = Y W_v + b_v,  cut into H parts
    output = [head_1 … head_H] W_o + b_o

Self-attention has Y = X, cross-attention another sequence. With a causal mask place t asks the places up to t alone.
Source: A. Vaswani et al., arXiv 1706.03762, section 3.2. The softmax is torch's fused F.scaled_dot_product_attention.

Shapes: B sequences in a batch, T places that ask, S places that are asked, H heads of D_h = D/H numbers each.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError

KeysValues = tuple[Tensor, Tensor]  # (B, H, S, D_h) each


class MultiHeadAttention(nn.Module):
    """Attention of sequences (B, T, D) to sequences (B, S, D).

    Args:
        width: D.
        num_heads: H, which divides D.
        dropout: Probability of dropping an attention weight, in [0, 1).

    Raises:
        ValueError: a number of heads that does not divide the width.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise UserError(
                f"num_heads is {num_heads}, which does not divide the width {width}; give one of "
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

    def project(self, asked: Tensor) -> KeysValues:
        """Keys and values of the places that are asked: (B, S, D) to (B, H, S, D_h) each."""
        keys, values = self.keys_values(asked).chunk(2, 2)
        return self._split(keys), self._split(values)

    def forward(self, asking: Tensor, keys_values: KeysValues, causal: bool = False) -> Tensor:
        """What the places (B, T, D) hear from those of `project`: (B, T, D). With `causal` there are T of both."""
        queries, drop = self._split(self.query(asking)), self.dropout if self.training else 0.0
        heads = F.scaled_dot_product_attention(queries, *keys_values, dropout_p=drop, is_causal=causal)
        output: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return output

    def weights(self, asking: Tensor, keys: Tensor) -> Tensor:
        """The softmax itself, for pictures: places (B, T, D) and keys (B, H, S, D_h) to (B, H, T, S)."""
        queries = self._split(self.query(asking))
        return (queries @ keys.mT / keys.shape[3] ** 0.5).softmax(3)

    def _split(self, sequences: Tensor) -> Tensor:
        return sequences.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, D_h)
