"""Files that exist whole or not at all: written beside their place, then renamed."""

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
from typing import Any, BinaryIO

from .paths import short, without_home

MOST_JSON = 1 << 28  # bytes; the metadata of NSynth, the largest there is, has 170 MB
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


def write_atomic(path: Path, write: Callable[[Path], object]) -> Path:
    """Call `write` with a temporary path in the same folder, then move the result to `path`.

    What killed processes of this machine left of the same file goes. Raises OSError in one sentence where the disk is full or read-only.
    """
    path, machine = Path(path), platform.node()  # which may share this disk with others, whose processes have other numbers
    part = path.with_name(f".{path.name}.{machine}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{escape(f'.{path.name}.{machine}.')}*.part"):
            if not _alive(old.suffixes[-2].removeprefix(".")):
                old.unlink(missing_ok=True)
        try:
            write(part)
            sync(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return path


def _alive(process: str) -> bool:
    """Whether a process of this machine has this number; True for what is no number."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):  # of another user, or no number
        return True
    return True


def sync(path: Path) -> None:
    """Wait until a file is on the disk.

    A rename may get there before what it renames: after a loss of power an empty file would have the final name. It takes milliseconds
    and files are written seconds apart; their folders need none, for the old file and the new one are both whole.
    """
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A disk that is full or that may not be written to is an OSError of one sentence: what, why, and what to do."""
    try:
        yield
    except Exception as error:
        refused = _refused(error)
        if refused is None or isinstance(error, Unwritable):
            raise
        raise Unwritable(path, refused) from None


class Unwritable(OSError):
    """A file or folder that could not be written, in one sentence."""

    def __init__(self, path: Path, number: int):
        todo = f"{'make room or ' if number in FULL else ''}choose another place (CIRLIB_HOME)"
        super().__init__(f"{path} cannot be written ({os.strerror(number)}): {todo}, then run it again")
        self.path, self.errno = path, number

    def __reduce__(self):
        return type(self), (self.path, self.errno)  # from a worker process


def _refused(error: BaseException | None) -> int | None:
    """Number of what the system refused, of an error or of one that came while it was dealt with (torch.save tells another one)."""
    while error is not None:
        told = re.search(r"\(os error (\d+)\)", str(error))  # LanceDB's are in its words only
        number = int(told[1]) if told else getattr(error, "errno", None)
        if number in FULL + FORBIDDEN:
            return number
        error = error.__context__
    return None


def write_json(path: Path, value: object) -> Path:
    """Write a value as indented JSON, sorted keys, NaN refused (it is not JSON)."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    return write_atomic(path, lambda part: part.write_text(text))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def contents(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files below a folder but hidden ones (a downloader's notes)."""
    if path.is_file():
        return sha256(path)
    names = sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())
    rows = [(name.as_posix(), sha256(path / name)) for name in names if not any(part.startswith(".") for part in name.parts)]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def listing(folder: Path, files: Iterable[Path]) -> str:
    """Digest of the names, sizes and times of files below a folder: what tells that something changed."""
    rows = [(file.relative_to(folder).as_posix(), file.lstat().st_size, file.lstat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def read_json(path: Path, **options) -> Any:
    """The value of a JSON file of at most MOST_JSON bytes, read with `options` of json.loads.

    ValueError for what is no JSON, nests too deeply or holds NaN.
    """
    if (size := path.stat().st_size) > MOST_JSON:
        raise ValueError(f"{size} bytes are too many")
    try:
        return json.loads(path.read_text(), parse_constant=_no_number, **options)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def one_line(error: Exception) -> str:
    """An error on one line, cut to 300 characters, without the name of the user's home folder."""
    return without_home(f"{type(error).__name__}: {' '.join(str(error).split())}")[:300]


class Hashed:
    """A binary file that is written from position `size` on; its SHA-256 comes with it. What lies behind is cut."""

    def __init__(self, file: BinaryIO, size: int = 0):
        self._file, self._hash = file, hashlib.sha256()
        file.truncate(size)
        while block := file.read(1 << 20):
            self._hash.update(block)

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def write(self, block: bytes) -> int:
        """Write a block."""
        self._hash.update(block)
        return self._file.write(block)

    def digest(self) -> str:
        """Hexadecimal SHA-256 of what was written."""
        return self._hash.hexdigest()


def need_space(folder: Path, size: int, what: str) -> None:
    """OSError that tells what is missing if the disk of `folder` has no room for `size` more bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(f"{what} needs {size / 1e9:.2f} GB, {free / 1e9:.2f} GB are free in {short(folder)}: make room or set CIRLIB_HOME")
