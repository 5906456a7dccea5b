"""A damaged file is refused: no flipped bit becomes another weight."""

import random
import zipfile
from pathlib import Path

import pytest
import torch

from common.checked_tensors import ChecksumError, load_checked


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"weight": torch.arange(64.0), "bias": torch.ones(3)}, "global_step": 7}, path)
    return path


def same(read: object) -> bool:
    assert isinstance(read, dict)
    weights = read["state_dict"]
    return (
        read.keys() == {"state_dict", "global_step"}
        and read["global_step"] == 7
        and weights.keys() == {"weight", "bias"}
        and torch.equal(weights["weight"], torch.arange(64.0))
        and torch.equal(weights["bias"], torch.ones(3))
    )


def test_a_sound_file_is_read(file: Path) -> None:
    assert same(load_checked(file))


def test_a_flipped_bit_is_noticed_wherever_it_is(file: Path) -> None:
    content = file.read_bytes()
    draw = random.Random(0)
    noticed = 0
    for _ in range(400):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        try:
            assert same(load_checked(file))  # a bit between the parts, or of a time stamp
        except AssertionError:
            raise
        except Exception:  # zipfile and torch raise many kinds of errors
            noticed += 1
    assert noticed > 100


def test_every_bit_of_a_weight_is_checked(file: Path) -> None:
    content = file.read_bytes()
    start = content.index(torch.arange(64.0).numpy().tobytes())
    for bit in range(0, 8 * 4 * 64, 37):
        damaged = bytearray(content)
        damaged[start + bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(ChecksumError, match="differs from its checksum"):
            load_checked(file)


def test_a_compressed_archive_is_refused(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ChecksumError, match="compressed"):
        load_checked(file)
