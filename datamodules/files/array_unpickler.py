"""Unpickles bytes, numbers, lists, dicts and numpy's integer arrays, and refuses any other content of a pickle.

A pickle is a program that can call any function of any module. Here it can call only replacements of the names that
numpy's arrays need, and its instructions are counted before any is executed. The bounds are those of a CIFAR-10 batch.

Source: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

import io
import math
import pickle
import pickletools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# A batch of 10,000 images takes 30,000 instructions, of which six build tuples and two call something. The bounds leave
# room for other encodings of the same content; without them a file could nest or copy objects until memory or the stack
# overflows.
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


class UnsafePickle(Exception):
    """A pickle calls something else than numpy's arrays need; the message is the name of it."""


def unpickle(content: bytes) -> Any:
    """Returns the object in a pickle, with byte strings of Python 2 as bytes and arrays as `UnpickledArray`.

    Raises:
        UnsafePickle: If the pickle has an instruction or a call that arrays don't need.
        Exception: Any other one, if the bytes are not a complete pickle.
    """
    _check_pickle(content)
    return _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()


def _check_pickle(content: bytes) -> None:
    """Checks the instructions without executing them.

    `pickle.Unpickler` does not check some numbers: storing an object as number 4294967295 of its memo allocates 64 GiB,
    and a deeply nested tuple as a key overflows the C stack. `find_class` is called for neither.
    """
    tuples = calls = end = 0
    for number, (opcode, argument, position) in enumerate(pickletools.genops(content)):
        if opcode.name not in _ALLOWED:
            raise UnsafePickle(f"pickle instruction {opcode.name} {str(argument or '')[:80]}".rstrip())
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument is None or not 0 <= argument <= number):
            raise pickle.UnpicklingError(f"it numbers an object {argument} where at most {number} exist")
        tuples += opcode.name.startswith("TUPLE")
        calls += opcode.name == "REDUCE"
        if number > _MAX_INSTRUCTIONS or tuples > _MAX_TUPLES or calls > _MAX_CALLS:
            raise pickle.UnpicklingError("it has far more instructions than a CIFAR-10 batch")
        end = (position or 0) + 1
    if end != len(content):
        raise pickle.UnpicklingError(f"it has {len(content) - end} bytes after its end")


def _text(value: object) -> object:
    """Converts names to text: Python 2 wrote them as byte strings."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


# The replacements below are all that a pickle can call. Each has `__setstate__`, because pickle's BUILD instruction
# sets attributes of any object that lacks it, classes included.


class _NDArrayName:
    """Replaces the class `numpy.ndarray`, which the format names but never calls."""

    def __init__(self) -> None:
        raise pickle.UnpicklingError("it calls numpy.ndarray")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it sets the state of numpy.ndarray")


class _Dtype:
    """Replaces `numpy.dtype` and accepts only integers."""

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        code = _text(code)
        if code not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"):
            raise pickle.UnpicklingError(f"it holds an array of {str(code)[:40]!r} instead of integers")
        self.value = np.dtype(str(code))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])
        if len(state) != 8 or order not in ("|", "<", ">") or state[2:5] != (None, None, None):
            raise pickle.UnpicklingError("it holds an array of structures instead of integers")
        self.value = np.dtype(f"{order}{self.value.str[1:]}")


class UnpickledArray:
    """Replaces `numpy.core.multiarray._reconstruct` and the array that it returns."""

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


class _BufferArray(UnpickledArray):
    """Replaces `numpy.core.numeric._frombuffer`, which pickles of protocol 5 call instead."""

    def __init__(self, content: object, dtype: object, shape: object, order: object) -> None:
        self._fill(content, dtype, shape, "F" if _text(order) == "F" else "C")


class _Latin1(bytes):
    """Replaces `_codecs.encode`, which pickles of protocol 2 by Python 3 call to decode bytes."""

    def __new__(cls, text: str, encoding: object) -> "_Latin1":
        if _text(encoding) not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"it encodes text as {str(encoding)[:40]!r} instead of latin1")
        return super().__new__(cls, text.encode("latin-1"))

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it sets the state of a byte string")


_REPLACEMENTS: Final[dict[tuple[str, str], type]] = {
    ("numpy", "ndarray"): _NDArrayName,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): UnpickledArray,
    ("numpy._core.multiarray", "_reconstruct"): UnpickledArray,
    ("numpy.core.numeric", "_frombuffer"): _BufferArray,
    ("numpy._core.numeric", "_frombuffer"): _BufferArray,
    ("_codecs", "encode"): _Latin1,
}


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that can call only the replacements of numpy's names."""

    def find_class(self, module_name: str, global_name: str) -> type:
        try:
            return _REPLACEMENTS[module_name, global_name]
        except KeyError:
            raise UnsafePickle(f"{module_name}.{global_name}"[:80]) from None
