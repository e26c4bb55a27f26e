"""Tables beside the rows: which are stored, how they are compared, what is refused."""

import pandas as pd
import pytest

from aegaeon.errors import UserError
from aegaeon.results.config_hash import config_hash
from aegaeon.results.details import diff_details, export_details, load_details, with_rows
from aegaeon.results.record import open_run
from aegaeon.results.schema import DETAILS, check_names
from aegaeon.results.store import export, finished


def pool(used: int = 5) -> pd.DataFrame:
    columns = {"time_s": [1.0, 0.1], "node": 0, "shape": "S0", "block_bytes": 7, "spare": 1.5}
    return pd.DataFrame(columns | {"used_bytes": used, "allocated_bytes": 10})


@pytest.fixture
def keep(row, tmp_path):
    """Make a finished run that keeps its table `pool`, and tell its hash."""

    def make(seed=0, table=None, keep=("pool",), **changes):
        config = {"seed": seed, "keep": list(keep)}
        with open_run(tmp_path / "runs", "fig14", config) as record:
            record.write("pool", pool() if table is None else table)
            record.finish(row(seed=seed, experiment="fig14", **changes))
        return record.facts["config_hash"]

    return make


@pytest.fixture
def places(tmp_path):
    return tmp_path / "runs", "fig14", tmp_path / "stored"


def stored(places):
    runs, name, folder = places
    export(runs, name, folder)
    return export_details(runs, name, folder)


def test_lines_are_tagged_typed_sorted_and_joined_to_their_rows(keep, places):
    key = keep(seed=3)
    (path,) = stored(places)
    assert path == places[2] / "pool" / "fig14.parquet"
    table = load_details("pool", "fig14", places[2])
    assert list(table) == DETAILS["pool"].schema.names
    assert table["time_s"].dtype == "float32"
    assert list(table["time_s"]) == pytest.approx([0.1, 1.0])
    assert set(zip(table["config_hash"], table["seed"], table["node"], strict=True)) == {
        (key, 3, "0")
    }
    joined = with_rows("pool", "fig14", places[2], ["system", "num_models"])
    assert set(joined["system"]) == {"aegaeon"}
    before = path.read_bytes()
    assert stored(places) == [path]
    assert path.read_bytes() == before


def test_only_kept_tables_are_stored(keep, places):
    keep(keep=())
    assert stored(places) == []
    with pytest.raises(UserError, match=r"pool/fig14.parquet.*experiment=fig14.*results export"):
        load_details("pool", "fig14", places[2])


def test_lines_of_runs_that_are_gone_stay_until_they_are_replaced(keep, places, tmp_path):
    first = keep(seed=0)
    stored(places)
    (tmp_path / "runs" / "fig14" / first / "run.json").unlink()
    second = keep(seed=1)
    stored(places)
    table = load_details("pool", "fig14", places[2])
    assert set(table["config_hash"]) == {first, second}
    export_details(places[0], "fig14", places[2], replace=True)
    table = load_details("pool", "fig14", places[2])
    assert set(table["config_hash"]) == {second}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (pool(used=6), "2 of 2 values of used_bytes differ"),
        (pool().head(1), "1 lines now, 2 stored"),
        (pool().assign(time_s=[1.0001, 0.1]), "1 of 2 values of time_s differ"),
    ],
)
def test_a_simulated_run_must_give_the_stored_lines(keep, places, change, why):
    key = keep()
    stored(places)
    assert diff_details(*places) == []
    keep(table=change)
    assert diff_details(*places) == [f"{key} pool: {why}"]


def test_another_processors_rounding_and_live_runs_may_differ(keep, places):
    keep()
    keep(seed=1, source="live")
    stored(places)
    keep(table=pool().assign(time_s=[1.0 + 3e-7, 0.1]))
    keep(seed=1, source="live", table=pool(used=9))
    assert len(diff_details(*places)) == 1
    assert diff_details(*places, rtol=1e-9) == []


def test_a_missing_column_is_named(keep, places):
    keep(table=pool().drop(columns="shape"))
    with pytest.raises(
        UserError, match="column 'shape' is missing; expected every column of table pool"
    ):
        stored(places)


def test_keep_changes_no_hash_but_a_run_without_the_table_is_run_again(keep, places):
    assert config_hash({"seed": 0, "keep": ["pool"]}) == config_hash({"seed": 0})
    key = keep()
    assert finished(places[0], "fig14", key, ["pool"])
    assert not finished(places[0], "fig14", key, ["pool", "events"])


@pytest.mark.parametrize("names", [["pools"], ["pool", "pool"]])
def test_unknown_and_doubled_names_are_refused(names):
    with pytest.raises(
        UserError, match=r"keep: 'pools?' is unknown or named twice; known: requests"
    ):
        check_names(names)
