"""Command lines exit with their usage, one line for an error, quietly on a broken pipe, and with 130 on Ctrl-C."""

import subprocess
import sys

import pytest

from cirlib.common.command_line import arguments, clean_exit

PIPED = """
from cirlib.common.command_line import clean_exit
with clean_exit():
    for k in range(100_000):
        print("line", k)
"""


@pytest.mark.parametrize(
    ("given", "code"),
    [(["a"], None), (["a", "b"], None), ([], "usage of it"), (["a", "b", "c"], "usage of it"), (["a", "-h"], 0), (["--help"], 0)],
)
def test_arguments_are_counted(monkeypatch, capsys, given, code):
    monkeypatch.setattr(sys, "argv", ["command", *given])
    if code is None:
        assert arguments("usage of it", 1, 2) == given
        return
    with pytest.raises(SystemExit) as end:
        arguments("usage of it", 1, 2)
    assert end.value.code == code and capsys.readouterr().out == ("usage of it\n" if code == 0 else "")


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, LookupError])
def test_error_is_one_line(error):
    with pytest.raises(SystemExit, match=r"^error: line 1: two  spaces, then more$"), clean_exit(LookupError):
        raise error("line 1:\n    two  spaces,\n then more")


def test_other_errors_keep_their_traceback():
    with pytest.raises(LookupError), clean_exit():
        raise LookupError("a bug")


@pytest.mark.parametrize("stopped", ["stopped; go on", ""])
def test_interrupt_exits_with_130(capsys, stopped):
    with pytest.raises(SystemExit) as end, clean_exit(stopped=stopped):
        raise KeyboardInterrupt
    assert end.value.code == 130 and capsys.readouterr().err == (f"{stopped}\n" if stopped else "")


def test_broken_pipe_exits_quietly():
    process = subprocess.Popen([sys.executable, "-c", PIPED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.wait(timeout=60) == 1 and process.stderr.read() == ""
    process.stderr.close()
