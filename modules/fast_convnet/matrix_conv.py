"""A convolution whose filters are the rows of a matrix, which begins by handing its channels on.

    y[m] = Σ_c w[m, c] ⋆ x[c]            w: (M, C, k, k), kept as the matrix (M, k·k·C)

Muon takes matrices alone, and a layer's filters are one: each row turns a patch into a value. With a row in the order
of image row, column, channel the filters lie channels-last, as a convolution in half precision wants them: no copy.

Dirac initialization: of the M filters the first C pass one channel each on as it is (1 in the middle, else 0), so that
the layer begins as the identity, and signal and gradient reach every layer from the first step. The rest are drawn from
U(−1/√fan-in, 1/√fan-in), torch's own.

Sources: K. Jordan, arXiv 2404.00498, section 3.2, after S. Zagoruyko, N. Komodakis, arXiv 1706.00388.

Shapes: B images, C channels in, M filters, k side of a filter, H×W positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MatrixConv2d(nn.Module):
    """A convolution without bias that keeps height and width.

    Args:
        channels: C.
        filters: M.
        kernel_size: k, odd.
        dirac: begin with the identity as above; otherwise all filters are drawn.
    """

    def __init__(self, channels: int, filters: int, kernel_size: int = 3, dirac: bool = True) -> None:
        super().__init__()
        self.channels, self.kernel_size = channels, kernel_size
        fan_in = channels * kernel_size**2
        self.weight = nn.Parameter(torch.empty(filters, fan_in).uniform_(-(fan_in**-0.5), fan_in**-0.5))
        if dirac:
            nn.init.dirac_(self.as_filters(self.weight.data)[:channels])

    def as_filters(self, matrix: Tensor) -> Tensor:
        """The matrix (M, k·k·C) seen as filters (M, C, k, k), without a copy."""
        return matrix.unflatten(1, (self.kernel_size, self.kernel_size, self.channels)).movedim(3, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps (B, M, H, W)."""
        return F.conv2d(maps, self.as_filters(self.weight), padding=self.kernel_size // 2)
