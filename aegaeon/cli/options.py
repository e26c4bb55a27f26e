"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from aegaeon.paths import DATA, HOME, RUNS, TABLES, stored_folder

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)


def path_option(*names: str, default: Path, text: str) -> Callable[[Decorated], Decorated]:
    """Return an option for a path of the project; help shows its default below HOME."""
    place = next((place for place in (HOME, DATA) if default.is_relative_to(place)), Path())
    shown = str(default.relative_to(place))
    return click.option(*names, type=FILE, default=default, show_default=shown, help=text)


stored_option = path_option(
    "--stored", default=stored_folder(), text="Folder of the stored tables."
)
own_option = path_option("--stored", default=TABLES, text="Folder of the tables to write.")
runs_option = path_option("--runs", default=RUNS, text="Folder of the run directories.")
tracking_option = click.option(
    "--tracking", default="sqlite", help="Where MLflow is: `sqlite` or the address of a server."
)
