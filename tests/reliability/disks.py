"""Disks that refuse to write, in a forked process: full, read-only, of another user, or with a limit on the size of files.

`mount` needs root on Linux: the disk is visible to this process and its children only.
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
    """Mount a disk of `size` bytes at an existing folder; return False if that is not allowed."""
    if not sys.platform.startswith("linux") or os.geteuid():
        return False
    libc = ctypes.CDLL(None)
    if libc.unshare(NAMESPACE) or libc.mount(b"none", b"/", None, PRIVATE, None):
        return False
    return not libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode())


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a mounted disk read-only."""
    libc = ctypes.CDLL(None)
    assert not libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", AGAIN | READ_ONLY, None)
    yield
    assert not libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", AGAIN, None)


@contextmanager
def full(folder: Path, left: int) -> Iterator[None]:
    """Fill a mounted disk up to `left` bytes."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass
    os.truncate(filler, max(0, filler.stat().st_size - left))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Limit the size of files."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def forbidden(folder: Path) -> Iterator[None]:
    """Remove the permission to write to the folders below a folder; root becomes another user."""
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
