"""The learning rate that a global batch gets, with and without a schedule."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from modules.optimizers.lr_scaling import check_scaling, scale_learning_rates
from modules.optimizers.schedules import WarmupCosine


def trainer(processes: int, batch_size: int | None, schedule: bool = False) -> Any:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    schedules = [SimpleNamespace(scheduler=WarmupCosine(optimizer, 0.0))] if schedule else []
    return SimpleNamespace(
        datamodule=SimpleNamespace(batch_size=batch_size), world_size=processes, accumulate_grad_batches=2,
        optimizers=[optimizer], lr_scheduler_configs=schedules,
    )  # fmt: skip


@pytest.mark.parametrize(("rule", "expected"), [("none", 0.3), ("linear", 0.3 * 4), ("sqrt", 0.3 * 2)])
def test_rate_of_1024_images_a_step(rule: Any, expected: float) -> None:
    """4 processes × batches of 128 × 2 batches that accumulate."""
    run = trainer(4, 128)
    scale_learning_rates(run, rule)
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(expected)


def test_a_schedule_scales_the_scaled_rate() -> None:
    run = trainer(1, 512, schedule=True)
    scale_learning_rates(run, "linear")
    schedule = run.lr_scheduler_configs[0].scheduler
    schedule.begin(10)
    rates = []
    for _ in range(10):
        rates.append(run.optimizers[0].param_groups[0]["lr"])
        run.optimizers[0].step()
        schedule.step()
    assert rates[0] == pytest.approx(1.2)
    assert rates[5] == pytest.approx(0.6)


def test_data_of_unknown_batch_size_and_unknown_rules_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^lr_scaling is sqrt, but the data has no batch_size"):
        scale_learning_rates(trainer(1, None), "sqrt")
    with pytest.raises(ValueError, match=r"^lr_scaling is 'cubic'; it must be one of none, linear, sqrt"):
        check_scaling("cubic")
