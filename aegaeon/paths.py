"""The folders of the project: what comes with the code, and what commands read and write.

One rule holds for relative paths. A path that a user writes, in an option or in a key, starts at
the working directory. A folder that a user does not name lies below HOME: the folder
`AEGAEON_HOME`, else the checkout of the repository, else the working directory.
"""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "AEGAEON_HOME"


def is_checkout(root: Path) -> bool:
    """Return whether `root` holds the repository, not an environment's packages."""
    return (root / "pyproject.toml").is_file() and (root / "conf").is_dir()


def data_of(root: Path) -> Path:
    """Return the folder with `conf`, the locks and the reference rows, for packages in `root`."""
    return root if is_checkout(root) else root / "aegaeon" / "_data"


def home_of(root: Path) -> Path:
    """Return the folder for profiles, results and figures, for packages in `root`."""
    if named := os.environ.get(HOME_VARIABLE):
        return given(named)
    return root if is_checkout(root) else given("")


def given(path: str | Path) -> Path:
    """Return a path that a user wrote as an absolute path; `~` is the user's home directory."""
    expanded = Path(os.path.expanduser(path))
    try:
        return expanded.absolute()
    except FileNotFoundError:
        # The working directory was removed; `aegaeon` refuses to start there.
        return expanded


PACKAGES = ("aegaeon", "baselines", "figures", "kernels", "profiles", "workloads")
ROOT = Path(__file__).resolve().parents[1]
DATA = data_of(ROOT)
CONF = DATA / "conf"
REFERENCE = DATA / "runs" / "stored"

HOME = home_of(ROOT)
RUNS = HOME / "runs"
# Git tracks the reference, STORED; a user's own tables have a folder of their own.
STORED = RUNS / "stored"
TABLES = RUNS / "tables"
FIGURES = HOME / "figures" / "out"
PROFILES = HOME / "profiles"


def stored_folder() -> Path:
    """Return the folder of the stored tables: the user's own, or the reference without one."""
    return STORED if STORED.is_dir() else REFERENCE


def is_reference(stored: Path) -> bool:
    """Return whether a folder is the reference, or the home's own in its place."""
    return stored.resolve() in (STORED.resolve(), REFERENCE.resolve())


def folders_of(stored: Path) -> tuple[Path, ...]:
    """Return the folders to read stored tables from, in this order.

    A table that the home's `runs/stored` lacks is read from the reference.
    """
    at_home = stored.resolve() == STORED.resolve() != REFERENCE.resolve()
    return (stored, REFERENCE) if at_home else (stored,)


def folder_with(file: str, stored: Path) -> Path:
    """Return the first folder of `folders_of` that has `file`, else `stored`."""
    return next((folder for folder in folders_of(stored) if (folder / file).exists()), stored)
