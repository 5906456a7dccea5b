"""Backpropagation of whole topics by hand agrees with autograd and finite differences; a wrong gradient does not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from modules import (
    CaptionLSTM,
    CaptionRNN,
    CaptionTransformer,
    ConvNet,
    FullyConnectedNet,
    LinearSVM,
    SoftmaxRegression,
    TwoLayerNet,
)
from pipelines.checks.by_hand import captioner_steps, classifier_steps, layer_steps, transformer_steps
from pipelines.checks.by_hand.comparison import compare_by_hand

SHAPE, CLASSES = (2, 9, 9), 4  # an odd length: max pooling leaves out the last row and column
VOCABULARY = ["<pad>", "<start>", "<end>", "<unk>", *"abcdefgh"]
CAPTIONS = torch.tensor([[1, 4, 5, 6, 2], [1, 7, 4, 2, 0], [1, 6, 6, 11, 2]])
TINY: dict[str, Any] = {"width": 8, "channels": [4, 4]}


def differing(model: Any, batch: tuple[Tensor, Tensor]) -> list[str]:
    """Names of the rows that differ; every parameter has a row."""
    torch.manual_seed(0)
    results = list(compare_by_hand(model, batch))
    assert {result.name for result in results} == {"loss", *(name for name, _ in model.named_parameters())}
    return [result.name for result in results if not result.passed]


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, *SHAPE, generator=generator), torch.randint(CLASSES, (6,), generator=generator)


def captions(shape: tuple[int, ...] = (3, 8, 8)) -> tuple[Tensor, Tensor]:
    return torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)), CAPTIONS


@pytest.mark.parametrize(
    "build",
    [
        lambda: LinearSVM(SHAPE, CLASSES, reg=0.5, margin=2.0),
        lambda: SoftmaxRegression(SHAPE, CLASSES, reg=0.5),
        lambda: TwoLayerNet(SHAPE, CLASSES, hidden_size=7, reg=0.5),
        lambda: FullyConnectedNet(SHAPE, CLASSES, [7, 6], dropout=0.3, reg=0.5),
        lambda: FullyConnectedNet(SHAPE, CLASSES, [7, 6], "batch", dropout=0.3),
        lambda: FullyConnectedNet(SHAPE, CLASSES, [7], "layer"),
        *(lambda norm=norm: ConvNet(SHAPE, CLASSES, [4, 4], 1, normalization=norm, groups=2, dropout=0.3)
          for norm in ("none", "batch", "layer", "group")),
    ],
)  # fmt: skip
def test_classifiers(build: Callable[[], Any]) -> None:
    torch.manual_seed(1)
    assert differing(build(), images()) == []


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (CaptionRNN, {}),
        (CaptionRNN, {"tie_embeddings": False, "dropout": 0.5, "label_smoothing": 0.1}),
        (CaptionLSTM, {}),
        (CaptionLSTM, {"attention": False}),
        (CaptionTransformer, {"num_layers": 2, "num_heads": 2, "hidden": 6}),
        (CaptionTransformer, {"num_layers": 1, "num_heads": 2, "encoder_layers": 1, "norm": "post", "dropout": 0.1}),
    ],
)
def test_captioners(kind: Any, settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    assert differing(kind((3, 8, 8), VOCABULARY, **TINY, **settings), captions()) == []


@pytest.mark.parametrize("shape", [(5, 6), (6,)])
def test_captioners_of_features(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    assert differing(CaptionLSTM(shape, VOCABULARY, 8), captions(shape)) == []


def test_the_model_is_not_changed() -> None:
    model = FullyConnectedNet(SHAPE, CLASSES, [5], "batch")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    differing(model, images())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("file", "function", "wrong", "rows"),
    [
        (layer_steps, "relu_backward", lambda dy, x: dy, ["hidden.weight", "hidden.bias"]),
        (
            classifier_steps,
            "cross_entropy_backward",
            lambda scores, labels: 1.001 * scores.softmax(1),
            ["output.weight", "output.bias", "hidden.weight", "hidden.bias"],
        ),
        (classifier_steps, "cross_entropy", lambda scores, labels: scores.sum(), ["loss"]),
    ],
)
def test_a_wrong_formula_is_found(
    file: Any, function: str, wrong: Callable[..., Tensor], rows: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, function, wrong)
    torch.manual_seed(1)
    assert differing(TwoLayerNet(SHAPE, CLASSES, hidden_size=7), images()) == rows


@pytest.mark.parametrize(
    ("file", "function", "kind", "affected", "unaffected"),
    [
        (captioner_steps, "attention_backward", CaptionLSTM, "query.weight", "output.bias"),
        (captioner_steps, "rnn_step_backward", CaptionRNN, "embedding.weight", "output.bias"),
        (transformer_steps, "attention_backward", CaptionTransformer, "encoder.project.weight", "norm.weight"),
    ],
)
def test_a_wrong_formula_inside_a_captioner_is_found(
    file: Any, function: str, kind: Any, affected: str, unaffected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right: Any = getattr(file, function)

    def wrong(*inputs: Any) -> tuple[Tensor, ...]:
        first, *others = right(*inputs)
        return 1.01 * first, *others

    monkeypatch.setattr(file, function, wrong)
    torch.manual_seed(1)
    rows = differing(kind((3, 8, 8), VOCABULARY, **TINY), captions())
    assert affected in rows
    assert unaffected not in rows
