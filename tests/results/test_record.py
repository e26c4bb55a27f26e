import json
import multiprocessing
import os
from contextlib import suppress

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aegaeon.errors import UserError
from aegaeon.results import provenance
from aegaeon.results.code import code_digests
from aegaeon.results.config_hash import point_hash
from aegaeon.results.parquet import write_table
from aegaeon.results.record import open_run, read_record
from aegaeon.results.store import finished

REQUESTS = pd.DataFrame({"model": ["a", "b", "a"], "ttft_s": [0.1, None, 0.3]})


def test_a_run_tells_what_it_was_made_with(tmp_path, row):
    config = {"seed": 3, "system": {"name": "aegaeon", "quota": float("inf")}}
    said = {"overrides": "system.quota=inf", "sweep_id": "s", "command": "aegaeon run"}
    with open_run(tmp_path, "fig11a", config, **said) as run:
        assert read_record(run.directory / "run.json")["status"] == "running"
        run.write("requests", REQUESTS)
        done = run.finish(row(seed=3))
    facts = read_record(run.directory / "run.json")
    assert run.directory == tmp_path / "fig11a" / facts["config_hash"]
    assert facts["row"] == done
    assert (facts["status"], facts["command"], facts["sweep_id"]) == (
        "finished",
        "aegaeon run",
        "s",
    )
    assert facts["config"]["system"] == {"name": "aegaeon", "quota": "inf"}
    assert facts["start"] < facts["end"]
    assert facts["wall_s"] >= facts["row"]["wall_s"] > 0
    assert {"python", "numpy", "mlflow", "hydra-core"} <= set(facts["versions"])
    assert facts["machine"]["cores"] >= 1
    assert facts["overrides"] == facts["row"]["overrides"] == "system.quota=inf"
    assert facts["row"]["point"] == point_hash(config) != facts["config_hash"]
    assert facts["code"] == code_digests()
    assert facts["row"]["git_sha"].removesuffix("-dirty") == facts["git"]["sha"]


def test_an_exception_marks_the_run_failed(tmp_path, row):
    with suppress(ZeroDivisionError), open_run(tmp_path, "x", {"seed": 0}) as run:
        run.finish(row())
        raise ZeroDivisionError("1 / 0")
    facts = read_record(run.directory / "run.json")
    assert (facts["status"], facts["row"], facts["error"]["type"]) == (
        ("failed", None, "ZeroDivisionError")
    )
    assert "1 / 0" in facts["error"]["traceback"]
    assert not finished(tmp_path, "x", facts["config_hash"])


def test_the_exception_reaches_the_caller(tmp_path):
    with pytest.raises(ZeroDivisionError), open_run(tmp_path, "x", {"seed": 0}):
        raise ZeroDivisionError


def test_a_run_without_a_result_has_failed(tmp_path):
    with pytest.raises(RuntimeError, match="finish"), open_run(tmp_path, "x", {}) as run:
        pass
    assert read_record(run.directory / "run.json")["status"] == "failed"


def test_a_bad_row_is_refused_naming_the_run(tmp_path, row):
    with (
        pytest.raises(UserError, match=r"run\.json: column 'seed'"),
        open_run(tmp_path, "x", {}) as run,
    ):
        run.finish(row(seed="first"))


def die_inside(root, values):
    with open_run(root, "x", {"seed": 0}) as run:
        run.write("requests", REQUESTS)
        run.finish(values)
        os._exit(9)


def test_a_killed_run_is_not_finished_and_can_run_again(tmp_path, row):
    process = multiprocessing.get_context("fork").Process(target=die_inside, args=(tmp_path, row()))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    (path,) = tmp_path.glob("x/*/run.json")
    assert read_record(path)["status"] == "running"
    assert not finished(tmp_path, "x", path.parent.name)
    with open_run(tmp_path, "x", {"seed": 0}) as run:
        run.finish(row())
    assert finished(tmp_path, "x", path.parent.name)


def test_equal_tables_give_equal_bytes(tmp_path):
    shuffled = REQUESTS.iloc[[2, 0, 1]].sort_index()
    renumbered = REQUESTS.set_axis([7, 8, 9])
    renumbered.attrs["note"] = "not data"
    table = pa.Table.from_pandas(REQUESTS)
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    for index, same in enumerate((REQUESTS, shuffled, renumbered, table, chunked)):
        write_table(same, tmp_path / f"{index}.parquet")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    pd.testing.assert_frame_equal(pq.read_table(tmp_path / "0.parquet").to_pandas(), REQUESTS)
    write_table(REQUESTS.iloc[::-1], tmp_path / "other.parquet")
    assert (tmp_path / "other.parquet").read_bytes() != (tmp_path / "0.parquet").read_bytes()


def test_a_damaged_record_is_named(tmp_path):
    for text in ("{", json.dumps({"a": 1})):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(UserError, match=r"run\.json.*directory"):
            read_record(tmp_path / "run.json")


def test_without_git_the_commit_is_unknown(tmp_path, monkeypatch):
    provenance.git_state.cache_clear()
    assert provenance.git_state(tmp_path).label == "unknown"
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    provenance.git_state.cache_clear()
    assert provenance.git_state(tmp_path).label == "unknown"
    provenance.git_state.cache_clear()


def test_a_dirty_commit_is_marked():
    assert provenance.GitState("abc", dirty=True).label == "abc-dirty"
    assert provenance.GitState("abc", dirty=False).label == "abc"
