"""What a command meets outside: closed pipes, full disks, terminals of few characters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRINT = """
import os, sys
from aegaeon.cli import cli, main
import click
@cli.command()
def say():
    click.echo(os.environ["MPLBACKEND"] + " \\u2019\\u00b5")
    for _ in range(100):
        print("x" * 1000)
sys.exit(main())
"""


def said(stdout, folder=ROOT, **variables):
    """Run a command that prints 100 kB; return the finished process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", PRINT, "say"]
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=stdout, stderr=subprocess.PIPE, check=False
    )


def test_a_closed_pipe_ends_the_command_without_a_word():
    read, write = os.pipe()
    os.close(read)
    done = said(write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_under_standard_output_is_one_line():
    with Path("/dev/full").open("wb") as full:
        done = said(full)
    assert done.returncode == 2
    assert done.stderr == b"error: standard output: No space left on device\n"


def test_a_terminal_without_a_character_shows_another():
    notebook = "module://matplotlib_inline.backend_inline"
    done = said(subprocess.PIPE, PYTHONIOENCODING="latin-1", MPLBACKEND=notebook)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[0] == b"agg ?\xb5"


@pytest.mark.parametrize(
    ("package", "problem"),
    [("kernels", "error: kernels: Python finds"), ("", "error: the working directory does not")],
)
def test_a_folder_that_cannot_be_worked_in_is_refused(package, problem, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    if package:
        (here / package).mkdir()
        (here / package / "__init__.py").touch()
    command = [sys.executable, "-c", PRINT, "say"]
    gone = None if package else (lambda: os.rmdir(here))
    environment = os.environ | {"PYTHONPATH": f"{here}:{ROOT}" if package else str(ROOT)}
    done = subprocess.run(
        command, cwd=here, env=environment, capture_output=True, text=True, preexec_fn=gone
    )
    assert done.returncode == 2
    assert done.stderr.startswith(problem)
    assert done.stderr.count("\n") == 1
