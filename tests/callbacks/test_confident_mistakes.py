"""The most confident mistakes are exactly the first of a sort over all images, and are shown as they look."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import callbacks.confident_mistakes
from callbacks import ConfidentMistakes
from datamodules import Digits
from modules import SoftmaxRegression
from tests.callbacks.shown import Shown
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def all_mistakes(model: SoftmaxRegression, data: Digits, split: str) -> list[tuple[float, int, int, int]]:
    """Probability, predicted class, true class and index of every wrong image, most confident first."""
    images, labels = data.splits[split]
    with torch.no_grad():
        logits = model(data.preprocessing(images)).double().numpy()
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    mistakes = []
    for index, (row, label) in enumerate(zip(probabilities, labels.tolist(), strict=True)):
        if row.argmax() != label:
            mistakes.append((float(row.max()), int(row.argmax()), label, index))
    return sorted(mistakes, reverse=True)


@pytest.mark.parametrize("batch_size", [7, 50, 1000])
@pytest.mark.parametrize("count", [1, 12, 5000])
def test_the_most_confident_of_all_mistakes_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, count: int
) -> None:
    Shown(monkeypatch, callbacks.confident_mistakes)  # hundreds of pictures take seconds to draw
    torch.manual_seed(2)
    data = Digits(batch_size=batch_size)
    model = SoftmaxRegression(data.input_shape, data.num_classes, weight_scale=0.3)
    callback = ConfidentMistakes(count)
    trainer_of(tmp_path, callback).test(model, data, verbose=False)
    expected = all_mistakes(model, data, "test")[:count]
    assert len(expected) > 200 or len(expected) == count
    assert [mistake[0] for mistake in callback.mistakes] == pytest.approx([m[0] for m in expected], abs=1e-6)
    assert [mistake[1:3] for mistake in callback.mistakes[:12]] == [m[1:3] for m in expected[:12]]


def test_images_are_shown_as_pixels_with_both_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, callbacks.confident_mistakes)
    torch.manual_seed(2)
    data = Digits(batch_size=40)
    model = SoftmaxRegression(data.input_shape, data.num_classes, weight_scale=0.3)
    trainer_of(tmp_path, ConfidentMistakes(6)).test(model, data, verbose=False)
    [(images, titles, _, title)] = shown.calls
    expected = all_mistakes(model, data, "test")[:6]
    pixels = torch.stack([data.splits["test"][0][index] for *_, index in expected]).float() / 255
    torch.testing.assert_close(images, pixels, rtol=0, atol=1e-6)
    assert titles == [f"{predicted} {p:.0%}\nis {true}" for p, predicted, true, _ in expected]
    assert title == "most confident mistakes, test"
    assert [file.name for file in (tmp_path / "pictures" / "mistakes" / "test").iterdir()] == ["00000000.png"]


def test_fit_shows_those_of_the_last_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, callbacks.confident_mistakes)
    torch.manual_seed(0)
    data = Digits(batch_size=300)
    model = SoftmaxRegression(data.input_shape, data.num_classes)
    trainer_of(tmp_path, ConfidentMistakes(5), max_epochs=3).fit(model, data)
    [(images, titles, _, title)] = shown.calls
    expected = all_mistakes(model, data, "val")[:5]
    assert titles == [f"{predicted} {p:.0%}\nis {true}" for p, predicted, true, _ in expected]
    assert title == "most confident mistakes, val"
    assert images.shape == (5, 1, 8, 8)


def test_a_model_without_mistakes_has_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cheating(SoftmaxRegression):
        def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            super().test_step(batch, batch_idx)
            return torch.nn.functional.one_hot(batch[1], 10).float()

    shown, callback = Shown(monkeypatch, callbacks.confident_mistakes), ConfidentMistakes()
    trainer_of(tmp_path, callback).test(Cheating((1, 8, 8), 10), Digits(), verbose=False)
    assert callback.mistakes == []
    assert shown.calls == []


def test_a_count_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^count is 0; it must be at least 1\.$"):
        ConfidentMistakes(0)
