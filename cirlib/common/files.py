"""Atomic writes, checksums, and clear errors where a disk is full or read-only."""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import BinaryIO

from .paths import short, without_home

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


def write_atomic(path: Path, write: Callable[[Path], object]) -> Path:
    """Call `write` with a temporary path in the same folder, then move the result to `path`.

    Removes temporary files that killed processes of this machine left. Raises Unwritable if the disk is full or read-only.
    """
    path, machine = Path(path), platform.node()  # other machines may share the disk; their process numbers mean nothing here
    part = path.with_name(f".{path.name}.{machine}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{escape(f'.{path.name}.{machine}.')}*.part"):
            if not _is_running(old.suffixes[-2].removeprefix(".")):
                old.unlink(missing_ok=True)
        try:
            write(part)
            sync(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return path


def _is_running(process: str) -> bool:
    """Return whether a process of this machine has this number; True if it is not a number."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):  # a process of another user, or no number
        return True
    return True


def sync(path: Path) -> None:
    """Wait until a file is on the disk: after a power loss, a renamed file could be empty otherwise."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of a full, read-only or forbidden disk into Unwritable, which says what to do."""
    try:
        yield
    except Exception as error:
        number = _refusal(error)
        if number is None or isinstance(error, Unwritable):
            raise
        raise Unwritable(path, number) from None


class Unwritable(OSError):
    """A file or folder that could not be written. `errno` is the system's reason."""

    def __init__(self, path: Path, number: int):
        todo = f"{'make room or ' if number in DISK_FULL else ''}choose another place (CIRLIB_HOME)"
        super().__init__(f"{path} cannot be written ({os.strerror(number)}): {todo}, then run it again")
        self.path, self.errno = path, number

    def __reduce__(self):  # for errors of worker processes
        return type(self), (self.path, self.errno)


def _refusal(error: BaseException | None) -> int | None:
    """Return the number of a system error that prevents writing, from an error or those that it was raised from."""
    while error is not None:
        in_text = re.search(r"\(os error (\d+)\)", str(error))  # LanceDB has it in its message only
        number = int(in_text[1]) if in_text else getattr(error, "errno", None)
        if number in DISK_FULL + FORBIDDEN:
            return number
        error = error.__context__
    return None


def check_space(folder: Path, size: int, what: str) -> None:
    """Raise OSError if the disk of `folder` has less than `size` bytes free."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(f"{what} needs {size / 1e9:.2f} GB, {free / 1e9:.2f} GB are free in {short(folder)}: make room or set CIRLIB_HOME")


def write_json(path: Path, value: object) -> Path:
    """Write a value as indented JSON with sorted keys. Raises ValueError for NaN, which is not valid JSON."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    return write_atomic(path, lambda part: part.write_text(text))


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files of a folder except hidden ones."""
    if path.is_file():
        return sha256(path)
    names = sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())
    rows = [(name.as_posix(), sha256(path / name)) for name in names if not any(part.startswith(".") for part in name.parts)]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def listing_hash(folder: Path, files: Iterable[Path]) -> str:
    """Return a hash of the names, sizes and modification times of files below a folder."""
    rows = [(file.relative_to(folder).as_posix(), file.lstat().st_size, file.lstat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


class HashingWriter:
    """Writes a binary file from position `size` on, which truncates it, and computes the SHA-256 of the whole file."""

    def __init__(self, file: BinaryIO, size: int = 0):
        self._file, self._hash = file, hashlib.sha256()
        self.flush, self.close = file.flush, file.close
        file.truncate(size)
        while block := file.read(1 << 20):
            self._hash.update(block)

    def write(self, block: bytes) -> int:
        """Write a block of bytes."""
        self._hash.update(block)
        return self._file.write(block)

    def digest(self) -> str:
        """Return the hexadecimal SHA-256 of the file."""
        return self._hash.hexdigest()


def one_line(error: Exception) -> str:
    """Return an error on one line of at most 300 characters, with `~` for the user's home folder."""
    return without_home(f"{type(error).__name__}: {' '.join(str(error).split())}")[:300]
