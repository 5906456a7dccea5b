"""A convolution whose filters are the rows of a matrix, initialized as the identity.

    y[m] = Σ_c w[m, c] ⋆ x[c]            w: (M, C, k, k), stored as the matrix (M, k·k·C)

Muon takes matrices, and the filters of a layer are one: each row maps a patch to a value. With rows in the order of
image row, column and channel, the filters are channels-last in memory, which is fastest in half precision, without a
copy.

Dirac initialization: of the M filters the first C copy one channel each (1 in the middle, otherwise 0), so that the
layer starts as the identity, and signal and gradient reach every layer from the first step. The other filters are drawn
from U(−1/√fan-in, 1/√fan-in), as torch does.

Sources: K. Jordan, arXiv 2404.00498, section 3.2, after S. Zagoruyko, N. Komodakis, arXiv 1706.00388.

Shapes: B images, C input channels, M filters, k side of a filter, H×W positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MatrixConv2d(nn.Module):
    """A convolution without bias that preserves height and width.

    Args:
        channels: Input channels C.
        filters: Number of filters M.
        kernel_size: Side k of a filter, odd.
        dirac: Initialize the first C filters as the identity; otherwise all filters are random.
    """

    def __init__(self, channels: int, filters: int, kernel_size: int = 3, dirac: bool = True) -> None:
        super().__init__()
        self.channels, self.kernel_size = channels, kernel_size
        fan_in = channels * kernel_size**2
        self.weight = nn.Parameter(torch.empty(filters, fan_in).uniform_(-(fan_in**-0.5), fan_in**-0.5))
        if dirac:
            nn.init.dirac_(self.as_filters(self.weight.data)[:channels])

    def as_filters(self, matrix: Tensor) -> Tensor:
        """Returns a view of the matrix (M, k·k·C) as filters (M, C, k, k), without a copy."""
        return matrix.unflatten(1, (self.kernel_size, self.kernel_size, self.channels)).movedim(3, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps (B, M, H, W)."""
        return F.conv2d(maps, self.as_filters(self.weight), padding=self.kernel_size // 2)
