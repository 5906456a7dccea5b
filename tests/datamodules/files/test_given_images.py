"""Finding the image files that a user gives, and what becomes of those that can't be read."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from datamodules.files.given_images import GivenImages, find_images
from datamodules.files.image_decoding import open_image


def test_folders_are_searched_through_and_sorted_and_other_files_ignored(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.JPG", "a.jpeg", "b/deep/er/x.webp", "notes.txt", "paper.pdf", "c/README", "b10.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()  # a folder, whatever its name
    (tmp_path / "folder.png" / "in.bmp").touch()
    found = [str(file.relative_to(tmp_path)) for file in find_images([str(tmp_path)]).files]
    assert found == ["a.jpeg", "b/1.JPG", "b/2.png", "b/deep/er/x.webp", "b10.png", "folder.png/in.bmp"]


def test_paths_keep_the_order_in_which_they_were_given(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for name in ("z.png", "one/b.png", "one/a.png", "no-ending"):
        (tmp_path / name).touch()
    given = [str(tmp_path / name) for name in ("z.png", "one", "no-ending", "z.png")]
    assert [file.name for file in find_images(given).files] == ["z.png", "a.png", "b.png", "no-ending", "z.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: [], "No images were given; set images to image files or folders"),
        (lambda root: [str(root)], "holds no image files; give a folder with"),
        (lambda root: [str(root / "missing.png")], r"missing\.png does not exist; give image files or folders"),
    ],
)
def test_nothing_to_read_is_an_error(tmp_path: Path, make: Any, message: str) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=message):
        find_images(make(tmp_path))


def test_what_systems_and_programs_keep_beside_images_is_left_out_and_counted(tmp_path: Path) -> None:
    kept = ["cat.jpg", "sub/dog.PNG"]
    hidden = ["._cat.jpg", "sub/.hidden.png"]
    in_hidden = [".ipynb_checkpoints/cat-checkpoint.jpg", "__MACOSX/cat.jpg", "@eaDir/cat.jpg/THUMB.jpg"]
    others = ["features.h5", "clip.mpg", "sky.fits", "plot.eps", "IMG_0001.HEIC", "b.heic", "raw.dng", "README"]
    for name in kept + hidden + in_hidden + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    given = find_images([str(tmp_path)])
    assert [str(file.relative_to(tmp_path)) for file in given.files] == kept
    assert given.left_out == {
        "hidden files": 2, "hidden folders": 3, "not plain files": 1, "without a suffix": 1, ".h5": 1, ".mpg": 1,
        ".fits": 1, ".eps": 1, ".heic": 2, ".dng": 1,
    }  # fmt: skip
    (line,) = given.report()
    assert line.startswith("left out of the folders: 1 .dng, 1 .eps, 1 .fits, 1 .h5, 2 .heic, 1 .mpg, 2 hidden files,")
    assert "; HEIC is read after pip install pillow-heif, or convert it to JPEG; convert .dng to PNG or JPEG" in line


def test_a_folder_of_heic_alone_says_what_would_read_them(tmp_path: Path) -> None:
    (tmp_path / "IMG_0001.HEIC").touch()
    with pytest.raises(UserError, match=r"holds no image files; .* It has 1 \.heic; HEIC is read after pip install pi"):
        find_images([str(tmp_path)])


def test_hidden_names_count_below_the_folder_given_only(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "photos [1] {a} ~x"
    folder.mkdir(parents=True)
    (folder / "größe 図.png").touch()
    assert find_images([str(folder)]).files == [folder / "größe 図.png"]
    (folder / "._named.png").touch()
    assert find_images([str(folder / "._named.png")]).files == [folder / "._named.png"]


def test_linked_folders_are_searched_once_and_circles_end(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.png").touch()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "gone.png").symlink_to("nowhere.png")  # named later as one that can't be read
    (tmp_path / "album").symlink_to(tmp_path / "photos")
    names = [file.name for file in find_images([str(tmp_path / "album")]).files]
    assert names == ["a.png", "b.png", "gone.png"]


def test_a_pipe_given_by_name_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match=r"pipe\.png is neither a file nor a folder; give image files"):
        find_images([str(tmp_path / "pipe.png")])


@pytest.mark.parametrize(
    ("given", "training", "says"),
    [
        (0.87, 0.13, "the images are light (mean 0.87 of 1) and the model's training images dark (0.13)"),
        (0.3, 0.7, "the images are dark (mean 0.30 of 1) and the model's training images light (0.70)"),
        (0.2, 0.13, None),
        (0.6, 0.3, None),
        (0.9, 0.47, None),  # photographs are neither dark nor light
        (0.9, None, None),  # an earlier version's checkpoint
    ],
)
def test_images_that_look_inverted_are_said(given: float, training: float | None, says: str | None) -> None:
    images = GivenImages([Path("a.png"), Path("b.png")], brightness={0: given - 0.05, 1: given + 0.05})
    lines = images.report(training)
    assert len(lines) == (says is not None)
    if says is not None:
        assert lines[0].startswith(says) and lines[0].endswith("; --invert inverts the images")


def test_files_that_cannot_be_read_are_black_noted_and_named(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 200).save(tmp_path / "good.png")
    files = [tmp_path / "good.png", *(tmp_path / f"bad{i:02}.png" for i in range(12))]
    for file in files[1:]:
        file.touch()
    given = GivenImages(files)
    pixels = given.read([0, 3], lambda file: np.asarray(open_image(file, "L")), (4, 4))
    assert (pixels[0] == 200).all() and (pixels[1] == 0).all()
    assert (
        list(given.unreadable) == [3] and f"{files[3]} can't be read as an image (it is empty)" in given.unreadable[3]
    )
    given.read(range(13), lambda file: np.asarray(open_image(file, "L")), (4, 4))
    lines = given.report()
    assert lines[0] == "12 of 13 images can't be read and were left out:" and lines[-1] == "  … and 2 more"
    assert [line.split()[0] for line in lines[1:-1]] == [str(file) for file in files[1:11]]
    given.check_any_readable()
    with pytest.raises(UserError, match=r"^None of the 2 images can be read: .*bad00\.png can't be read as an image"):
        GivenImages(files[1:3], unreadable={0: f"{files[1]} can't be read as an image", 1: "the second"}) \
            .check_any_readable()  # fmt: skip
