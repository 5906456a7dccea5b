"""A picture reaches the run's folder and every logger that takes images, and shows what it was given."""

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from callbacks.pictures import figure_to_array, image_grid, show, stretch

PICTURE = np.random.default_rng(231).integers(0, 256, (5, 7, 3), dtype=np.uint8)


class FakeWandb(WandbLogger):
    def __init__(self) -> None:
        self.images: list[tuple[Any, ...]] = []

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        self.images.append((key, images, step, kwargs))


class FakeTensorBoard(TensorBoardLogger):
    def __init__(self) -> None:
        self.images: list[tuple[Any, ...]] = []

    @property
    def experiment(self) -> Any:
        return SimpleNamespace(add_image=lambda *args, **kwargs: self.images.append((*args, kwargs)))


def run(folder: Path, **changes: Any) -> Any:
    settings = {"log_dir": None, "default_root_dir": str(folder), "global_step": 42, "is_global_zero": True}
    return SimpleNamespace(**({**settings, "loggers": []} | changes))


def test_every_logger_that_takes_images_gets_it(tmp_path: Path) -> None:
    wandb, board = FakeWandb(), FakeTensorBoard()
    show(run(tmp_path, loggers=[CSVLogger(tmp_path), wandb, board]), "templates", PICTURE, caption="after epoch 1")
    [(key, [image], step, others)] = wandb.images
    assert (key, step, others) == ("templates", None, {"caption": ["after epoch 1"]})
    np.testing.assert_array_equal(image, PICTURE)
    [(name, image, step, others)] = board.images
    assert (name, step, others) == ("templates", 42, {"dataformats": "HWC"})
    np.testing.assert_array_equal(image, PICTURE)


def test_the_folder_gets_a_png_even_without_loggers(tmp_path: Path) -> None:
    show(run(tmp_path), "confusion/val", PICTURE)
    file = tmp_path / "pictures" / "confusion" / "val" / "00000042.png"
    np.testing.assert_array_equal(np.asarray(Image.open(file)), PICTURE)


def test_a_loggers_folder_comes_first(tmp_path: Path) -> None:
    show(run(tmp_path / "root", log_dir=str(tmp_path / "log")), "mistakes", PICTURE)
    assert [file.name for file in tmp_path.rglob("*.png")] == ["00000042.png"]
    assert not (tmp_path / "root").exists()


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    wandb = FakeWandb()
    show(run(tmp_path, is_global_zero=False, loggers=[wandb]), "templates", PICTURE)
    assert list(tmp_path.iterdir()) == []
    assert wandb.images == []


def test_stretch_keeps_zero_gray_and_fills_the_range() -> None:
    images = torch.stack([torch.tensor([-4.0, 0.0, 2.0, 1.0]), torch.tensor([0.0, 3.0, -1.5, 0.0]), torch.zeros(4)])
    expected = torch.tensor([[0.0, 0.5, 0.75, 0.625], [0.5, 1.0, 0.25, 0.5], [0.5, 0.5, 0.5, 0.5]])
    torch.testing.assert_close(stretch(images.reshape(3, 1, 2, 2)), expected.reshape(3, 1, 2, 2))


def test_image_grid_shows_each_image_at_its_position() -> None:
    colors = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1.0, 0], [0, 1.0, 1.0]])
    picture = image_grid(colors[:, :, None, None].expand(-1, -1, 4, 4), ["", "", "", "", ""], columns=3)
    assert picture.dtype == np.uint8
    centers = []
    for color in (colors * 255).byte().numpy():
        rows, columns = np.nonzero((picture == color).all(-1))
        assert len(rows) > 1000
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # one full rectangle
        centers.append((rows.mean() / len(picture), columns.mean() / picture.shape[1]))
    positions = [(int(2 * row), int(3 * column)) for row, column in centers]
    assert positions == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_image_grid_shows_gray_images_gray() -> None:
    picture = image_grid(torch.full((1, 1, 2, 2), 0.4), ["a"], columns=5, title="one")
    assert (picture == 102).all(-1).sum() > 1000


def test_figure_to_array_has_the_figures_size() -> None:
    from matplotlib.figure import Figure

    array = figure_to_array(Figure(figsize=(3, 2), dpi=50, facecolor="red"))
    assert array.shape == (100, 150, 3)
    assert (array == (255, 0, 0)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_stretches_no_contrast(channels: int) -> None:
    """0.2 and 0.3 stay 51 and 77: matplotlib would stretch a single channel to black and white."""
    picture = image_grid(torch.tensor([0.2, 0.3]).reshape(1, 1, 1, 2).expand(1, channels, 1, 2), [""], 1)
    assert {51, 76} <= set(picture[..., 0].flatten().tolist()) or {51, 77} <= set(picture[..., 0].flatten().tolist())


def test_pictures_of_a_test_belong_to_the_step_of_its_checkpoint(tmp_path: Path) -> None:
    loops = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=40))
    show(run(tmp_path, global_step=0, fit_loop=loops), "confusion/test", PICTURE)
    assert [file.name for file in tmp_path.rglob("*.png")] == ["00000040.png"]


def test_a_full_disk_names_the_picture_and_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(run(tmp_path), "templates", PICTURE)

    def full(image: Image.Image, file: Path, **settings: Any) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left") as raised:
        show(run(tmp_path), "templates", PICTURE)
    file = tmp_path / "pictures" / "templates" / "00000042.png"
    assert raised.value.filename == str(file)
    np.testing.assert_array_equal(np.asarray(Image.open(file)), PICTURE)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
