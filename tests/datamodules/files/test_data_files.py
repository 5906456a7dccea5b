"""The readers of MNIST and CIFAR-10 files: right values from complete files, `DataFileError` from all others."""

import gzip
import os
import pickle
import random
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from common.commands import command
from datamodules.files.cifar_files import read_cifar10
from datamodules.files.data_files import DataFileError
from datamodules.files.idx_files import read_idx, read_mnist

Reader = Callable[[], tuple[NDArray[np.uint8], NDArray[np.int64]]]
RNG = np.random.default_rng(231)


def idx(array: NDArray[Any]) -> bytes:
    """The IDX format, as its specification states it."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, train: bool, packed: bool, count: int = 7) -> tuple[NDArray[Any], NDArray[Any]]:
    images = RNG.integers(0, 256, (count, 28, 28))
    labels = np.arange(count) % 10
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        name = f"{'train' if train else 't10k'}-{kind}-ubyte"
        content = idx(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return images, labels


def python2_batch(images: NDArray[Any], labels: list[int], names: str = "numpy.core.multiarray") -> bytes:
    """A batch as Python 2.7 wrote it (protocol 2, byte strings everywhere), instruction by instruction."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    content = images.astype(np.uint8).tobytes()
    return b"".join(
        [
            b"\x80\x02}q\x01(" + short(b"data") + b"q\x02",
            f"c{names}\n_reconstruct\n".encode() + b"q\x03cnumpy\nndarray\nq\x04K\x00\x85q\x05U\x01b\x87Rq\x06",
            b"(K\x01" + b"M" + struct.pack("<H", len(images)) + b"M\x00\x0c\x86",
            b"cnumpy\ndtype\nq\x07U\x02u1K\x00K\x01\x87Rq\x08(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T" + struct.pack("<i", len(content)) + content + b"tb",
            short(b"labels") + b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e",
            short(b"batch_label") + short(b"training batch 1 of 5"),
            short(b"filenames") + b"](" + short(b"a.png") * len(labels) + b"eu.",
        ]
    )


def write_batch(folder: Path, batch: object, protocol: int = 2) -> Reader:
    """Writes one object as the test batch and returns the reader of it."""
    (folder / "test_batch").write_bytes(pickle.dumps(batch, protocol))
    return lambda: read_cifar10(folder, train=False)


def a_batch(count: int = 3) -> dict[Any, Any]:
    return {b"data": np.arange(count * 3072).reshape(count, 3072).astype(np.uint8), b"labels": list(range(count))}


# ---------------------------------------------------------------------------------------------------------------- IDX


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_mnist_values_survive(tmp_path: Path, train: bool, packed: bool) -> None:
    images, labels = write_mnist(tmp_path, train, packed)
    got_images, got_labels = read_mnist(tmp_path, train)
    assert got_images.dtype == np.uint8 and got_labels.dtype == np.int64
    np.testing.assert_array_equal(got_images, images[:, None])
    np.testing.assert_array_equal(got_labels, labels)
    assert got_images.flags.writeable and got_labels.flags.writeable


def test_mnist_takes_each_split_from_its_own_files(tmp_path: Path) -> None:
    train_images, _ = write_mnist(tmp_path, True, packed=False, count=5)
    test_images, _ = write_mnist(tmp_path, False, packed=True, count=4)
    np.testing.assert_array_equal(read_mnist(tmp_path, True)[0], train_images[:, None])
    np.testing.assert_array_equal(read_mnist(tmp_path, False)[0], test_images[:, None])


def test_mnist_prefers_the_unpacked_file(tmp_path: Path) -> None:
    write_mnist(tmp_path, True, packed=True)
    images, _ = write_mnist(tmp_path, True, packed=False)
    np.testing.assert_array_equal(read_mnist(tmp_path, True)[0], images[:, None])


def test_gzip_is_known_by_its_content_too(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(gzip.compress(idx(np.array([3, 1, 4]))))
    assert read_idx(path).tolist() == [3, 1, 4]


def test_a_name_with_gz_and_no_gzip_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(idx(np.array([3, 1, 4])))
    with pytest.raises(DataFileError, match="not a complete gzip file"):
        read_idx(path)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_cut_anywhere_is_refused(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "images"
    content = idx(RNG.integers(0, 256, (2, 5, 5)))
    content = gzip.compress(content) if packed else content
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(DataFileError):
            read_idx(path)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_with_bytes_after_its_end_is_refused(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "images"
    content = idx(np.zeros((2, 5, 5))) + b"\0"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataFileError, match="has more than the 50" if packed else "has 67 bytes"):
        read_idx(path)


def test_a_whole_gzip_of_a_cut_idx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((2, 5, 5)))[:-7]))
    with pytest.raises(DataFileError, match="ends after 43 of the 50 bytes"):
        read_idx(path)


def test_idx_with_any_other_header_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images"
    content = idx(np.zeros((2, 5, 7)))
    for at in range(16):
        for value in {0, 1, 3, 127, 255} - {content[at]}:
            path.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
            with pytest.raises(DataFileError):
                read_idx(path)


def test_idx_that_announces_terabytes_is_refused_without_taking_memory(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1)))
    with pytest.raises(DataFileError, match="more than the 67108864 accepted"):
        read_idx(path)


def test_wrong_magic_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(DataFileError, match=r"starts with 0x3c21444f instead of 0x00000801 .*download mnist\."):
        read_idx(path, "mnist")


def test_mnist_labels_out_of_range_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, True, packed=False, count=2)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.array([3, 10])))
    with pytest.raises(DataFileError, match="holds the label 10"):
        read_mnist(tmp_path, True)


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("images-idx3", np.zeros((7, 27, 28))),
        ("images-idx3", np.zeros((0, 28, 28))),
        ("images-idx3", np.zeros(7)),
        ("labels-idx1", np.zeros(6)),
        ("labels-idx1", np.zeros((7, 1, 1))),
    ],
)
def test_mnist_of_another_shape_is_refused(tmp_path: Path, kind: str, array: NDArray[Any]) -> None:
    write_mnist(tmp_path, True, packed=False, count=7)
    (tmp_path / f"train-{kind}-ubyte").write_bytes(idx(array))
    with pytest.raises(DataFileError, match=rf"holds an array of shape \({len(array)}"):
        read_mnist(tmp_path, True)


def test_missing_mnist_files_are_listed(tmp_path: Path) -> None:
    write_mnist(tmp_path, True, packed=False)
    with pytest.raises(DataFileError) as caught:
        read_mnist(tmp_path, False, "mnist")
    assert str(caught.value) == (
        f"t10k-images-idx3-ubyte[.gz], t10k-labels-idx1-ubyte[.gz] not found in {tmp_path}; "
        f"run {command('data', 'download', 'mnist')} or name another data folder."
    )


def test_a_path_that_cannot_be_read_is_a_data_file_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataFileError, match="can't be read"):
            read_idx(path)


# ------------------------------------------------------------------------------------------------------------ CIFAR-10


@pytest.mark.parametrize("names", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_python2_batches_survive_in_order(tmp_path: Path, names: str) -> None:
    images = RNG.integers(0, 256, (6, 2, 3, 32, 32))
    for i, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        (tmp_path / name).write_bytes(python2_batch(images[i], [i, 9 - i], names))
    got_images, got_labels = read_cifar10(tmp_path, train=True)
    assert got_images.dtype == np.uint8 and got_labels.dtype == np.int64 and got_images.flags.writeable
    np.testing.assert_array_equal(got_images, images[:5].reshape(-1, 3, 32, 32))
    assert got_labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    np.testing.assert_array_equal(read_cifar10(tmp_path, train=False)[0], images[5])


def test_the_first_1024_bytes_are_the_red_plane(tmp_path: Path) -> None:
    row = np.repeat([255, 7, 1], 1024)[None]
    images, _ = write_batch(tmp_path, {"data": row.astype(np.uint8), "labels": [0]})()
    assert [images[0, channel].tolist() == [[value] * 32] * 32 for channel, value in enumerate((255, 7, 1))] == [
        True
    ] * 3


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("text_keys", [False, True])
@pytest.mark.parametrize("labels", [[4, 0, 9], np.array([4, 0, 9]), np.array([4, 0, 9], np.uint8)])
def test_python3_batches_survive(tmp_path: Path, protocol: int, text_keys: bool, labels: Any) -> None:
    data = a_batch()[b"data"]
    batch = {"data": data, "labels": labels} if text_keys else {b"data": data, b"labels": labels}
    images, got_labels = write_batch(tmp_path, batch, protocol)()
    np.testing.assert_array_equal(images, data.reshape(3, 3, 32, 32))
    assert got_labels.tolist() == [4, 0, 9]


def test_fortran_order_and_byte_order_are_respected(tmp_path: Path) -> None:
    data = np.asfortranarray(a_batch()[b"data"])
    images, labels = write_batch(tmp_path, {b"data": data, b"labels": np.array([2, 7, 1], ">i4")})()
    np.testing.assert_array_equal(images, data.reshape(3, 3, 32, 32))
    assert labels.tolist() == [2, 7, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"labels": [0, 1, 10]}, r"\[0, 10\] instead of \[0, 9\]"),
        ({b"labels": [0, -1, 2]}, r"\[-1, 2\] instead of \[0, 9\]"),
        ({b"labels": [0, 1, 10**30]}, r"instead of \[0, 9\]"),
        ({b"labels": [0, 1]}, "not a list of 3 integers"),
        ({b"labels": [0, 1, True]}, "not a list of 3 integers"),
        ({b"labels": None}, "not a list of 3 integers"),
        ({b"labels": np.zeros((3, 1), np.int64)}, "not a list of 3 integers"),
        ({b"data": b"bytes"}, "'data' is no array"),
        ({b"data": None}, "'data' is no array"),
        ({b"data": np.zeros((3, 3071), np.uint8)}, r"uint8 array of shape \(3, 3071\)"),
        ({b"data": np.zeros((0, 3072), np.uint8)}, r"uint8 array of shape \(0, 3072\)"),
        ({b"data": np.zeros(3072, np.uint8)}, r"uint8 array of shape \(3072,\)"),
        ({b"data": np.zeros((3, 3072), np.int8)}, "int8 array"),
        ({b"data": np.zeros((3, 3, 32, 32), np.uint8)}, "a shape other than"),
        ({b"data": np.zeros((3, 3072), np.float32)}, "'f4' instead of integers"),
        ({b"data": np.full((3, 3072), None)}, "'O8' instead of integers"),
        ({b"data": np.zeros(3, [("a", np.uint8)])}, "'V1' instead of integers"),
    ],
)
def test_batches_of_other_content_are_refused(tmp_path: Path, change: dict[bytes, Any], message: str) -> None:
    with pytest.raises(DataFileError, match=message):
        write_batch(tmp_path, a_batch() | change, protocol=4)()


def test_a_pickle_that_is_no_dict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="holds a list instead of a dict"):
        write_batch(tmp_path, [1, 2])()


class Evil:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, protocol: int) -> None:
    batch = a_batch() | {b"more": Evil(os.system, f"touch {tmp_path / 'touched'}")}
    with pytest.raises(
        DataFileError, match=r"test_batch is refused, because its pickle would run code \((posix|nt)\.system\)"
    ):
        write_batch(tmp_path, batch, protocol)()
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"(S'touch TOUCHED'\nios\nsystem\n.", "INST os system"),
        (b"(cos\nsystem\nS'touch TOUCHED'\no.", "OBJ"),
        (b"\x80\x02cos\nsystem\n)\x81.", "NEWOBJ"),
        (b"\x80\x02\x82\x01.", "EXT1 1"),
        (b"P1\n.", "PERSID 1"),
        (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        (b"cnumpy.core.multiarray\nscalar\n(tR.", "numpy.core.multiarray.scalar"),
        (b"cdatamodules.files.data_files\nPath\n(tR.", "datamodules.files.data_files.Path"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
    ],
)
def test_every_way_of_naming_code_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / "test_batch").write_bytes(content.replace(b"TOUCHED", bytes(tmp_path / "touched")))
    with pytest.raises(DataFileError) as caught:
        read_cifar10(tmp_path, train=False)
    assert name in str(caught.value) and "refused" in str(caught.value)
    assert not (tmp_path / "touched").exists()


def test_state_set_on_what_the_pickle_can_name_does_not_outlive_it(tmp_path: Path) -> None:
    names = [b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"c_codecs\nencode\n"]
    for name in [*names, b"cnumpy.core.numeric\n_frombuffer\n"]:
        (tmp_path / "test_batch").write_bytes(b"\x80\x02" + name + b"N}U\x0c__setstate__Ns\x86b.")
        with pytest.raises(DataFileError):
            read_cifar10(tmp_path, train=False)
    assert write_batch(tmp_path, a_batch())()[1].tolist() == [0, 1, 2]


def test_an_array_larger_than_its_bytes_is_refused(tmp_path: Path) -> None:
    content = python2_batch(np.zeros((3, 3072)), [0, 1, 2])
    small, huge = b"(K\x01M\x03\x00M\x00\x0c\x86", b"(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"
    assert content.count(small) == 1
    (tmp_path / "test_batch").write_bytes(content.replace(small, huge))
    with pytest.raises(DataFileError, match=r"shape \(2147483647, 2147483647\) has 9216 bytes"):
        read_cifar10(tmp_path, train=False)


def length(size: int) -> bytes:
    return size.to_bytes(8, "little")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02]r\xff\xff\xff\xff.", "numbers an object 4294967295"),  # pickle would allocate 64 GiB
        (b"]p4294967295\n.", "numbers an object 4294967295"),
        (b"\x80\x05\x96" + length(2**34) + b".", "expected 17179869184 bytes"),  # a byte array of 16 GiB
        (b"\x80\x04\x8e" + length(2**34) + b".", "expected 17179869184 bytes"),
        (b"\x80\x04\x95" + length(2**34) + b".", "not a complete"),
        (b"\x80\x02T\xff\xff\xff\x7f.", "expected 2147483647 bytes"),
        (b"\x80\x02" + b"]" * 500_000 + b".", "far more instructions"),
        # A key nested so deep that its hash overflows the stack.
        (b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.", "far more instructions"),
        # One text of 1 MiB, encoded again and again.
        (
            b"\x80\x02(X\0\0\x10\0" + b"x" * 2**20 + b"q\0" + b"c_codecs\nencode\nh\0U\x06latin1\x86R" * 99 + b"t.",
            "far more instructions",
        ),
    ],
)
def test_small_pickles_that_grow_huge_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "test_batch").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataFileError, match=message):
        read_cifar10(tmp_path, train=False)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # KiB


def test_a_batch_with_bytes_after_its_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(a_batch()) + b"more")
    with pytest.raises(DataFileError, match="has 4 bytes after its end"):
        read_cifar10(tmp_path, train=False)


def test_a_file_beyond_64_mib_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "test_batch").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataFileError, match="1099511627776 bytes, more than the 67108864"):
        read_cifar10(tmp_path, train=False)


def test_missing_cifar10_files_are_listed(tmp_path: Path) -> None:
    for name in ("data_batch_1", "data_batch_2", "data_batch_4"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataFileError, match=r"^data_batch_3, data_batch_5 not found in .*download cifar10 or name"):
        read_cifar10(tmp_path, train=True)


# -------------------------------------------------------------------------------------------------------------- damage


def valid(images: NDArray[np.uint8], labels: NDArray[np.int64], shape: tuple[int, ...]) -> bool:
    typed = images.dtype == np.uint8 and labels.dtype == np.int64
    return typed and images.shape == (len(labels), *shape) and labels.min() >= 0 and labels.max() <= 9


def batch_bytes(kind: str) -> bytes:
    batch = a_batch()
    return python2_batch(batch[b"data"], batch[b"labels"]) if kind == "python2" else pickle.dumps(batch, int(kind))


@pytest.mark.parametrize("kind", ["python2", "0", "2", "4", "5"])
def test_cifar10_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    content = batch_bytes(kind)
    dice = random.Random(kind)
    ends = {*range(300), *range(len(content) - 100, len(content)), *(dice.randrange(len(content)) for _ in range(50))}
    for end in ends:
        (tmp_path / "test_batch").write_bytes(content[:end])
        with pytest.raises(DataFileError):
            read_cifar10(tmp_path, train=False)


@pytest.mark.parametrize("kind", ["python2", "0", "2", "4", "5"])
def test_damaged_cifar10_gives_valid_arrays_or_a_data_file_error(tmp_path: Path, kind: str) -> None:
    content = batch_bytes(kind)
    dice = random.Random(kind)
    refused = 0
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(dice.choice([1, 1, 2, 8])):
            # Most of a batch is pixels, in which any byte is right; the instructions lie at both ends.
            at = dice.choice([dice.randrange(300), -dice.randrange(1, 120), dice.randrange(len(content))])
            damaged[at] = dice.randrange(256)
        (tmp_path / "test_batch").write_bytes(damaged)
        try:
            assert valid(*read_cifar10(tmp_path, train=False), (3, 32, 32))
        except DataFileError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_mnist_gives_valid_arrays_or_a_data_file_error(tmp_path: Path, packed: bool) -> None:
    write_mnist(tmp_path, True, packed)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    dice = random.Random(packed)
    refused = 0
    for _ in range(200):
        path, content = dice.choice(list(files.items()))
        damaged = bytearray(content)
        damaged[dice.choice([dice.randrange(min(40, len(content))), dice.randrange(len(content))])] ^= (
            1 << dice.randrange(8)
        )
        path.write_bytes(damaged)
        try:
            assert valid(*read_mnist(tmp_path, True), (1, 28, 28))
        except DataFileError:
            refused += 1
        path.write_bytes(content)
    assert refused > 50


def test_garbage_is_refused_by_every_reader(tmp_path: Path) -> None:
    dice = random.Random(0)
    for name in ("test_batch", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (tmp_path / name).touch()
    for _ in range(200):
        for path in tmp_path.iterdir():
            path.write_bytes(dice.choice([b"", b"\x80\x02", b"\x1f\x8b\x08\0", b"\0\0\x08\x03"]) + dice.randbytes(60))
        for read in (read_mnist, read_cifar10):
            with pytest.raises(DataFileError):
                read(tmp_path, False)
