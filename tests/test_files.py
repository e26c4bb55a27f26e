"""Writing files: the whole new file or the old one, and no temporary file left."""

import errno
from contextlib import suppress

import pytest

from aegaeon.errors import UserError
from aegaeon.files import atomic, write_text


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
