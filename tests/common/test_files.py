"""Files that exist whole or not at all: what killed writers left, what the system refuses."""

import errno
import os
import pickle
import platform
import subprocess
import sys

import pytest

from cirlib.common.files import Unwritable, write_atomic, write_json, writing


def part(path, process: int, machine: str = platform.node()):
    """What a writer of a file left."""
    left = path.with_name(f".{path.name}.{machine}.{process}.part")
    left.write_text("half")
    return left


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path):
    """Of the same file, on this machine, and of no process that is there: another one may be in the middle of it."""
    path = tmp_path / "a[1].json"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = part(path, gone.pid)
    kept = [part(path, os.getppid()), part(path, gone.pid, "elsewhere"), part(tmp_path / "a1.json", gone.pid), part(path, 1)]
    write_json(path, 1)
    assert not left.exists() and all(other.exists() for other in kept) and path.read_text() == "1\n"


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    path = write_json(tmp_path / "a.json", 1)

    def fail(part):
        part.write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        write_atomic(path, fail)
    assert path.read_text() == "1\n" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_what_the_system_refuses_is_one_sentence(tmp_path, number):
    """Also where what wrote tells something else, or the number in its words only; and on its way from another process."""
    refusal = OSError(number, os.strerror(number))

    def otherwise():
        try:
            raise refusal
        finally:
            raise RuntimeError("unexpected position")

    def in_words():
        raise RuntimeError(f"LanceError(IO): refused (os error {number}), somewhere.rs")

    for work in (lambda: write_atomic(tmp_path / "x", lambda part: otherwise()), otherwise, in_words):
        with (
            pytest.raises(Unwritable, match=rf"x cannot be written \({os.strerror(number)}\): .*choose another place") as caught,
            writing(tmp_path / "x"),
        ):
            work()
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value) and caught.value.errno == number
    with pytest.raises(KeyError), writing(tmp_path / "x"):
        raise KeyError("another error stays as it is")


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: calls.append("fsync") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("replace") or replace(*paths))
    write_json(tmp_path / "a.json", 1)
    assert calls == ["fsync", "replace"]
