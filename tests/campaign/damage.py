"""Damage to any file: bits, cuts, gaps, foreign content. Positions are fractions of the file's length."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.campaign.case import Damage

Change = Callable[[bytes], bytes]

_FOREIGN = {
    "nothing": b"",
    "a zero byte": b"\0",
    "an HTML page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "text in UTF-16": "step,epoch\n1,2\n".encode("utf-16"),
    "an empty zip": b"PK\x05\x06" + b"\0" * 18,
    "an empty gzip": bytes.fromhex("1f8b08000000000000ff0300000000000000000000"),
    "null": b"null",
    "a list": b"[1, 2, 3]\n",
    "a pickled list": b"\x80\x02]q\x00.",
}


def damaged_bytes(random: Random) -> tuple[str, Change]:
    """Draws a change of a file's content, and its words."""
    at, length = random.random(), random.choice([1, 2, 4, 16, 512, 5000])
    where = f"at {at:.6f} of its length"
    kind = random.choice(
        ["flip", "flip", "flip", "cut", "zeros", "noise", "gap", "repeat", "insert", "append", "foreign"]
    )
    if kind == "flip":
        bit = random.randrange(8)
        return f"bit {bit} flipped {where}", lambda content: _flip(content, at, bit)
    if kind == "cut":
        return f"cut {where}", lambda content: content[: _index(content, at)]
    if kind == "append":
        noise = random.randbytes(length)
        return f"{length} bytes of noise at its end", lambda content: content + noise
    if kind == "foreign":
        name = random.choice(sorted(_FOREIGN))
        return f"replaced by {name}", lambda content: _FOREIGN[name]
    filling = {
        "zeros": b"\0" * length,
        "noise": random.randbytes(length),
        "insert": random.randbytes(length),
        "gap": b"",
    }

    def change(content: bytes) -> bytes:
        i = _index(content, at)
        new = filling.get(kind, content[i : i + length] * 2)  # of `repeat`, the content itself
        return content[:i] + new + content[i + (0 if kind == "insert" else length) :]

    words = {"zeros": "zeroed", "noise": "overwritten", "gap": "removed", "repeat": "repeated", "insert": "inserted"}
    return f"{length} bytes {words[kind]} {where}", change


def damaged_file(random: Random, pattern: str) -> tuple[str, Damage]:
    """Draws damage to one of the files that match a pattern; the words name the pattern."""
    words, change = damaged_bytes(random)
    missing, choice = random.random() < 0.04, random.random()

    def damage(folder: Path) -> str | None:
        files = sorted(folder.glob(pattern))
        assert files, f"{folder} has no {pattern}"
        file = files[int(choice * len(files))]
        content = change(file.read_bytes())
        file.unlink()
        if not missing:
            file.write_bytes(content)
        return str(file.relative_to(folder)) if len(files) > 1 else None

    return f"{pattern} {'missing' if missing else words}", damage


def _index(content: bytes, at: float) -> int:
    return int(at * len(content))


def _flip(content: bytes, at: float, bit: int) -> bytes:
    if not content:
        return content
    changed = bytearray(content)
    changed[_index(content, at)] ^= 1 << bit
    return bytes(changed)
