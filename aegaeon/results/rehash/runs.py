"""Run directories: `run.json` gets the new hash and the inputs, and the directory is renamed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from aegaeon.errors import UserError
from aegaeon.results.config_hash import VERSION, config_hash
from aegaeon.results.inputs import input_digests, input_files
from aegaeon.results.record import RUN_FILE, read_record, write_record
from aegaeon.results.rehash.columns import Experiments
from aegaeon.results.rehash.version1 import old_hash
from aegaeon.results.schema import ROWS

COLUMNS = set(ROWS.names)


def translate_run(directory: Path, experiments: Experiments) -> bool:
    """Translate a run directory; False if the directory is translated already.

    The record is written before the directory is renamed. After an interruption between the two
    steps, the directory's name differs from the hash in its record; the next translation renames
    the directory. Raises `UserError` if the directory cannot be translated.
    """
    path = directory / RUN_FILE
    facts = read_record(path)
    named = facts["config_hash"] == directory.name
    if facts["hash_version"] == VERSION and named and set(facts["row"] or ROWS.names) >= COLUMNS:
        return False
    if facts["hash_version"] != VERSION:
        facts = {**facts, **_news(facts, path)}
    if facts["row"]:
        facts["row"] = experiments.completed(facts["row"], directory.parent.name, path)
    target = directory.with_name(facts["config_hash"])
    if target != directory and target.exists():
        raise UserError(f"{directory}: its new name {target.name} is taken; delete one of the two.")
    write_record(facts, directory)
    directory.rename(target)
    return True


def new_names(experiment_dir: Path) -> dict[str, str]:
    """Return version 1 hash -> version 2 hash for the translated runs of an experiment."""
    found = [read_record(path) for path in experiment_dir.glob(f"*/{RUN_FILE}")]
    return {
        old_hash(facts["config"]): facts["config_hash"]
        for facts in found
        if facts["hash_version"] == VERSION
    }


def _news(facts: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the keys of a record that version 2 changes, with the new values."""
    config = facts["config"]
    if facts["status"] == "running":
        raise UserError(f"{path}: the run is under way or was killed; let it end, or delete it.")
    if old_hash(config) != facts["config_hash"]:
        raise UserError(f"{path}: config_hash is not the hash of its config; delete it, run again.")
    started = datetime.fromisoformat(facts["start"]).timestamp()
    for key, file in input_files(config).items():
        if file.exists() and file.stat().st_mtime > started:
            raise UserError(f"{path}: {file} ({key}) changed after the run; delete it, run again.")
    inputs = input_digests(config)
    key = config_hash(config, inputs)
    row = facts["row"] and {**facts["row"], "config_hash": key}
    return {"hash_version": VERSION, "config_hash": key, "inputs": inputs, "row": row}
