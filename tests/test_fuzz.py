"""The fuzz test of tests/reliability: a few inputs of every reader, and faulty readers whose failures it must report."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

RELIABILITY = Path(__file__).resolve().parent / "reliability"
sys.path.insert(0, str(RELIABILITY))

import fuzz  # noqa: E402
from mutations import mutate  # noqa: E402
from readers import READERS, Reader  # noqa: E402

SLOW = ("library.json", "checkpoint of an AST", "SoundFont, played")


def test_every_reader_reads_or_refuses():
    """In other processes, as this one has threads and must not fork."""
    kinds = [kind for kind in READERS if kind not in SLOW]
    command = [sys.executable, str(RELIABILITY / "fuzz.py"), "--inputs", "400", "--seed", "7", "--no-record", "--only", *kinds]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _raise(error: Exception):
    raise error


FAULTS = {  # failure -> a reader that has it
    "ended the process (SIGSEGV)": lambda file: os.kill(os.getpid(), signal.SIGSEGV),
    "took longer than 1 s": lambda file: time.sleep(60),
    "MemoryError": lambda file: bytearray(3 << 30) and None,
    "KeyError not converted": lambda file: _raise(KeyError("x")),
    "ValueError not converted": lambda file: _raise(ValueError("a\nb")),
    "UnicodeDecodeError not converted": lambda file: file.read_bytes() and b"\xff".decode(),
    "AssertionError: not finite": lambda file: _raise(AssertionError("not finite")),
}


def make(folder: Path) -> Path:
    """Write a valid file."""
    (folder / "x").write_bytes(b"good" * 10)
    return folder / "x"


def unless_valid(read):
    """Return a reader that passes all but the valid file to `read`."""
    return lambda file: None if file.read_bytes() == b"good" * 10 else read(file)


@pytest.mark.parametrize("failure", FAULTS)
def test_failures_are_reported_and_stored(monkeypatch, tmp_path, failure):
    refuse = unless_valid(lambda file: _raise(ValueError("it is no such file")))
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    monkeypatch.setattr(fuzz, "READERS", {"bad": Reader(make, unless_valid(FAULTS[failure])), "good": Reader(make, refuse)})
    found = fuzz.fuzz({"bad": 2, "good": 3}, seed=0, jobs=2, store=tmp_path / "inputs")
    assert found["good"] == {} and set(found["bad"]) == {0, 1}
    assert all(failure.split(" not ")[0] in why for why in found["bad"].values())
    assert sorted(f.name for f in (tmp_path / "inputs").iterdir()) == ["bad-0-0", "bad-0-1"]
    assert (tmp_path / "inputs" / "bad-0-1").read_bytes() == fuzz.mutated("bad", b"good" * 10, seed=0, number=1)


def test_valid_file_must_be_read(monkeypatch, tmp_path):
    monkeypatch.setattr(fuzz, "READERS", {"bad": Reader(make, FAULTS["KeyError not converted"])})
    with pytest.raises(RuntimeError, match="bad: the valid file is not read"):
        fuzz.fuzz({"bad": 2}, seed=0, jobs=1, store=tmp_path)


def test_mutations_are_reproducible_and_differ():
    good = b'{"a": [1, 2, {"b": "c"}], "d": 0.5}'
    many = [mutate(good, np.random.default_rng(k), text=True) for k in range(300)]
    assert many == [mutate(good, np.random.default_rng(k), text=True) for k in range(300)]
    assert len(set(many)) > 250 and many.count(good) < 15
    assert all(isinstance(mutate(b"", np.random.default_rng(k)), bytes) for k in range(100))
