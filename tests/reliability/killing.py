"""Run work in a forked process and kill it with its children: at a moment, before a call to the file system, or within a write.

It is forked because imports take longer than the work; the parent has imported everything and computed nothing.
"""

import os
import pickle
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

WAYS = ("moment", "call", "write")
CALLS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink")  # besides opening to write
LONGEST_S = 120  # timeout of a run


@dataclass
class Ended:
    """End of a process: killed, or with a value or an error."""

    killed: bool
    value: object = None
    error: str = ""
    calls: int = 0
    modules: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass
class Kill:
    """A kill by one of WAYS, at a share (0 to 1) of the seconds, the calls, or the largest file of an undisturbed run."""

    way: str
    share: float
    whole: Ended
    largest: int

    def __str__(self) -> str:
        units = {"moment": "of the time", "call": "of the calls", "write": "of the largest file (logarithm)"}
        return f"killed at {100 * self.share:.0f} % {units[self.way]}"


def forked(work: Callable[[], object], folder: Path, kill: Kill | None = None) -> Ended:
    """Call `work`, which writes below `folder`, in a new process group, and kill it."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        _child(work, folder, kill, writer)
    os.close(writer)
    started = time.perf_counter()
    answer = _receive(reader, kill.share * kill.whole.seconds if kill and kill.way == "moment" else LONGEST_S)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # with its children
    _, status = os.waitpid(pid, 0)
    os.close(reader)
    seconds = time.perf_counter() - started
    if seconds > LONGEST_S:
        return Ended(False, error=f"it took longer than {LONGEST_S} s", seconds=seconds)
    if answer is None and os.WIFSIGNALED(status):
        return Ended(True, seconds=seconds)
    return Ended(False, *(answer or (None, f"it left with status {status}")), seconds=seconds)


def done(work: Callable[[], object], folder: Path) -> Ended:
    """Call `forked` without a kill, and import here what it imported. AssertionError if it fails."""
    ended = forked(work, folder)
    assert not ended.killed and not ended.error, ended.error or "it was killed from outside"
    for name in ended.modules:
        if name not in sys.modules and not name.startswith("lancedb"):  # which starts threads
            with suppress(Exception):
                import_module(name)
    return ended


def _receive(reader: int, patience_s: float) -> tuple | None:
    """Return what the child sent within `patience_s` seconds, or None."""
    deadline, blocks = time.monotonic() + patience_s, []
    while select.select([reader], [], [], max(0, deadline - time.monotonic()))[0]:
        block = os.read(reader, 1 << 16)
        if not block:
            return pickle.loads(b"".join(blocks)) if blocks else None
        blocks.append(block)
    return None


def _child(work: Callable, folder: Path, kill: Kill | None, writer: int) -> None:
    """Run the work in the forked process and exit."""
    try:
        os.setpgid(0, 0)
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(silence, stream)
        calls = _watch(folder, round(kill.share * kill.whole.calls) if kill and kill.way == "call" else None)
        if kill and kill.way == "write":
            _limit(round(kill.largest**kill.share))
        value, error = None, ""
        try:
            value = work()
        except BaseException:
            error = traceback.format_exc()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump((value, error, calls[0], tuple(sys.modules)), pipe)
    finally:
        os._exit(0)


def _watch(folder: Path, last: int | None) -> list[int]:
    """Count calls that change files below a folder, and kill this process group before call number `last`."""
    count, inside = [0], str(folder)

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            if not (isinstance(args[0], str) and args[0].startswith(inside) and args[2] & (os.O_WRONLY | os.O_RDWR)):
                return
        elif event not in CALLS or not (os.fspath(args[0]).startswith(inside) or args[-1] != -1):  # or in an open folder
            return
        if count[0] == last:
            os.killpg(0, signal.SIGKILL)
        count[0] += 1

    sys.addaudithook(hook)
    return count


def _limit(size: int) -> None:
    """End this process by a signal when it writes beyond `size` bytes of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
