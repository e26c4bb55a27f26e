"""Writing files: the whole new file or the old one, and no temporary file left."""

import errno
import os
from contextlib import suppress

import pytest

from aegaeon import files
from aegaeon.errors import UserError
from aegaeon.files import atomic, free_bytes, of_place, write_text


def test_missing_folders_are_made_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    write_text("one\r\ntwo\n", path)
    assert path.read_bytes() == b"one\r\ntwo\n"
    assert [each.name for each in path.parent.iterdir()] == ["c.txt"]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "a.json"
    write_text("old", path)
    with suppress(KeyError), atomic(path) as temporary:
        temporary.write_text("ne")
        raise KeyError
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_said_with_the_files_name(tmp_path):
    path = tmp_path / "a.json"
    message = r"a\.json: cannot be written \(No space left on device\)"
    with pytest.raises(UserError, match=message), atomic(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(.*\); check"):
        write_text("x", tmp_path / "a" / "b.txt")


def test_nothing_is_written_among_installed_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path / "site-packages")
    with pytest.raises(UserError, match="installed packages; name a folder of your own"):
        write_text("x", tmp_path / "site-packages" / "profiles" / "a.json")
    assert not list(tmp_path.iterdir())
    write_text("x", tmp_path / "a.json")


def test_errors_of_places_are_sentences_and_others_are_not():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a b")
    assert of_place(full).startswith("/a b: No space left on device; check the folder")
    assert of_place(OSError(errno.EBADF, os.strerror(errno.EBADF))) is None


def test_a_folder_to_come_has_the_room_of_its_disk(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") > 0
