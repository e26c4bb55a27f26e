"""Opening a trace file: plain or compressed, with or without a byte-order mark."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

import pyarrow as pa

from aegaeon.errors import UserError

_BOM = b"\xef\xbb\xbf"
_BUFFER = 1 << 20
_OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff")


def _zstd(path: Path) -> io.RawIOBase:
    return cast(io.RawIOBase, pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


# The first bytes of a compressed file. Its name does not count.
_MAGIC: dict[bytes, Callable[[Path], object]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
    b"\x28\xb5\x2f\xfd": _zstd,
}
FAULTS = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, pa.ArrowException)
"""What reading a damaged file raises."""


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader[Any]]:
    """Open a text file of UTF-8 as bytes: decompressed, and without its byte-order mark.

    gzip, xz, bzip2 and zstd are recognised by their first bytes. Raises `UserError` for a file that
    cannot be opened or is UTF-16.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        unreadable(path, error)
    if start.startswith(_OTHER_BOMS):
        raise UserError(f"{path}: cannot be read (UTF-16 text); save the file as UTF-8")
    compressed = (make for magic, make in _MAGIC.items() if start.startswith(magic))
    raw = next(compressed, io.FileIO)(path)
    with io.BufferedReader(cast(io.RawIOBase, raw), _BUFFER) as stream:
        if stream.peek(len(_BOM)).startswith(_BOM):
            stream.read(len(_BOM))
        yield stream


def unreadable(path: Path, error: BaseException) -> NoReturn:
    """Raise the `UserError` for a file that cannot be opened, decoded or split into cells."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else None
    reason = reason or " ".join(str(error).split()) or type(error).__name__
    raise UserError(f"{path}: cannot be read ({reason}); check the path and format") from error
