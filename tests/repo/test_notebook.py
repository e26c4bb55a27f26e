"""The notebook runs as a plain script."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_capacity_notebook_finds_a_capacity_for_each_system(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "notebooks" / "capacity.py"],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^(\w+) +(\d+) models at 90%", done.stdout, re.MULTILINE))
    assert set(found) == {"aegaeon", "serverlessllm"}
    assert all(0 < int(count) <= 128 for count in found.values())
    assert done.stderr == ""
