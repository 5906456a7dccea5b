"""Downloads COCO's captions and images, 20 GB, and unpacks them; folders that exist are used as they are.

An archive is verified, unpacked and then removed, since the archives would take as much space again as the images.

COCO publishes no checksums. The MD5 sums and sizes here are those that NVIDIA's DeepLearningExamples, PaddleDetection
and LAVIS record for the official archives, which agree; in addition, unpacking verifies the CRC of every file.
"""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

from tqdm import tqdm

from datamodules.files.data_files import DataFileError
from datamodules.files.data_folder import DownloadError, fill_folder, storage_errors
from datamodules.files.download import Download, fetch

_MIRRORS: Final = ("https://s3.amazonaws.com/images.cocodataset.org/", "http://images.cocodataset.org/")


class Archive(NamedTuple):
    """A zip file of one folder."""

    download: Download
    folder: str
    members: tuple[str, ...] | None  # names of the files to unpack; None for all


def _archive(path: str, md5: str, size: int, folder: str, members: tuple[str, ...] | None = None) -> Archive:
    urls = tuple(mirror + path for mirror in _MIRRORS)
    return Archive(Download(path.rpartition("/")[2], urls, f"md5:{md5}", size), folder, members)


def _archives(year: int, sums: tuple[str, str, str], sizes: tuple[int, int, int]) -> tuple[Archive, ...]:
    captions = (f"captions_train{year}.json", f"captions_val{year}.json")
    annotations = f"annotations/annotations_trainval{year}.zip"
    return (
        _archive(annotations, sums[0], sizes[0], "annotations", captions),
        _archive(f"zips/train{year}.zip", sums[1], sizes[1], f"train{year}"),
        _archive(f"zips/val{year}.zip", sums[2], sizes[2], f"val{year}"),
    )


ARCHIVES: Final = {
    2014: _archives(
        2014,
        ("0a379cfc70b0e71301e0f377548639bd", "0da8c0bd3d6becc4dcb32757491aca88", "a3d79f5ed8d289b7a7554ce06a5782b3"),
        (252_872_794, 13_510_573_713, 6_645_013_297),
    ),
    2017: _archives(
        2017,
        ("f4bbac642086de4f52a3fdda2de5fa2c", "cced6f7f71b7629ddf16f17bbcfab6b2", "442b8da7639aecaf257c1dceb8ba8c80"),
        (252_907_541, 19_336_861_798, 815_585_330),
    ),
}


def download_coco(root: Path, year: int) -> None:
    """Downloads and unpacks the missing captions and images of a year into `root/coco`; prints the sizes first.

    A folder of images that exists is taken as complete, whatever it contains.

    Raises:
        ValueError: If there is too little space, no mirror delivers an archive, or a folder can't be written.
    """
    folder = root / "coco"
    wanted = [archive for archive in ARCHIVES[year] if not _is_there(archive, folder)]
    if not wanted:
        return
    sizes = {archive.download.name: archive.download.size or 0 for archive in wanted}
    listed = ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in sizes.items())
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    begun = sum(part.stat().st_size for name in sizes if (part := folder / f".{name}.part").is_file())
    print(f"To download into {folder}: {listed}; {free / 1e9:.1f} GB are free there.", flush=True)
    # The largest archive and its images are on disk at the same time; JPEGs hardly shrink in an archive.
    needed = sum(sizes.values()) + max(sizes.values()) - begun
    if free < needed:
        raise DownloadError(
            f"COCO {year} needs {needed / 1e9:.1f} GB in {folder} while it is unpacked, but {free / 1e9:.1f} GB are "
            "free; free some space, name another folder with --root, or link to your own copy of the images from there."
        )
    for archive in wanted:
        file = fetch(archive.download, folder)
        extract_zip(file, folder / archive.folder, archive.members)
        with storage_errors(file):
            file.unlink()


def _is_there(archive: Archive, folder: Path) -> bool:
    target = folder / archive.folder
    return target.is_dir() if archive.members is None else all((target / name).is_file() for name in archive.members)


def extract_zip(archive: Path, folder: Path, members: Collection[str] | None = None, max_bytes: int = 40 << 30) -> Path:
    """Unpacks one folder of a zip file; all of its files appear at once, or none.

    Only plain files directly inside the archive's folder are written, as new files under the last part of their path,
    so that no path in the archive can lead out of the folder.

    Args:
        archive: Zip file.
        folder: Folder to create, which has the same name as the folder inside the archive.
        members: Names of the files to unpack; None for all.
        max_bytes: Largest total size of the files. No file is read beyond the size that the archive states.

    Returns:
        `folder`.

    Raises:
        DataFileError: If the archive is missing, damaged or too large, lacks a file, or holds a link or a path outside
            its folder.
        DownloadError: If the folder can't be written.
    """
    return fill_folder(
        folder,
        lambda: folder.is_dir() if members is None else all((folder / name).is_file() for name in members),
        lambda temporary: _unpack(archive, folder.name, temporary, members, max_bytes),
    )


def _unpack(archive: Path, top: str, into: Path, members: Collection[str] | None, max_bytes: int) -> None:
    if not archive.is_file():
        raise DataFileError(f"{archive} does not exist; download it first.")
    try:
        with zipfile.ZipFile(archive) as content:
            wanted = _wanted(content, top, members)
            if sum(info.file_size for info in wanted) > max_bytes:
                raise zipfile.BadZipFile(f"it unpacks to more than {max_bytes:,} bytes")
            for info in tqdm(wanted, desc=f"unpacking {archive.name}", unit="file", disable=None):
                target = into / info.filename.rpartition("/")[2]
                with content.open(info) as source, storage_errors(target), target.open("xb") as file:
                    shutil.copyfileobj(source, file)  # ends with an error if the CRC is wrong
    except DownloadError:
        raise
    # Encrypted members raise RuntimeError, unknown compression methods its subclass NotImplementedError.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        problem = f"{archive} is not a complete archive of {top} ({error})"
        raise DataFileError(f"{problem}; delete it and download it again.") from error


def _wanted(content: zipfile.ZipFile, top: str, members: Collection[str] | None) -> list[zipfile.ZipInfo]:
    """Returns the files to unpack.

    Raises:
        zipfile.BadZipFile: If a path lies outside the folder, a member is a link, a name occurs twice, or a file is
            missing.
    """
    wanted: dict[str, zipfile.ZipInfo] = {}
    for info in content.infolist():
        parts = info.filename.split("/")
        if parts[0] != top or ".." in parts or "\\" in info.filename:
            raise zipfile.BadZipFile(f"it holds {info.filename[:80]!r}, which lies outside {top}")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise zipfile.BadZipFile(f"it holds {info.filename[:80]!r}, which is not a plain file")
        if info.is_dir() or len(parts) != 2 or (members is not None and parts[1] not in members):
            continue
        if parts[1] in wanted:
            raise zipfile.BadZipFile(f"it holds {info.filename[:80]!r} twice")
        wanted[parts[1]] = info
    if missing := sorted(set(members or ()) - wanted.keys()):
        raise zipfile.BadZipFile(f"it lacks {', '.join(missing)}")
    if not wanted:
        raise zipfile.BadZipFile("it holds no file")
    return list(wanted.values())
