"""Downloads that resume, and archives that are unpacked completely or not at all."""

import os
from itertools import chain
from pathlib import Path

from ...common.files import check_space
from ...common.paths import short

BLOCK = 1 << 20
GZIP = b"\x1f\x8b"
MAX_NAME = 1000  # characters of a file name in an archive
MAX_RATIO, MIN_LIMIT = 20, 64 << 20  # unpacked size: so many times the archive, or so many bytes; audio shrinks to about two thirds


def download(url: str, path: Path) -> Path:
    """Fetch a .gz file to `path`, continuing a partial download (`<path>.part`) where the server allows it.

    Raises OSError with the reason. A partial download is kept for the next try; an answer that is no gzip file is discarded.
    """
    import requests

    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    try:
        with requests.get(url, headers={"Range": f"bytes={have}-", "Accept-Encoding": "identity"}, stream=True, timeout=60) as answer:
            if have and answer.status_code == 416:  # the part is complete already, or longer than the file
                if answer.headers.get("Content-Range", "").rpartition("/")[2] != str(have):
                    part.unlink()
                    raise OSError(f"{part.name} did not match the file at {url} and was deleted: try again")
            else:
                answer.raise_for_status()
                _receive(answer, part, have if answer.status_code == 206 else 0)
    except requests.RequestException as error:
        reason = f"{type(error).__name__}: {error}"
        raise OSError(f"{url} cannot be fetched; the partial download is kept, try again ({reason})") from None
    os.replace(part, path)
    return path


def _receive(answer, part: Path, have: int) -> None:
    """Append the body of an answer to the first `have` bytes of a partial download."""
    from tqdm import tqdm

    size = int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
    check_space(part.parent, size or 0, f"the download of {part.stem}")
    blocks = answer.iter_content(BLOCK)
    first = next(blocks, b"")
    if not have and not first.startswith(GZIP):
        kind = answer.headers.get("Content-Type", "unknown")
        raise OSError(f"{answer.url} is no archive (type {kind}, its first bytes are {first[:20]!r}): nothing was stored")
    total = None if size is None else have + size
    with (
        open(part, "ab" if have else "wb") as file,
        tqdm(total=total, initial=have, desc=part.stem, unit="B", unit_scale=True, mininterval=5) as bar,
    ):
        for block in chain([first], blocks):
            file.write(block)
            bar.update(len(block))
    arrived = part.stat().st_size
    if total is not None and arrived != total:
        raise OSError(f"the download of {answer.url} ended after {arrived} of {total} bytes; the partial download is kept, try again")


class _Bounded:
    """A stream that raises OSError after `limit` bytes: a small archive could fill the disk."""

    def __init__(self, stream, limit: int):
        self._stream, self._left = stream, limit

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise OSError("it becomes far larger than audio does when unpacked")
        return block


def extract(archive: Path, folder: str, needed: str) -> Path:
    """Unpack a .tar.gz next to itself and return its top folder `folder`, which must hold the file `needed`.

    The folder appears only when complete. Raises OSError for a damaged or different archive, of which nothing stays.
    """
    import gzip
    import shutil
    import tarfile
    import zlib

    from tqdm import tqdm

    target = archive.parent / folder
    if target.is_dir():
        return target
    size = archive.stat().st_size
    check_space(archive.parent, round(1.5 * size), f"unpacking {archive.name}")
    work = archive.parent / f"{folder}.unpacking"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        with gzip.open(archive) as packed:
            stream = _Bounded(packed, MIN_LIMIT + MAX_RATIO * size)
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tqdm(tar, desc=f"unpacking {archive.name}", mininterval=5):
                    if not (member.isfile() or member.isdir()) or member.issparse() or len(member.name) > MAX_NAME:
                        raise tarfile.TarError(f"{member.name!r:.200} is no plain file or folder, or its name is too long")
                    tar.extract(member, work, filter="data")
            while stream.read(BLOCK):  # up to the checksum at its end, which tarfile does not read
                pass
        if not (work / folder / needed).is_file():
            raise tarfile.TarError(f"it has no {folder}/{needed}")
        os.replace(work / folder, target)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # a full disk or missing permission: the archive may be fine
            raise
        raise OSError(f"{short(archive)} is damaged or another archive ({error}): delete it and fetch it again") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target
