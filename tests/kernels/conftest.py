"""Fixtures of the kernels' tests; without torch all but the import test are skipped."""

import importlib.util
import os
from pathlib import Path
from unittest.mock import patch

import pytest

TRITON_COPY = Path(__file__).parents[2] / "kernels" / "triton_copy.py"


@pytest.fixture(scope="session")
def interpreted():
    """Return kernels.triton_copy with its kernel run by Triton's interpreter, on a CPU.

    The interpreter is chosen when a kernel is decorated, so this is a copy of the module of its
    own: neither the environment nor the real module changes for other tests.
    """
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    spec = importlib.util.spec_from_file_location("interpreted_triton_copy", TRITON_COPY)
    module = importlib.util.module_from_spec(spec)
    with patch.dict(os.environ, TRITON_INTERPRET="1"):
        spec.loader.exec_module(module)
    return module
