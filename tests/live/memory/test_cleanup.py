import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aegaeon.errors import UserError
from aegaeon.live.memory.cleanup import find_leftovers, remove_leftovers
from aegaeon.live.memory.shared import SharedDirectory, create_file, start_time

ROOT = Path(__file__).parents[3]
HOLD = (
    "import sys\n"
    "from pathlib import Path\n"
    "from aegaeon.live.memory.shared import SharedDirectory, create_file\n"
    "made = SharedDirectory.create('crash', Path(sys.argv[1]))\n"
    "create_file(made.path / 'slabs', 8192)\n"
    "print(made.path, flush=True)\n"
    "sys.stdin.read()\n"
)


@pytest.fixture
def crashed(tmp_path):
    """Return the directory of a process that was killed, and its process id."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        path = Path(process.stdout.readline().strip())
        assert find_leftovers(tmp_path) == []
        process.send_signal(signal.SIGKILL)
    return path, process.pid


def test_a_crashed_runs_directory_is_found_and_removed(crashed, tmp_path):
    path, pid = crashed
    found = find_leftovers(tmp_path)
    assert [(left.path, left.pid) for left in found] == [(path, pid)]
    assert found[0].nbytes >= 8192
    assert remove_leftovers(tmp_path) == found
    assert not path.exists()
    assert remove_leftovers(tmp_path) == []


def test_a_directory_that_others_still_use_stays(crashed, tmp_path):
    path, _ = crashed
    with SharedDirectory.attach(path):
        assert remove_leftovers(tmp_path) == []
    assert path.exists()
    assert len(remove_leftovers(tmp_path)) == 1


def test_a_process_id_in_use_again_does_not_protect(tmp_path):
    reused = tmp_path / f"aegaeon-{os.getpid()}-{start_time(os.getpid()) - 1}-old-x"
    reused.mkdir()
    assert [left.path for left in remove_leftovers(tmp_path)] == [reused]


def test_what_is_not_ours_is_left_alone(tmp_path):
    for name in ("aegaeon-notes", "other-1-1-x", "aegaeon-1-x-y"):
        (tmp_path / name).mkdir()
    (tmp_path / "aegaeon-999999999-1-file").touch()
    (tmp_path / "aegaeon-999999999-1-link").symlink_to(tmp_path / "other-1-1-x")
    before = sorted(tmp_path.iterdir())
    assert remove_leftovers(tmp_path) == []
    assert sorted(tmp_path.iterdir()) == before


def test_the_owner_removes_its_directory_and_guests_do_not(tmp_path):
    owner = SharedDirectory.create("node", tmp_path)
    guest = SharedDirectory.attach(str(owner.path))
    assert f"-{os.getpid()}-{start_time(os.getpid())}-node-" in owner.path.name
    guest.close()
    assert owner.path.exists()
    owner.close()
    owner.close()
    assert not owner.path.exists()
    with pytest.raises(UserError, match="no such shared directory"):
        SharedDirectory.attach(owner.path)


def test_a_process_that_ends_normally_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    subprocess.run(command, cwd=ROOT, input="", capture_output=True, text=True, check=True)
    assert list(tmp_path.iterdir()) == []


def test_files_larger_than_the_file_system_are_refused(tmp_path, monkeypatch):
    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(UserError, match="4,096 bytes of shared memory are needed"):
        create_file(tmp_path / "big", 4096)
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_has_no_start_time():
    assert start_time(999_999_999) is None
    assert start_time(os.getpid()) == start_time(os.getpid())
