"""The fuzzer on a few inputs of every reader, and that it tells what goes wrong: a crash, a hang, memory, an error as it came."""

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
from readers import READERS, Reader  # noqa: E402
from spoil import spoil  # noqa: E402

SLOW = ("library.json", "checkpoint of an AST", "SoundFont, played")  # to begin with


def test_every_reader_reads_or_refuses():
    """In processes of their own: forking this one, which has threads, could stop."""
    kinds = [kind for kind in READERS if kind not in SLOW]
    command = [sys.executable, str(RELIABILITY / "fuzz.py"), "--inputs", "400", "--seed", "7", "--no-record", "--only", *kinds]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _dies(file: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hangs(file: Path) -> None:
    time.sleep(60)


def _fills(file: Path) -> None:
    bytearray(3 << 30)


def _as_it_came(file: Path) -> None:
    raise KeyError("x")


def _two_lines(file: Path) -> None:
    raise ValueError("a\nb")


def _no_text(file: Path) -> None:
    file.read_bytes().decode() and b"\xff".decode()


def _not_finite(file: Path) -> None:
    assert np.isfinite(np.nan), "not finite"


def _refuses(file: Path) -> None:
    raise ValueError("it is no such file")


FAULTS = {
    "ended the process (SIGSEGV)": _dies,
    "took longer than 1 s": _hangs,
    "MemoryError": _fills,
    "KeyError as it came": _as_it_came,
    "ValueError as it came": _two_lines,
    "UnicodeDecodeError as it came": _no_text,
    "AssertionError: not finite": _not_finite,
}


def make(folder: Path) -> Path:
    """A good file."""
    (folder / "x").write_bytes(b"good" * 10)
    return folder / "x"


def spoiled_only(read):
    """A reader of the good file, and of nothing else."""
    return lambda file: None if file.read_bytes() == b"good" * 10 else read(file)


@pytest.mark.parametrize("words", FAULTS)
def test_what_goes_wrong_is_told(monkeypatch, tmp_path, words):
    """The others are read all the same, and the inputs are kept."""
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    monkeypatch.setattr(fuzz, "READERS", {"bad": Reader(make, spoiled_only(FAULTS[words])), "good": Reader(make, spoiled_only(_refuses))})
    found = fuzz.fuzz({"bad": 2, "good": 3}, 0, 2, tmp_path / "kept")
    assert found["good"] == {} and all(words.split(" as ")[0] in why for why in found["bad"].values()) and set(found["bad"]) == {0, 1}
    assert sorted(f.name for f in (tmp_path / "kept").iterdir()) == ["bad-0-0", "bad-0-1"]
    assert (tmp_path / "kept" / "bad-0-1").read_bytes() == fuzz.spoiled("bad", b"good" * 10, 0, 1)


def test_a_good_file_that_is_not_read_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(fuzz, "READERS", {"bad": Reader(make, _as_it_came)})
    with pytest.raises(RuntimeError, match="bad: the good file is not read"):
        fuzz.fuzz({"bad": 2}, 0, 1, tmp_path)


def test_inputs_are_those_of_their_seed_and_hardly_ever_the_good_file():
    good = b'{"a": [1, 2, {"b": "c"}], "d": 0.5}'
    many = [spoil(good, np.random.default_rng(k), text=True) for k in range(300)]
    assert many == [spoil(good, np.random.default_rng(k), text=True) for k in range(300)]
    assert len(set(many)) > 250 and many.count(good) < 15
    assert all(isinstance(spoil(b"", np.random.default_rng(k)), bytes) for k in range(100))
