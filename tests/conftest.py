"""Fixtures that several rooms' tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of public traces and measurements; skip where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("AEGAEON_DATA", default))
    if not folder.is_dir():
        pytest.skip("public data folder absent; set AEGAEON_DATA to run this test")
    return folder
