"""Standard streams as containers, cron and job managers give them: ASCII only, another encoding, or closed."""

import codecs
import contextlib
import locale
import os
import stat
import sys
import unicodedata

# ASCII for the characters of our messages; accents are dropped, other characters become "?".
_ASCII = {
    "×": "x", "–": "-", "−": "-", "—": "-", "…": "...", "→": "->", "←": "<-", "±": "+/-", "≤": "<=", "≥": ">=",
    "≈": "~", "·": "*", "•": "*", "“": '"', "”": '"', "‘": "'", "’": "'", "λ": "lambda", "µ": "u", "μ": "u",
}  # fmt: skip


def prepare_terminal() -> None:
    """Makes standard output and error able to take any text, and text files UTF-8 whatever the locale.

    A character that the encoding of a stream lacks is replaced; the bytes of a file name that is not text are written
    as they are. A closed stream becomes /dev/null, or the next opened file would get what is printed.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the parent process; the lowest free number is that of the stream
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    codecs.register_error("terminal", _replace)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not a notebook's
            stream.reconfigure(errors="terminal")
    if codecs.lookup(locale.getpreferredencoding(False)).name != "utf-8":
        with contextlib.suppress(locale.Error):  # a system without this locale
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")  # encoding of files that are opened without one


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # a byte of a file name, as os.fsdecode keeps it
        return bytes([ord(character) - 0xDC00]), error.start + 1
    plain = unicodedata.normalize("NFKD", character).replace("\u2044", "/").encode("ascii", "ignore").decode()
    return _ASCII.get(character) or plain or "?", error.start + 1


def leave_closed_terminal() -> None:
    """Sends to /dev/null what is printed to a terminal that has been closed, where printing would raise OSError."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
                discard_output(number)


def discard_output(number: int) -> None:
    """Sends to /dev/null what is printed to standard output (1) or error (2) from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
