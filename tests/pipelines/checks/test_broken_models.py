"""Twenty-three models with one realistic bug each: the checks find every one, and pass the correct originals."""

from collections.abc import Callable
from math import log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules import Digits
from modules import GAN, CaptionLSTM, Classifier, SimCLR
from modules.captioning.decoding import Memory
from modules.contrastive.nt_xent import NTXent
from pipelines.checks import caption_checks
from pipelines.checks.caption_checks import check_caption_overfitting
from pipelines.checks.classifier_checks import read_splits, run_checks
from pipelines.checks.gan_checks import run_gan_checks
from pipelines.checks.sanity_checkable import Split
from pipelines.checks.simclr_checks import check_nt_xent

CLASSES, WIDTH = 10, 64


class Net(Classifier):
    """The correct original: two hidden layers, batch normalization, dropout, L2 regularization and cross-entropy."""

    def __init__(self, reg: float = 0.1, dropout: float = 0.2) -> None:
        super().__init__(CLASSES)
        self.reg = reg
        self.layers = nn.Sequential(
            nn.Linear(64, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(WIDTH, WIDTH), nn.ReLU(),
        )  # fmt: skip
        self.output = nn.Linear(WIDTH, CLASSES)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.output(self.layers(images.flatten(1)))
        return logits

    def data_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)

    def penalty(self) -> Tensor:
        return 0.5 * self.reg * self.output.weight.square().sum()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.data_loss(logits, labels) + self.penalty()

    def expected_initial_loss(self) -> float:
        return log(CLASSES)


class WrongSign(Net):
    def data_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.log_softmax(logits, 1)[torch.arange(len(labels)), labels].mean()


class DetachedPenalty(Net):
    def penalty(self) -> Tensor:
        return 0.5 * self.reg * self.output.weight.detach().square().sum()


class SoftmaxOverTheBatch(Net):
    def data_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.nll_loss(logits.log_softmax(0), labels)


class ShiftedLabels(Net):
    """Takes the labels for those of files that count from 1."""

    def data_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().data_loss(logits, (labels - 1) % CLASSES)


class DropoutInEvaluation(Net):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.output(
            F.dropout(self.layers(images.flatten(1)), 0.2)
        )  # training=self.training is missing
        return logits


class RunningAveragesStay(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layers[1] = nn.BatchNorm1d(WIDTH, momentum=0.0)  # taken for the weight of the old average


class BatchStatisticsInEvaluation(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layers[1] = nn.BatchNorm1d(WIDTH, track_running_stats=False)


class SumInsteadOfMean(Net):
    def data_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="sum")


class TwiceTheLoss(Net):
    def training_step(self, batch: Split, batch_idx: int) -> Tensor:
        return 2 * super().training_step(batch, batch_idx)


class DetachedFeatures(Net):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.output(self.layers(images.flatten(1)).detach())
        return logits


class TheSameLayerTwice(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, WIDTH), *[nn.Linear(WIDTH, WIDTH), nn.ReLU()] * 2)


class InitializedWithZeros(Net):
    def __init__(self) -> None:
        super().__init__()
        for parameter in (*self.layers[4].parameters(), *self.output.parameters()):
            nn.init.zeros_(parameter)


class FrozenLayer(Net):
    """Left over from an experiment with a pretrained layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers[0].requires_grad_(False)


class SoftmaxTwice(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(1)


class ActivationAfterTheLogits(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).relu()


class AccuracyOfShiftedClasses(Net):
    def validation_step(self, batch: Split, batch_idx: int) -> Tensor:
        return self._count_evaluation_batch(self(batch[0]), (batch[1] + 1) % CLASSES)


class _OnePercentOff(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 1.01 * gradients[0]


class GradientOnePercentOff(Net):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.output(_OnePercentOff.apply(self.layers(images.flatten(1))))
        return logits


BROKEN_CLASSIFIERS = {
    WrongSign: "initial loss",
    DetachedPenalty: "gradients",
    SoftmaxOverTheBatch: "initial loss",
    ShiftedLabels: "overfitting",
    DropoutInEvaluation: "evaluation",
    RunningAveragesStay: "evaluation",
    BatchStatisticsInEvaluation: "evaluation",
    SumInsteadOfMean: "initial loss",
    TwiceTheLoss: "initial loss",
    DetachedFeatures: "gradients",
    TheSameLayerTwice: "parameters",
    InitializedWithZeros: "parameters",
    FrozenLayer: "parameters",
    SoftmaxTwice: "overfitting",
    ActivationAfterTheLogits: "initial loss",
    AccuracyOfShiftedClasses: "evaluation",
    GradientOnePercentOff: "gradients",
}


@pytest.fixture(scope="module")
def digits() -> Any:
    data = Digits(batch_size=50, preprocessing="standardize")
    return data, read_splits(data)


def failed_checks(model: Any, digits: Any) -> list[str]:
    data, splits = digits
    torch.manual_seed(0)
    results = run_checks(model, splits, lambda batch: data.on_after_batch_transfer(batch, 0))
    return [result.name for result in results if result.passed is False]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_correct_classifier_passes(seed: int, digits: Any) -> None:
    torch.manual_seed(seed)
    assert failed_checks(Net(), digits) == []


@pytest.mark.parametrize(("broken", "failed"), BROKEN_CLASSIFIERS.items())
def test_every_bug_of_a_classifier_is_found(broken: type[Net], failed: str, digits: Any) -> None:
    torch.manual_seed(0)
    assert failed in failed_checks(broken(), digits)


class SwappedLabels(GAN):
    """The discriminator learns that images are generated and fakes real."""

    def discriminator_loss(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        real, fake = self.discriminator(self._fakes(len(images)).detach()), self.discriminator(images)
        return self.losses.discriminator(real, fake), real.detach(), fake.detach()


class DetachedFakes(GAN):
    """The generator gets no gradient."""

    def generator_loss(self, number: int) -> Tensor:
        return self.losses.generator(self.discriminator(self._fakes(number).detach()))


@pytest.mark.parametrize(
    ("kind", "failed"), [(GAN, []), (SwappedLabels, ["overfitting"]), (DetachedFakes, ["gradients", "parameters"])]
)
def test_gans(kind: type[GAN], failed: list[str]) -> None:
    torch.manual_seed(1)
    tiny: Any = {"generator": "fully_connected", "discriminator": "fully_connected", "latent_size": 8}
    gan = kind((1, 8, 8), **tiny, generator_width=32, discriminator_width=32)
    images = torch.rand(60, 1, 8, 8).round() * 2 - 1
    splits = {"train": (images, torch.zeros(60, dtype=torch.int64))}
    found = [result.name for result in run_gan_checks(gan, splits, lambda batch: batch) if result.passed is False]
    assert set(failed) <= set(found) and bool(failed) == bool(found)


class PositivesOfAnotherImage(SimCLR):
    """Splits the views as if those of an image followed one another, but all first views come first."""

    def training_step(self, batch: Split, batch_idx: int) -> Tensor:
        projections = self.projector(self.features(batch[0].transpose(0, 1).flatten(0, 1)))
        loss: Tensor = self.nt_xent(projections[::2], projections[1::2])
        return loss


class WithoutTemperature(NTXent):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        views = F.normalize(torch.cat([first, second]))
        logits = (views @ views.mT).fill_diagonal_(-torch.inf)  # not divided by the temperature
        return F.cross_entropy(logits, torch.arange(len(views)).roll(len(first)))


class IgnoredTemperature(SimCLR):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.nt_xent = WithoutTemperature(self.nt_xent.temperature)


@pytest.mark.parametrize(
    ("kind", "passes"), [(SimCLR, True), (PositivesOfAnotherImage, False), (IgnoredTemperature, False)]
)
def test_simclr(kind: type[SimCLR], passes: bool) -> None:
    torch.manual_seed(0)
    options = {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]}
    model = kind((3, 16, 16), 4, "resnet26", options=options, hidden=16, projection=8, temperature=0.2, knn=1)
    images = torch.rand(8, 1, 3, 16, 16)
    views = images + 0.05 * torch.rand(8, 2, 3, 16, 16)
    assert check_nt_xent(model, views).passed is passes


class SeesTheNextWord(CaptionLSTM):
    def forward_decoder(self, memory: Memory, words: Tensor) -> Tensor:
        return super().forward_decoder(memory, torch.cat([words[:, 1:], words[:, -1:]], 1))


class SeesNoImage(CaptionLSTM):
    def encode(self, inputs: Tensor) -> Memory:
        return super().encode(torch.zeros_like(inputs))


@pytest.mark.parametrize(("kind", "passes"), [(CaptionLSTM, True), (SeesTheNextWord, False), (SeesNoImage, False)])
def test_captioners(kind: type[CaptionLSTM], passes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_checks, "_RATES", (1e-2,))
    monkeypatch.setattr(caption_checks, "_STEPS", 250)
    torch.manual_seed(0)
    words = torch.tensor([[1, 4, 5, 6, 2], [1, 7, 4, 2, 0], [1, 6, 6, 11, 2], [1, 9, 2, 0, 0]])
    model = kind((6,), ["<pad>", "<start>", "<end>", "<unk>", *"abcdefgh"], width=16)
    assert check_caption_overfitting(model, torch.randn(4, 6), words).passed is passes


def test_there_are_at_least_twenty() -> None:
    broken: list[Callable[..., Any]] = [*BROKEN_CLASSIFIERS, SwappedLabels, DetachedFakes, PositivesOfAnotherImage]
    assert len([*broken, IgnoredTemperature, SeesTheNextWord, SeesNoImage]) == 23
