"""COCO's archives: only missing ones are fetched, sizes are printed first, and unpacking is safe and atomic."""

import errno
import io
import random
import shutil
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from datamodules.captions import coco_download as module
from datamodules.captions.coco_download import ARCHIVES, download_coco, extract_zip
from datamodules.files.data_files import DataFileError
from datamodules.files.data_folder import DownloadError
from datamodules.files.download import Download
from tests.datamodules.captions.coco_dataset import write_coco

FILES = {f"{i}.jpg": random.Random(i).randbytes(3_000) for i in range(3)}


def write_zip(file: Path, *extra: tuple[str | zipfile.ZipInfo, bytes], top: str = "top") -> Path:
    """An archive as COCO's are: an entry for the folder, then its files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{top}/", b"")
        for name, content in FILES.items():
            archive.writestr(f"{top}/{name}", content)
        for info, content in extra:
            archive.writestr(info, content)
    return file


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"} - {"a.zip"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------------------------------------------------ download


def test_the_archives_are_the_official_ones() -> None:
    for year, archives in ARCHIVES.items():
        assert [archive.folder for archive in archives] == ["annotations", f"train{year}", f"val{year}"]
        assert archives[0].members == (f"captions_train{year}.json", f"captions_val{year}.json")
        for archive in archives:
            assert archive.download.urls[1].startswith("http://images.cocodataset.org/")
            assert archive.download.urls[1].endswith(f"/{archive.download.name}")
        assert 20e9 < sum(archive.download.size or 0 for archive in archives) < 20.5e9
    assert len({archive.download.checksum for archives in ARCHIVES.values() for archive in archives}) == 6


def small_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces `fetch` by one that writes small archives of 2017; returns the list of names that it fetches."""
    fetched: list[str] = []

    def write_small_archive(download: Download, folder: Path) -> Path:
        fetched.append(download.name)
        captions = [(f"annotations/captions_{part}2017.json", b"{}") for part in ("train", "val")]
        top = download.name.split(".")[0].split("_")[0]
        return write_zip(folder / download.name, *(captions if top == "annotations" else ()), top=top)

    monkeypatch.setattr(module, "fetch", write_small_archive)
    return fetched


def free_space(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_everything_is_fetched_unpacked_and_the_archives_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched = small_archives(tmp_path, monkeypatch)
    free_space(monkeypatch, 10**12)
    download_coco(tmp_path, 2017)
    assert fetched == ["annotations_trainval2017.zip", "train2017.zip", "val2017.zip"]
    folder = tmp_path / "coco"
    assert left_in(folder) == {"annotations", "train2017", "val2017"}
    assert contents(folder / "train2017") == FILES
    assert set(contents(folder / "annotations")) == {"captions_train2017.json", "captions_val2017.json"}
    said = capsys.readouterr().out
    sizes = "annotations_trainval2017.zip 0.3 GB, train2017.zip 19.3 GB, val2017.zip 0.8 GB"
    assert said == f"To download into {folder}: {sizes}; 1000.0 GB are free there.\n"
    download_coco(tmp_path, 2017)
    assert len(fetched) == 3  # nothing is missing any more


def test_only_what_is_missing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_coco(tmp_path)
    shutil.rmtree(folder / "val2017")
    before = contents(folder / "train2017")
    fetched = small_archives(tmp_path, monkeypatch)
    free_space(monkeypatch, 10**12)
    download_coco(tmp_path, 2017)
    assert fetched == ["val2017.zip"]
    assert contents(folder / "train2017") == before
    assert contents(folder / "val2017") == FILES


def test_too_little_space_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fetch", None)  # would be called, and fail
    free_space(monkeypatch, 30 * 10**9)
    with pytest.raises(DownloadError, match=r"COCO 2017 needs 39\.7 GB in .*coco while .* but 30\.0 GB are free; free"):
        download_coco(tmp_path, 2017)
    (tmp_path / "coco" / ".train2017.zip.part").write_bytes(b"x" * 10)
    with pytest.raises(DownloadError, match=r"39\.7 GB"):
        download_coco(tmp_path, 2017)


# ----------------------------------------------------------------------------------------------------------- unpacking


def test_a_complete_archive_is_unpacked_once(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip")
    assert extract_zip(archive, tmp_path / "top") == tmp_path / "top"
    assert contents(tmp_path / "top") == FILES
    archive.write_bytes(b"")  # is not read again
    (tmp_path / "top" / "0.jpg").unlink()
    extract_zip(archive, tmp_path / "top")
    assert len(contents(tmp_path / "top")) == 2  # a folder that is there is used as it is
    assert left_in(tmp_path) == {"top"}


def test_members_are_added_to_a_folder_that_holds_other_files(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "mine.json").write_text("mine")
    extract_zip(write_zip(tmp_path / "a.zip"), tmp_path / "top", ["1.jpg"])
    assert contents(tmp_path / "top") == {"mine.json": b"mine", "1.jpg": FILES["1.jpg"]}


def link() -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo("top/link.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, b"/etc/passwd"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("../evil", b"x"), "which lies outside top"),
        (("top/../../evil", b"x"), "which lies outside top"),
        (("/evil", b"x"), "which lies outside top"),
        (("top/..\\evil", b"x"), "which lies outside top"),
        (("other/evil", b"x"), "which lies outside top"),
        (link(), "which is not a plain file"),
    ],
)
def test_malicious_archives_are_refused_and_leave_nothing(
    tmp_path: Path, extra: tuple[str | zipfile.ZipInfo, bytes], message: str
) -> None:
    inner = tmp_path / "inner"
    archive = write_zip(inner / "a.zip", extra)
    with pytest.raises(DataFileError, match=rf"not a complete archive of top \(it holds .*{message}\); delete it"):
        extract_zip(archive, inner / "top")
    assert left_in(inner) == set()
    assert left_in(tmp_path) == {"inner"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"it holds 'top/0\.jpg' twice"):
        extract_zip(write_zip(tmp_path / "a.zip", ("top/0.jpg", b"other")), tmp_path / "top")


def test_files_in_deeper_folders_are_left_out(tmp_path: Path) -> None:
    extract_zip(write_zip(tmp_path / "a.zip", ("top/deep/er.jpg", b"x")), tmp_path / "top")
    assert contents(tmp_path / "top") == FILES


def test_an_archive_that_unpacks_to_too_much_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", ("top/zeros", bytes(10**6)))
    with pytest.raises(DataFileError, match="unpacks to more than 1,000,000 bytes"):
        extract_zip(archive, tmp_path / "top", max_bytes=10**6)
    assert left_in(tmp_path) == set()


def test_a_file_that_is_longer_than_the_archive_says_is_refused(tmp_path: Path) -> None:
    """The length in both headers is made 10 bytes: no more are read, and the CRC of those is wrong."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("top/bomb", bytes(5_000_000))
    lying = content.getvalue().replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "a.zip").write_bytes(lying)
    with pytest.raises(DataFileError, match="not a complete archive of top"):
        extract_zip(tmp_path / "a.zip", tmp_path / "top", max_bytes=1_000)
    assert left_in(tmp_path) == set()


def test_a_damaged_or_truncated_archive_is_unpacked_correctly_or_not_at_all(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip")
    content = archive.read_bytes()
    dice, refused = random.Random(0), 0
    for attempt in range(120):
        damaged = bytearray(content)
        if attempt % 3 == 0:
            damaged = damaged[: dice.randrange(len(content))]
        else:
            damaged[dice.choice([dice.randrange(len(content)), -dice.randrange(1, 300)])] = dice.randrange(256)
        archive.write_bytes(damaged)
        try:
            assert contents(extract_zip(archive, tmp_path / "top", list(FILES))) == FILES
            shutil.rmtree(tmp_path / "top")
        except DataFileError:
            refused += 1
        assert left_in(tmp_path) == set()
    assert refused > 60


def test_an_archive_that_lacks_a_file_or_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"a\.zip does not exist; download it first"):
        extract_zip(tmp_path / "a.zip", tmp_path / "top")
    with pytest.raises(DataFileError, match=r"it lacks 7\.jpg, 8\.jpg\); delete it and download it again"):
        extract_zip(write_zip(tmp_path / "a.zip"), tmp_path / "top", [*FILES, "8.jpg", "7.jpg"])
    assert left_in(tmp_path) == set()


def test_a_disk_that_fills_while_unpacking_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(DownloadError, match="disk or quota is full"):
        extract_zip(write_zip(tmp_path / "a.zip"), tmp_path / "top")
    assert left_in(tmp_path) == set()
