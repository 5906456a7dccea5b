"""Templates are shown at the right steps, as weights on pixels whatever the preprocessing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor

import callbacks.templates
from callbacks import Templates
from callbacks.pictures import stretch
from datamodules import Digits
from modules import LinearSVM, TwoLayerNet
from tests.callbacks.shown import Shown
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def train(folder: Path, callback: Templates, epochs: int = 3, model: Any = None, **settings: Any) -> tuple[Any, Digits]:
    torch.manual_seed(0)
    data = Digits(batch_size=500, **settings)  # two steps an epoch
    model = model or LinearSVM(data.input_shape, data.num_classes, weight_scale=0.1)
    trainer_of(folder, callback, max_epochs=epochs).fit(model, data)
    return model, data


def steps(folder: Path) -> list[int]:
    return sorted(int(file.stem) for file in (folder / "pictures" / "templates").iterdir())


@pytest.mark.parametrize(
    ("every", "epochs", "expected"), [(1, 3, [0, 2, 4, 6]), (2, 3, [0, 4, 6]), (5, 2, [0, 4]), (2, 4, [0, 4, 8])]
)
def test_pictures_before_training_every_n_epochs_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, epochs: int, expected: list[int]
) -> None:
    Shown(monkeypatch, callbacks.templates)
    train(tmp_path, Templates(every), epochs)
    assert steps(tmp_path) == expected


def test_a_run_that_goes_on_draws_no_second_picture_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown(monkeypatch, callbacks.templates)
    model = LinearSVM((1, 8, 8), 10)
    trainer = trainer_of(tmp_path, Templates(), max_epochs=1)
    trainer.fit(model, Digits(batch_size=500))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    trainer_of(tmp_path, Templates(), max_epochs=2).fit(
        model, Digits(batch_size=500), ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    assert [title for *_, title in shown.calls] == [
        "LinearSVM templates before training",
        "LinearSVM templates after epoch 1",
        "LinearSVM templates after epoch 2",
    ]


@pytest.mark.parametrize("preprocessing", ["scale", "mean_image", "standardize"])
def test_values_are_the_weights_around_mid_gray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preprocessing: Any
) -> None:
    shown = Shown(monkeypatch, callbacks.templates)
    model, _ = train(tmp_path, Templates(), 1, preprocessing=preprocessing)
    images, titles, *_ = shown.calls[-1]
    weights = model.linear.weight.detach().reshape(10, 1, 8, 8)
    torch.testing.assert_close(images, 0.5 + 0.5 * weights / weights.abs().amax((1, 2, 3), keepdim=True))
    assert titles == list("0123456789")
    assert ((images.amin((1, 2, 3)) == 0) | (images.amax((1, 2, 3)) == 1)).all()


@pytest.mark.parametrize("preprocessing", ["pca", "whiten"])
def test_weights_on_components_are_shown_as_weights_on_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preprocessing: Any
) -> None:
    """Independent of the preprocessing's formula: the template is the gradient of the score in the pixels."""
    shown = Shown(monkeypatch, callbacks.templates)
    model, data = train(tmp_path, Templates(), 1, preprocessing=preprocessing, num_components=20)
    directions, mean = data.preprocessing.fitted["directions"], data.preprocessing.fitted["mean"]
    pixels = torch.rand(1, 1, 8, 8, requires_grad=True)
    scores = model((pixels - mean).flatten(1) @ directions)[0]
    gradients = torch.cat([torch.autograd.grad(score, pixels, retain_graph=True)[0] for score in scores])
    assert model.templates().shape == (10, 20)
    torch.testing.assert_close(shown.calls[-1][0], stretch(gradients), rtol=1e-4, atol=1e-5)


def test_no_more_than_max_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, callbacks.templates)
    train(tmp_path, Templates(max_templates=3), 1)
    images, titles, *_ = shown.calls[0]
    assert images.shape == (3, 1, 8, 8)
    assert titles == ["0", "1", "2"]


def test_hidden_units_are_numbered_even_if_they_are_as_many_as_the_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown(monkeypatch, callbacks.templates)
    train(tmp_path, Templates(), 1, model=TwoLayerNet((1, 8, 8), 10, hidden_size=10))
    _, titles, _, title = shown.calls[0]
    assert titles == [str(i) for i in range(10)]
    assert title == "TwoLayerNet first layer before training"


def test_features_are_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnFeatures(LinearSVM):
        def templates(self) -> Tensor:
            return torch.zeros(10, 7, 8, 8)  # seven channels

    shown = Shown(monkeypatch, callbacks.templates)
    train(tmp_path, Templates(), 1, model=OnFeatures((1, 8, 8), 10))
    assert shown.calls == []


def test_a_model_without_templates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^BoringModel has no templates to show; remove callbacks\.Templates from"):
        train(tmp_path, Templates(), 1, model=BoringModel())


@pytest.mark.parametrize(("name", "value"), [("every_n_epochs", 0), ("max_templates", -1)])
def test_values_below_one_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {value}; it must be at least 1\.$"):
        Templates(**{name: value})
