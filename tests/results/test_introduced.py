"""The ledger of introduced defaults: complete, and its old entries are as they were."""

import hashlib
import json
from itertools import combinations, islice

import pytest
import yaml

from aegaeon.results.introduced import LEDGER, ledger_entry
from aegaeon.results.rehash.version1 import LEDGER_ENTRIES
from tests.support.schema_keys import REQUIRED, all_keys, group_classes

TEXT = yaml.safe_load(LEDGER.read_text())
DEFAULTS, ALWAYS = TEXT["defaults"], TEXT["always_count"]
KEYS = all_keys()
GROUPS = ("system", "hardware", "models", "workload", "slo", "backend")
# Their keys are the same; those that always count differ unless a user makes them equal.
ALIKE = {"base_serverlessllm", "base_serverlessllm_paper"}


def digest(value) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def has_default(key) -> bool:
    return any(default != REQUIRED for default in KEYS[key].values())


@pytest.mark.parametrize("key", [key for key in KEYS if has_default(key)])
def test_a_key_with_a_default_is_in_the_ledger(key):
    assert (key in DEFAULTS) + (key in ALWAYS) == 1, (
        f"{key}: append it with its default to the end of `defaults` in {LEDGER.name}"
    )


def test_the_ledger_names_no_key_that_no_schema_has():
    assert {*DEFAULTS, *ALWAYS} <= set(KEYS)


def test_entries_of_the_first_day_are_never_changed():
    """A changed default belongs in the schema alone: here it would change stored hashes."""
    assert digest(list(islice(DEFAULTS.items(), LEDGER_ENTRIES))) == "2309976c09f31927"
    assert digest(ALWAYS[:12]) == "49b272e35069b082"


@pytest.mark.parametrize("group", GROUPS)
def test_classes_of_a_group_differ_in_the_keys_that_always_count(group):
    """Two classes under one name that a user chose would else be one run."""
    counted = {
        name: {key for key, owners in KEYS.items() if name in owners and key not in DEFAULTS}
        for name in group_classes(group)
    }
    assert counted
    alike = {frozenset(p) for p in combinations(counted, 2) if counted[p[0]] == counted[p[1]]}
    assert alike <= {frozenset(ALIKE)}, "append a key of the new class to `always_count`"


def test_something_tells_that_an_optional_part_is_there():
    """A part whose keys were all left out would be the same as no part."""
    entries = {key[: key.index("*") + 1] for key in KEYS if "*" in key}
    optional = {key for key in KEYS if any(other.startswith(f"{key}.") for other in KEYS)}
    for part in entries | optional:
        below = {key for key in KEYS if f"{key}.".startswith(f"{part}.")} - {*optional}
        assert below - set(DEFAULTS), f"append a key of {part} to `always_count`"


def test_names_that_users_choose_match_the_star():
    assert ledger_entry(("models", "types", "my.model", "tp")).default == 1
    assert ledger_entry(("models", "types", "tp")) is None
    assert ledger_entry(("models", "types", "a", "b", "tp")) is None
    assert ledger_entry(("slo", "scale")).default == 1.0
    assert ledger_entry(("slo", "ttft_s")) is None
