"""The process of a command: its output, its working directory, its environment."""

from __future__ import annotations

import io
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from aegaeon.errors import UserError
from aegaeon.paths import PACKAGES, ROOT

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_CLOSED_PIPE = 128 + signal.SIGPIPE
_REFUSED = 2


class _Output(io.FileIO):
    """Standard output. A closed pipe or a full disk ends the command, without a traceback."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some bytes; raise SystemExit if they cannot be written."""
        try:
            return super().write(data)
        except BrokenPipeError:
            code = _CLOSED_PIPE
        except OSError as error:
            code = _REFUSED
            print(f"error: standard output: {error.strerror}", file=sys.stderr)
        # What is left in buffers must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        raise SystemExit(code)


class _Messages(io.FileIO):
    """Standard error. A message that cannot be written is lost, and the command goes on."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some bytes, or drop them."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Prepare this process; raise UserError if it cannot run commands.

    It cannot if the working directory is gone, or if another project's package hides one of ours.
    A character that the encoding of standard output lacks appears as `?`.
    """
    sys.stdout = _wrapped(sys.stdout, _Output)
    sys.stderr = _wrapped(sys.stderr, _Messages)
    # A notebook's kernel names a backend that this environment may lack; figures go to files.
    os.environ["MPLBACKEND"] = "agg"
    try:
        os.getcwd()
    except OSError as error:
        raise UserError("the working directory does not exist any more; cd to another") from error
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None or spec.origin is None or not Path(spec.origin).is_relative_to(ROOT / name):
            found = spec and (spec.origin or list(spec.submodule_search_locations or ()))
            raise UserError(
                f"{name}: Python finds {found or 'nothing'}, not the package in {ROOT}; install "
                "aegaeon into an environment of its own, or run it from another folder"
            )


def _wrapped(stream: TextIO, kind: type[io.FileIO]) -> TextIO:
    """Return `stream` with writes of `kind`; a stream that is closed or no file stays as it is."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(kind(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
