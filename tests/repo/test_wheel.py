"""The package as `pip install` puts it into an environment: no checkout around it."""

import os
import subprocess
import sys
import zipfile

import pytest

from aegaeon.paths import ROOT

RUN = ("run", "models.count=2", "workload.duration_s=5", "tracking.uri=none", "~local")


@pytest.mark.slow
def test_an_installed_package_writes_to_the_working_directory(tmp_path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    site, here = tmp_path / "site-packages", tmp_path / "here"
    here.mkdir()
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    before = {path for path in site.rglob("*") if path.suffix != ".pyc"}
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}

    def aegaeon(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "aegaeon", *arguments]
        return subprocess.run(
            command, cwd=here, env=environment, capture_output=True, text=True, check=False
        )

    for command in (RUN, ("figures", "fig11a"), ("claims",), ("results", "export", "adhoc")):
        done = aegaeon(*command)
        assert done.returncode == 0, done.stderr
    assert len(list(here.glob("runs/adhoc/*/run.json"))) == 1
    assert (here / "figures" / "out" / "fig11a.pdf").is_file()
    assert (here / "runs" / "stored" / "adhoc.parquet").is_file()
    refused = aegaeon("profile", "roofline")
    assert refused.returncode == 2
    assert "installed packages; name a folder of your own" in refused.stderr
    assert {path for path in site.rglob("*") if path.suffix != ".pyc"} == before
