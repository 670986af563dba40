"""Files are written completely or not at all, errors of the disk are clear, and hashes depend on contents."""

import errno
import os
import pickle
import platform
import subprocess
import sys

import pytest

from cirlib.common import files
from cirlib.common.files import HashingWriter, Unwritable, write_atomic, write_json, writing


def part(path, process: int, machine: str = platform.node()):
    """Temporary file of an unfinished write."""
    left = path.with_name(f".{path.name}.{machine}.{process}.part")
    left.write_text("half")
    return left


def test_files_of_killed_writers_are_removed(tmp_path):
    """Of the same file, machine and a process that ended; others may still be writing."""
    path = tmp_path / "a[1].json"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = part(path, ended.pid)
    others = [part(path, os.getppid()), part(path, ended.pid, "elsewhere"), part(tmp_path / "a1.json", ended.pid), part(path, 1)]
    write_json(path, 1)
    assert not left.exists() and all(other.exists() for other in others) and path.read_text() == "1\n"


def test_failed_write_keeps_the_earlier_file(tmp_path):
    path = write_json(tmp_path / "a.json", 1)

    def fail(part):
        part.write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        write_atomic(path, fail)
    assert path.read_text() == "1\n" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_refused_write_is_one_clear_error(tmp_path, number):
    """Also if the writer raises another error, or has the number in its message only; and from another process."""

    def with_other_error(part):
        try:
            raise OSError(number, os.strerror(number))
        finally:
            raise RuntimeError("unexpected position")

    def with_number_in_text(part):
        raise RuntimeError(f"LanceError(IO): refused (os error {number}), somewhere.rs")

    for work in (with_other_error, with_number_in_text):
        with pytest.raises(Unwritable, match=rf"x cannot be written \({os.strerror(number)}\): .*choose another place") as caught:
            write_atomic(tmp_path / "x", work)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value) and caught.value.errno == number
    with pytest.raises(KeyError), writing(tmp_path / "x"):
        raise KeyError("another error is unchanged")


def test_file_is_on_disk_before_it_is_renamed(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: calls.append("fsync") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("replace") or replace(*paths))
    write_json(tmp_path / "a.json", 1)
    assert calls == ["fsync", "replace"]


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))


def test_missing_space_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10**9}))
    files.check_space(tmp_path, 10**9, "it")
    with pytest.raises(OSError, match=r"^it needs 2.00 GB, 1.00 GB are free in .*: make room or set CIRLIB_HOME$"):
        files.check_space(tmp_path, 2 * 10**9, "it")


def test_hashes_depend_on_names_and_contents(tmp_path):
    (tmp_path / "sub").mkdir()
    file, hidden = tmp_path / "sub" / "a", tmp_path / ".hidden"
    file.write_bytes(b"abc")
    before, listed = files.content_hash(tmp_path), files.listing_hash(tmp_path, [file])
    assert files.content_hash(file) == files.sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    hidden.write_bytes(b"x")
    assert files.content_hash(tmp_path) == before
    file.write_bytes(b"abcd")
    assert files.content_hash(tmp_path) != before and files.listing_hash(tmp_path, [file]) != listed


def test_hashing_writer_continues_a_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abcdef")
    writer = HashingWriter(path.open("r+b"), 3)
    writer.write(b"xy")
    writer.close()
    assert path.read_bytes() == b"abcxy" and writer.digest() == files.sha256(path)
