"""Reads and shortens the `.wandb` files of W&B's client: LevelDB's log format with a record of protobuf in each entry.

After 7 bytes of its own, a file consists of blocks of 32 KiB. Each entry in a block has a checksum (4 bytes), a length
(2) and a kind (1): whole, or the first, a middle or the last part of a record that continues in the next block.
"""

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_PREFIX, _HEADER, _BLOCK = 7, 7, 32_768
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_records(file: Path) -> Iterator[bytes]:
    """Yields the records of a file up to its end, or to where a kill has cut it."""
    content, position, parts = file.read_bytes(), _PREFIX, b""
    while position < len(content):
        if (left := _BLOCK - position % _BLOCK) < _HEADER:
            position += left
            continue
        size, kind = (
            int.from_bytes(content[position + 4 : position + 6], "little"),
            content[position + 6 : position + 7],
        )
        data = content[position + _HEADER : position + _HEADER + size]
        checksum = int.from_bytes(content[position : position + 4], "little")
        if not kind or len(data) < size or zlib.crc32(kind + data) != checksum:
            return
        position += _HEADER + size
        parts = data if kind[0] in (_WHOLE, _FIRST) else parts + data
        if kind[0] in (_WHOLE, _LAST):
            yield parts


def copy_records(file: Path, target: Path, keep: Callable[[Any], bool]) -> tuple[int, int]:
    """Copies the records of a file for which `keep` returns true.

    Args:
        file: A `.wandb` file.
        target: The copy.
        keep: Called with each row of the run's history, W&B's `HistoryRecord`. All other records are kept, but for the
            summaries before the first row that is: W&B has later ones.

    Returns:
        Number of rows in the file, and of those that were left out.
    """
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made at import

    rows = dropped = 0
    with file.open("rb") as source, target.open("wb") as copy:
        copy.write(source.read(_PREFIX))
        for data in read_records(file):
            record = Record.FromString(data)
            if record.HasField("history"):
                rows += 1
                if not keep(record.history):
                    dropped += 1
                    continue
            elif record.HasField("summary") and 0 < dropped == rows:
                continue
            _append(copy, data)
    return rows, dropped


def _append(file: Any, data: bytes) -> None:
    first = True
    while first or data:
        left = _BLOCK - file.tell() % _BLOCK
        if left < _HEADER:
            file.write(bytes(left))
            continue
        part, data = data[: left - _HEADER], data[left - _HEADER :]
        kind = bytes([(_FIRST if data else _WHOLE) if first else (_MIDDLE if data else _LAST)])
        file.write(zlib.crc32(kind + part).to_bytes(4, "little") + len(part).to_bytes(2, "little") + kind + part)
        first = False


def read_history(file: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a run's history in a file."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made at import

    for data in read_records(file):
        record = Record.FromString(data)
        if record.HasField("history"):
            yield history_row(record.history)


def has_ended(file: Path) -> bool:
    """Returns whether a file has the end of its start: a killed one has not."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made at import

    return any(Record.FromString(data).HasField("exit") for data in read_records(file))


def history_row(history: Any) -> dict[str, Any]:
    """Returns the values of a row, W&B's `HistoryRecord`, by name."""
    values = {}
    for item in history.item:
        kind = item.WhichOneof("value") or "value_json"
        value = getattr(item, kind)
        name = item.key or ".".join(item.nested_key)
        values[name] = json.loads(value) if kind in ("json", "value_json") else None if kind == "none" else value
    return values
