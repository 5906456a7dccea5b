"""Pictures of samples: their tiles, the animation, walks along arcs, and the search for memorized images."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import callbacks.nearest_training_images
from callbacks import LatentWalk, NearestTrainingImages, SampleGrid
from callbacks.samples import animate, slerp, tiles
from datamodules import Digits
from modules import GAN, SoftmaxRegression
from tests.callbacks.shown import Shown


class Painter(GAN):
    """Returns images of the gray value Φ(first latent value), or those of `memory`, if set."""

    memory: Tensor | None = None

    def generate(self, latents: Tensor) -> Tensor:
        if self.memory is not None:
            return self.memory[: len(latents)].float() / 255
        return torch.special.ndtr(latents[:, :1, None, None]).expand(-1, 1, 8, 8)


def painter() -> Painter:
    shape = {"generator": "fully_connected", "discriminator": "fully_connected"}
    return Painter((1, 8, 8), latent_size=4, generator_width=4, discriminator_width=4, **shape)  # type: ignore[arg-type]


def fit(model: L.LightningModule, callback: L.Callback, folder: Path, epochs: int = 1) -> Digits:
    data = Digits(batch_size=500, preprocessing="scale")
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, default_root_dir=folder, logger=False, callbacks=[callback],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    return data


def test_slerp_keeps_the_length_and_divides_the_angle_equally() -> None:
    torch.manual_seed(0)
    start, end = torch.randn(5, 30, dtype=torch.float64), torch.randn(5, 30, dtype=torch.float64)
    end = end / end.norm(dim=1, keepdim=True) * start.norm(dim=1, keepdim=True)
    walk = slerp(start, end, torch.linspace(0, 1, 7, dtype=torch.float64))
    assert walk.shape == (5, 7, 30)
    torch.testing.assert_close(walk[:, 0], start)
    torch.testing.assert_close(walk[:, -1], end)
    torch.testing.assert_close(walk.norm(dim=2), start.norm(dim=1, keepdim=True).expand(-1, 7))
    angles = torch.cosine_similarity(walk[:, 1:], walk[:, :-1], dim=2).acos()
    torch.testing.assert_close(angles, angles[:, :1].expand(-1, 6))


def test_slerp_halfway_equals_the_formula_and_is_finite_for_parallel_ends() -> None:
    start, end = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    torch.testing.assert_close(slerp(start, end, torch.tensor([0.5]))[0, 0], torch.tensor([0.5**0.5, 2 * 0.5**0.5]))
    third = slerp(start, end, torch.tensor([1 / 3]))[0, 0]
    torch.testing.assert_close(third, torch.tensor([np.sqrt(3) / 2, 1.0], dtype=torch.float32))
    same = slerp(start, start, torch.tensor([0.0, 0.3, 1.0]))
    torch.testing.assert_close(same[0], start.expand(3, -1), atol=1e-3, rtol=0)


def test_tiles_put_images_in_rows() -> None:
    images = torch.tensor([0.0, 0.2, 1.0])[:, None, None, None].expand(3, 1, 2, 2)
    picture = tiles(images, columns=2, zoom=2, gap=1)
    assert picture.shape == (9, 9, 3) and picture.dtype == np.uint8
    assert (picture[:4, :4] == 0).all() and (picture[:4, 5:] == 51).all() and (picture[5:, :4] == 255).all()
    assert (picture[4] == 255).all() and (picture[5:, 5:] == 255).all()
    colors = torch.stack([torch.full((2, 2), value) for value in (1.0, 0.0, 0.4)])[None]
    assert tiles(colors, 1, zoom=1)[1, 1].tolist() == [255, 0, 102]


def test_a_grid_of_the_same_latents_each_epoch_and_an_animation_of_them(tmp_path: Path) -> None:
    fit(painter(), SampleGrid(side=3, seed=5), tmp_path, epochs=4)
    files = sorted((tmp_path / "pictures" / "samples").glob("*.png"))
    assert [file.name for file in files] == ["00000002.png", "00000004.png", "00000006.png", "00000008.png"]
    latents = torch.randn(9, 4, generator=torch.Generator().manual_seed(5))
    expected = (torch.special.ndtr(latents[:, 0]) * 255).round().reshape(3, 3).numpy()
    for file in files:
        assert np.array_equal(np.asarray(Image.open(file))[::18, ::18, 0], expected)
    animation: Any = Image.open(tmp_path / "pictures" / "samples.gif")
    assert animation.size == (52, 52)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["samples", "samples.gif"]


def test_every_n_epochs(tmp_path: Path) -> None:
    fit(painter(), SampleGrid(side=1, every_n_epochs=3), tmp_path, epochs=4)
    assert [file.name for file in (tmp_path / "pictures" / "samples").iterdir()] == ["00000006.png"]
    assert not (tmp_path / "pictures" / "samples.gif").exists()  # of one picture there is nothing to animate


def test_an_animation_has_a_frame_for_each_picture_and_shows_the_last_longest(tmp_path: Path) -> None:
    files = []
    for index, gray in enumerate((0, 90, 255)):
        files.append(tmp_path / f"{index}.png")
        Image.new("RGB", (4, 4), (gray, gray, gray)).save(files[-1])
    animate(files, tmp_path / "out.gif")
    animation: Any = Image.open(tmp_path / "out.gif")
    frames = []
    for frame in range(animation.n_frames):
        animation.seek(frame)
        frames.append((animation.convert("RGB").getpixel((0, 0))[0], animation.info["duration"]))
    assert frames == [(0, 2000), (90, 2000), (255, 2000)]
    assert animation.info["loop"] == 0


def test_a_walk_has_both_ends_and_images_between(tmp_path: Path) -> None:
    fit(painter(), LatentWalk(rows=2, steps=5, seed=3), tmp_path)
    (file,) = (tmp_path / "pictures" / "latent_walk").iterdir()
    shown = np.asarray(Image.open(file))[::18, ::18, 0]
    assert shown.shape == (2, 5)
    latents = torch.randn(4, 4, generator=torch.Generator().manual_seed(3))
    ends = (torch.special.ndtr(latents[:, 0]) * 255).round().numpy()
    assert shown[:, 0].tolist() == ends[:2].tolist() and shown[:, -1].tolist() == ends[2:].tolist()
    middle = slerp(latents[:2], latents[2:], torch.tensor([0.5]))[:, 0, 0]
    assert shown[:, 2].tolist() == (torch.special.ndtr(middle) * 255).round().tolist()


def test_a_model_that_repeats_training_images_has_ratio_0_and_one_that_repeats_unseen_ones_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Shown(monkeypatch, callbacks.nearest_training_images, "log_table").calls
    ratios = []
    for split in ("train", "val"):
        callback, model = NearestTrainingImages(rows=2, neighbors=3, num_samples=100), painter()
        source = Digits(batch_size=500, preprocessing="scale")
        source.setup("fit")
        model.memory = source.splits[split][0]
        fit(model, callback, tmp_path / split)
        ratios.append(callback.ratio)
        (file,) = (tmp_path / split / "pictures" / "nearest_training_images").iterdir()
        assert Image.open(file).size[0] == pytest.approx(4 * 1.35 * 120, abs=2)
    assert ratios == [0, 1]
    (_, name, columns, repeated), (*_, unseen) = tables
    assert (name, columns[2]) == ("tables/samples", "smallest distance") and len(repeated) == len(unseen) == 2
    for sample, nearest, distance, distances in repeated:
        np.testing.assert_array_equal(sample, nearest[:, :8])  # the first of three images of 8 pixels
        assert distance == 0 and distances.startswith("0, ") and nearest.shape == (8, 28, 3)
    assert all(row[2] > 0 for row in unseen)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SampleGrid(side=0), "side is 0; it must be at least 1"),
        (lambda: LatentWalk(steps=1), "steps is 1; it must be at least 2"),
        (lambda: NearestTrainingImages(num_samples=3), "num_samples is 3; it must be at least rows, 8"),
    ],
)
def test_settings_out_of_range(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize(
    "callback", [SampleGrid(), LatentWalk(), NearestTrainingImages()], ids=lambda c: type(c).__name__
)
def test_a_model_that_generates_no_images_is_refused(callback: L.Callback, tmp_path: Path) -> None:
    sentence = f"SoftmaxRegression generates no images to show; remove callbacks.{type(callback).__name__} from"
    with pytest.raises(ValueError, match=sentence):
        fit(SoftmaxRegression((1, 8, 8), 10), callback, tmp_path)
