"""Disks of a forked process: a small one that is full or read-only, mounted where nobody else sees it; and a user who may not write.

Real ones where root may mount (Linux); elsewhere `limited` lets no file grow, which every system knows.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAMESPACE, PRIVATE, READ_ONLY, AGAIN = 0x20000, 1 << 14 | 1 << 18, 1, 32  # CLONE_NEWNS, MS_REC | MS_PRIVATE, MS_RDONLY, MS_REMOUNT
NOBODY = 65534


def mount(folder: Path, size: int) -> bool:
    """A disk of some bytes at a folder that is there, for this process and what it starts; False where that is not allowed."""
    if not sys.platform.startswith("linux") or os.geteuid():
        return False
    libc = ctypes.CDLL(None)
    if libc.unshare(NAMESPACE) or libc.mount(b"none", b"/", None, PRIVATE, None):
        return False
    return not libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode())


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A disk that `mount` made may not be written to for a while."""
    libc = ctypes.CDLL(None)
    for flags, last in ((READ_ONLY, False), (0, True)):
        assert not libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", AGAIN | flags, None)
        if not last:
            yield


@contextmanager
def full(folder: Path, left: int) -> Iterator[None]:
    """A disk that `mount` made has room for so many bytes, in whole blocks, for a while."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass
    with open(filler, "r+b") as file:
        file.truncate(max(0, filler.stat().st_size - left))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file may become larger than so many bytes for a while."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def forbidden(folder: Path) -> Iterator[None]:
    """Nobody may write to what is in a folder for a while, root neither: it becomes another user."""
    places = [folder, *(p for p in folder.rglob("*") if p.is_dir())]
    for place in places:
        place.chmod(0o555)
    root = not os.geteuid()
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for place in places:
            place.chmod(0o755)
