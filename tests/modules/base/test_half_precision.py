"""Losses of half-precision scores equal those of the same scores in float64, where half precision would overflow."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from modules import CaptionLSTM, FastConvNet, LinearSVM, TimmClassifier
from modules.base.half_precision import at_least_float32
from modules.contrastive.nt_xent import NTXent
from modules.gan.gan_losses import LOSSES, accuracies

LABELS = torch.arange(2000) % 500
WORDS = ["<pad>", "<start>", "<end>", "<unk>", *(f"w{i}" for i in range(496))]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_alone_is_converted(dtype: torch.dtype, expected: torch.dtype) -> None:
    tensor = torch.ones(2, dtype=dtype)
    assert at_least_float32(tensor).dtype == expected
    assert (at_least_float32(tensor) is tensor) == (dtype == expected)


def caption_lstm() -> CaptionLSTM:
    return CaptionLSTM((4, 3), WORDS, 8, label_smoothing=0.1)


def timm_classifier() -> TimmClassifier:
    return TimmClassifier((3, 32, 32), 500, backbone="test_resnet", label_smoothing=0.1)


LOGIT_LOSSES: dict[str, tuple[Callable[[], Any], str]] = {
    "hinge": (lambda: LinearSVM((3,), 500), "data_loss"),
    "captions": (caption_lstm, "loss"),
    "timm": (timm_classifier, "loss"),
    "fast_convnet": (lambda: FastConvNet((3, 32, 32), 500), "loss"),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", list(LOGIT_LOSSES))
def test_losses_of_logits(name: str, dtype: torch.dtype) -> None:
    make, method = LOGIT_LOSSES[name]
    logits = (1e4 * torch.randn(2000, 500, generator=torch.Generator().manual_seed(0))).to(dtype)
    shape = (40, 50) if name == "captions" else (2000,)
    model = make().train()

    def loss(values: Tensor) -> Tensor:
        return getattr(model, method)(values.unflatten(0, shape), LABELS.unflatten(0, shape))

    result = loss(logits)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), loss(logits.double()), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_of_gans(name: str, dtype: torch.dtype) -> None:
    loss = LOSSES[name]  # type: ignore[index]
    scores = (1e4 * torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))).to(dtype)
    real, fake = scores[0].requires_grad_(), scores[1]
    for result, exact in (
        (loss.discriminator(real, fake), loss.discriminator(real.double(), fake.double())),
        (loss.generator(fake), loss.generator(fake.double())),
    ):
        assert result.dtype == torch.float32
        torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-3)
    assert list(map(float, accuracies(loss, real, fake))) == list(map(float, accuracies(loss, real.double(), fake)))
    loss.discriminator(real, fake).backward()
    assert real.grad is not None and real.grad.dtype == dtype and real.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_contrastive_loss_of_long_projections(dtype: torch.dtype) -> None:
    first, second = (1e3 * torch.randn(2, 50, 64, generator=torch.Generator().manual_seed(0))).to(dtype)
    result, exact = NTXent()(first, second), NTXent()(first.double(), second.double())
    torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=0)
