"""Claims on made-up tables give PASS, MISS and NO DATA as they must."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from aegaeon.claims import check, load_claims, print_table, write_json
from aegaeon.claims.bench import BenchClaim
from aegaeon.claims.distributions import Saving, Share
from aegaeon.claims.kinds import KINDS
from aegaeon.claims.model import ErrorClaim
from aegaeon.claims.verdicts import judge
from aegaeon.errors import UserError
from aegaeon.results.store import load_stored
from aegaeon.scoring.goodput import sweep
from tests.support.synthetic_bench import write_bench
from tests.support.synthetic_details import detail_rows, details, target_rows, write_experiment
from tests.support.synthetic_tables import CROSSINGS, PRESETS, fig04_tables, sweep_table

DETAILED = {"live_fig07", "fig14", "fig17_left", "fig17_right", "live_fidelity"}


def head(table):
    return {"id": "F", "section": "", "claim": "", "tables": (table,)}


CLAIMS = load_claims()


def main_rows(stored, table=None):
    """Return the verdict of each claim, or of each claim that reads `table`, without variants."""
    return {
        claim.id: judge(claim, stored) for claim in CLAIMS if table is None or table in claim.tables
    }


@pytest.fixture
def edited(stored, tmp_path):
    """A copy of the stored tables, and a function that replaces one sweep in it."""
    copy = shutil.copytree(stored, tmp_path / "stored")

    def change(experiment, **crossings):
        table = sweep_table(experiment, CROSSINGS[experiment] | crossings)
        table.to_parquet(copy / f"{experiment}.parquet")
        return copy

    return change


def test_claims_file_is_sound():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim.check in KINDS, claim.id
        assert set(claim.tables) <= {"fig04", "bench/live", *DETAILED, *CROSSINGS}, claim.id
        if isinstance(claim, ErrorClaim):
            assert claim.tolerance > 0, claim.id
        else:
            assert (claim.at_least is None) != (claim.at_most is None), claim.id
        assert {new for preset in claim.presets for new in preset.values()} <= set(PRESETS)


def test_all_pass_on_tables_made_like_the_paper(stored):
    rows = main_rows(stored)
    assert {name: row.verdict for name, row in rows.items()} == dict.fromkeys(rows, "PASS")


def test_numbers_are_those_of_the_figures(stored):
    row = main_rows(stored, "fig11a")["T3b"]
    data = sweep(load_stored("fig11a", stored), "fig11a")
    assert row.numbers["aegaeon"] == data.crossing("aegaeon").x
    assert row.numbers["ratio"] == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(
    ("experiment", "crossings", "missed"),
    [
        ("fig11a", {"aegaeon": 60}, {"T3a", "T3b"}),
        ("fig11a", {"aegaeon": 5}, {"T3a", "T3b", "T5b"}),
        ("fig11b", {"serverlessllm": 30}, {"T4a"}),
        ("fig11b", {"serverlessllm_plus": 40}, {"T4b"}),
        ("fig11c", {"serverlessllm": 0.5}, {"F11c"}),
        ("fig13a", {"aegaeon": 30}, {"T6a", "T6b"}),
        ("fig13b", {"aegaeon": 30}, {"T6c", "T6d"}),
        ("fig13c", {"aegaeon": 5}, {"T6f"}),
    ],
)
def test_a_worse_curve_is_a_miss(edited, experiment, crossings, missed):
    rows = main_rows(edited(experiment, **crossings), experiment)
    assert {name for name, row in rows.items() if row.verdict == "MISS"} == missed


OTHER_SETTINGS = {
    "system.decode=6 system.prefill=10": {},
    "workload=bursty": {"workload": "bursty"},
    "models=market_7b": {"mix": "1 qwen2.5-7b"},
    "system.qmax_s=1": {},
    "workload.duration_s=60": {"duration_s": 60.0},
    "hardware.device.pcie_bandwidth=3000000000": {},
    "backend.misprediction=0.5": {"misprediction": 0.5},
    "hardware=h20x16": {"hardware": "h20x16"},
}


def test_rows_of_other_settings_change_no_verdict(edited):
    stored = edited("fig11a")
    before = check(stored)
    own = sweep_table("fig11a", CROSSINGS["fig11a"])
    high = own[(own["system"] == "aegaeon") & own["num_models"].isin([64, 72, 80])]
    others = [
        high.assign(overrides=text, point=text, slo_attainment=0.1, **columns).assign(
            config_hash=lambda rows, at=at: f"o{at}" + rows["config_hash"]
        )
        for at, (text, columns) in enumerate(OTHER_SETTINGS.items())
    ]
    path = stored / "fig11a.parquet"
    pd.concat([pd.read_parquet(path), *others]).to_parquet(path)
    assert check(stored) == before
    pd.concat(others).to_parquet(path)
    row = main_rows(stored)["T3a"]
    assert row.verdict == "NO DATA"
    assert "all its rows differ from the experiment's own settings, by backend.mis" in row.reason


def test_a_verdict_on_a_part_of_a_sweep_says_so(edited):
    stored = edited("fig11a")
    table = sweep_table("fig11a", {"aegaeon": 70})
    table[table["num_models"].isin([64, 72])].to_parquet(stored / "fig11a.parquet")
    row = main_rows(stored)["T3a"]
    assert row.verdict == "PASS"
    assert row.reason == "Part of fig11a: aegaeon without 16, 20, 24 and 12 more"


def test_fig12_needs_only_its_best_panel(edited):
    for panel in ("fig12a", "fig12c", "fig12d"):
        stored = edited(panel, aegaeon=24)
    assert main_rows(stored, "fig12a")["F12"].verdict == "PASS"
    assert main_rows(edited("fig12b", aegaeon=24), "fig12b")["F12"].verdict == "MISS"


def test_wrong_mean_misses_the_theorem(edited):
    stored = edited("fig11a")
    fig04_tables(mean=44.0)[0].to_parquet(stored / "fig04.parquet")
    row = main_rows(stored, "fig04")["T1"]
    assert row.verdict == "MISS"
    assert "46.27" in row.ours


@pytest.mark.parametrize("failed", [0, 7])
def test_muxserve_with_more_than_32_models_is_judged_by_refusals(edited, failed):
    stored = edited("fig11a")
    table = sweep_table("fig11a", CROSSINGS["fig11a"])
    table = table[table["system"] != "muxserve"]
    relaxed = table[table["system"] == "serverlessllm"].assign(
        system="muxserve",
        slo_attainment=0.95,
        failed=lambda rows: rows["num_models"].gt(32) * failed,
        config_hash=lambda rows: "m" + rows["config_hash"],
    )
    pd.concat([table, relaxed]).to_parquet(stored / "fig11a.parquet")
    row = main_rows(stored, "fig11a")["T5a"]
    assert row.verdict == ("PASS" if failed else "MISS")
    assert row.ours == ("32" if failed else "≥80")


def test_an_open_sweep_decides_what_it_can(edited):
    rows = main_rows(edited("fig11a", aegaeon=500, serverlessllm=500), "fig11a")
    assert rows["T3a"].verdict == "PASS"
    assert rows["T3a"].ours == "≥80"
    assert rows["T3b"].verdict == "NO DATA"
    assert "extend" in rows["T3b"].reason


@pytest.mark.parametrize(
    ("table", "change", "missed"),
    [
        ("events", {"seconds": 0.06}, {"T7a"}),
        ("events", {"seconds": 1.2}, {"T7a", "T7b"}),
        ("requests", {"data_s": 1.1}, {"F15b"}),
        ("pool", {"used_bytes": 1}, {"T8"}),
        ("stages", {"seconds": 2.0}, {"F7a"}),
    ],
)
def test_a_worse_distribution_is_a_miss(edited, table, change, missed):
    stored = edited("fig11a")
    rows = detail_rows("fig14")
    tables = details(rows)
    tables[table] = tables[table].assign(**change)
    write_experiment(stored, "fig14", rows, tables)
    found = {name for name, row in main_rows(stored, "fig14").items() if row.verdict == "MISS"}
    assert found == missed


def test_a_number_of_the_live_engine_is_shown_with_its_machine(edited):
    stored = edited("fig11a")
    write_bench(stored, E3a=1.3, E5=0.25)
    rows = main_rows(stored, "bench/live")
    assert {name for name, row in rows.items() if row.verdict == "MISS"} == {"E3a"}
    assert rows["E3a"].ours == "1.3 (2 cores of made-up, 2026-01-02)"
    assert (rows["E5"].expected, rows["E5"].numbers) == ("≤ 1", {"value": 0.25})


@pytest.mark.parametrize("text", ["{", "[]", '{"machine": {"cpu": "x", "cores": 1}, "made": 1}'])
def test_a_damaged_file_of_numbers_is_no_data(edited, text):
    stored = edited("fig11a")
    write_bench(stored).write_text(text)
    row = main_rows(stored, "bench/live")["E1"]
    assert (row.verdict, row.ours) == ("NO DATA", "–")
    assert "damaged" in row.reason


def test_a_number_that_is_not_stored_is_no_data(stored):
    claim = BenchClaim(**head("bench/live"), column="newcomer", at_most=1.0)
    assert "no number 'newcomer'" in judge(claim, stored).reason


def test_claims_have_the_targets_of_the_stored_numbers():
    path = Path(__file__).parents[2] / "runs" / "stored" / "bench" / "live.json"
    numbers = json.loads(path.read_text(encoding="utf-8"))["numbers"]
    targets = {
        n["name"]: (n["at_most"], n["at_least"]) for n in numbers if n["reached"] is not None
    }
    claims = [claim for claim in CLAIMS if claim.check == "bench"]
    assert {claim.column: (claim.at_most, claim.at_least) for claim in claims} == targets


def test_targets_in_the_wrong_order_miss(edited):
    stored = edited("fig11a")
    rows = target_rows("fig17_left", "tbt_slo_s")
    level = rows["slo_attainment"].mean()
    write_experiment(stored, "fig17_left", rows.assign(slo_attainment=level), {})
    row = main_rows(stored, "fig17_left")["T9a"]
    assert (row.verdict, row.numbers["gap"]) == ("MISS", 0.0)


def test_a_saving_is_that_of_the_worst_model(stored):
    claim = Saving(**head("fig14"), over="usual loader", detail="stages")
    claim = replace(claim, where={"stage": "prefetched"}, at_least=0.97)
    row = judge(claim, stored)
    assert row.verdict == "PASS"
    assert row.numbers["saving"] == pytest.approx(1 - 0.01 / 9.2)
    assert judge(replace(claim, where={"stage": "packed arena"}), stored).verdict == "MISS"


def test_lines_that_are_not_there_are_no_data(stored):
    claim = Share(**head("fig14"), detail="events", column="seconds")
    row = judge(replace(claim, system="newcomer"), stored)
    assert (row.verdict, row.ours) == ("NO DATA", "–")


def test_missing_tables_are_no_data(tmp_path):
    rows = check(tmp_path)
    assert {row.verdict for row in rows if row.id != "T2"} == {"NO DATA"}
    assert "experiment=fig11a" in next(row.reason for row in rows if row.id == "T3a")
    assert all(row.setting == "main" for row in rows)


def test_presets_follow_their_claim(stored):
    rows = check(stored)
    at = [row.id for row in rows].index("T5b")
    assert [row.setting for row in rows[at : at + 2]] == ["main", "muxserve_relaxed"]
    assert rows[at + 1].verdict == "MISS"


def test_table_and_json_hold_every_verdict(stored, tmp_path):
    rows = check(stored)
    page = io.StringIO()
    print_table(rows, Console(file=page, width=160))
    assert all(row.id in page.getvalue() for row in rows)
    assert "0 MISS" in page.getvalue()
    write_json(rows, tmp_path / "claims.json")
    read = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert [entry["verdict"] for entry in read] == [row.verdict for row in rows]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("{id: T9, check: colour}", "check 'colour'; expected theorem"),
        ("{id: T9, check: load, section: '', claim: '', tables: [], system: a, over: b}", "'over'"),
        ("{id: T9, check: quotas, section: '', claim: '', tables: []}", "'tolerance'"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, entry, why):
    path = tmp_path / "claims.yaml"
    path.write_text(f"- {entry}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"claims.yaml: claim T9") as caught:
        load_claims(path)
    assert why in str(caught.value)
