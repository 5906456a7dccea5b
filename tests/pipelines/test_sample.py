"""`python -m pipelines.sample`: reproducible by the seed, as one picture or as files, and its error messages."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modules import GAN
from tests.command_line import run_pipeline

FIT = [
    "fit", "--config", "dcgan", "--data", "Digits", "--data.batch_size", "200", "--model.latent_size", "4",
    "--model.generator_width", "4", "--model.discriminator_width", "4", "--trainer.callbacks", "null",
    "--checkpoint.monitor", "null", "--trainer.max_epochs", "1",
    "--model.generator_lr", "0.05",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dcgan")
    finished = run_pipeline("train", FIT, folder)
    assert finished.code == 0, finished.err
    (found,) = (folder / "logs" / "dcgan").iterdir()
    return found


def expected_images(run: Path, number: int, seed: int) -> np.ndarray:
    """Images (N, 8, 8) of the averaged generator in the checkpoint, as 8-bit pixels."""
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    model = GAN((1, 8, 8), latent_size=4, generator_width=4, discriminator_width=4, discriminator_norm="batch")
    model.load_state_dict(state)
    assert model.average is not None
    network = model.average.network.eval()
    with torch.no_grad():
        images = network(torch.randn(number, 4, generator=torch.Generator().manual_seed(seed)))
    return ((images[:, 0].numpy() + 1) * 127.5).round().astype(np.uint8)


def test_a_picture_has_all_samples_and_the_same_seed_gives_the_same(run: Path, tmp_path: Path) -> None:
    for name, seed in (("a.png", "3"), ("b.png", "3"), ("c.png", "4")):
        finished = run_pipeline("sample", [str(run), "-n", "5", "--out", name, "--seed", seed], tmp_path)
        assert finished.code == 0, finished.err
        assert f"5 images from {run}/checkpoints/best.ckpt, seed {seed}: {name}" in finished.out
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape == (2 * 18 - 2, 3 * 18 - 2, 3)  # 3 columns of 16 pixels and a gap of 2
    expected = expected_images(run, 5, 3)
    for index in range(5):
        top, left = index // 3 * 18, index % 3 * 18
        tile = picture[top : top + 16 : 2, left : left + 16 : 2]
        assert np.abs(tile.astype(int) - expected[index][..., None]).max() <= 1
    assert (picture[18:, 36:] == 255).all()  # the empty sixth tile


def test_a_folder_has_a_file_each_in_the_size_of_the_data(run: Path, tmp_path: Path) -> None:
    checkpoint = run / "checkpoints" / "last.ckpt"
    finished = run_pipeline("sample", [str(checkpoint), "-n", "3", "--out", "some/samples"], tmp_path)
    assert finished.code == 0, finished.err
    files = sorted((tmp_path / "some" / "samples").iterdir())
    assert [file.name for file in files] == ["00000.png", "00001.png", "00002.png"]
    for file, expected in zip(files, expected_images(run, 3, 0), strict=True):
        assert np.abs(np.asarray(Image.open(file)).astype(int) - expected[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{run}", "-n", "0"], "-n is 0; it must be at least 1."),
        (["{run}", "-n", "many"], "-n is 'many'; it must be an integer."),
        (["{run}", "--seed", "-1"], "--seed is -1; it must be in [0, 9223372036854775807]."),
        (["{run}", "--out", "folder.png"], "folder.png is a folder; set --out to the name of a file"),
        (["{run}", "--out", "file/samples"], "file"),
        (["nowhere"], "There is no checkpoint at nowhere"),
        ([], "usage: python -m pipelines.sample"),
    ],
)
def test_mistakes(run: Path, arguments: list[str], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    finished = run_pipeline("sample", [argument.format(run=run) for argument in arguments], tmp_path)
    if not arguments:
        assert finished.code == 0 and finished.out.startswith(sentence)
        return
    assert finished.code == 2
    assert sentence in finished.err and finished.err.count("\n") == 1, finished.err


def test_a_run_without_a_generator(tmp_path: Path) -> None:
    arguments = ["fit", "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--trainer.max_epochs", "1"]
    assert run_pipeline("train", [*arguments, "--trainer.callbacks", "null"], tmp_path).code == 0
    (softmax,) = (tmp_path / "logs" / "softmax").iterdir()
    finished = run_pipeline("sample", [str(softmax)], tmp_path)
    assert finished.code == 2
    assert "is of SoftmaxRegression, which does not generate images; use a run of gan, lsgan or dcgan." in finished.err
    assert not (tmp_path / "samples.png").exists()
