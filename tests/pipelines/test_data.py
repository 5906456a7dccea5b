"""`python -m pipelines.data`: list, download, verify, preview, and their error messages."""

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import datamodules
from datamodules.captions.coco_download import ARCHIVES
from datamodules.files import official_files as official
from datamodules.files.download import Download
from pipelines.data import main
from pipelines.data_sets.image_data_sets import CIFAR10_BATCHES, DATA_SETS, MNIST_UNPACKED, find_name, state
from pipelines.data_sets.preview import preview
from tests.datamodules.files.official_files import write_cifar10, write_mnist


def failing(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    """Returns stderr of a command line that ends with this status, without a traceback."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


# --------------------------------------------------------------------------------------------------------------- list


def test_the_list_agrees_with_the_datamodules() -> None:
    # two bases, numbers, and the user's own images
    left_out = {"ImageDataModule", "CaptionDataModule", "GaussianMixture", "ImageFolder"}
    assert {data_set.class_name for data_set in DATA_SETS.values()} == set(datamodules.__all__) - left_out
    for data_set in DATA_SETS.values():
        made = getattr(datamodules, data_set.class_name)()
        assert data_set.captions == isinstance(made, datamodules.CaptionDataModule)
        if data_set.captions:
            assert made.input_shape == data_set.shape
        else:
            assert (made.official_sizes, made.image_shape, made.num_classes) == (data_set.sizes, data_set.shape, 10)
    assert datamodules.ShapeCaptions().official_sizes == DATA_SETS["shape_captions"].sizes
    for name, year in (("coco", 2017), ("coco2014", 2014)):
        sizes = [archive.download.size or 0 for archive in ARCHIVES[year]]
        assert DATA_SETS[name].megabytes == sum(sizes) // 10**6
    assert DATA_SETS["mnist"].megabytes == round(sum(file.size or 0 for file in official.MNIST) / 1e6)
    assert DATA_SETS["fashion_mnist"].megabytes == round(sum(file.size or 0 for file in official.FASHION_MNIST) / 1e6)
    assert DATA_SETS["cifar10"].megabytes == (official.CIFAR10.size or 0) // 10**6
    assert {f"{file}.gz" for file in DATA_SETS["mnist"].files} == {file.name for file in official.MNIST}
    assert set(CIFAR10_BATCHES) == set(official.CIFAR10_MEMBERS) - {"batches.meta"}


def test_md5_sums_of_the_batches_equal_those_of_torchvision() -> None:
    known = map(tuple, torchvision.datasets.CIFAR10.train_list + torchvision.datasets.CIFAR10.test_list)
    assert dict(known) == CIFAR10_BATCHES


def test_list_shows_the_state_of_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cifar10(tmp_path)
    write_mnist(tmp_path, "FashionMNIST")
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    main(["list", "--root", str(tmp_path)])
    header, *lines, own = capsys.readouterr().out.splitlines()
    assert own.startswith("Your own images: --data ImageFolder --data.folder FOLDER;")
    assert header.split()[:6] == ["name", "train", "test", "shape", "classes", "download"]
    assert [line.split() for line in lines] == [
        ["cifar10", "50,000", "10,000", "3×32×32", "10", "170", "MB", "5", "of", "6", "files"],
        ["mnist", "60,000", "10,000", "1×28×28", "10", "12", "MB", "missing"],
        ["fashion_mnist", "60,000", "10,000", "1×28×28", "10", "31", "MB", "complete"],
        ["digits", "1,437", "360", "1×8×8", "10", "none", "built", "in"],
        ["shapes", "10,000", "2,000", "3×32×32", "10", "none", "built", "in"],
        ["coco", "118,287", "5,000", "3×224×224", "none", "20405", "MB", "missing"],
        ["coco2014", "82,783", "40,504", "3×224×224", "none", "20408", "MB", "missing"],
        ["shape_captions", "20,000", "2,000", "3×48×48", "none", "none", "built", "in"],
    ]


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_complete_packed_or_not(tmp_path: Path, packed: bool) -> None:
    write_mnist(tmp_path, packed=packed)
    assert state("mnist", tmp_path) == "complete"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("cifar10", "cifar10"), ("CIFAR10", "cifar10"), ("CIFAR-10", "cifar10"), ("Mnist", "mnist"),
        ("FashionMNIST", "fashion_mnist"), ("fashion_mnist", "fashion_mnist"), ("fashion-mnist", "fashion_mnist"),
        ("DIGITS", "digits"), ("Shapes", "shapes"), ("COCOCaptions", "coco"), ("ShapeCaptions", "shape_captions"),
    ],
)  # fmt: skip
def test_names_are_taken_in_any_case(given: str, meant: str) -> None:
    assert find_name(given) == meant


@pytest.mark.parametrize("command", ["download", "verify", "preview"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar", "did you mean cifar10?"),
        ("fasion_mnist", "did you mean fashion_mnist?"),
        ("xyz", "it must be one of cifar10,"),
    ],
)
def test_unknown_names_suggest_the_nearest(
    command: str, name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = failing(capsys, 2, command, name)
    assert said.startswith(f"error: There is no data set {name!r}; {hint}")
    assert said.count("\n") == 1


def test_commands_without_data_import_nothing_slow() -> None:
    code = (
        "import sys; from pipelines.data import main\n"
        "for arguments in (['list'], ['--help'], ['preview', '--help'], ['verify', 'cifar']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'lightning', 'PIL', 'yaml', 'wandb') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_as_a_command() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipelines.data", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    listed, unknown, nothing = run("list"), run("download", "mnits"), run()
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.count("\n") == 10  # its header, and a line on own images
    assert (unknown.returncode, unknown.stderr) == (2, "error: There is no data set 'mnits'; did you mean mnist?\n")
    assert nothing.returncode == 2
    assert "COMMAND" in nothing.stderr


# ----------------------------------------------------------------------------------------------------------- download


def test_download_prepares_the_data_sets_below_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr("datamodules.images.mnist.fetch", lambda file, folder: asked.append((file, folder)))
    main(["download", "MNIST", "digits", "--root", str(tmp_path)])
    assert asked == [(file, tmp_path / "MNIST" / "raw") for file in official.MNIST]
    folder = tmp_path / "MNIST" / "raw"
    said = capsys.readouterr().out
    assert said == f"mnist: complete, in {folder}.\ndigits: built in, nothing to download.\n"


def test_a_download_that_fails_ends_with_its_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = Download("file.gz", ("http://127.0.0.1:9/file.gz",), f"sha256:{'0' * 64}")
    monkeypatch.setattr(datamodules.MNIST, "files", (nowhere,))
    said = failing(capsys, 2, "download", "mnist", "--root", str(tmp_path))
    assert said.startswith("error: file.gz could not be downloaded from http://127.0.0.1:9/file.gz")


# ------------------------------------------------------------------------------------------------------------- verify


def test_verify_counts_and_says_that_small_files_are_not_the_official_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar10(tmp_path, num_train=103, num_test=20)
    main(["verify", "cifar10", "--root", str(tmp_path)])
    assert capsys.readouterr().out.splitlines() == [
        "cifar10",
        "  train  103 images, 10 to 11 in each class: not the official count of 50,000",
        "  test   20 images, 2 in each class: not the official count of 10,000",
        f"  files  differ from the official files: {', '.join(CIFAR10_BATCHES)}",
    ]


def test_verify_knows_official_files_by_their_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mnist(tmp_path)
    folder = tmp_path / "MNIST" / "raw"
    files = sorted(folder.iterdir())
    known = [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    made = tuple(Download(name, ("http://x/",), f"sha256:{digest}") for name, digest in known)
    monkeypatch.setattr(official, "MNIST", made)

    def said() -> str:
        main(["verify", "mnist", "--root", str(tmp_path)])
        return capsys.readouterr().out.partition("  files  ")[2]

    assert said() == f"identical to the official files: {', '.join(file.name for file in files)}\n"
    # The reader prefers unpacked files, so theirs are the bytes that count.
    write_mnist(tmp_path, packed=False)
    assert said().startswith("identical to the official files: ")
    write_mnist(tmp_path, packed=False, seed=5)
    assert said() == f"differ from the official files: {', '.join(DATA_SETS['mnist'].files)}\n"
    for file in files:
        file.unlink()
    assert said().startswith("unpacked, without a .gz file to compare with: train-images-idx3-ubyte, ")


def test_verify_fails_if_files_of_the_official_size_have_other_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mnist(tmp_path, packed=False)
    folder = tmp_path / "MNIST" / "raw"
    small = DATA_SETS["mnist"]._replace(sizes=(100, 20))
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    monkeypatch.setitem(DATA_SETS, "mnist", small)
    monkeypatch.setattr("pipelines.data_sets.verification.MNIST_UNPACKED", sums)
    main(["verify", "mnist", "--root", str(tmp_path)])
    assert "  files  identical to the official files: train-images-idx3-ubyte, " in capsys.readouterr().out
    labels = folder / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-40] + bytes(40))
    with pytest.raises(SystemExit, match="1"):
        main(["verify", "mnist", "--root", str(tmp_path)])
    printed = capsys.readouterr()
    assert "  files  differ from the official files: train-labels-idx1-ubyte\n" in printed.out
    assert printed.err.startswith(f"error: {labels} have as many images as the official files but other bytes, so they")
    assert printed.err.endswith(" -m pipelines.data download mnist.\n")
    for file in list(folder.iterdir()):  # packed anew
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    with pytest.raises(SystemExit, match="1"):
        main(["verify", "mnist", "--root", str(tmp_path)])


def test_official_sums_of_unpacked_files() -> None:
    assert set(MNIST_UNPACKED) == set(DATA_SETS["mnist"].files)
    assert all(len(digest) == 64 for digest in MNIST_UNPACKED.values())


@pytest.mark.parametrize(
    "place",
    [
        "raw/{dotted}",
        "raw/{dotted}.gz",
        "raw/{name}/{name}",
        "raw/{name}/{dotted}",
        "raw/{dotted}/{dotted}",
        "raw/{name}.gz/{name}",
        "{dotted}",
    ],
)
def test_mnist_under_the_names_that_unpackers_give(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mnist(tmp_path, packed=place.endswith(".gz"))
    expected = datamodules.MNIST(str(tmp_path)).read(train=True)
    folder = tmp_path / "MNIST" / "raw"
    for file in list(folder.iterdir()):
        content, name = file.read_bytes(), file.name.removesuffix(".gz")
        file.unlink()
        target = folder.parent / place.format(name=name, dotted=name.replace("-idx", ".idx"))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    monkeypatch.setattr("datamodules.images.mnist.fetch", None)  # would be called, and fail
    data = datamodules.MNIST(str(tmp_path))
    data.prepare_data()
    found = data.read(train=True)
    assert (found[0] == expected[0]).all() and (found[1] == expected[1]).all()
    assert state("mnist", tmp_path) == "complete"
    main(["verify", "mnist", "--root", str(tmp_path)])
    assert "  train  100 images, 10 in each class" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["cifar-10-python/cifar-10-batches-py", "cifar-10-batches-py/cifar-10-batches-py"])
def test_cifar10_in_the_folder_that_an_unpacker_makes(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar10(tmp_path / "elsewhere")
    (tmp_path / place).parent.mkdir()
    (tmp_path / "elsewhere" / "cifar-10-batches-py").rename(tmp_path / place)
    monkeypatch.setattr("datamodules.images.cifar10.fetch", None)  # would be called, and fail
    data = datamodules.CIFAR10(str(tmp_path))
    data.prepare_data()
    assert len(data.read(train=True)[1]) == 100
    assert state("cifar10", tmp_path) == "complete"
    main(["verify", "cifar10", "--root", str(tmp_path)])
    assert "  files  differ from the official files: data_batch_1, " in capsys.readouterr().out


def test_verify_of_built_in_data(capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", "digits"])
    assert capsys.readouterr().out.splitlines() == [
        "digits",
        "  train  1,437 images, 133 to 154 in each class: the official count",
        "  test   360 images, 26 to 48 in each class: the official count",
        "  files  none, the data set is built in",
    ]


def test_verify_fails_with_status_1_and_still_looks_at_the_other_data_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar10(tmp_path)
    write_mnist(tmp_path)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    batch.write_bytes(batch.read_bytes()[:-100])
    with pytest.raises(SystemExit) as ended:
        main(["verify", "cifar10", "fashion_mnist", "mnist", "--root", str(tmp_path)])
    assert ended.value.code == 1
    printed = capsys.readouterr()
    damaged, missing = printed.err.splitlines()
    assert damaged.startswith(f"error: {batch} is not a complete CIFAR-10 batch")
    assert missing.startswith("error: train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] not found in")
    assert printed.out.startswith("mnist\n  train  100 images")


# ------------------------------------------------------------------------------------------------------------ preview


def test_a_preview_shows_classes_in_columns_before_and_after(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    grids: list[tuple[torch.Tensor, list[str], int, str]] = []

    def image_grid(images: torch.Tensor, titles: list[str], columns: int, title: str) -> np.ndarray[Any, Any]:
        grids.append((images, titles, columns, title))
        return np.full((2, 3, 3), len(grids), np.uint8)

    monkeypatch.setattr("callbacks.pictures.image_grid", image_grid)
    picture = preview("cifar10", tmp_path, 30, 0, {"flip": True, "cutout": 6})
    assert picture[:, 0, 0].tolist() == [1, 1, 2, 2]  # before above after
    (before, titles, columns, title), (after, same_titles, _, second_title) = grids
    assert (columns, title) == (10, "CIFAR10: 30 training images")
    assert second_title == "The same images after flip, cutout 6"
    assert titles == same_titles == list(datamodules.CIFAR10.class_names) * 3
    images, labels = datamodules.CIFAR10(str(tmp_path)).read(train=True)
    of_image = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    pixels = (before * 255).round().to(torch.uint8)
    assert [of_image[image.numpy().tobytes()] for image in pixels] == list(range(10)) * 3
    kept = (after == before).all(1).flatten(1).float().mean(1)
    mirrored = (after == before.flip(-1)).all(1).flatten(1).float().mean(1)
    assert (torch.maximum(kept, mirrored) >= 1 - 36 / 1024).all()  # each its own image, but for a square
    assert (torch.maximum(kept, mirrored) < 1).all()
    assert 5 < (mirrored > kept).sum() < 25


def test_a_preview_is_a_png_that_repeats_for_its_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = []
    for seed in ("0", "0", "1"):
        out = tmp_path / "made" / "on the way" / "preview.png"
        main(["preview", "Digits", "--n", "12", "--crop_padding", "2", "--seed", seed, "--out", str(out)])
        assert capsys.readouterr().out == f"digits: 12 images in {out}\n"
        assert [file.name for file in out.parent.iterdir()] == ["preview.png"]
        with Image.open(out) as image:
            assert image.format == "PNG"
            pictures.append(np.asarray(image))
    height = len(pictures[0]) // 2
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0][:height] == pictures[2][:height]).all()
    assert (pictures[0][height:] != pictures[2][height:]).any()
    main(["preview", "digits", "--n", "12", "--out", str(tmp_path / "plain.png")])
    with Image.open(tmp_path / "plain.png") as image:
        assert image.size == (pictures[0].shape[1], height)  # nothing to show below


def test_a_preview_of_an_albumentations_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    titles = []

    def image_grid(images: torch.Tensor, *arguments: Any) -> np.ndarray[Any, Any]:
        titles.append(arguments[-1])
        return (images[0, 0, :, :, None].expand(-1, -1, 3) * 255).round().to(torch.uint8).numpy()

    monkeypatch.setattr("callbacks.pictures.image_grid", image_grid)
    picture = preview("digits", Path("nowhere"), 10, 0, {"albumentations": [{"VerticalFlip": {"p": 1.0}}]})
    assert (picture[:8] == picture[8:][::-1]).all()
    assert titles[1] == "The same images after VerticalFlip"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "0"], "n is 0; it must be in [1, 200]."),
        (["--n", "201"], "n is 201; it must be in [1, 200]."),
        (["--cutout", "-3"], "cutout is -3; it must be at least 0."),
        (["--albumentations", "[HorizontalFlop]"], "did you mean HorizontalFlip?"),
        (["--albumentations", "HorizontalFlip"], "albumentations is 'HorizontalFlip'; give a list such as"),
        (["--albumentations", "[{"], "--albumentations is not valid YAML (line 2: did not find expected node content"),
        (["--albumentations", "[{RandomCrop: {height: 4, width: 4}}]"], "it must return (1, 8, 8)"),
    ],
)
def test_previews_that_cant_be_drawn_say_why(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = failing(capsys, 2, "preview", "digits", *arguments, "--out", str(tmp_path / "preview.png"))
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_preview_that_cant_be_written_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    said = failing(capsys, 2, "preview", "digits", "--n", "1", "--out", str(tmp_path / "file" / "preview.png"))
    assert said.startswith(f"error: {tmp_path / 'file'}")
