"""The commands `aegaeon results export`, `diff` and `columns`."""

import io
import shutil

import pytest
from rich.console import Console

from aegaeon import paths
from aegaeon.claims.verdicts import check
from aegaeon.errors import UserError
from aegaeon.paths import STORED, TABLES
from aegaeon.results.advice import remake
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


def test_an_export_of_several_writes_all_or_nothing(run, tmp_path):
    run(1)
    runs, stored = tmp_path / "runs", tmp_path / "stored"
    with pytest.raises(UserError, match="nosuch: no finished run"):
        export_command(["fig11a", "nosuch"], runs, stored)
    assert not stored.exists()


@pytest.mark.parametrize(("experiment", "offered"), [("fig11a", True), ("kick", False)])
def test_an_export_offers_only_commands_that_show_its_rows(experiment, offered, run, aegaeon):
    runs = run(1, experiment=experiment).parents[1]
    place = str(runs / "mine")
    done = aegaeon("results", "export", experiment, "--runs", str(runs), "--stored", place)
    assert done.exit_code == 0, done.output
    assert (f"aegaeon figures --stored {place}" in done.stdout) == offered
    assert f"aegaeon claims --stored {place}" in done.stdout


def test_the_advice_for_a_missing_table_makes_it_where_it_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make = "`aegaeon run experiment=kick`, then `aegaeon results export kick"
    assert remake("kick", TABLES) == f"{make}`"
    assert remake("kick", tmp_path / "mine") == f"{make} --stored mine`"
    assert remake("kick", STORED) == f"{make}`, and read your tables by `--stored {TABLES}`"


def test_one_table_at_home_hides_no_other_table_of_the_reference(stored, tmp_path, monkeypatch):
    home = tmp_path / "stored"
    home.mkdir()
    monkeypatch.setattr(paths, "STORED", home)
    shutil.copy(stored / "fig12a.parquet", home)
    alone = check(home)
    monkeypatch.setattr(paths, "REFERENCE", stored)
    both, whole = check(home), check(stored)
    assert [v.verdict for v in both] == [v.verdict for v in whole] != [v.verdict for v in alone]
