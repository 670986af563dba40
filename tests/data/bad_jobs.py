"""Jobs of a bank build that crash, hang or fail on demand; imported by worker processes too, so without pytest."""

import ctypes
import errno
import os
import signal
import time

import numpy as np

from cirlib.data.jobs import Remark, Sound, note_row

META = {"source": "tones", "license": "CC0-1.0", "citation": "none"}
SPEC = {"seed": 0}
KEYS = [f"{i:02d}" for i in range(8)]


def fail(how, gate):
    """Fail in one of the ways in which native code goes wrong."""
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "leave":
        os._exit(3)
    while how == "wait" and not os.path.exists(gate):
        time.sleep(0.05)
    if how == "slow":
        time.sleep(0.5)
    if how == "hang":
        time.sleep(600)
    if how == "hold":  # native code that holds the interpreter
        ctypes.PyDLL(None).sleep(600)
    if how == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if how == "raise":
        raise RuntimeError("a broken preset")
    if how == "interrupt":
        raise KeyboardInterrupt


def make(key, how="well", log=None, gate=None):
    """Two sounds of one instrument and a remark; `how` the job goes after the first."""
    if log:
        with open(log, "a") as file:
            file.write(key)
    for k in range(2):
        audio = 0.5 * np.cos(0.1 * (1 + int(key) + k) * np.arange(800))
        yield Sound(note_row(f"tones/bank/{key}", "Bass", "tones", "train", pitch=60.0 + k), audio)
        if k == 0:
            fail(how, gate)
    yield Remark(f"{key} third note", "silent")


def jobs(log=None, gate=None, **ways):
    """{key: arguments of make}; `k03="crash"`: how one of them goes."""
    return {key: {"key": key, "how": ways.get(f"k{key}", "well"), "log": log and str(log), "gate": gate and str(gate)} for key in KEYS}
