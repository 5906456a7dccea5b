"""The callbacks that look inside a network draw at the right epochs, on pixels, and leave the training as it was."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

import callbacks.class_visualization
import callbacks.fooling_images
import callbacks.saliency_maps
from callbacks import ClassVisualization, FeatureMaps, FoolingImages, SaliencyMaps
from callbacks.attribution_pictures import fooling_picture, heat, layers_picture, patches_picture, scaled
from datamodules import Digits
from modules import Classifier, ConvNet, SoftmaxRegression, TimmClassifier
from modules.interpretation.saliency import saliency
from tests.callbacks.shown import Shown
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def train(
    folder: Path, watching: Sequence[Callback], epochs: int = 3, linear: bool = False, **data: Any
) -> tuple[Classifier, Digits]:
    torch.manual_seed(0)
    digits = Digits(batch_size=128, subset=256, **data)  # two steps an epoch
    model: Classifier = ConvNet(digits.input_shape, 10, [4, 8], 1, dropout=0.5)
    if linear:
        model = SoftmaxRegression(digits.input_shape, 10, weight_scale=1.0)
    trainer_of(folder, *watching, max_epochs=epochs).fit(model, digits)
    return model, digits


def test_pictures_every_n_epochs_and_at_the_end(tmp_path: Path) -> None:
    watching = [
        SaliencyMaps(2, 1),
        FoolingImages(2, 1, max_steps=3),
        ClassVisualization(2, max_classes=1, steps=2),
        SaliencyMaps(9, 1, "grad_cam"),
    ]
    train(tmp_path, watching)
    for name in ("saliency", "fooling", "class_visualization"):
        assert sorted(file.name for file in (tmp_path / "pictures" / name).iterdir()) == [
            "00000004.png",
            "00000006.png",
        ]


def test_training_is_the_same_without_them(tmp_path: Path) -> None:
    watching = [
        SaliencyMaps(1, 1, "smoothgrad"),
        FoolingImages(1, 1, max_steps=3),
        ClassVisualization(1, max_classes=1, steps=2),
    ]
    watched, _ = train(tmp_path / "watched", watching, 2)
    alone, _ = train(tmp_path / "alone", [], 2)
    for name, tensor in alone.state_dict().items():
        assert torch.equal(watched.state_dict()[name], tensor), name
    assert watched.training == alone.training


@pytest.mark.parametrize("preprocessing", ["scale", "mean_image", "standardize"])
def test_maps_are_of_the_shown_pixels_whatever_the_preprocessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preprocessing: Any
) -> None:
    shown = Shown(monkeypatch, callbacks.saliency_maps, "saliency_picture")
    model, data = train(tmp_path, [SaliencyMaps(1, 4)], 1, preprocessing=preprocessing)
    ((pixels, maps, titles, method),) = shown.calls
    images, labels = data.splits["val"]
    torch.testing.assert_close(pixels, images[:4].float() / 255, atol=1e-5, rtol=0)
    assert method == "gradient"
    assert [title.split()[0] for title in titles] == [str(label) for label in labels[:4].tolist()]
    # By the chain rule, gradients of pixels in [0, 1] are multiplied by 255 times the scale.
    of_inputs = saliency(model.eval(), data.preprocessing(images[:4]), labels[:4])
    scale = float(data.preprocessing.fitted["scale"])
    torch.testing.assert_close(maps, 255 * scale * of_inputs, rtol=1e-3, atol=1e-6)


def test_fooling_images_are_those_that_fool_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, callbacks.fooling_images, "fooling_picture")
    model, data = train(tmp_path, [FoolingImages(1, 4, step=0.01)], 2, linear=True)
    before, after, titles = shown.calls[-1]
    predicted = model.eval()(data.preprocessing(255 * after)).argmax(1)
    was = model(data.preprocessing(255 * before)).argmax(1)
    assert torch.equal(predicted, (was + 1) % 10)
    assert [pair[0].split()[0] for pair in titles] == [str(label) for label in was.tolist()]
    assert [pair[1].split()[0] for pair in titles] == [str(label) for label in predicted.tolist()]


def test_class_visualization_raises_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, callbacks.class_visualization, "image_grid")
    model, data = train(tmp_path, [ClassVisualization(5, max_classes=4, steps=60)], 4, linear=True)
    ((images, titles, _, title),) = shown.calls
    assert images.shape == (4, 1, 8, 8) and titles == list("0123") and title == "class visualization after epoch 4"
    model.eval()
    drawn, gray = (model(data.preprocessing(255 * shown)).diag() for shown in (images, torch.full_like(images, 0.5)))
    assert (drawn > gray + 1).all()


def test_features_are_not_drawn_and_models_without_images_are_refused(tmp_path: Path) -> None:
    from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

    data = Digits(batch_size=128, subset=256, features=["hog"], root=str(tmp_path))
    trainer = trainer_of(tmp_path, SaliencyMaps(), max_epochs=1)
    trainer.fit(SoftmaxRegression(data.input_shape, 10), data)
    assert not (tmp_path / "pictures").exists()
    with pytest.raises(ValueError, match=r"^BoringDataModule has no images .* remove callbacks\.SaliencyMaps from"):
        trainer.fit(BoringModel(), BoringDataModule())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SaliencyMaps(0), "every_n_epochs is 0; it must be at least 1"),
        (lambda: FoolingImages(num_images=0), "num_images is 0; it must be at least 1"),
        (lambda: SaliencyMaps(method="guess"), "method is 'guess'; it must be one of gradient, smoothgrad, grad_cam"),  # type: ignore[arg-type]
        (lambda: FoolingImages(step=0.0), "step is 0.0; it must be > 0"),
        (lambda: ClassVisualization(max_classes=0), "max_classes is 0; it must be at least 1"),
    ],
)
def test_values_out_of_range(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_feature_maps_of_any_network_and_of_layers_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import callbacks.feature_maps

    shown = Shown(monkeypatch, callbacks.feature_maps, "feature_map_picture")
    train(tmp_path, [FeatureMaps(2, layers=["stages.1.0", "stages.0"])], 1)
    (images, maps, _) = shown.calls[-1]
    assert images.shape == (2, 1, 8, 8)
    assert {name: tuple(output.shape) for name, output in maps.items()} == {
        "stages.1.0": (2, 8, 4, 4), "stages.0": (2, 4, 4, 4),
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"ConvNet has no layer 'stages\.9'; did you mean"):
        train(tmp_path, [FeatureMaps(layers=["stages.9"])], 1)
    network = TimmClassifier((1, 32, 32), 10, "resnet10t")
    FeatureMaps().setup(L.Trainer(logger=False), network, "fit")
    assert network.training


def test_heat_is_scaled_by_the_99th_percentile_of_each_map() -> None:
    maps = torch.arange(2 * 400.0).reshape(2, 20, 20)
    maps[0, 0, 0] = 1e6
    result = scaled(maps)
    tops = np.quantile(maps.numpy().reshape(2, 400), 0.99, axis=1)
    np.testing.assert_allclose(result.numpy(), np.clip(maps.numpy() / tops[:, None, None], 0, 1), rtol=1e-5)
    colors = heat(torch.zeros(1, 4, 4))
    assert colors.shape == (1, 3, 4, 4) and float(colors.max()) < 0.02  # black where nothing matters


def shades(picture: np.ndarray, columns: int, column: int) -> np.ndarray:
    """The color in the middle of a cell, of one row of cells."""
    width = picture.shape[1] / columns
    return picture[2 * picture.shape[0] // 3, int((column + 0.5) * width)]


def test_the_change_is_magnified_around_gray() -> None:
    before = torch.full((1, 1, 8, 8), 0.5)
    picture = fooling_picture(before, before + 10 / 255, [("cat 90%", "dog 80%")])
    assert shades(picture, 3, 0).tolist() == [127] * 3
    assert shades(picture, 3, 1).tolist() == [137] * 3
    assert shades(picture, 3, 2)[0] in range(246, 250)  # 127.5 + 12 · 10: 12 is the most that stays below white


def test_layers_and_patches_have_their_positions() -> None:
    maps = torch.zeros(3, 4, 4)
    maps[1], maps[2] = 2.0, 1.0
    picture = layers_picture(torch.zeros(3, 8, 8), {"one": maps}, 2)
    assert [shades(picture, 3, i)[0] for i in range(3)] == [0, 255, 255]
    rows: list[list[Tensor]] = [[torch.zeros(1, 4, 4), torch.full((1, 2, 4), 0.2)]]
    patches = patches_picture(rows, [["a", "b"]])
    assert [shades(patches, 2, i)[0] for i in range(2)] == [0, 51]
