"""The convolution with a matrix of filters against scipy, and its initialization."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from modules.fast_convnet.matrix_conv import MatrixConv2d


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_equals_correlation_with_the_rows_as_filters(kernel_size: int) -> None:
    torch.manual_seed(0)
    layer = MatrixConv2d(3, 4, kernel_size, dirac=False).double()
    maps = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    rows = layer.weight.detach().numpy()  # row, column, channel within a row
    for image, found in zip(maps.numpy(), layer(maps).detach().numpy(), strict=True):
        for row, plane in zip(rows, found, strict=True):
            kernel = row.reshape(kernel_size, kernel_size, 3)
            expected = sum(correlate2d(image[c], kernel[:, :, c], mode="same") for c in range(3))
            np.testing.assert_allclose(plane, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("channels", "filters"), [(3, 8), (4, 4), (6, 2)])
def test_dirac_filters_copy_the_first_channels(channels: int, filters: int) -> None:
    maps = torch.randn(2, channels, 5, 5)
    copied = min(channels, filters)
    assert torch.equal(MatrixConv2d(channels, filters)(maps)[:, :copied], maps[:, :copied])
    assert not torch.equal(MatrixConv2d(channels, filters, dirac=False)(maps)[:, :copied], maps[:, :copied])


def test_other_filters_are_uniform_as_in_torch() -> None:
    layer = MatrixConv2d(16, 400)
    drawn = layer.weight[16:]
    limit = (16 * 9) ** -0.5
    assert drawn.abs().max() <= limit
    assert drawn.std().item() == pytest.approx(limit / 3**0.5, rel=0.02)


def test_filters_are_channels_last_without_a_copy() -> None:
    layer = MatrixConv2d(8, 16)
    filters = layer.as_filters(layer.weight)
    assert filters.shape == (16, 8, 3, 3)
    assert filters.is_contiguous(memory_format=torch.channels_last)
    assert filters.data_ptr() == layer.weight.data_ptr()
