"""Histograms are those of numpy, of the right step and layers, and leave no hooks and no change behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import callbacks.histograms
from callbacks import Histograms
from callbacks.histogram_picture import LayerHistograms, draw_histograms
from callbacks.histograms import histogram
from callbacks.media import Histogram
from datamodules import Digits, ShapeCaptions
from modules import CaptionLSTM, FullyConnectedNet, KNearestNeighbors
from tests.callbacks.shown import Shown
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def network(data: Digits) -> FullyConnectedNet:
    torch.manual_seed(0)
    return FullyConnectedNet(data.input_shape, 10, hidden_sizes=[20, 15], normalization="none")


@pytest.mark.parametrize("shape", [(7,), (40, 30), (2, 3, 5, 5)])
def test_counts_and_moments_are_those_of_numpy(shape: tuple[int, ...]) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1)).relu()
    found, array = histogram(values, 16), values.numpy().flatten()
    assert found is not None
    counts, edges = np.histogram(array, 16)
    assert found.counts.sum() == array.size and np.abs(found.counts - counts).sum() <= 2  # rounding at an edge
    np.testing.assert_allclose(found.edges, edges, rtol=1e-6)
    assert (found.mean, found.std) == pytest.approx((array.mean(), array.std()), rel=1e-5)
    assert found.zeros == pytest.approx((array == 0).mean())


def test_values_that_are_not_finite_are_left_out_and_equal_ones_have_a_bin() -> None:
    values = torch.tensor([1.0, float("nan"), 3.0, float("inf"), -float("inf")])
    found = histogram(values, 2)
    assert found is not None and (found.counts.tolist(), found.edges.tolist()) == ([1, 1], [1, 2, 3])
    assert histogram(torch.full((3,), float("nan")), 2) is None and histogram(torch.empty(0), 2) is None
    equal = histogram(torch.full((5,), 2.0, dtype=torch.bfloat16), 4)
    assert equal is not None and (equal.counts.sum(), equal.std, equal.edges[[0, -1]].tolist()) == (5, 0, [1.5, 2.5])


class Recording(FullyConnectedNet):
    """Keeps weights, gradients and inputs of the first layer in every step."""

    def __init__(self, *settings: Any, **more: Any) -> None:
        super().__init__(*settings, **more)
        self.steps: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        first: Any = self.layers[0]
        self.steps.append((first.weight.detach().clone(), first.weight.grad.clone(), self.inputs))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.inputs: Tensor = batch[0]
        return super().training_step(batch, batch_idx)


def test_the_first_step_and_the_last_of_epochs_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Shown(monkeypatch, callbacks.histograms, "log_histograms").calls
    data = Digits(batch_size=500)  # two steps an epoch
    torch.manual_seed(0)
    model = Recording(data.input_shape, 10, hidden_sizes=[20, 15], normalization="none")
    trainer_of(tmp_path, Histograms(every_n_epochs=2), max_epochs=5).fit(model, data)
    files = sorted((tmp_path / "pictures" / "histograms").iterdir())
    assert [file.name for file in files] == [f"{step:08d}.png" for step in (1, 4, 8, 10)]
    for (_, found), step in zip(logged, (1, 4, 8, 10), strict=True):
        assert list(found) == [
            "weights/layers.0", "gradients/layers.0", "activations/layers.0", "activations/layers.2",
            "weights/layers.4", "gradients/layers.4", "activations/layers.4", "activations/layers.6",
            "weights/layers.8", "gradients/layers.8", "activations/layers.8",
        ]  # fmt: skip
        weight, gradient, inputs = model.steps[step - 1]
        outputs = nn.functional.linear(inputs.flatten(1), weight, torch.zeros(20))
        for name, expected in (("weights", weight), ("gradients", gradient)):
            np.testing.assert_array_equal(found[f"{name}/layers.0"].counts, histogram(expected, 64).counts)  # type: ignore[union-attr]
        if step == 1:  # the biases are still 0
            assert found["activations/layers.0"].std == pytest.approx(float(outputs.std(unbiased=False)), rel=1e-5)
            assert found["activations/layers.2"].zeros == pytest.approx(float((outputs <= 0).float().mean()))


def test_training_is_the_same_with_and_without_and_no_hook_stays(tmp_path: Path) -> None:
    data, models = Digits(batch_size=100), []
    for more in ([], [Histograms()]):
        models.append(network(data))
        trainer_of(tmp_path, *more, max_epochs=2).fit(models[-1], data)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
    assert not any(layer._forward_hooks for layer in models[1].modules())


def test_accumulated_gradients_are_those_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Shown(monkeypatch, callbacks.histograms, "log_histograms").calls
    data = Digits(batch_size=200)  # six batches an epoch
    trainer_of(tmp_path, Histograms(), max_epochs=1, accumulate_grad_batches=3).fit(network(data), data)
    files = sorted((tmp_path / "pictures" / "histograms").iterdir())
    assert [file.name for file in files] == ["00000001.png", "00000002.png"]
    assert all("gradients/layers.0" in found for _, found in logged)


def test_a_run_that_ends_in_the_measured_step_leaves_no_hook(tmp_path: Path) -> None:
    class Failing(FullyConnectedNet):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise RuntimeError("no")

    data = Digits()
    model = Failing(data.input_shape, 10, hidden_sizes=[5])
    with pytest.raises(RuntimeError, match="no"):
        trainer_of(tmp_path, Histograms(), max_epochs=1).fit(model, data)
    assert not any(layer._forward_hooks for layer in model.modules())


def test_recurrent_layers_have_a_row_for_each_of_their_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Shown(monkeypatch, callbacks.histograms, "log_histograms").calls
    data = ShapeCaptions(num_train=32, num_test=10, batch_size=16)
    model = CaptionLSTM(data.input_shape, data.vocabulary, width=8)
    trainer_of(tmp_path, Histograms(), max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(model, data)
    names = list(logged[0][1])
    assert {"weights/embedding", "gradients/embedding", "activations/output"} <= set(names)
    assert len(names) == len(set(names))


def test_a_model_without_layers_and_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    data = Digits()
    with pytest.raises(
        ValueError, match=r"^KNearestNeighbors has no layers with weights; remove callbacks\.Histograms"
    ):
        trainer_of(tmp_path, Histograms(), max_epochs=1).fit(KNearestNeighbors(data.input_shape, 10), data)
    with pytest.raises(ValueError, match=r"^every_n_epochs is 0; it must be at least 1\.$"):
        Histograms(every_n_epochs=0)
    with pytest.raises(ValueError, match=r"^bins is 513; it must be in \[1, 512\]\.$"):
        Histograms(bins=513)


def test_bars_are_as_high_as_their_counts() -> None:
    counts = np.array([0, 10, 20, 40])
    of_layer = LayerHistograms("Linear", {"": Histogram(counts, np.linspace(-1, 1, 5), 0.0, 1.0, 0.0)}, {"": None})
    picture = draw_histograms({"layers.0": of_layer}, "title")
    blue = (picture == (31, 119, 180)).all(2)
    columns = np.nonzero(blue.any(0))[0]
    quarters = np.array_split(blue[:, columns[0] :], 1, axis=1)[0]
    heights = quarters.sum(0)
    assert sorted(set(heights[heights > 0].tolist())) == [11, 22, 43]
    assert [int((heights == height).sum()) for height in (11, 22, 43)] == [75, 75, 75]
    assert not (picture == (255, 127, 14)).all(2).any()


def test_a_deep_network_is_cut_in_the_picture() -> None:
    one = Histogram(np.array([1, 2]), np.array([0.0, 1, 2]), 1.0, 0.5, 0.0)
    layers = {f"layers.{i}": LayerHistograms("ReLU", activations=one) for i in range(100)}
    assert draw_histograms(layers, "t").shape[0] == draw_histograms(dict(list(layers.items())[:60]), "t").shape[0]
