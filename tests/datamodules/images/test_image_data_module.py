"""The base of the small-image data sets: splits, preprocessing fitted to the training split alone, loaders, state."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datamodules import CIFAR10, MNIST, Digits, FashionMNIST, ImageDataModule, Shapes
from datamodules.files import official_files
from datamodules.files.download import Download
from datamodules.images import cifar10, mnist
from datamodules.images.preprocessing import Method, Preprocessing
from tests.datamodules.files.official_files import write_cifar10, write_mnist

FILES: dict[type[ImageDataModule], Callable[[Path], None]] = {
    CIFAR10: lambda root: write_cifar10(root),
    MNIST: lambda root: write_mnist(root),
    FashionMNIST: lambda root: write_mnist(root, "FashionMNIST"),
}
ALL = [CIFAR10, MNIST, FashionMNIST, Digits, Shapes]


def made(kind: type[ImageDataModule], root: Path, **settings: Any) -> ImageDataModule:
    """A data module on small files in the official format, if it needs files."""
    if kind in FILES and not any(root.iterdir()):
        FILES[kind](root)
    if kind is Shapes:
        settings = {"num_train": 200, "num_test": 40, **settings}
    return kind(root=str(root), **settings)


def rows(images: Tensor) -> set[bytes]:
    """Images as a set, for comparisons."""
    return {image.numpy().tobytes() for image in images}


def batches(loader: Any) -> tuple[Tensor, Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


# ------------------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("kind", ALL)
def test_training_and_validation_are_disjoint_stratified_and_complete(
    kind: type[ImageDataModule], tmp_path: Path
) -> None:
    data = made(kind, tmp_path, val_fraction=0.2)
    data.setup("fit")
    official, labels = data.read(train=True)
    (train, _), (val, val_labels) = data.splits["train"], data.splits["val"]
    assert len(val) == round(0.2 * len(official))
    assert len(train) + len(val) == len(official) == len(rows(torch.from_numpy(official)))
    assert rows(train) | rows(val) == rows(torch.from_numpy(official))
    share = np.bincount(labels, minlength=10) * 0.2
    assert np.abs(np.bincount(val_labels, minlength=10) - share).max() <= 1
    of_image = {image.tobytes(): label for image, label in zip(official, labels, strict=True)}
    for images, given in (data.splits["train"], data.splits["val"]):
        assert [of_image[image.numpy().tobytes()] for image in images] == given.tolist()


@pytest.mark.parametrize("kind", ALL)
def test_shapes_classes_and_the_test_set(kind: type[ImageDataModule], tmp_path: Path) -> None:
    data = made(kind, tmp_path, batch_size=16)
    data.setup("test")
    assert list(data.splits) == ["test"]  # no training image was needed so far
    official, labels = data.read(train=False)
    images, given = batches(data.test_dataloader())
    assert images.dtype == torch.uint8
    assert images.shape == (len(official), *data.image_shape)
    np.testing.assert_array_equal(images, official)
    np.testing.assert_array_equal(given, labels)
    assert len(data.class_names) == data.num_classes == 10
    assert set(labels.tolist()) == set(range(10))


def test_the_official_digits_and_shapes_have_their_official_sizes() -> None:
    digits = Digits()
    assert tuple(len(digits.read(train)[0]) for train in (True, False)) == digits.official_sizes == (1437, 360)
    shapes = Shapes(num_train=30, num_test=20)
    assert tuple(len(shapes.read(train)[0]) for train in (True, False)) == shapes.official_sizes == (30, 20)
    assert Shapes().official_sizes == (10_000, 2_000)


@pytest.mark.parametrize(("kind", "most"), [(Digits, 2), (Shapes, 0)])
def test_no_training_image_is_a_test_image(kind: type[ImageDataModule], most: int, tmp_path: Path) -> None:
    data = made(kind, tmp_path)
    train, test = (torch.from_numpy(data.read(part)[0]) for part in (True, False))
    assert len(rows(train) & rows(test)) <= most


def test_shapes_are_determined_by_their_seed() -> None:
    one, again, other = (Shapes(num_train=50, draw_seed=seed).read(True)[0] for seed in (0, 0, 1))
    assert (one == again).all()
    assert not rows(torch.from_numpy(one)) & rows(torch.from_numpy(other))
    assert not rows(torch.from_numpy(other)) & rows(torch.from_numpy(Shapes(draw_seed=0).read(False)[0]))


@pytest.mark.parametrize("kind", [CIFAR10, Digits])
def test_held_out_folds_together_are_all_training_images_once(kind: type[ImageDataModule], tmp_path: Path) -> None:
    held_out = []
    for fold in range(3):
        data = made(kind, tmp_path, num_folds=3, fold=fold)
        data.setup("fit")
        assert not rows(data.splits["train"][0]) & rows(data.splits["val"][0])
        held_out += [image.numpy().tobytes() for image in data.splits["val"][0]]
    assert sorted(held_out) == sorted(image.tobytes() for image in data.read(True)[0])


def test_a_subset_is_stratified_and_leaves_validation_alone(tmp_path: Path) -> None:
    whole, part = Digits(), Digits(subset=100)
    whole.setup("fit")
    part.setup("fit")
    assert len(part.splits["train"][0]) == 100
    share = np.bincount(whole.splits["train"][1]) * 100 / len(whole.splits["train"][1])
    assert np.abs(np.bincount(part.splits["train"][1]) - share).max() < 1
    assert rows(part.splits["train"][0]) <= rows(whole.splits["train"][0])
    assert torch.equal(part.splits["val"][0], whole.splits["val"][0])


def test_splits_follow_split_seed_and_not_the_training_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = []
    for training_seed, split_seed in (("1", 0), ("2", 0), ("1", 1)):
        monkeypatch.setenv("PL_GLOBAL_SEED", training_seed)
        data = Digits(split_seed=split_seed)
        data.setup("fit")
        held_out.append(data.splits["val"][0])
    assert torch.equal(held_out[0], held_out[1])
    assert not torch.equal(held_out[0], held_out[2])


def test_training_batches_follow_the_training_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []
    for seed in ("1", "1", "2"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        orders.append(batches(Digits(batch_size=64).train_dataloader())[0])
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


# ------------------------------------------------------------------------------------------- what may see which images


class Recorded(Digits):
    """Digits that record which of their parts are read, with some images inverted."""

    def __init__(self, change: Tensor | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.parts: list[bool] = []
        self.change = change

    def read(self, train: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        self.parts.append(train)
        images, labels = super().read(train)
        if self.change is not None:
            images[self.change] = 255 - images[self.change]
        return images, labels


@pytest.mark.parametrize("method", ["mean_image", "standardize", "pca", "whiten"])
def test_preprocessing_is_fitted_to_the_training_split_alone(method: Method) -> None:
    plain = Digits(preprocessing=method, num_components=20 if method in ("pca", "whiten") else None)
    plain.setup("fit")
    official = torch.from_numpy(plain.read(True)[0])
    held_out = rows(plain.splits["val"][0])
    is_val = torch.tensor([image.numpy().tobytes() in held_out for image in official])
    assert isinstance(plain.preprocessing, Preprocessing)
    settings = {"preprocessing": method, "num_components": plain.preprocessing.num_components}
    changed_val, changed_train = Recorded(is_val, **settings), Recorded(~is_val, **settings)
    for data in (changed_val, changed_train):
        data.setup("fit")
    assert not torch.equal(changed_val.splits["val"][0], plain.splits["val"][0])
    for name, value in plain.preprocessing.fitted.items():
        assert torch.equal(changed_val.preprocessing.fitted[name], value)
    assert any(
        not torch.equal(changed_train.preprocessing.fitted[name], value)
        for name, value in plain.preprocessing.fitted.items()
    )


def test_test_images_are_read_by_test_alone_and_everything_once() -> None:
    data = Recorded()
    for stage in ("fit", "validate", "fit"):
        data.setup(stage)
        batches(data.train_dataloader())
        batches(data.val_dataloader())
    assert data.parts == [True]
    data.setup("test")
    data.setup("test")
    batches(data.test_dataloader())
    assert data.parts == [True, False]


def test_with_a_fitted_checkpoint_no_training_images_are_read() -> None:
    trained = Digits()
    trained.setup("fit")
    data = Recorded()
    data.load_state_dict(trained.state_dict())
    data.setup("test")
    batches(data.test_dataloader())
    assert data.parts == [False]


# ------------------------------------------------------------------------------------------------------------ batches


@pytest.mark.parametrize("method", ["scale", "mean_image", "standardize", "pca", "whiten"])
def test_batches_reach_the_model_preprocessed_in_the_shape_announced(method: Method) -> None:
    data = Digits(batch_size=50, preprocessing=method, num_components=20 if method in ("pca", "whiten") else None)
    announced = data.input_shape
    data.setup("fit")
    images, labels = next(iter(data.val_dataloader()))
    kept = images.clone()
    outputs, same = data.on_after_batch_transfer((images, labels), 0)
    assert outputs.shape == (50, *announced)
    assert outputs.dtype == torch.float32
    assert torch.equal(outputs, data.preprocessing(data.splits["val"][0][:50]))
    assert torch.equal(images, kept)
    assert same is labels


def test_input_shape_with_components() -> None:
    assert Digits().input_shape == (1, 8, 8)
    assert Digits(preprocessing="pca", num_components=20).input_shape == (20,)
    assert Digits(preprocessing="whiten").input_shape == (64,)


def test_validation_is_whole_in_order_and_not_augmented() -> None:
    data = Digits(batch_size=32, crop_padding=2, rotation=20, cutout=3, flip=True)
    data.setup("fit")
    images, labels = batches(data.val_dataloader())
    assert torch.equal(images, data.splits["val"][0])
    assert torch.equal(labels, data.splits["val"][1])


def test_nothing_held_out_means_no_validation_batches() -> None:
    data = Digits(val_fraction=0)
    data.setup("fit")
    assert data.val_dataloader() == []
    assert len(data.splits["train"][0]) == 1437


def test_plain_training_batches_hold_each_image_with_its_label() -> None:
    data = Digits(batch_size=1, val_fraction=0.5)
    images, labels = batches(data.train_dataloader())
    of_image = {image.numpy().tobytes(): label for image, label in zip(*data.splits["train"], strict=True)}
    assert rows(images) == rows(data.splits["train"][0])
    assert [int(of_image[image.numpy().tobytes()]) for image in images] == labels.tolist()


def test_augmentation_settings_reach_the_batches(tmp_path: Path) -> None:
    plain = batches(made(CIFAR10, tmp_path, batch_size=90).train_dataloader())[0]
    fill = plain.float().mean((0, 2, 3)).round()
    assert torch.equal(plain, batches(made(CIFAR10, tmp_path, batch_size=90, crop_padding=0).train_dataloader())[0])
    blanked = batches(made(CIFAR10, tmp_path, batch_size=90, cutout=8).train_dataloader())[0]
    changed = (blanked != plain).any(1)
    assert (blanked.permute(0, 2, 3, 1)[changed] == fill).all()
    assert (changed.sum((1, 2)) <= 64).all()
    assert changed.flatten(1).any(1).all()
    flipped = batches(made(CIFAR10, tmp_path, batch_size=90, flip=True).train_dataloader())[0]
    same, mirrored = ((flipped == images).flatten(1).all(1) for images in (plain, plain.flip(-1)))
    assert (same | mirrored).all()
    assert 20 < mirrored.sum() < 70
    turned = batches(made(CIFAR10, tmp_path, batch_size=90, rotation=30).train_dataloader())[0]
    assert (turned[:, :, 0, 0] == 0).all(1).float().mean() > 0.5  # corners turned in from outside
    cropped = batches(made(CIFAR10, tmp_path, batch_size=90, crop_padding=4).train_dataloader())[0]
    assert 0.6 < ((cropped[:, :, 0] == 0).all((1, 2)) | (cropped[:, :, -1] == 0).all((1, 2))).float().mean() < 1


def test_predict_returns_the_files_in_order_with_their_indices(tmp_path: Path) -> None:
    for i in range(5):
        Image.fromarray(np.full((8, 8), 50 * i, np.uint8)).save(tmp_path / f"{i}.png")
    data = Digits(batch_size=2, images=[str(tmp_path / "3.png"), str(tmp_path)])
    data.setup("predict")
    images, numbers = batches(data.predict_dataloader())
    assert numbers.tolist() == list(range(6))
    assert images[:, 0, 0, 0].tolist() == [150, 0, 50, 100, 150, 200]
    assert [file.name for file in data.image_files] == ["3.png", "0.png", "1.png", "2.png", "3.png", "4.png"]
    with pytest.raises(ValueError, match="No images were given"):
        Digits().predict_dataloader()


# -------------------------------------------------------------------------------------------------------------- state


@pytest.mark.parametrize("method", ["scale", "mean_image", "standardize", "pca", "whiten"])
def test_fitted_values_survive_a_checkpoint_file(method: Method) -> None:
    trained = Digits(preprocessing=method, num_components=9 if method in ("pca", "whiten") else None)
    trained.setup("fit")
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    assert isinstance(trained.preprocessing, Preprocessing)
    loaded = Digits(preprocessing=method, num_components=trained.preprocessing.num_components, subset=50)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    loaded.setup("fit")  # keeps what the checkpoint brought, although this training split is another
    images = trained.splits["val"][0]
    assert torch.equal(loaded.preprocessing(images), trained.preprocessing(images))


def test_a_checkpoint_of_another_preprocessing_is_refused() -> None:
    trained = Digits(preprocessing="mean_image")
    trained.setup("fit")
    with pytest.raises(ValueError, match="trained with preprocessing mean_image, not standardize; leave"):
        Digits().load_state_dict(trained.state_dict())


def test_a_checkpoint_of_another_number_of_components_is_refused() -> None:
    trained = Digits(preprocessing="pca", num_components=9)
    trained.setup("fit")
    with pytest.raises(ValueError, match="trained with 9 components, not 10; leave"):
        Digits(preprocessing="pca", num_components=10).load_state_dict(trained.state_dict())


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"val_fraction": 1.0}, r"val_fraction is 1\.0"),
        ({"val_fraction": -0.1}, r"val_fraction is -0\.1"),
        ({"val_fraction": float("nan")}, "val_fraction is nan"),
        ({"subset": 0}, "subset is 0"),
        ({"crop_padding": -1}, "crop_padding is -1"),
        ({"cutout": -2}, "cutout is -2"),
        ({"rotation": -5.0}, r"rotation is -5\.0"),
        ({"rotation": 181.0}, r"rotation is 181\.0"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"num_folds": 1, "fold": 0}, "num_folds is 1"),
        ({"num_folds": 5, "fold": 5}, "fold is 5"),
        ({"num_folds": 5, "fold": -1}, "fold is -1"),
        ({"num_folds": 5}, "num_folds is 5 and fold is None"),
        ({"fold": 0}, "num_folds is None and fold is 0"),
        ({"preprocessing": "zca"}, "preprocessing is 'zca'"),
        ({"num_components": 3}, "num_components is 3"),
        ({"flip": True, "albumentations": ["HorizontalFlip"]}, "flip and albumentations are both set"),
    ],
)
def test_settings_out_of_range_are_named_with_what_is_accepted(settings: dict[str, Any], value: str) -> None:
    with pytest.raises(ValueError, match=rf"^{value}[^\n]*(it must be|give|put) [^\n]*\.$"):
        Digits(**settings)


@pytest.mark.parametrize("setting", ["num_train", "num_test"])
def test_too_few_shapes_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=f"^{setting} is 9; it must be at least 10"):
        Shapes(**{setting: 9})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"subset": 1294},
            r"subset is 1294, but there are 1293 training images after 144 .* at most 1293\.",
        ),
        ({"val_fraction": 0.9999}, r"val_fraction is 0\.9999, which leaves none of 1,437 images to train on; give"),
        ({"num_folds": 1438, "fold": 0}, "num_folds is 1438, but there are 1437 training images; give at most 1437"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Digits(**settings).setup("fit")


# -------------------------------------------------------------------------------------------------------------- files


def refuse_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cifar10, mnist):
        monkeypatch.setattr(module, "fetch", lambda *_: pytest.fail("downloads what is there"))


@pytest.mark.parametrize("kind", [CIFAR10, MNIST, FashionMNIST])
def test_existing_files_are_not_changed(
    kind: type[ImageDataModule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made(kind, tmp_path)
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in tmp_path.rglob("*") if file.is_file()}
    refuse_downloads(monkeypatch)
    data.prepare_data()
    after = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in tmp_path.rglob("*") if file.is_file()}
    assert after == before


def test_unpacked_mnist_files_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path, packed=False)
    refuse_downloads(monkeypatch)
    MNIST(root=str(tmp_path)).prepare_data()


@pytest.mark.parametrize(("kind", "address"), [(MNIST, "mnist"), (FashionMNIST, "fashion")])
def test_missing_mnist_files_are_downloaded_and_no_others(
    kind: type[MNIST], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path, kind.__name__)
    folder = tmp_path / kind.__name__ / "raw"
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    fetched = []
    monkeypatch.setattr(mnist, "fetch", lambda file, into: fetched.append((file.name, file.urls[0], into)))
    kind(root=str(tmp_path)).prepare_data()
    assert sorted((name, into) for name, _, into in fetched) == [
        ("t10k-images-idx3-ubyte.gz", folder),
        ("train-labels-idx1-ubyte.gz", folder),
    ]
    assert all(address in url and ("fashion" in url) == (kind is FashionMNIST) for _, url, _ in fetched)


def test_missing_cifar10_batches_are_downloaded_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    (folder / "data_batch_3").unlink()
    calls: list[Any] = []

    def fetch(file: Download, into: Path) -> Path:
        calls.append((file, into))
        return into / file.name

    monkeypatch.setattr(cifar10, "fetch", fetch)
    monkeypatch.setattr(cifar10, "extract_tar", lambda *arguments: calls.append(arguments))
    CIFAR10(root=str(tmp_path)).prepare_data()
    archive = tmp_path / "cifar-10-python.tar.gz"
    assert calls == [(official_files.CIFAR10, tmp_path), (archive, folder, official_files.CIFAR10_MEMBERS)]


@pytest.mark.parametrize("kind", [Digits, Shapes])
def test_built_in_data_sets_need_no_files(kind: type[ImageDataModule], tmp_path: Path) -> None:
    data = made(kind, tmp_path / "nowhere")
    data.prepare_data()
    data.setup("fit")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(("kind", "name"), [(CIFAR10, "cifar10"), (MNIST, "mnist"), (FashionMNIST, "fashion_mnist")])
def test_missing_files_name_the_command_that_gets_them(kind: type[ImageDataModule], name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"not found in .*run .* -m pipelines\.data download {name} or name"):
        kind(root=str(tmp_path)).setup("fit")
