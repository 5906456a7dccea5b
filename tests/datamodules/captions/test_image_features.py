"""Features on disk: the network's own numbers, computed once, and again if anything they depend on changes."""

import os
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from datamodules import COCOCaptions
from datamodules.captions import image_features
from datamodules.captions.coco_files import BadSamples
from datamodules.captions.feature_file import FeatureFile, read_feature_file
from datamodules.captions.frozen_backbone import FeatureForm, FrozenBackbone
from datamodules.captions.image_features import StoredFeatures, store_features
from datamodules.loader import Batch
from tests.datamodules.captions.coco_dataset import write_coco

NETWORK = "test_resnet"  # timm's smallest: for images of 160 pixels, 5×5 places, 384 features
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights, as a user would have it."""
    torch.manual_seed(3)
    file = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(timm.create_model(NETWORK, num_classes=1000).state_dict(), file)
    return file


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(5):
        made.append(tmp_path / "images" / f"{i}.jpg")
        made[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (60 + i, 90, 3), dtype=np.uint8)).save(made[-1])
    return made


def store(backbone: FrozenBackbone, files: list[Path], folder: Path, policy: Any = "skip", workers: int = 0) -> Path:
    return store_features(backbone, files, folder, BadSamples(policy), CPU, workers)[0].path


def rows(file: Path, count: int) -> torch.Tensor:
    stored = FeatureFile.open(file, np.load(file, mmap_mode="r").shape)
    fetched, indices = StoredFeatures(stored, torch.arange(count))(Batch(torch.arange(count), 0, count, 0))
    assert indices.tolist() == list(range(count))
    assert fetched.dtype == torch.float16
    return fetched.float()


def expected(files: list[Path], weights: Path) -> torch.Tensor:
    """The last feature map by timm's own transform and model, (N, D, h, w)."""
    network: Any = timm.create_model(NETWORK, checkpoint_path=str(weights)).eval()
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**{**config, "crop_mode": "squash", "crop_pct": 1.0}, is_training=False)
    with torch.no_grad():
        return network.forward_features(torch.stack([transform(Image.open(file).convert("RGB")) for file in files]))


# ------------------------------------------------------------------------------------------------------------- numbers


def test_grid_features_are_the_networks_last_feature_map(tmp_path: Path, files: list[Path], weights: Path) -> None:
    backbone = FrozenBackbone(NETWORK, str(weights), "grid")
    maps = expected(files, weights)
    assert backbone.shape == (maps.shape[2] * maps.shape[3], maps.shape[1])
    found = rows(store(backbone, files, tmp_path / "features"), 5)
    torch.testing.assert_close(found, maps.flatten(2).mT, rtol=2e-3, atol=2e-3)
    assert (found[0] - found[1]).abs().max() > 10 * (found - maps.flatten(2).mT).abs().max()


def test_pooled_features_are_the_mean_of_the_grid(tmp_path: Path, files: list[Path], weights: Path) -> None:
    backbone = FrozenBackbone(NETWORK, str(weights), "pooled")
    found = rows(store(backbone, files, tmp_path / "features", workers=2), 5)
    assert backbone.shape == found.shape[1:]
    torch.testing.assert_close(found, expected(files, weights).mean((2, 3)), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_the_shape_is_right_for_every_kind_of_network(tmp_path: Path, files: list[Path], name: str) -> None:
    forms: list[FeatureForm] = ["grid", "pooled"]
    for form in forms:
        backbone = FrozenBackbone(name, None, form)
        found = rows(store(backbone, files[:2], tmp_path), 2)
        assert found.shape[1:] == backbone.shape
        assert found.isfinite().all()
        assert (form == "grid") == (found.ndim == 3)
    assert "network" in backbone.__dict__
    fresh = FrozenBackbone(name, None, "grid")
    assert fresh.shape
    assert "network" not in fresh.__dict__  # the shape costs no weights


# --------------------------------------------------------------------------------------------------------------- cache


def test_features_are_computed_once(tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = store(FrozenBackbone(NETWORK, None, "pooled"), files, tmp_path / "features")
    monkeypatch.setattr("datamodules.captions.image_features._compute", None)  # would be called, and fail
    assert store(FrozenBackbone(NETWORK, None, "pooled"), files, tmp_path / "features") == first
    assert [path.name for path in (tmp_path / "features").glob("*.npy")] == [first.name]


def test_any_change_of_what_they_depend_on_gives_another_file(tmp_path: Path, files: list[Path], weights: Path) -> None:
    folder = tmp_path / "features"
    names = [store(FrozenBackbone(NETWORK, None, "pooled"), files, folder)]
    names.append(store(FrozenBackbone(NETWORK, None, "grid"), files, folder))
    names.append(store(FrozenBackbone(NETWORK, str(weights), "pooled"), files, folder))
    names.append(store(FrozenBackbone("test_resnet.r160_in1k", None, "pooled"), files, folder))
    names.append(store(FrozenBackbone(NETWORK, None, "pooled"), files[:4], folder))
    names.append(store(FrozenBackbone(NETWORK, None, "pooled"), files[::-1], folder))
    other = tmp_path / "other.pth"
    torch.manual_seed(4)
    torch.save(timm.create_model(NETWORK, num_classes=1000).state_dict(), other)
    names.append(store(FrozenBackbone(NETWORK, str(other), "pooled"), files, folder))
    before = rows(names[0], 5)
    Image.new("RGB", (90, 60), (250, 10, 10)).save(files[2])
    names.append(store(FrozenBackbone(NETWORK, None, "pooled"), files, folder))
    after = rows(names[-1], 5)
    assert [bool(same) for same in (before == after).all(1)] == [True, True, False, True, True]
    os.utime(files[0], ns=(1, 1))
    names.append(store(FrozenBackbone(NETWORK, None, "pooled"), files, folder))
    assert len(set(names)) == len(names) == 9


def test_the_same_weights_under_another_name_are_the_same(tmp_path: Path, files: list[Path], weights: Path) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes(weights.read_bytes())
    first = store(FrozenBackbone(NETWORK, str(weights), "pooled"), files, tmp_path / "features")
    assert store(FrozenBackbone(NETWORK, str(copy), "pooled"), files, tmp_path / "features") == first


@pytest.mark.parametrize("kept", [0, 10, 128, 500, -1])
def test_a_truncated_file_is_computed_again(tmp_path: Path, files: list[Path], kept: int) -> None:
    backbone = FrozenBackbone(NETWORK, None, "pooled")
    file = store(backbone, files, tmp_path / "features")
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    with pytest.warns(UserWarning, match=r"is damaged \(.*\), so the features are computed again"):
        assert store(backbone, files, tmp_path / "features") == file
    assert file.read_bytes() == whole


def test_an_interrupted_computation_leaves_no_file_that_is_taken_for_complete(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "features"
    backbone = FrozenBackbone(NETWORK, None, "pooled")
    monkeypatch.setattr("datamodules.captions.image_features._BATCH", 2)
    called = []
    whole = FrozenBackbone.__call__

    def interrupted(self: FrozenBackbone, images: torch.Tensor) -> torch.Tensor:
        called.append(len(images))
        if len(called) == 2:
            raise KeyboardInterrupt
        return whole(self, images)

    monkeypatch.setattr(FrozenBackbone, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store(backbone, files, folder)
    assert called == [2, 2]
    assert [path.name for path in folder.iterdir() if not path.name.endswith(".lock")] == []
    monkeypatch.undo()
    file = store(backbone, files[:3], folder)
    file.unlink()
    (folder / f".{file.name}.0.tmp").write_bytes(b"left by a killed process")
    torch.testing.assert_close(rows(store(backbone, files, folder), 5)[:3], rows(store(backbone, files[:3], folder), 3))
    assert not list(folder.glob(".*.tmp"))


def test_several_at_once_agree_on_one_file_that_one_of_them_computes(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads stand for processes: the file lock keeps both apart in the same way, and threads start at once."""
    computed = []
    compute = image_features._compute

    def counted(*arguments: Any) -> None:
        computed.append(arguments[2])
        compute(*arguments)

    monkeypatch.setattr(image_features, "_compute", counted)
    with ThreadPoolExecutor(3) as pool:
        backbones = [FrozenBackbone(NETWORK, None, "pooled") for _ in range(3)]
        found = list(pool.map(lambda backbone: store(backbone, files, tmp_path / "features"), backbones))
    assert len(set(found)) == len(computed) == 1
    alone = store(FrozenBackbone(NETWORK, None, "pooled"), files, tmp_path / "alone")
    torch.testing.assert_close(rows(found[0], 5), rows(alone, 5))
    assert not list((tmp_path / "features").glob(".*.tmp"))


@pytest.mark.parametrize(
    "content",
    [
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f2', 'fortran_order': False, 'shape': (99999999999999999999, 4), }",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f2', 'fortran_order': False, 'shape': (5, (4), }",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': ['<f2', 3], 'fortran_order': 'x', 'shape': None, }",
        b"\x93NUMPY\x09\x09",
    ],
)
def test_damaged_headers_of_numpy_are_computed_again(tmp_path: Path, files: list[Path], content: bytes) -> None:
    backbone = FrozenBackbone(NETWORK, None, "pooled")
    file = store(backbone, files, tmp_path / "features")
    whole = file.read_bytes()
    file.write_bytes(content.ljust(127) + b"\n" + whole[128:])
    with pytest.warns(UserWarning, match=r"is damaged \(.*\), so the features are computed again"):
        assert store(backbone, files, tmp_path / "features") == file
    assert file.read_bytes() == whole


def test_any_flipped_bit_is_noticed(tmp_path: Path, files: list[Path]) -> None:
    file = store(FrozenBackbone(NETWORK, None, "pooled"), files, tmp_path / "features")
    whole, shape = file.read_bytes(), np.load(file, mmap_mode="r").shape
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        with pytest.warns(UserWarning, match="is damaged"):
            assert read_feature_file(file, shape) is None
    old = whole[: -4 * 5 - 4]  # as version 0.1 wrote it, without checksums
    file.write_bytes(old)
    with pytest.warns(UserWarning, match=r"is damaged \(wrong checksum\)"):
        assert read_feature_file(file, shape) is None


def test_a_large_file_is_checked_as_it_is_read(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datamodules.captions.feature_file._CHECKED_AT_ONCE", 0)
    file = store(FrozenBackbone(NETWORK, None, "pooled"), files, tmp_path / "features")
    stored = np.load(file, mmap_mode="r+")
    stored[3, 1] += 1
    stored.flush()
    opened = read_feature_file(file, stored.shape)
    assert opened is not None
    fetch = StoredFeatures(opened, torch.tensor([4, 3, 0]))
    fetch(Batch(torch.tensor([0, 2]), 0, 2, 0))
    assert opened.checked.tolist() == [True, False, False, False, True]
    with pytest.raises(ValueError, match=rf"{file} is damaged; delete it, and the next run computes it again"):
        fetch(Batch(torch.tensor([1]), 0, 1, 0))


def test_features_of_data_that_may_only_be_read_are_kept_elsewhere(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, folder = FrozenBackbone(NETWORK, None, "pooled"), tmp_path / "coco" / "features"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder.mkdir(parents=True)
    whole = tempfile.TemporaryFile

    def refused(dir: Path) -> Any:
        if dir == folder:
            raise PermissionError(13, "Permission denied")
        return whole(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.warns(UserWarning, match=r"coco/features can't be written, so its files are kept in .*231n/features"):
        file = store(backbone, files, folder)
    assert file.parent == tmp_path / "cache" / "lightning-231n" / "features" and not list(folder.iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store(backbone, files, folder) == file
    (folder / file.name).write_bytes(file.read_bytes())
    file.unlink()
    assert store(backbone, files, folder) == folder / file.name  # what is there may be read


def test_what_killed_runs_left_of_other_features_is_removed(tmp_path: Path, files: list[Path]) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / ".0123.npy.0.tmp").write_bytes(b"gigabytes")
    file = store(FrozenBackbone(NETWORK, None, "pooled"), files, tmp_path / "features")
    assert [path.name for path in (tmp_path / "features").iterdir() if not path.name.endswith(".lock")] == [file.name]


def test_another_user_may_open_the_lock(tmp_path: Path, files: list[Path]) -> None:
    store(FrozenBackbone(NETWORK, None, "pooled"), files, tmp_path / "features")
    (lock,) = (tmp_path / "features").glob(".*.lock")
    assert lock.stat().st_mode & 0o666 == 0o666


def test_too_little_space_is_said_before_the_work(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    monkeypatch.setattr(image_features, "_compute", None)  # would be called, and fail
    with pytest.raises(ValueError, match=r"The features can't be written to .*features \(no space is left\); make it"):
        store(FrozenBackbone(NETWORK, None, "pooled"), files, tmp_path / "features")


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "features").write_text("a file")
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with pytest.raises(ValueError, match=r"The features can't be written to .*features \(.*\); make it writable"):
        store(FrozenBackbone(NETWORK, None, "pooled"), files, tmp_path / "features")


# ---------------------------------------------------------------------------------------------------------- bad images


def test_unreadable_images_are_marked_and_counted_each_time_or_stop(tmp_path: Path, files: list[Path]) -> None:
    files[1].write_bytes(b"")
    files[3].write_text("no image")
    backbone = FrozenBackbone(NETWORK, None, "pooled")
    for _ in range(2):  # computed, then found
        bad = BadSamples("skip")
        _, readable = store_features(backbone, files, tmp_path / "features", bad, CPU, 0)
        assert readable.tolist() == [True, False, True, False, True]
        assert bad.skipped == {"images that can't be read": 2}
    with pytest.raises(
        ValueError, match=rf"^{files[1]} can't be read as an image; repair the data, or set bad to skip"
    ):
        store(backbone, files, tmp_path / "features", "stop")  # what was found with skip still stops
    with pytest.raises(ValueError, match=rf"^{files[1]} can't be read as an image"):
        store(backbone, files, tmp_path / "others", "stop")
    with pytest.raises(ValueError, match="None of the 2 images can be read"):
        store(backbone, [files[1], files[3]], tmp_path / "features")


# ---------------------------------------------------------------------------------------------------------------- COCO


def coco(root: Path, **settings: Any) -> COCOCaptions:
    defaults = {"backbone": NETWORK, "features": "pooled", "min_count": 1, "batch_size": 4, "val_fraction": 0.25}
    return COCOCaptions(str(root), **{**defaults, **settings})


def test_coco_trains_on_features_without_touching_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_coco(tmp_path)
    data = coco(tmp_path)
    assert data.input_shape == data.backbone.shape  # type: ignore[union-attr]
    data.setup("fit")
    data.setup("test")
    monkeypatch.setattr(Image, "open", None)  # would be called, and fail
    loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    train, val, test = (list(loader) for loader in loaders)
    assert sum(len(batch[0]) for batch in train) == 44  # eleven whole batches of 45 captions
    assert sum(len(batch[0]) for batch in val) == 3
    assert sum(len(batch[0]) for batch in test) == 5
    inputs = data.on_after_batch_transfer(val[0], 0)[0]
    assert inputs.dtype == torch.float32
    assert inputs.shape == (3, *data.input_shape)
    torch.testing.assert_close(inputs, data.evaluation_inputs("val", torch.arange(3)))
    monkeypatch.undo()
    alone = store(FrozenBackbone(NETWORK, None, "pooled"), data.files("val"), tmp_path / "alone")
    torch.testing.assert_close(inputs, rows(alone, 3))
    assert len(list((folder / "features").glob("*.npy"))) == 2  # training with validation, and test


def test_another_split_of_the_same_images_needs_no_new_features(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    for settings in ({}, {"split_seed": 1}, {"val_fraction": 0.0}):
        coco(tmp_path, **settings).setup("fit")
    assert len(list((folder / "features").glob("*.npy"))) == 1


def test_coco_leaves_images_out_that_have_no_features(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    whole = coco(tmp_path)
    whole.setup("fit")
    bad = whole.files("train")[2]
    (folder / "train2017" / bad.name).write_bytes(b"")
    data = coco(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.setup("fit")
    assert bad not in data.files("train")
    assert [file for file in whole.files("train") if file != bad] == data.files("train")
    assert data.num_unreadable == 1
    assert data.vocabulary == whole.vocabulary  # whether it is asked for before or after
    # Each image still stands beside its own captions and features.
    assert data.captions("train") == [texts for i, texts in enumerate(whole.captions("train")) if i != 2]
    kept = torch.tensor([i for i in range(9) if i != 2])
    torch.testing.assert_close(data.evaluation_inputs("train", torch.arange(8)), whole.evaluation_inputs("train", kept))


def test_prediction_runs_the_network(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    data = coco(tmp_path, images=[str(folder / "val2017")])
    inputs, indices = next(iter(data.predict_dataloader()))
    assert indices.tolist() == [0, 1, 2, 3]
    assert inputs.shape == (4, *data.input_shape)
    data.setup("test")
    torch.testing.assert_close(inputs, data.evaluation_inputs("test", torch.arange(4)), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "test_resnt"}, "no model 'test_resnt'; did you mean test_resnet"),
        ({"pretrained": "nowhere.pth"}, "pretrained is 'nowhere.pth', and there is no such file"),
        ({"albumentations": ["HorizontalFlip"]}, "albumentations is set with backbone test_resnet"),
    ],
)
def test_refused_settings_are_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coco(tmp_path, **settings)


def test_weights_of_another_network_are_refused(tmp_path: Path, files: list[Path]) -> None:
    file = tmp_path / "other.pth"
    torch.save(timm.create_model("test_vit", num_classes=1000).state_dict(), file)
    backbone = FrozenBackbone(NETWORK, str(file), "pooled")
    with pytest.raises(
        ValueError, match=f"The weights '{file}' can't be used for {NETWORK}: .*; use weights saved for this model"
    ):
        store(backbone, files, tmp_path / "features")
