"""Features are computed once, cached safely, standardized by the training split alone and loaded like pixels."""

import multiprocessing
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from datamodules import Digits, Shapes
from datamodules.images import features as module
from datamodules.images.color_histograms import color_histogram, hue_histogram
from datamodules.images.features import Features, cached_features, compute_all
from datamodules.images.hog import hog


def random_images(count: int = 450, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, 12, 12), dtype=np.uint8))


def shapes(root: Path, **settings: Any) -> Shapes:
    settings = {"num_train": 300, "num_test": 50, "features": ["hog", "hue"], **settings}
    return Shapes(root=str(root), **settings)


def both(images: Tensor) -> Tensor:
    return torch.cat([hog(images), hue_histogram(images)], 1)


def served(loader: Any) -> tuple[Tensor, Tensor]:
    rows, labels = zip(*loader, strict=True)
    return torch.cat(rows), torch.cat(labels)


# ----------------------------------------------------------------------------------------------------------- features


def test_tiles_give_the_features_of_the_whole_in_the_given_order() -> None:
    images = random_images()
    assert torch.equal(compute_all(Features(["hog", "hue"]), images), both(images))
    found = compute_all(Features(["hue", "hog"]), images)
    assert torch.equal(found, torch.cat([hue_histogram(images), hog(images)], 1))
    found = compute_all(Features(["color", "hog"]), images)
    assert torch.equal(found, torch.cat([color_histogram(images), hog(images)], 1))


def test_standardized_as_scikit_learn_does_it() -> None:
    images = random_images()
    features = Features(["hog", "hue"])
    features.fit(images[:300])
    expected = StandardScaler().fit(both(images[:300]).double().numpy()).transform(both(images).double().numpy())
    np.testing.assert_allclose(features(images).numpy(), expected, atol=1e-4)
    torch.testing.assert_close(features(both(images)), features(images))


def test_constant_features_become_zero() -> None:
    images = random_images(40)
    images[:, 1:] = images[:, :1]  # gray: every hue is 0
    features = Features(["hue"])
    features.fit(images)
    assert torch.equal(features(images), torch.zeros(40, 10))


@pytest.mark.parametrize("names", [[], ["hog", "hog"], ["hog", "colour"]])
def test_wrong_names_are_refused(names: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"^features is .*; it must be one or more of hog, hue, color, each once\.$"):
        Features(names)


# -------------------------------------------------------------------------------------------------------------- cache


def no_computing(*_: Any) -> Tensor:
    raise AssertionError("the file should have been read")


def test_computed_once_and_read_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, features = random_images(), Features(["hog", "hue"])
    first = cached_features(features, images, tmp_path / "features")
    monkeypatch.setattr(module, "compute_all", no_computing)
    assert torch.equal(cached_features(features, images, tmp_path / "features"), first)
    assert torch.equal(first, both(images))


def test_other_images_features_shapes_or_versions_have_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = random_images(20)
    other = images.clone()
    other[3, 0, 0, 0] ^= 1
    for number, (names, given) in enumerate(
        [(["hog"], images), (["hog", "hue"], images), (["hog"], other), (["hog"], images.reshape(20, 3, 9, 16))]
    ):
        cached_features(Features(names), given, tmp_path)  # type: ignore[arg-type]
        assert len(list(tmp_path.iterdir())) == number + 1
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    cached_features(Features(["hog"]), images, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 5 == len(list(tmp_path.iterdir()))


@pytest.mark.parametrize(
    "damage", ["cut short", "a bit", "empty", "text", "another array", "an object array", "a header", "header 2"]
)
def test_a_damaged_file_is_computed_again_with_a_warning(tmp_path: Path, damage: str) -> None:
    images, features = random_images(30), Features(["hog"])
    expected = cached_features(features, images, tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "another array":
        np.save(file, np.zeros(3))
    elif damage == "an object array":
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    elif "header" in damage:
        shape = b"(99999999999999999999, 4)" if damage == "a header" else b"(30, (4)"
        header = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + b", }"
        file.write_bytes(header.ljust(127) + b"\n" + bytes(content[128:]))
    else:
        cut = file.read_bytes()[:-100]
        file.write_bytes({"cut short": cut, "a bit": bytes(content), "empty": b"", "text": b"hello"}[damage])
    with pytest.warns(UserWarning, match="is damaged .* computed again"):
        assert torch.equal(cached_features(features, images, tmp_path), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(cached_features(features, images, tmp_path), expected)


def test_a_folder_that_cannot_be_written_causes_one_warning(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("in the way")
    with pytest.warns(UserWarning, match="can't be written to") as warned:
        found = cached_features(Features(["hog"]), random_images(10), tmp_path / "features")
    assert len(warned) == 1
    assert torch.equal(found, hog(random_images(10)))


def _compute(folder: Path, barrier: Any) -> None:
    barrier.wait()
    for seed in range(5):
        images = random_images(60, seed)
        assert torch.equal(cached_features(Features(["hog", "hue"]), images, folder), both(images))


def test_processes_at_once_leave_intact_files(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_compute, args=(tmp_path, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached_features(Features(["hog", "hue"]), random_images(60, 4), tmp_path)


# --------------------------------------------------------------------------------------------------------------- data


def test_loaders_serve_the_features_of_their_split(tmp_path: Path) -> None:
    data = shapes(tmp_path, batch_size=32)
    data.setup("fit")
    data.setup("test")
    assert data.input_shape == (1774,)
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        images, labels = data.splits[split]
        rows, served_labels = served(loader)
        assert torch.equal(rows, both(images)) and torch.equal(served_labels, labels)
    rows, labels = served(data.train_dataloader())
    images, all_labels = data.splits["train"]
    known = {row.numpy().tobytes(): label for row, label in zip(both(images), all_labels.tolist(), strict=True)}
    assert len(rows) == 32 * (270 // 32)
    assert [known[row.numpy().tobytes()] for row in rows] == labels.tolist()
    inputs, given = data.training_images()
    torch.testing.assert_close(inputs, data.preprocessing(images))
    assert torch.equal(given, all_labels)


def test_standardized_by_the_training_split_alone(tmp_path: Path) -> None:
    data = shapes(tmp_path)
    data.setup("fit")
    scaler = StandardScaler().fit(both(data.splits["train"][0]).double().numpy())
    outputs, _ = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    expected = scaler.transform(both(data.splits["val"][0]).double().numpy())
    varied = scaler.scale_ != 1  # scikit-learn's scale of a constant
    np.testing.assert_allclose(outputs.numpy()[:, varied], expected[: len(outputs), varied], atol=2e-3, rtol=1e-3)
    assert outputs.isfinite().all()


def test_flip_serves_mirrored_images_half_of_the_time(tmp_path: Path) -> None:
    data = shapes(tmp_path, flip=True, num_train=1000, batch_size=100)
    data.setup("fit")
    images = data.splits["train"][0]
    plain, mirrored = ({row.numpy().tobytes() for row in both(x)} for x in (images, images.flip(-1)))
    rows = [row.numpy().tobytes() for row in served(data.train_dataloader())[0]]
    assert all(row in plain or row in mirrored for row in rows)
    assert 0.4 < sum(row in mirrored and row not in plain for row in rows) / len(rows) < 0.6
    assert torch.equal(served(data.val_dataloader())[0], both(data.splits["val"][0]))


def test_folds_and_subsets_share_one_file(tmp_path: Path) -> None:
    for settings in ({}, {"num_folds": 3, "fold": 1}, {"subset": 40}):
        data = shapes(tmp_path, **settings)
        data.setup("fit")
        assert torch.equal(data._inputs("train")[0], both(data.splits["train"][0]))
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_images_are_preprocessed_as_their_features(tmp_path: Path) -> None:
    """`predict` and `check` pass images."""
    data = shapes(tmp_path)
    data.setup("fit")
    from_images, _ = data.on_after_batch_transfer(data.splits["val"], 0)
    from_features, _ = data.on_after_batch_transfer(data._inputs("val"), 0)
    torch.testing.assert_close(from_images, from_features)


def test_evaluation_images_are_pixels(tmp_path: Path) -> None:
    data = shapes(tmp_path)
    data.setup("fit")
    found = data.evaluation_images("val", torch.tensor([4, 0]))
    assert torch.equal(found, data.splits["val"][0][[4, 0]].float() / 255)


def test_fitted_values_are_in_the_checkpoint(tmp_path: Path) -> None:
    trained = shapes(tmp_path)
    trained.setup("fit")
    loaded = shapes(tmp_path, subset=40)
    loaded.load_state_dict(trained.state_dict())
    loaded.setup("fit")
    assert torch.equal(loaded.preprocessing(trained.splits["val"][0]), trained.preprocessing(trained.splits["val"][0]))
    for other in (shapes(tmp_path, features=["hog"]), shapes(tmp_path, features=None)):
        with pytest.raises(
            ValueError, match=r"trained with preprocessing hog\+hue, not .*; leave preprocessing and features as they"
        ):
            other.load_state_dict(trained.state_dict())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"crop_padding": 4}, "features are set with crop_padding 4, which works on pixels; leave it out"),
        ({"cutout": 8}, "cutout 8"),
        ({"rotation": 5.0}, "rotation 5.0"),
        ({"albumentations": ["HorizontalFlip"]}, r"albumentations \['HorizontalFlip'\]"),
        ({"preprocessing": "whiten", "num_components": 5}, "num_components 5, preprocessing whiten"),
        ({"features": ["sift"]}, "it must be one or more of hog, hue, color"),
    ],
)
def test_settings_that_work_on_pixels_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        shapes(tmp_path, **settings)


def test_grayscale_images_have_hog_and_color_but_no_hue(tmp_path: Path) -> None:
    data = Digits(root=str(tmp_path), features=["hog", "color"])
    data.setup("fit")
    assert data.input_shape == (46,)
    batch = next(iter(data.train_dataloader()))[0]
    assert batch.shape[1:] == (46,) and batch[:, 36:].std() > 0.1
    with pytest.raises(ValueError, match="hue needs RGB; use color or hog"):
        _ = Digits(root=str(tmp_path), features=["hog", "hue"]).input_shape
