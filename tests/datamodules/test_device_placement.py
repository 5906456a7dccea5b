"""A split moves to the training GPU if its copies fit into a quarter of the free memory."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from datamodules.device_placement import on_training_device

GPU = torch.device("cuda", 1)


class GpuTensor:
    """A tensor of some size that records the device to which it is moved."""

    def __init__(self, nbytes: int, device: torch.device | None = None) -> None:
        self.nbytes = nbytes
        self.device = device

    def to(self, device: torch.device) -> "GpuTensor":
        return GpuTensor(self.nbytes, device)


def trainer_on(device: torch.device) -> Any:
    return SimpleNamespace(strategy=SimpleNamespace(root_device=device))


@pytest.mark.parametrize(
    ("nbytes", "copies", "moves"), [(250, 1, True), (251, 1, False), (125, 2, True), (126, 2, False)]
)
def test_a_split_moves_if_there_is_room(nbytes: int, copies: int, moves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (1000, 4000))
    split: Any = (GpuTensor(nbytes), GpuTensor(8))
    placed: Any = on_training_device(trainer_on(GPU), split, copies)
    assert [part.device for part in placed] == [GPU if moves else None] * 2


@pytest.mark.parametrize("trainer", [None, trainer_on(torch.device("cpu"))])
def test_a_split_stays_where_it_is_without_a_gpu(trainer: Any) -> None:
    split = torch.zeros(3, 1, 8, 8), torch.zeros(3)
    assert on_training_device(trainer, split) is split
