"""The package as `pip install` puts it into an environment: no checkout around it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aegaeon.paths import ROOT, home_of

RUN = ("run", "models.count=2", "workload.duration_s=5", "tracking.uri=none", "~local")


def test_results_of_a_checkout_lie_in_it_and_others_in_the_working_directory(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_of(ROOT) == ROOT
    assert home_of(tmp_path / "site-packages") == Path.cwd()


@pytest.mark.slow
def test_an_installed_package_writes_to_the_working_directory(tmp_path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    site, here = tmp_path / "site-packages", tmp_path / "here"
    here.mkdir()
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    before = {path for path in site.rglob("*") if path.suffix != ".pyc"}
    command = [sys.executable, "-m", "aegaeon", *RUN]
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=here, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list(here.glob("runs/adhoc/*/run.json"))) == 1
    assert {path for path in site.rglob("*") if path.suffix != ".pyc"} == before
