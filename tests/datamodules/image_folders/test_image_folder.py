"""The user's own images as a data set: the same batches in memory and decoded, splits, classes, unreadable files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from common.errors import UserError
from datamodules import ImageFolder
from datamodules.images.two_views import TwoViews
from datamodules.loader import BatchLoader
from modules import GAN
from tests.drawn_photos import CLASSES, draw_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("photos"), 12)


def prepared(folder: Path, stage: str = "fit", **settings: Any) -> ImageFolder:
    data = ImageFolder(str(folder), **{"size": 24, "batch_size": 16, "num_workers": 0, **settings})
    data.setup(stage)
    return data


def epochs(loader: Any, number: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [batch for _ in range(number) for batch in loader]


SETTINGS: list[dict[str, Any]] = [
    {},
    {"flip": True, "crop_padding": 3, "cutout": 5},
    {"flip": "alternate", "crop_padding": 2, "crop_border": "reflect", "rotation": 20},
    {"two_views": TwoViews(min_area=0.3)},
    {
        "albumentations": [{"RandomCrop": {"height": 24, "width": 24}}, {"HorizontalFlip": {"p": 0.5}}],
        "crop_padding": 2,
    },
    {"grayscale": True, "resize": "pad", "preprocessing": "scale", "balanced": True},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_decoded_batches_equal_those_in_memory(photos: Path, settings: dict[str, Any]) -> None:
    memory, decoded = prepared(photos, **settings), prepared(photos, **settings, max_memory=0.0)
    assert memory.in_memory and not decoded.in_memory
    assert isinstance(memory.splits["train"][0], torch.Tensor) and not isinstance(
        decoded.splits["train"][0], torch.Tensor
    )
    for ours, theirs in zip(epochs(memory.train_dataloader(), 2), epochs(decoded.train_dataloader(), 2), strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    for ours, theirs in zip(memory.val_dataloader(), decoded.val_dataloader(), strict=True):
        assert torch.equal(ours[0], theirs[0])
    for name, tensor in memory.preprocessing.fitted.items():
        assert torch.equal(tensor, decoded.preprocessing.fitted[name])


def test_workers_and_a_resume_give_the_same_batches(photos: Path) -> None:
    settings: dict[str, Any] = {"flip": True, "crop_padding": 3, "max_memory": 0.0}
    whole = epochs(prepared(photos, **settings).train_dataloader(), 2)
    loader = prepared(photos, **settings, num_workers=2).train_dataloader()
    assert loader.num_workers == 2
    first = iter(loader)
    begun = [next(first)]
    resumed = prepared(photos, **settings, num_workers=2).train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    for ours, theirs in zip(whole, begun + epochs(resumed, 2), strict=True):
        assert torch.equal(ours[0], theirs[0])


def test_two_processes_share_the_batches_of_one(photos: Path) -> None:
    data = prepared(photos, flip=True, crop_padding=3, max_memory=0.0)
    fetch = data.train_dataloader().fetch
    number = len(data.splits["train"][1])
    one = epochs(BatchLoader(fetch, number, 16, training=True), 1)
    ranks = [epochs(BatchLoader(fetch, number, 8, training=True, rank=rank, world_size=2), 1) for rank in (0, 1)]
    for whole, *shares in zip(one, *ranks, strict=True):
        assert torch.equal(whole[0], torch.cat([images for images, _ in shares]))


def test_splits_are_stratified_and_disjoint_and_follow_the_seed(photos: Path) -> None:
    indices = ImageFolder(str(photos), val_fraction=0.25, test_fraction=1 / 3).split_indices
    labels = ImageFolder(str(photos)).labeled_files.labels
    assert sorted(torch.cat(list(indices.values())).tolist()) == list(range(60))
    for split, of_class in (("train", 6), ("val", 2), ("test", 4)):
        assert torch.bincount(labels[indices[split]]).tolist() == [of_class] * 5
    other = ImageFolder(str(photos), val_fraction=0.25, test_fraction=1 / 3, split_seed=1).split_indices
    assert not torch.equal(indices["test"], other["test"])


def test_folders_of_splits_are_kept_and_folds_mix_train_and_val(tmp_path: Path) -> None:
    for split, number in (("train", 6), ("val", 2), ("test", 3)):
        draw_photos(tmp_path / split, number, ["a", "b"], seed=number)
    data = ImageFolder(str(tmp_path))
    where = {
        split: {data.labeled_files.files[i].relative_to(tmp_path).parts[0] for i in indices.tolist()}
        for split, indices in data.split_indices.items()
    }
    assert where == {"train": {"train"}, "val": {"val"}, "test": {"test"}}
    assert len(ImageFolder(str(tmp_path), subset=4).split_indices["train"]) == 4
    folds = [ImageFolder(str(tmp_path), num_folds=4, fold=fold).split_indices for fold in range(4)]
    assert sorted(i for fold in folds for i in fold["val"].tolist()) == sorted(
        torch.cat([data.split_indices["train"], data.split_indices["val"]]).tolist()
    )


def test_images_in_memory_are_the_files_resized(tmp_path: Path) -> None:
    """The crop of a wide image is its middle, padding is black, stretching shows all of it."""
    for name, color in (("red", (255, 0, 0)), ("green", (0, 255, 0))):
        (tmp_path / name).mkdir()
        image = Image.new("RGB", (60, 20), (0, 0, 255))
        image.paste(color, (20, 0, 40, 20))
        for i in range(4):
            image.save(tmp_path / name / f"{i}.png")
    for resize, outer, middle in (
        ("crop", (255, 0, 0), (255, 0, 0)),
        ("pad", (0, 0, 0), (255, 0, 0)),
        ("stretch", (0, 0, 255), (255, 0, 0)),
    ):
        images, labels = prepared(tmp_path, resize=resize, size=20, preprocessing="scale").splits["train"]
        red = images[labels == 1][0]
        # the padded image is 20×7, from row 6 or 7 on, with the color in the middle third
        assert tuple(red[:, 10, 10].tolist()) == middle
        corner = red[:, 1, 10] if resize == "pad" else red[:, 10, 1]
        assert tuple(corner.tolist()) == outer


def test_a_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:512, :768]
    smooth = np.stack([rows / 2, columns / 3, 255 - columns / 3], 2).astype(np.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(smooth).save(tmp_path / name / f"{i}.jpg", quality=95)
    images, _ = prepared(tmp_path, size=64, val_fraction=0.0).splits["train"]
    expected = np.asarray(Image.fromarray(smooth).crop((128, 0, 640, 512)).resize((64, 64), Image.Resampling.BICUBIC))
    assert np.abs(images[0].permute(1, 2, 0).numpy().astype(int) - expected).max() <= 4


def test_unreadable_files_are_left_out_and_named(tmp_path: Path) -> None:
    draw_photos(tmp_path, 8, ["a", "b"])
    (tmp_path / "a" / "0000.jpg").write_bytes(b"no image")
    (tmp_path / "b" / "0001.jpg").write_bytes((tmp_path / "b" / "0001.jpg").read_bytes()[:200])
    with pytest.warns(UserWarning, match=r"^2 images can't be read and are left out: .*0000\.jpg .*; .*0001\.jpg "):
        data = prepared(tmp_path, val_fraction=0.0, test_fraction=0.0)
    assert len(data.splits["train"][0]) == len(data.splits["train"][1]) == 14
    decoded = ImageFolder(str(tmp_path), size=24, val_fraction=0, test_fraction=0, max_memory=0, batch_size=4)
    decoded.num_workers = 0
    with pytest.warns(UserWarning, match="can't be read"):
        decoded.setup("fit")
    batches = epochs(decoded.train_dataloader(), 3)
    assert sum(len(labels) for _, labels in batches) == 3 * 14
    assert all(len(images) == len(labels) and images.flatten(1).any(1).all() for images, labels in batches)


def test_nothing_readable_is_one_sentence(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            (tmp_path / name / f"{i}.png").write_bytes(b"no image")
    with (
        pytest.warns(UserWarning, match="can't be read"),
        pytest.raises(UserError, match=r"^None of the 6 images of train"),
    ):
        prepared(tmp_path, val_fraction=0.0, test_fraction=0.0)
    with (
        pytest.warns(UserWarning, match="can't be read"),
        pytest.raises(UserError, match=r"^None of 6 training images"),
    ):
        prepared(tmp_path, val_fraction=0.0, test_fraction=0.0, max_memory=0.0)


def test_the_summary_counts_splits_and_classes_and_names_an_imbalance(tmp_path: Path) -> None:
    draw_photos(tmp_path, 20, ["many"])
    draw_photos(tmp_path, 5, ["few"])
    settings: dict[str, Any] = {"val_fraction": 0.2, "test_fraction": 0.2}
    images, classes = ImageFolder(str(tmp_path), **settings).summary()
    assert images == f"images: 16 train, 4 val, 5 test, in {tmp_path}"
    assert classes == (
        "2 classes: many 13, few 3 training images; the largest has 4.3 times as many as the smallest; balanced or "
        "weighted evens that out"
    )
    assert "evens" not in ImageFolder(str(tmp_path), **settings, balanced=True).summary()[1]


def test_balanced_epochs_draw_every_class_equally_often(tmp_path: Path) -> None:
    draw_photos(tmp_path, 30, ["many"])
    draw_photos(tmp_path, 6, ["few"])
    data = prepared(tmp_path, balanced=True, val_fraction=0.0, test_fraction=0.0, batch_size=6)
    for _ in range(2):
        labels = torch.cat([labels for _, labels in data.train_dataloader()])
        assert torch.bincount(labels).tolist() == [18, 18]


def test_class_weights_are_inverse_to_the_counts(tmp_path: Path) -> None:
    draw_photos(tmp_path, 30, ["many"])
    draw_photos(tmp_path, 10, ["few"])
    data = ImageFolder(str(tmp_path), weighted=True, val_fraction=0.0, test_fraction=0.0)
    assert data.class_weights is not None
    assert data.class_weights.tolist() == pytest.approx([40 / 20, 40 / 60])  # few, many
    assert ImageFolder(str(tmp_path)).class_weights is None


def test_a_model_without_a_loss_of_classes_takes_no_weights(photos: Path, tmp_path: Path) -> None:
    data = ImageFolder(str(photos), size=8, weighted=True)
    model = GAN(data.input_shape, generator="fully_connected", discriminator="fully_connected")
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    with pytest.raises(UserError, match=r"^weighted is true, but GAN has no loss of classes to weight; leave it out"):
        trainer.fit(model, data)


def test_a_checkpoint_keeps_the_classes_and_refuses_others(photos: Path, tmp_path: Path) -> None:
    state = prepared(photos).state_dict()
    assert state["class_names"] == list(CLASSES)
    moved = ImageFolder(str(tmp_path / "gone"))
    moved.class_names = state["class_names"]
    moved.load_state_dict(state)
    assert moved.num_classes == 5
    assert "shift" in moved.preprocessing.fitted
    other = ImageFolder(str(draw_photos(tmp_path, 2, ["cat", "dog"])))
    with pytest.raises(UserError, match=r"^The checkpoint was trained on the classes circle, .* have cat, dog; give"):
        other.load_state_dict(state)
    with pytest.raises(UserError, match="has no class names"):
        other.load_state_dict({**state, "class_names": None})


def test_what_needs_all_images_in_memory_says_so(photos: Path) -> None:
    data = prepared(photos, max_memory=0.0)
    with pytest.raises(UserError, match=r"decoded batch by batch, and this needs all of them in memory; set"):
        data.splits["train"][0].cpu()
    with pytest.raises(UserError, match="Features need all images in memory"):
        prepared(photos, max_memory=0.0, features=["color"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, r"^size is 0; it must be at least 1 pixel\.$"),
        ({"resize": "zoom"}, r"^resize is zoom; it must be crop, pad or stretch\.$"),
        ({"test_fraction": 1.0}, r"^test_fraction is 1\.0; it must be in \[0, 1\)\.$"),
        ({"max_memory": -1.0}, r"^max_memory is -1\.0; it must be at least 0 GiB\.$"),
        ({"balanced": True, "weighted": True}, r"^balanced and weighted are both set; set one of them"),
    ],
)
def test_settings_out_of_range(photos: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ImageFolder(str(photos), **settings)


def test_a_class_without_training_images_or_no_test_images(tmp_path: Path) -> None:
    draw_photos(tmp_path, 8, ["many"])
    draw_photos(tmp_path, 1, ["few"])
    with pytest.raises(UserError, match=r"^No image of the class few is left to train on; give more images"):
        prepared(tmp_path, val_fraction=0.5)
    with pytest.raises(UserError, match=r"^There are no test images"):
        prepared(tmp_path, "test", test_fraction=0.0)
