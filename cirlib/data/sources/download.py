"""Downloads that resume, and archives that are unpacked completely or not at all."""

import os
from pathlib import Path

from ...common.files import check_space
from ...common.paths import short

BLOCK = 1 << 20
MAX_NAME = 1000  # characters of a file name in an archive
MAX_RATIO, MIN_LIMIT = 20, 64 << 20  # unpacked size: so many times the archive, or so many bytes; audio shrinks to about two thirds


def download(url: str, path: Path) -> Path:
    """Fetch a file to `path`, continuing a partial download (`<path>.part`) where the server allows it.

    Raises OSError with the reason. A partial download is kept for the next try.
    """
    import requests
    from tqdm import tqdm

    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
            if answer.status_code == 416:  # nothing is left to fetch
                total = int(answer.headers.get("Content-Range", "*/0").rpartition("/")[2])
            else:
                answer.raise_for_status()
                if answer.headers.get("Content-Type", "").startswith("text/"):
                    raise OSError(f"{url} answers with a page, not with an archive: nothing was stored")
                have = have if answer.status_code == 206 else 0  # 200: the whole file
                size = int(answer.headers.get("Content-Length", 0))
                total = have + size if size else None
                check_space(part.parent, size, f"the download of {path.name}")
                with (
                    open(part, "ab" if have else "wb") as file,
                    tqdm(total=total, initial=have, desc=path.name, unit="B", unit_scale=True) as bar,
                ):
                    for block in answer.iter_content(BLOCK):
                        bar.update(file.write(block))
    except requests.RequestException as error:
        reason = f"{type(error).__name__}: {error}"
        raise OSError(f"{url} cannot be fetched; the partial download is kept, try again ({reason})") from None
    arrived = part.stat().st_size
    if total is not None and arrived > total:
        part.unlink()
        raise OSError(f"{part.name} did not match the file at {url} and was deleted: try again")
    if total is not None and arrived < total:
        raise OSError(f"the download of {url} ended after {arrived} of {total} bytes; the partial download is kept, try again")
    os.replace(part, path)
    return path


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
