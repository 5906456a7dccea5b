"""The checks of classifiers: correct ones pass all of them, and each kind of bug fails the check made for it."""

from collections.abc import Callable
from math import log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules import Classifier, LinearSVM, SoftmaxRegression
from pipelines.checks.classifier_checks import check_splits, run_checks
from pipelines.checks.sanity_checkable import Result, Split, without_regularization
from tests.pipelines.checks.wrong_backward import WrongBackward

SHAPE, CLASSES = (1, 8, 8), 4
NAMES = ["initial loss", "gradients", "parameters", "evaluation", "overfitting", "splits"]


class TwoLayers(Classifier):
    """A correct network with kinks, batch norm and dropout; each subclass has one bug."""

    def __init__(self, scale: float = 0.05, drop: float = 0.5) -> None:
        super().__init__(CLASSES)
        self.first = nn.Linear(64, 128)
        self.norm = nn.BatchNorm1d(128)
        self.drop = nn.Dropout(drop)
        self.last = nn.Linear(128, CLASSES)
        nn.init.normal_(self.last.weight, std=scale)
        nn.init.zeros_(self.last.bias)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.drop(self.norm(self.first(images.flatten(1))).relu()))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)

    def expected_initial_loss(self) -> float:
        return log(CLASSES)


class WrongGradient(TwoLayers):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = WrongBackward.apply(super().forward(images))
        return logits


class UnusedParameter(TwoLayers):
    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Linear(3, 3)


class LossOffByTwo(TwoLayers):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return 2 * super().loss(logits, labels)


class TrainsOnTwiceTheLoss(TwoLayers):
    def training_step(self, batch: Split, batch_idx: int) -> Tensor:
        return 2 * super().training_step(batch, batch_idx)


class SumInsteadOfMean(TwoLayers):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="sum")


class SeesTheBrightnessAlone(TwoLayers):
    """Correct gradients, but an image is reduced to its mean brightness."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.mean((1, 2, 3), keepdim=True).expand_as(images))


class CutOff(TwoLayers):
    """The first layer is detached: its gradient should not be zero, but none arrives."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.first(images.flatten(1)).relu().detach() + 0 * self.norm.weight)
        return logits


class HardSteps(TwoLayers):
    """A loss with jumps: no gradient can be compared."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().loss(logits, labels) + 1e-3 * (1e12 * logits.detach()).sin().sum()


class SinglePrecision(TwoLayers):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().loss(logits.float(), labels)


class NotANumber(TwoLayers):
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().loss(logits, labels) * torch.nan


class ZeroScale(TwoLayers):
    """Like the residual blocks of timm: layers before a scale of 0 get a gradient once the scale has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Linear(64, 64)
        self.scale = nn.Parameter(torch.zeros(64))

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1).relu()  # many exact zeros, which the block's scale of 0 leaves on the next kink
        return super().forward((flat + self.scale * self.block(flat)).relu())


def random_splits(sizes: tuple[int, int, int] = (200, 40, 40)) -> dict[str, Split]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: (
            torch.randint(256, (size, *SHAPE), generator=generator, dtype=torch.uint8),
            torch.randint(CLASSES, (size,), generator=generator),
        )
        for name, size in zip(("train", "val", "test"), sizes, strict=True)
    }


def as_model_input(batch: Split) -> Split:
    return batch[0].float() / 128 - 1, batch[1]


def results_of(model: Any, splits: dict[str, Split] | None = None, seed: int = 0) -> dict[str, Result]:
    torch.manual_seed(seed)
    return {result.name: result for result in run_checks(model, splits or random_splits(), as_model_input)}


def failures(results: dict[str, Result]) -> list[str]:
    return [name for name, result in results.items() if result.passed is False]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "build",
    [
        lambda: SoftmaxRegression(SHAPE, CLASSES),
        lambda: SoftmaxRegression(SHAPE, CLASSES, reg=1e4),
        lambda: LinearSVM(SHAPE, CLASSES, reg=0.0),
        lambda: LinearSVM(SHAPE, CLASSES, reg=1.0, margin=5.0, weight_scale=1e-2),
        lambda: TwoLayers(),
        lambda: ZeroScale(),
    ],
)
def test_correct_models_pass(build: Callable[[], Any], seed: int) -> None:
    torch.manual_seed(seed)
    results = results_of(build(), seed=seed)
    assert list(results) == NAMES
    assert {name: result.passed for name, result in results.items()} == dict.fromkeys(NAMES, True), results


@pytest.mark.parametrize(
    ("build", "failed", "says"),
    [
        (WrongGradient, ["gradients"], "relative error 9.1e-02"),
        (UnusedParameter, ["parameters"], "2 of 8 get no gradient: forgotten.weight, forgotten.bias"),
        (lambda: TwoLayers(scale=3.0), ["initial loss"], "expected 1.3863"),
        (LossOffByTwo, ["initial loss"], "expected 1.3863: 10"),
        (SumInsteadOfMean, ["initial loss", "evaluation"], "expected 1.3863"),
        (SeesTheBrightnessAlone, ["overfitting"], " of 50 training images (limit 98%)"),
        (CutOff, ["gradients", "parameters", "evaluation"], "relative error 1.0e+00 in first."),
        (HardSteps, ["gradients", "evaluation"], "lies on a kink; none was compared"),
        (TrainsOnTwiceTheLoss, ["initial loss"], "training_step returns 2.8486, loss 1.4243"),
        (SinglePrecision, ["gradients"], "the loss of a float64 model is float32"),
        (NotANumber, [*NAMES[:5]], "nan"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_bug_fails_the_check_made_for_it(build: Callable[[], Any], failed: list[str], says: str) -> None:
    torch.manual_seed(0)
    results = results_of(build())
    assert failures(results) == failed, results
    assert says in results[failed[0]].figures


def test_models_without_expected_loss_or_parameters_have_no_verdict() -> None:
    class ExpectsNothing(TwoLayers):
        expected_initial_loss = Classifier.expected_initial_loss  # type: ignore[assignment]

    model = ExpectsNothing().requires_grad_(False)
    passed = {name: result.passed for name, result in results_of(model).items()}
    assert passed == dict.fromkeys(NAMES[:5]) | {"splits": True}


def test_the_model_is_not_changed() -> None:
    model = TwoLayers()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    results_of(model)
    assert not model.training
    assert model.drop.p == 0.5
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_the_same_seed_gives_the_same_results() -> None:
    model = TwoLayers()
    assert results_of(model, seed=3) == results_of(model, seed=3)
    assert results_of(model, seed=3)["gradients"] != results_of(model, seed=4)["gradients"]


def test_regularization_is_disabled_in_a_copy() -> None:
    plain: Any = without_regularization(LinearSVM(SHAPE, CLASSES, reg=3.0))
    assert plain.reg == 0
    net: Any = nn.Module()
    net.lstm = nn.LSTM(3, 3, num_layers=2, dropout=0.3)
    net.attention = nn.MultiheadAttention(4, 2, dropout=0.2)
    net.drop = nn.Dropout2d(0.1)
    copy: Any = without_regularization(net)
    assert (copy.lstm.dropout, copy.attention.dropout, copy.drop.p) == (0, 0, 0)
    assert (net.lstm.dropout, net.attention.dropout, net.drop.p) == (0.3, 0.2, 0.1)


@pytest.mark.parametrize(
    ("within", "name", "copies", "passed"),
    [("train", "val", 2, True), ("train", "val", 3, False), ("train", "test", 3, False), ("val", "test", 3, False)],
)
def test_images_in_two_splits_are_counted(within: str, name: str, copies: int, passed: bool) -> None:
    """2 of 200 are 1 %, the limit; 3 are more."""
    splits = random_splits((400, 200, 200))
    splits[name][0][10 : 10 + copies] = splits[within][0][40 : 40 + copies]
    result = check_splits(splits)
    assert result.passed is passed
    assert f"{copies} of 200 {name} in {within}" in result.figures
    assert result.figures.count(" 0 of 200") + result.figures.startswith("0 of 200") == 2


def test_validation_images_in_the_training_split_fail_only_the_splits() -> None:
    splits = random_splits()
    splits["val"] = (splits["train"][0][:40], splits["train"][1][:40])
    results = results_of(SoftmaxRegression(SHAPE, CLASSES), splits)
    assert failures(results) == ["splits"]
    assert results["splits"].figures.startswith("40 of 40 val in train, 0 of 40 test in train")


def test_without_validation_and_test_images_there_is_nothing_to_compare() -> None:
    splits = random_splits((60, 0, 0))
    assert check_splits(splits).passed is None
    assert check_splits({"train": splits["train"]}).passed is None
