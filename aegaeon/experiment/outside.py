"""A system from outside of this program: its code is part of its runs' names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from aegaeon.errors import UserError
from aegaeon.policy.interface import System
from aegaeon.results.code import source_digest

KEY = "system.code"
_OURS = ("aegaeon", "baselines")


def outside_code(system: System) -> Mapping[str, str]:
    """Return the digest of the source of a system's module, as an input of the run's hash.

    The module's whole top-level package counts, or the one file of a module without a package. The
    result is empty for a system of this program: its code is recorded and does not count. Raises
    `UserError` if there is no source file.
    """
    module = type(system).__module__
    top = module.partition(".")[0]
    if top in _OURS:
        return {}
    package = sys.modules.get(top)
    folders = [Path(folder) for folder in getattr(package, "__path__", ())]
    file = getattr(sys.modules.get(module), "__file__", None)
    if not folders and file is None:
        raise UserError(
            f"system: {type(system).__name__} of module {module} has no source file, so that an "
            "edit would go unnoticed; put the class into a file"
        )
    return {KEY: source_digest(folders or [Path(str(file))])}
