"""What `make` would do, where no test carries it out."""

import re
import subprocess
from pathlib import Path

from figures import REGISTRY

ROOT = Path(__file__).parents[2]


def test_live_draws_known_figures_of_all_live_experiments_the_profiled_one_first() -> None:
    planned = subprocess.run(
        ["make", "--dry-run", "--silent", "live"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (figures,) = re.findall(r"aegaeon figures .*--out \S+ (.+)", planned)
    assert set(figures.split()) <= set(REGISTRY)
    (experiments,) = re.findall(r"aegaeon results export .*--stored \S+ (.+)", planned)
    first, *others = experiments.split()
    assert first == "live_fidelity"
    written = {path.stem for path in (ROOT / "conf" / "experiment").glob("live_*.yaml")}
    assert {first, *others} == written
