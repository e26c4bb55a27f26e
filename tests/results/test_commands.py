"""The commands `aegaeon results export`, `diff` and `columns`."""

import io
import shutil

from rich.console import Console

from aegaeon import paths
from aegaeon.claims.verdicts import check
from aegaeon.results.commands import columns_text, diff_command, export_command
from aegaeon.results.schema import ROWS


def test_commands_export_compare_and_describe(run, tmp_path):
    run(1)
    out = Console(file=io.StringIO(), width=200)
    runs, stored = tmp_path / "runs", tmp_path / "stored"
    assert export_command(["fig11a"], runs, stored, console=out) == [stored / "fig11a.parquet"]
    assert diff_command(["fig11a"], runs, stored, console=out)
    run(1, switches=8)
    assert not diff_command(["fig11a"], runs, stored, console=out)
    text = out.file.getvalue()
    for part in ("fig11a.parquet: 1 rows", "1 of 1 rows identical", "switches: 8 now, 7 stored"):
        assert part in text
    assert all(f"`{name}`" in columns_text() for name in ROWS.names)


def test_one_table_at_home_hides_no_other_table_of_the_reference(stored, tmp_path, monkeypatch):
    home = tmp_path / "stored"
    home.mkdir()
    monkeypatch.setattr(paths, "STORED", home)
    shutil.copy(stored / "fig12a.parquet", home)
    alone = check(home)
    monkeypatch.setattr(paths, "REFERENCE", stored)
    both, whole = check(home), check(stored)
    assert [v.verdict for v in both] == [v.verdict for v in whole] != [v.verdict for v in alone]
