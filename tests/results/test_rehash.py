"""Version 1 of the hash is translated to version 2: run directories, rows, details."""

import io
import json
import os
import re
import shutil

import pandas as pd
import pytest
from rich.console import Console

from aegaeon.errors import UserError
from aegaeon.results.config_hash import config_hash
from aegaeon.results.details import export_details, load_details
from aegaeon.results.inputs import input_digests
from aegaeon.results.parquet import write_table
from aegaeon.results.record import RUN_FILE, open_run, read_record
from aegaeon.results.rehash import Experiments, rehash_command, tables, version1
from aegaeon.results.rehash.version1 import old_hash
from aegaeon.results.schema import ROWS
from aegaeon.results.store import collect, export, load_stored

NAME = "fig14"
SERIES = pd.DataFrame({"time_s": [0.0, 1.0], "active_models": [1, 2]})


def settings(seed=0, **changes):
    return {"seed": seed, "keep": ["series"], "slo": {"scale": 1.0}, **changes}


@pytest.fixture
def places(tmp_path):
    return tmp_path / "runs", tmp_path / "stored"


@pytest.fixture
def old_run(row, places):
    """Make a finished run's directory as version 1 had it."""

    def make(seed=0, **changes):
        config = settings(seed, **changes)
        with open_run(places[0], NAME, config) as record:
            record.write("series", SERIES.assign(active_models=[seed, 2]))
            record.finish(row(seed=seed, experiment=NAME, switches=seed))
        key = old_hash(config)
        facts = read_record(record.directory / RUN_FILE)
        del facts["hash_version"], facts["inputs"]
        facts |= {"config_hash": key, "row": {**facts["row"], "config_hash": key}}
        (record.directory / RUN_FILE).write_text(json.dumps(facts))
        return record.directory.rename(record.directory.with_name(key))

    return make


@pytest.fixture
def old_tables(places, old_run):
    """Store the tables of three runs as version 1 had them; the run directories are gone."""
    for seed in range(3):
        old_run(seed)
    rehash(places, lambda name: [])
    export(places[0], NAME, places[1])
    export_details(places[0], NAME, places[1])
    shutil.rmtree(places[0])
    old = {config_hash(settings(seed)): old_hash(settings(seed)) for seed in range(3)}
    path = places[1] / f"{NAME}.parquet"
    rows = load_stored(NAME, places[1])
    write_table(ROWS.arrow(rows.assign(config_hash=rows["config_hash"].map(old)), path), path)
    lines = load_details("series", NAME, places[1])
    tables.write_details(
        lines.assign(config_hash=lines["config_hash"].map(old)),
        "series",
        places[1] / "series" / f"{NAME}.parquet",
    )
    return old


def points(name):
    assert name == NAME
    return [settings(seed) for seed in range(4)]


def rehash(places, points=points):
    out = Console(file=io.StringIO(), width=300)
    return rehash_command(*places, Experiments(points, describe), out), out.file.getvalue()


def describe(settings):
    told = {"workload": "w", "mix": "1 t", "misprediction": 0.5, "costs": "roofline"}
    return told | {"overrides": "", "point": f"of slo {settings['slo']['scale']}"}


NEW = [*describe(settings())]


def interrupt(*_):
    raise KeyboardInterrupt


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_version_1_is_what_it_was():
    assert old_hash({"b": [1, 2.5], "a": {"x": None}}) == "5281e25c9c65a043"
    noise = {"paths": {}, "tracking": "none", "tags": ["x"], "keep": [], "host_pool": {"a": 1}}
    assert old_hash(noise) == old_hash({})
    assert old_hash({"keep": ["pool"], "host_pool": {"a": 1}}) != old_hash({})


def test_a_key_that_came_after_version_1_is_left_out_of_it(monkeypatch):
    monkeypatch.setattr(version1, "LEDGER_ENTRIES", 46)
    new = {"host_pool": {"slab_bytes": 1 << 30}, "name": "adhoc", "keep": ["pool"]}
    assert old_hash({"seed": 0, **new}) == old_hash({"seed": 0, "name": "adhoc"})
    assert old_hash({"seed": 0, "host_pool": {}}) == old_hash({"seed": 0})
    new["host_pool"]["slab_bytes"] = 5
    assert old_hash({"seed": 0, **new}) != old_hash({"seed": 0, "name": "adhoc"})


def test_a_run_directory_is_renamed_and_its_record_updated(places, old_run):
    old = [old_run(seed) for seed in range(2)]
    with pytest.raises(UserError, match=r"fig14: holds runs of an older version.*results rehash"):
        collect(places[0], NAME)
    done, text = rehash(places)
    assert done
    assert "run directories: 2 translated, 0 were current before" in text
    for seed, directory in enumerate(old):
        key = config_hash(settings(seed))
        facts = read_record(directory.with_name(key) / RUN_FILE)
        assert not directory.exists()
        assert facts["config_hash"] == facts["row"]["config_hash"] == key
        assert (facts["hash_version"], facts["inputs"]) == (2, {})
        assert (facts["row"]["switches"], facts["config"]) == (seed, settings(seed))
    before = contents(places[0])
    assert "0 translated, 2 were current before" in rehash(places)[1]
    assert contents(places[0]) == before


def test_an_interrupted_translation_is_completed(places, old_run, monkeypatch):
    old_run()
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rehash(places)
    assert "run directories: 1 translated" in rehash(places)[1]
    assert collect(places[0], NAME)["config_hash"].tolist() == [config_hash(settings())]


def edit(directory, **changes):
    facts = json.loads((directory / RUN_FILE).read_text())
    (directory / RUN_FILE).write_text(json.dumps(facts | changes))


def test_what_cannot_be_translated_is_refused_and_stays(places, old_run, tmp_path):
    edit(old_run(0), status="running")
    edit(old_run(1), config={"seed": 7})
    old_run(2).with_name(config_hash(settings(2))).mkdir()
    old_run(3)
    trace = tmp_path / "trace.csv"
    trace.write_text("late")
    os.utime(trace, (4e9, 4e9))
    old_run(4, workload={"path": str(trace)})
    old_run(5, workload={"path": "absent.csv"})
    before = contents(places[0])
    done, text = rehash(places)
    assert not done
    assert "run directories: 1 translated, 0 were current before, 5 refused" in text
    for why in (
        "under way or was killed",
        "not the hash of its config",
        "its new name .* is taken",
        r"trace.csv \(workload.path\) changed after the run",
        "workload.path: absent.csv cannot be read",
    ):
        assert re.search(why, text), text
    assert len(set(before) - set(contents(places[0]))) == 2


def test_stored_tables_are_translated_by_the_points_and_nothing_else_changes(places, old_tables):
    rows, lines = load_stored(NAME, places[1]), load_details("series", NAME, places[1])
    assert set(rows["config_hash"]) == set(lines["config_hash"]) == set(old_tables.values())
    assert "stored tables: 1 translated" in rehash(places)[1]
    new = {old: key for key, old in old_tables.items()}
    for before, after in (
        (rows, load_stored(NAME, places[1])),
        (lines, load_details("series", NAME, places[1])),
    ):
        renamed = before.assign(config_hash=before["config_hash"].map(new))
        keys = list(renamed)
        left, right = (f.sort_values(keys, ignore_index=True) for f in (renamed, after))
        pd.testing.assert_frame_equal(left, right, check_exact=True)
    before = contents(places[1])
    assert "stored tables: 0 translated, 1 were current before" in rehash(places)[1]
    assert contents(places[1]) == before


def test_stored_tables_are_translated_by_their_run_directories(places, old_tables, old_run):
    for seed in range(3):
        old_run(seed)
    assert rehash(places, points=lambda name: pytest.fail("run directories say enough"))[0]
    assert set(load_stored(NAME, places[1])["config_hash"]) == set(old_tables)


def test_a_translation_of_tables_that_was_interrupted_is_completed(places, old_tables, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_table", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rehash(places)
    assert set(load_details("series", NAME, places[1])["config_hash"]) == set(old_tables)
    assert set(load_stored(NAME, places[1])["config_hash"]) == set(old_tables.values())
    assert rehash(places)[0]
    assert set(load_stored(NAME, places[1])["config_hash"]) == set(old_tables)


def test_columns_that_rows_lack_come_from_their_points_and_nothing_else_changes(places, old_run):
    for seed in range(2):
        directory = old_run(seed)
        facts = read_record(directory / RUN_FILE)
        edit(directory, row={k: v for k, v in facts["row"].items() if k not in NEW})
    assert rehash(places)[0]
    export(places[0], NAME, places[1])
    full = load_stored(NAME, places[1])
    told = describe(settings())
    assert full[NEW].to_dict("records") == [told] * 2
    path = places[1] / f"{NAME}.parquet"
    write_table(full.drop(columns=NEW), path)
    with pytest.raises(UserError, match=r"fig14.parquet: its rows do not name.*results rehash"):
        load_stored(NAME, places[1])
    assert "stored tables: 1 translated" in rehash(places)[1]
    pd.testing.assert_frame_equal(load_stored(NAME, places[1]), full, check_exact=True)
    assert "0 translated, 1 were current before" in rehash(places)[1]
    write_table(full.drop(columns=NEW).assign(config_hash=["a", "b"]), path)
    assert "2 of 2 rows are of no run directory" in rehash(places)[1]


def unknown(name):
    raise UserError(f"experiment={name}: expected a file")


@pytest.mark.parametrize(
    ("points", "why"),
    [
        (lambda name: [settings(0)], r"2 of 3 rows are of no run directory and of no point"),
        (unknown, r"the settings of its rows are unknown: experiment=fig14: expected a file"),
    ],
)
def test_a_table_is_translated_whole_or_not_at_all(places, old_tables, points, why):
    before = contents(places[1])
    done, text = rehash(places, points)
    assert not done
    assert re.search(why, text), text
    assert contents(places[1]) == before


def test_a_trace_counts_by_its_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("1")
    relative = input_digests({"workload": {"path": "a.csv"}})
    assert relative == input_digests({"workload": {"path": str(tmp_path / "a.csv")}})
    assert relative == {
        "workload.path": "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    }
    (tmp_path / "a.csv").write_text("2")
    assert relative != input_digests({"workload": {"path": "a.csv"}})
    assert input_digests({"workload": {"rate_rps": 1.0}}) == {}
    with pytest.raises(UserError, match=r"workload\.path: b\.csv cannot be read \(No such file"):
        input_digests({"workload": {"path": "b.csv"}})
