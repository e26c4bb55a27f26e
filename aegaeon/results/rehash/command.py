"""The command `aegaeon results rehash`: all translations, and the printed counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from aegaeon.errors import UserError
from aegaeon.results.record import RUN_FILE
from aegaeon.results.rehash.columns import Experiments
from aegaeon.results.rehash.runs import translate_run
from aegaeon.results.rehash.tables import translate_stored


@dataclass
class Translation:
    """Counts of translated and current things; `refused` has a sentence per refused thing."""

    things: str
    translated: int = 0
    current: int = 0
    refused: list[str] = field(default_factory=list)

    def attempt(self, translate: Callable[[], bool]) -> None:
        """Call `translate` and count the outcome: True translated, False current, or refused."""
        try:
            if translate():
                self.translated += 1
            else:
                self.current += 1
        except UserError as error:
            self.refused.append(str(error))

    def show(self, console: Console) -> None:
        """Print a line per refused thing, and one line of counts."""
        for sentence in self.refused:
            console.print(Text(f"error: {sentence}", style="red"), soft_wrap=True)
        counts = [f"{self.translated} translated", f"{self.current} were current before"]
        counts += [f"{len(self.refused)} refused"] if self.refused else []
        console.print(f"{self.things}: {', '.join(counts)}", highlight=False)


def rehash_command(
    runs_root: Path, stored_dir: Path, experiments: Experiments, console: Console | None = None
) -> bool:
    """Translate all run directories and stored tables; True if none was refused.

    Translated directories and tables are left unchanged, so a second call completes an interrupted
    translation.
    """
    console = console or Console()
    runs, tables = Translation("run directories"), Translation("stored tables")
    for path in sorted(runs_root.glob(f"*/*/{RUN_FILE}")):
        runs.attempt(partial(translate_run, path.parent, experiments))
    for path in sorted(stored_dir.glob("*.parquet")):
        tables.attempt(partial(translate_stored, path.stem, runs_root, stored_dir, experiments))
    runs.show(console)
    tables.show(console)
    if runs.translated and (runs_root / "mlflow.db").exists():
        line = "MLflow lists the old hashes; delete mlflow.db, then `aegaeon results sync`"
        console.print(line, highlight=False)
    return not (runs.refused or tables.refused)
