"""NT-Xent against the double loop of its definition, at extremes, and on two processes against one."""

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from modules.contrastive.nt_xent import NTXent

TEMPERATURES = [0.02, 0.1, 0.5, 1.0, 10.0]


def double_loop(first: Tensor, second: Tensor, temperature: float) -> float:
    """The definition in Python floats, term by term."""
    views = torch.cat([first, second]).double().tolist()
    images = len(first)

    def similarity(i: int, k: int) -> float:
        dot = math.fsum(a * b for a, b in zip(views[i], views[k], strict=True))
        return dot / math.hypot(*views[i]) / math.hypot(*views[k]) / temperature

    total = 0.0
    for i in range(2 * images):
        partner = (i + images) % (2 * images)
        others = math.fsum(math.exp(similarity(i, k) - similarity(i, partner)) for k in range(2 * images) if k != i)
        total += math.log(others)
    return total / (2 * images)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("images", [2, 3, 5, 8, 16])
def test_equals_the_double_loop(images: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(images)
    first, second = torch.randn(2, images, 6, generator=generator)
    expected = double_loop(first, second, temperature)
    assert NTXent(temperature)(first.double(), second.double()).item() == pytest.approx(expected, rel=1e-10, abs=1e-10)
    assert NTXent(temperature)(first, second).item() == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_gradients_equal_central_differences(temperature: float) -> None:
    views = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda both: NTXent(temperature)(*both), views)


def test_only_directions_count() -> None:
    first, second = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(1))
    scale = torch.logspace(-3, 3, 8)[:, None]
    torch.testing.assert_close(NTXent()(first, second), NTXent()(scale * first, second / scale), rtol=1e-5, atol=1e-6)


def test_no_overflow_at_a_tiny_temperature() -> None:
    """exp(1 / 1e-4) overflows; the loss is 0 if the nearest view is the positive, otherwise the difference over τ."""
    first = torch.eye(3)
    assert NTXent(1e-4)(first, first).item() == 0.0
    wrong = NTXent(1e-4)(first, first.roll(1, 0))
    assert wrong.item() == pytest.approx(1e4, rel=1e-5)


def test_half_precision_is_compared_in_float32() -> None:
    first, second = torch.randn(2, 32, 16, generator=torch.Generator().manual_seed(2)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = NTXent(0.05)(first, second)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(double_loop(first, second, 0.05), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.0, -0.5, math.nan])
def test_a_temperature_of_zero_or_less_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"^temperature is {temperature}; it must be > 0, such as 0.5.$"):
        NTXent(temperature)


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^NT-Xent got a batch of one image.* use a batch_size of at least 2\.$"):
        NTXent()(torch.ones(1, 3), torch.ones(1, 3))


def test_projections_of_length_zero_give_nan_and_check_lengths_refuses_them() -> None:
    second = torch.ones(4, 3)
    second[1:3] = 0
    loss = NTXent()
    assert loss(torch.ones(4, 3), second).isnan()
    loss(torch.randn(4, 3), torch.randn(4, 3))  # a later step does not hide it
    with pytest.raises(ValueError, match=r"^2 of 8 projections have length 0.* use a smaller learning rate"):
        loss.check_lengths()
    loss.check_lengths()  # it is reported once


def _projector() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(5, 4).double()


def _images(count: int) -> Tensor:
    return torch.randn(2, count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def _one_of_two(rank: int, folder: Path) -> None:
    """Computes the loss of half of six images on each of two ranks, as DDP does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = DistributedDataParallel(_projector())
    first, second = _images(6)[:, 3 * rank : 3 * rank + 3]
    both = model(torch.cat([first, second]))
    loss = NTXent(0.2)(*both.split(3))
    loss.backward()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    alone = NTXent(0.2)(*model(torch.stack([first[0], second[0]])).split(1))  # one image here, two over all
    gradients = [parameter.grad for parameter in model.parameters()]
    torch.save([mean / 2, alone.detach(), *gradients], folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    model = _projector()
    first, second = _images(6)
    loss = NTXent(0.2)(*model(torch.cat([first, second])).split(6))
    loss.backward()
    expected = [loss.detach(), *(parameter.grad for parameter in model.parameters())]
    mp.start_processes(_one_of_two, (tmp_path,), nprocs=2, start_method="fork")
    loaded = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    pair = NTXent(0.2)(*model(torch.cat([first[[0, 3]], second[[0, 3]]])).split(2))
    assert float((loaded[0].pop(1) + loaded[1].pop(1)) / 2) == pytest.approx(pair.item(), abs=1e-12)
    for rank in range(2):
        for one, other in zip(loaded[rank], expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
