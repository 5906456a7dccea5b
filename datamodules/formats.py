"""Readers of the official MNIST (IDX) and CIFAR-10 (pickle) files, on numpy alone.

Sources: http://yann.lecun.com/exdb/mnist/ for IDX, https://www.cs.toronto.edu/~kriz/cifar.html for CIFAR-10.
Every reader either returns whole, checked arrays or raises `DataFileError`; no file, however broken or hostile, makes
it run code or allocate more than a small multiple of `MAX_BYTES`.

Shapes: N images of C channels, H rows and W columns.
"""

import gzip
import io
import math
import pickle
import pickletools
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_BYTES: Final = 64 * 2**20
"""The largest file (unpacked) that a reader accepts; the largest official one, MNIST's training images, has 45 MiB."""

MNIST_NAMES: Final = {
    True: ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    False: ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""The images file and the labels file of the training set (True) and of the test set (False), without `.gz`."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_IDX_LABELS: Final = 0x00000801
_IDX_IMAGES: Final = 0x00000803

# A batch of 10,000 images takes 30,000 instructions, of which six build tuples and two call something. The bounds leave
# room for any way of writing the same content; beyond them a file could nest or copy objects until memory or the stack
# ends.
_MAX_INSTRUCTIONS: Final = 400_000
_MAX_TUPLES: Final = 1_000
_MAX_CALLS: Final = 12
_INSTRUCTIONS: Final = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT LONG BININT BININT1 BININT2 LONG1 STRING BINSTRING SHORT_BINSTRING
    UNICODE BINUNICODE SHORT_BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2
    TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET
    LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
"""
_ALLOWED: Final = frozenset(_INSTRUCTIONS.split())


class DataFileError(ValueError):
    """A data file is missing, damaged, or not what its name says."""


def read_idx(path: Path, dataset: str | None = None) -> NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes, raw or gzip.

    Args:
        path: the file; it is taken as gzip when its name ends in `.gz` or its content starts as gzip does.
        dataset: the name to give to `python -m pipelines.data download` in error messages.

    Returns:
        Labels of shape (N,) for magic 0x00000801, images of shape (N, H, W) for magic 0x00000803; writable.

    Raises:
        DataFileError: the file cannot be read, has another magic, or is not exactly as long as its header says.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            packed = path.suffix == ".gz" or file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if packed:
                with gzip.open(file) as stream:
                    return _read_idx_stream(stream, None, path, dataset)
            return _read_idx_stream(file, size, path, dataset)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, f"is not a whole gzip file ({error})", dataset) from error
    except OSError as error:
        raise _unreadable(path, error, dataset) from error


def read_mnist(folder: Path, train: bool, dataset: str | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Reads MNIST, or a data set in its format such as Fashion-MNIST.

    Args:
        folder: holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two `t10k-` files, each unpacked
            (which is preferred, being faster to read) or with `.gz` at the end.
        train: the training files if true, else the `t10k` test files.
        dataset: the name to give to `python -m pipelines.data download` in error messages.

    Returns:
        Images (N, 1, 28, 28) in 0..255 and labels (N,) in 0..9.

    Raises:
        DataFileError: a file is missing or damaged, or the two do not fit each other.
    """
    names = MNIST_NAMES[train]
    found = [next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None) for name in names]
    _require([f"{name}[.gz]" for name, path in zip(names, found, strict=True) if path is None], folder, dataset)
    images_path, labels_path = (path for path in found if path is not None)

    images = read_idx(images_path, dataset)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise _damaged(images_path, f"holds an array of shape {images.shape} instead of (N, 28, 28)", dataset)
    labels = read_idx(labels_path, dataset)
    if labels.shape != (len(images),):
        problem = f"holds an array of shape {labels.shape} instead of one label for each of {len(images)} images"
        raise _damaged(labels_path, problem, dataset)
    if labels.max() > 9:
        raise _damaged(labels_path, f"holds the label {labels.max()}, which is not in 0..9", dataset)
    return images.reshape(-1, 1, 28, 28), labels.astype(np.int64)


def read_cifar10(
    folder: Path, train: bool, dataset: str | None = "cifar10"
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Reads the Python version of CIFAR-10 without ever running what its pickles ask for.

    Args:
        folder: `cifar-10-batches-py`, holding `data_batch_1` to `data_batch_5` and `test_batch`.
        train: the five training batches in order if true, else the test batch.
        dataset: the name to give to `python -m pipelines.data download` in error messages.

    Returns:
        Images (N, 3, 32, 32) in 0..255, channels red, green, blue, and labels (N,) in 0..9.

    Raises:
        DataFileError: a file is missing, damaged, or a pickle that wants more than bytes, numbers and numpy arrays.
    """
    names = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
    _require([name for name in names if not (folder / name).is_file()], folder, dataset)
    batches = [_read_cifar10_batch(folder / name, dataset) for name in names]
    # Concatenating also copies, so that the result is writable and owes nothing to the pickle's bytes.
    images = np.concatenate([images for images, _ in batches])
    return images.reshape(-1, 3, 32, 32), np.concatenate([labels for _, labels in batches])


def _damaged(path: Path, problem: str, dataset: str | None) -> DataFileError:
    again = f"run python -m pipelines.data download {dataset}" if dataset else "download it again"
    return DataFileError(f"{path} {problem}; delete it and {again}.")


def _unreadable(path: Path, error: OSError, dataset: str | None) -> DataFileError:
    # A file that cannot be opened may be whole, so it is not said to be damaged; "delete it" would be bad advice.
    again = f"run python -m pipelines.data download {dataset}" if dataset else "download it"
    return DataFileError(f"{path} cannot be read ({error.strerror or error}); make it readable or {again}.")


def _require(missing: list[str], folder: Path, dataset: str | None) -> None:
    if missing:
        get = f"run python -m pipelines.data download {dataset}" if dataset else "download the data set"
        names = ", ".join(missing)
        raise DataFileError(f"{names} not found in {folder.absolute()}; {get} or name another data folder.")


def _read_idx_stream(stream: io.BufferedIOBase, size: int | None, path: Path, dataset: str | None) -> NDArray[np.uint8]:
    """Reads the header, then the pixels into one array; `size` is the file's length if it is known beforehand."""
    head = stream.read(4)
    magic = int.from_bytes(head, "big")
    if len(head) < 4 or magic not in (_IDX_LABELS, _IDX_IMAGES):
        problem = f"starts with 0x{head.hex()} instead of 0x00000801 (IDX labels) or 0x00000803 (IDX images)"
        raise _damaged(path, problem, dataset)
    ndim = magic & 0xFF
    head = stream.read(4 * ndim)
    if len(head) < 4 * ndim:
        raise _damaged(path, f"ends inside its header, which has {4 + 4 * ndim} bytes", dataset)
    shape = struct.unpack(f">{ndim}I", head)
    count = math.prod(shape)
    if count > MAX_BYTES:
        raise _damaged(path, f"says that it holds {shape} bytes, more than the {MAX_BYTES} accepted", dataset)
    if size is not None and size != 4 + 4 * ndim + count:
        problem = f"has {size} bytes where its header, for shape {shape}, asks for {4 + 4 * ndim + count}"
        raise _damaged(path, problem, dataset)

    array = np.empty(count, np.uint8)
    filled = 0
    while filled < count and (read := stream.readinto(array.data[filled:])):
        filled += read
    if filled < count:
        raise _damaged(path, f"ends after {filled} of the {count} bytes that its header announces", dataset)
    # Reading past the end also makes gzip compare its checksum.
    if stream.read(1):
        raise _damaged(path, f"goes on after the {count} bytes that its header announces", dataset)
    return array.reshape(shape)


def _read_cifar10_batch(path: Path, dataset: str | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Reads one batch as (N, 3072) bytes and (N,) labels."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _damaged(path, f"has {size} bytes, more than the {MAX_BYTES} that a CIFAR-10 batch may have", dataset)
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error, dataset) from error

    try:
        _check_pickle(content)
        batch = _CIFARUnpickler(io.BytesIO(content), encoding="bytes").load()
        if type(batch) is not dict:
            raise pickle.UnpicklingError(f"it holds a {type(batch).__name__} instead of a dict")
        images = _images(batch.get(b"data", batch.get("data")))
        labels = _labels(batch.get(b"labels", batch.get("labels")), len(images))
    except _Refused as error:
        raise _damaged(path, f"wants to run code ({error}) and is refused", dataset) from error
    except Exception as error:  # Unpickling garbage can raise nearly any exception, and all of them mean the same.
        problem = f"is not a whole CIFAR-10 batch ({str(error)[:200] or type(error).__name__})"
        raise _damaged(path, problem, dataset) from error
    return images, labels


def _images(data: object) -> NDArray[np.uint8]:
    images = data.values if isinstance(data, _Array) else None
    if images is None or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072 or len(images) == 0:
        found = "no array" if images is None else f"{images.dtype} array of shape {images.shape}"
        raise pickle.UnpicklingError(f"'data' is {found}, where it should be a uint8 array of shape (N, 3072)")
    return images


def _labels(labels: object, count: int) -> NDArray[np.int64]:
    if isinstance(labels, _Array) and labels.values is not None:
        labels = labels.values.tolist()
    if not isinstance(labels, list) or len(labels) != count or not all(type(label) is int for label in labels):
        raise pickle.UnpicklingError(f"'labels' is not a list of {count} integers, one for each image")
    if min(labels) < 0 or max(labels) > 9:
        raise pickle.UnpicklingError(f"'labels' spans {min(labels)}..{max(labels)} instead of 0..9")
    return np.array(labels, dtype=np.int64)


class _Refused(Exception):
    """Carries the name of what a pickle wanted to call."""


def _check_pickle(content: bytes) -> None:
    """Walks the instructions without obeying them, so that the unpickler only meets ones it can afford.

    `pickle.Unpickler` trusts some numbers: an instruction "remember this as number 4294967295" makes it allocate
    64 GiB, and a deeply nested tuple used as a key overflows the C stack. `find_class` sees neither.
    """
    tuples = calls = end = 0
    for number, (opcode, argument, position) in enumerate(pickletools.genops(content)):
        if opcode.name not in _ALLOWED:
            raise _Refused(f"pickle instruction {opcode.name} {str(argument or '')[:80]}".rstrip())
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument is None or not 0 <= argument <= number):
            raise pickle.UnpicklingError(f"it numbers an object {argument} where at most {number} exist")
        tuples += opcode.name.startswith("TUPLE")
        calls += opcode.name == "REDUCE"
        if number > _MAX_INSTRUCTIONS or tuples > _MAX_TUPLES or calls > _MAX_CALLS:
            raise pickle.UnpicklingError("it has far more instructions than a CIFAR-10 batch needs")
        end = (position or 0) + 1
    if end != len(content):
        raise pickle.UnpicklingError(f"it goes on for {len(content) - end} bytes after its end")


def _text(value: object) -> object:
    """Python 2 wrote names as byte strings, Python 3 as text."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


# The stand-ins below are all that a pickle can call. Each has `__setstate__`, because pickle's BUILD instruction sets
# attributes of anything that lacks it, classes included.


class _NDArrayName:
    """Stands for the class `numpy.ndarray`, which the format names but never calls."""

    def __init__(self) -> None:
        raise pickle.UnpicklingError("it calls numpy.ndarray")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it sets the state of numpy.ndarray")


class _Dtype:
    """Stands for `numpy.dtype` and admits plain integers only."""

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        code = _text(code)
        if code not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"):
            raise pickle.UnpicklingError(f"it asks for an array of {str(code)[:40]!r} instead of integers")
        self.value = np.dtype(str(code))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])
        if len(state) != 8 or order not in ("|", "<", ">") or state[2:5] != (None, None, None):
            raise pickle.UnpicklingError("it describes an array of structures instead of integers")
        self.value = np.dtype(f"{order}{self.value.str[1:]}")


class _Array:
    """Stands for `numpy.core.multiarray._reconstruct` and the array that it returns."""

    def __init__(self, kind: object, shape: object, code: object) -> None:
        if kind is not _NDArrayName or shape != (0,):
            raise pickle.UnpicklingError("it does not rebuild a plain numpy array")
        self.values: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self._fill(content, dtype, shape, "F" if fortran else "C")

    def _fill(self, content: object, dtype: object, shape: object, order: Any) -> None:
        if not isinstance(content, bytes | bytearray) or not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
            raise pickle.UnpicklingError("its array has no plain bytes, type or shape")
        if len(shape) > 2 or not all(type(side) is int and side >= 0 for side in shape):
            raise pickle.UnpicklingError("its array has a shape other than (N,) or (N, D)")
        if math.prod(shape) * dtype.value.itemsize != len(content):
            raise pickle.UnpicklingError(f"its array of shape {shape} has {len(content)} bytes")
        self.values = np.frombuffer(content, dtype.value).reshape(shape, order=order)


class _BufferArray(_Array):
    """Stands for `numpy.core.numeric._frombuffer`, which pickles of protocol 5 call instead."""

    def __init__(self, content: object, dtype: object, shape: object, order: object) -> None:
        self._fill(content, dtype, shape, "F" if _text(order) == "F" else "C")


class _Latin1(bytes):
    """Stands for `_codecs.encode`, with which Python 3 writes bytes in protocol 2."""

    def __new__(cls, text: str, encoding: object) -> "_Latin1":
        if _text(encoding) not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"it encodes text as {str(encoding)[:40]!r} instead of latin1")
        return super().__new__(cls, text.encode("latin-1"))

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it sets the state of a byte string")


_STAND_INS: Final[dict[tuple[str, str], type]] = {
    ("numpy", "ndarray"): _NDArrayName,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _BufferArray,
    ("numpy._core.numeric", "_frombuffer"): _BufferArray,
    ("_codecs", "encode"): _Latin1,
}


class _CIFARUnpickler(pickle.Unpickler):
    """An unpickler that knows nothing but numpy's integer arrays, and those only by stand-ins."""

    def find_class(self, module_name: str, global_name: str) -> type:
        try:
            return _STAND_INS[module_name, global_name]
        except KeyError:
            raise _Refused(f"{module_name}.{global_name}"[:80]) from None
