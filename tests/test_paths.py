"""Where things lie: in a checkout, in an installed package, and where the user says."""

import os
from pathlib import Path

from aegaeon import paths


def test_the_home_is_named_or_the_checkout_or_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(paths.HOME_VARIABLE, raising=False)
    site = tmp_path / "site-packages"
    assert paths.home_of(paths.ROOT) == paths.ROOT
    assert paths.home_of(site) == Path.cwd()
    monkeypatch.setenv(paths.HOME_VARIABLE, "mine")
    assert paths.home_of(paths.ROOT) == paths.home_of(site) == Path.cwd() / "mine"


def test_what_comes_with_the_code_lies_in_the_package_without_a_checkout(tmp_path):
    assert paths.data_of(paths.ROOT) == paths.ROOT
    # Another project's file of this name makes no checkout of an environment.
    (tmp_path / "pyproject.toml").touch()
    assert paths.data_of(tmp_path) == tmp_path / "aegaeon" / "_data"


def test_a_given_path_starts_at_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/elsewhere")
    assert paths.given("a/b") == tmp_path / "a" / "b"
    assert paths.given("~/b") == Path("/elsewhere/b")
    assert paths.given("~no such user") == tmp_path / "~no such user"
    assert paths.given(os.fsdecode(b"\xff")) == tmp_path / os.fsdecode(b"\xff")


def test_without_stored_tables_of_ones_own_the_reference_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "STORED", tmp_path / "stored")
    assert paths.stored_folder() == paths.REFERENCE
    own, reference = tmp_path / "stored", tmp_path / "reference"
    own.mkdir()
    assert paths.stored_folder() == own
    # A table of one's own hides that table of the reference, and no other.
    monkeypatch.setattr(paths, "REFERENCE", reference)
    reference.mkdir()
    (own / "kick.parquet").touch()
    (reference / "kick.parquet").touch()
    (reference / "fig11a.parquet").touch()
    found = [paths.folder_with(f"{name}.parquet", own) for name in ("kick", "fig11a", "absent")]
    assert found == [own, reference, own]
    assert paths.folder_with("fig11a.parquet", tmp_path) == tmp_path
