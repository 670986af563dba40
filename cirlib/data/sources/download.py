"""Downloads that resume, are checked, and leave nothing false behind."""

import os
from itertools import chain
from pathlib import Path

from ...common.files import check_space, sha256
from ...common.paths import short

BLOCK = 1 << 20
GZIP = b"\x1f\x8b"
LONGEST_NAME = 1000  # of a file in an archive
MOST_TIMES, LEAST_BOUND = 20, 64 << 20  # an archive may become so many times larger, or so many bytes: sound packs to two thirds


def download(url: str, path: Path, digest: str | None = None, magic: bytes = GZIP) -> Path:
    """Fetch `url` to `path`; a part that is there already (`<path>.part`) is continued where the server allows it.

    The answer must begin with `magic`, have the length that the server tells and, if given, the SHA-256 `digest`.
    Raises OSError that tells what is wrong: what is false is deleted, what is incomplete stays for the next try.
    """
    import requests
    from tqdm import tqdm

    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    try:
        with requests.get(url, headers={"Range": f"bytes={have}-", "Accept-Encoding": "identity"}, stream=True, timeout=60) as answer:
            if have and answer.status_code == 416:  # the part is whole already, or longer than the file
                whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
                if whole != str(have):
                    part.unlink()
                    raise OSError(f"{part.name} did not fit the file at {url} and was deleted: try again")
            else:
                answer.raise_for_status()
                have = have if answer.status_code == 206 else 0
                left = int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
                check_space(path.parent, left or 0, f"the download of {path.name}")
                _receive(answer, part, have, left, magic, url, tqdm)
    except requests.RequestException as error:
        raise OSError(f"{url} cannot be fetched ({type(error).__name__}); what arrived is kept, try again: {error}") from None
    if digest and sha256(part) != digest:
        part.unlink()
        raise OSError(f"{path.name} from {url} has another checksum than the known one and was deleted: try again")
    os.replace(part, path)
    return path


def _receive(answer, part: Path, have: int, left: int | None, magic: bytes, url: str, tqdm) -> None:
    """Write the body of an answer behind what is there."""
    arrived, total = have, None if left is None else have + left
    blocks = answer.iter_content(BLOCK)
    first = next(blocks, b"")
    if not have and not first.startswith(magic):
        kind = answer.headers.get("Content-Type", "unknown")
        raise OSError(f"{url} is no archive (type {kind}, it begins with {first[:20]!r}): nothing was kept")
    with (
        open(part, "ab" if have else "wb") as file,
        tqdm(total=total, initial=have, desc=part.stem, unit="B", unit_scale=True, mininterval=5) as bar,
    ):
        for block in chain([first], blocks):
            file.write(block)
            arrived += len(block)
            bar.update(len(block))
    if total is not None and arrived != total:
        raise OSError(f"the download of {url} ended after {arrived} of {total} bytes; what arrived is kept, try again")


class _Bounded:
    """What a packed file becomes, up to `left` bytes: a few of them can become enough to fill a disk."""

    def __init__(self, stream, left: int):
        self._stream, self._left = stream, left

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise OSError("it becomes far larger than sound does when unpacked")
        return block


def extract(archive: Path, folder: str, needed: str) -> Path:
    """Unpack a .tar.gz beside itself and return its top folder `folder`, which must hold the file `needed`.

    It appears only when complete. A damaged or foreign archive is an OSError; nothing of it stays unpacked.
    """
    import gzip
    import shutil
    import tarfile
    import zlib

    from tqdm import tqdm

    target = archive.parent / folder
    if target.is_dir():
        return target
    check_space(archive.parent, round(1.5 * archive.stat().st_size), f"unpacking {archive.name}")  # sound packs to two thirds
    work = archive.parent / f"{folder}.unpacking"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        most = LEAST_BOUND + MOST_TIMES * archive.stat().st_size
        with gzip.open(archive) as packed, tarfile.open(fileobj=(stream := _Bounded(packed, most)), mode="r|") as tar:
            for member in tqdm(tar, desc=f"unpacking {archive.name}", mininterval=5):
                if not (member.isfile() or member.isdir()) or member.issparse():  # a link can lead out, a device is no sound
                    raise tarfile.TarError(f"{member.name!r:.200} is neither a file nor a folder")
                if len(member.name) > LONGEST_NAME:
                    raise tarfile.TarError(f"{member.name!r:.200} is too long a name")
                tar.extract(member, work, filter="data")
            while stream.read(BLOCK):  # to the checksum at its end, which tarfile does not look at
                pass
        if not (work / folder / needed).is_file():
            raise tarfile.TarError(f"there is no {folder}/{needed} in it")
        os.replace(work / folder, target)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # a full disk, no permission: not the archive's fault
            raise
        raise OSError(f"{short(archive)} is damaged or another archive ({error}): delete it and fetch it again") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target
