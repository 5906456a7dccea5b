"""Lists of image files: classes and splits from folders and CSV files, and the sentence for each mistake in them."""

import shutil
from pathlib import Path

import pytest

from common.errors import UserError
from datamodules.image_folders.labeled_files import LabeledFiles, find_labeled_files
from tests.drawn_photos import draw_photos


def per_class(found: LabeledFiles, *splits: str) -> dict[str, int]:
    labels = found.labels[found.indices(*splits)].tolist()
    return {name: labels.count(i) for i, name in enumerate(found.class_names)}


def csv_of(folder: Path, text: str) -> str:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return str(folder / "labels.csv")


def test_folders_are_classes_and_nested_folders_belong_to_them(tmp_path: Path) -> None:
    draw_photos(tmp_path, 2, ["dog", "cat"])
    draw_photos(tmp_path / "dog" / "2024", 3, ["beach"])
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    found = find_labeled_files(str(tmp_path), None)
    assert found.class_names == ("cat", "dog")
    assert per_class(found, "") == {"cat": 2, "dog": 5}
    for file, label in zip(found.files, found.labels.tolist(), strict=True):
        assert file.relative_to(tmp_path).parts[0] == found.class_names[label]
    assert found.left_out == {".txt": 1}


def test_folders_of_splits_under_their_other_names(tmp_path: Path) -> None:
    for split, number in (("train", 4), ("valid", 2), ("test", 3)):
        draw_photos(tmp_path / split, number, ["a", "b"])
    found = find_labeled_files(str(tmp_path), None)
    assert [per_class(found, split)["a"] for split in ("train", "val", "test")] == [4, 2, 3]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    draw_photos(tmp_path, 2, ["train", "car"])
    assert per_class(find_labeled_files(str(tmp_path), None), "") == {"car": 2, "train": 2}


def test_classes_that_are_numbers_are_in_numerical_order(tmp_path: Path) -> None:
    draw_photos(tmp_path, 1, ["10", "9", "2"])
    assert find_labeled_files(str(tmp_path), None).class_names == ("2", "9", "10")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_csv_file_names_paths_labels_and_splits(tmp_path: Path, mark: str) -> None:
    draw_photos(tmp_path, 2, ["x", "y"])
    rows = ["Path,Label,Split,author", "x/0000.jpg,cat,train,me", "y/0000.jpg,dog,train,me", "y/0001.jpg,cat,val,you"]
    found = find_labeled_files(None, csv_of(tmp_path, "\ufeff" + "\n".join(rows).replace(",", mark)))
    assert [file.relative_to(tmp_path).as_posix() for file in found.files] == ["x/0000.jpg", "y/0000.jpg", "y/0001.jpg"]
    assert [found.class_names[i] for i in found.labels.tolist()] == ["cat", "dog", "cat"]
    assert found.splits == ["train", "train", "val"]


def test_the_paths_of_a_csv_file_start_from_the_folder_given(tmp_path: Path) -> None:
    draw_photos(tmp_path / "photos", 1, ["x", "y"])
    file = csv_of(tmp_path, "path,label\nx/0000.jpg,cat\ny/0000.jpg,dog\n")
    assert len(find_labeled_files(str(tmp_path / "photos"), file).files) == 2
    with pytest.raises(UserError, match=r"names 2 files not found .*, x/0000\.jpg \(line 2\), y/0000\.jpg \(line 3\);"):
        find_labeled_files(None, file)


# ------------------------------------------------------------------------------------------------------------ mistakes


def test_neither_folder_nor_csv(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^folder is not set; give a folder"):
        find_labeled_files(None, None)
    with pytest.raises(UserError, match=r"nowhere does not exist; give a folder"):
        find_labeled_files(str(tmp_path / "nowhere"), None)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file is a file; give a folder"):
        find_labeled_files(str(tmp_path / "file"), None)
    with pytest.raises(UserError, match=r"none\.csv does not exist; give one with the columns path and label\."):
        find_labeled_files(None, str(tmp_path / "none.csv"))


def test_folders_without_two_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no folders; put the images of each class in a folder of its own"):
        find_labeled_files(str(tmp_path), None)
    draw_photos(tmp_path, 3, ["cat"])
    with pytest.raises(UserError, match=r"has one class, cat; give images of at least two classes"):
        find_labeled_files(str(tmp_path), None)
    with pytest.raises(UserError, match=r"cat holds 3 images and no folders; put the images of each class in a folder"):
        find_labeled_files(str(tmp_path / "cat"), None)


def test_empty_classes_are_named_with_what_lies_in_them(tmp_path: Path) -> None:
    draw_photos(tmp_path, 1, ["cat", "dog"])
    (tmp_path / "fish").mkdir()
    (tmp_path / "fish" / "a.heic").touch()
    with pytest.raises(UserError, match=r"has 1 class folder without images, fish; .* They hold 1 \.heic; HEIC is"):
        find_labeled_files(str(tmp_path), None)


def test_class_names_that_differ_between_the_splits(tmp_path: Path) -> None:
    draw_photos(tmp_path / "train", 1, ["cat", "dog"])
    draw_photos(tmp_path / "test", 1, ["Cat", "dog"])
    with pytest.raises(UserError, match=r"train and test in .* differ, Cat only in test and cat only in train; give"):
        find_labeled_files(str(tmp_path), None)
    shutil.rmtree(tmp_path / "test" / "Cat")
    with pytest.raises(UserError, match=r"differ, cat only in train; give both the same classes"):
        find_labeled_files(str(tmp_path), None)


def test_two_folders_of_one_split(tmp_path: Path) -> None:
    for split in ("train", "val", "validation"):
        draw_photos(tmp_path / split, 1, ["cat", "dog"])
    with pytest.raises(UserError, match=r"has both val and validation; keep one of the two folders\."):
        find_labeled_files(str(tmp_path), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column path or label: its first line is ''"),
        ("file,class\nx,y\n", "has no column path or label: its first line is 'file,class'"),
        ("path,class\nx,y\n", "has no column label: its first line"),
        ("path,label\n", "has no rows after its first line"),
        ("path,label\nx/0000.jpg,\n", r"line 2: there is no label; each row needs both"),
        ("path,label\n,cat\n", r"line 2: there is no path; each row needs both"),
        ("path,label\nx/0000.jpg,cat\n", "has one class, cat"),
        ("path,label\nx/0000.jpg,cat\nx/0000.jpg,dog\n", "line 3: x/0000.jpg is 'dog' here and 'cat' above"),
        ("path,label,split\nx/0000.jpg,cat,holdout\n", "line 2: split is 'holdout'; it must be train, val or test"),
        ("path,label,split\nx/0000.jpg,cat,test\ny/0000.jpg,dog,test\n", "has no images of the split train"),
        ("path,label,split\nx/0000.jpg,cat,train\ny/0000.jpg,dog,test\n", "differ, dog only in test; give both"),
    ],
)
def test_mistakes_in_a_csv_file(tmp_path: Path, text: str, message: str) -> None:
    draw_photos(tmp_path, 1, ["x", "y"])
    with pytest.raises(UserError, match=message):
        find_labeled_files(None, csv_of(tmp_path, text))


def test_a_csv_file_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("path,label\nü.jpg,ü".encode("latin-1"))
    with pytest.raises(UserError, match=r"labels\.csv is not text in UTF-8; save it as CSV in UTF-8\."):
        find_labeled_files(None, str(tmp_path / "labels.csv"))
