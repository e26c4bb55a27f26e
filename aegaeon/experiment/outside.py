"""What a run takes from outside of this program: a system's code and measured costs.

Their digests are inputs of the configuration hash, so that an edit makes another run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from aegaeon.errors import UserError
from aegaeon.experiment.config import Config, Occupancy, SwitchCostBackend
from aegaeon.policy.interface import System
from aegaeon.results.code import source_digest
from aegaeon.results.inputs import file_digest
from profiles.engine_profile import engine_path
from profiles.files import user_files
from profiles.store import profile_path

KEY = "system.code"
_OURS = ("aegaeon", "baselines")
# What plans with no costs.
_WITHOUT_COSTS = (Occupancy, SwitchCostBackend)


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


def outside_profiles(config: Config) -> dict[str, str]:
    """Return the digest of each profile that a run reads from the user's own folder, by its place.

    The result is empty without such profiles, and for copies of the profiles of this program. The
    latter are recorded with the code and do not count. Raises `UserError` for an unreadable file.
    """
    if isinstance(config.backend, _WITHOUT_COSTS):
        return {}
    device = config.hardware.device.name
    specs = [kind.spec() for kind in config.models.types.values()]
    names = [profile_path(Path(), device, spec.type, spec.tp) for spec in specs]
    found = user_files([*names, engine_path(Path(), device)])
    return {f"profiles/{name}": file_digest(path, str(path)) for name, path in found.items()}
