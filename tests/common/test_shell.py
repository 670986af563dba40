"""How commands end: usage, one sentence, Ctrl-C, a reader that leaves."""

import subprocess
import sys

import pytest

from cirlib.common.command_line import arguments, clean_exit

PIPED = """
import sys
from cirlib.common.command_line import clean_exit
with clean_exit():
    for k in range(100_000):
        print("line", k)
"""


@pytest.mark.parametrize("given", [["a"], ["a", "b"]])
def test_arguments(monkeypatch, given):
    monkeypatch.setattr(sys, "argv", ["command", *given])
    assert arguments("usage", 1, 2) == given


@pytest.mark.parametrize("given", [[], ["a", "b", "c"]], ids=["too few", "too many"])
def test_wrong_number_of_arguments(monkeypatch, given):
    monkeypatch.setattr(sys, "argv", ["command", *given])
    with pytest.raises(SystemExit, match=r"^usage of it$"):
        arguments("usage of it", 1, 2)


@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_help_is_no_error(monkeypatch, capsys, asked):
    monkeypatch.setattr(sys, "argv", ["command", "a", asked])
    with pytest.raises(SystemExit) as end:
        arguments("usage of it", 1, 1)
    assert end.value.code == 0 and capsys.readouterr().out == "usage of it\n"


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, LookupError])
def test_error_is_one_line(error):
    with pytest.raises(SystemExit, match=r"^error: line 1: two  spaces, then more$"), clean_exit(LookupError):
        raise error("line 1:\n    two  spaces,\n then more")


def test_other_errors_keep_their_traceback():
    with pytest.raises(LookupError), clean_exit():
        raise LookupError("of the code")


@pytest.mark.parametrize("stopped", ["stopped; go on", ""])
def test_interrupt(capsys, stopped):
    with pytest.raises(SystemExit) as end, clean_exit(stopped=stopped):
        raise KeyboardInterrupt
    assert end.value.code == 130 and capsys.readouterr().err == (f"{stopped}\n" if stopped else "")


def test_reader_that_leaves():
    """As `| head -1` does."""
    process = subprocess.Popen([sys.executable, "-c", PIPED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.wait(timeout=60) == 1 and process.stderr.read() == ""
    process.stderr.close()
