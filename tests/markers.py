"""Shared by the tests of secrets: markers that stand for a key, a user and a home folder, and a search of all that was written."""

import base64
import contextlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

KEY = "markerkey" * 5  # of Weights & Biases
USER = "marker-of-the-user"
WORDS = [word.encode() for word in (KEY, base64.b64encode(f"api:{KEY}".encode()).decode(), USER)]


def environment(home: Path) -> dict[str, str]:
    """The environment of a user with this home folder, which is named after them, who has a key."""
    home.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(("USER", "LOGNAME", "USERNAME", "JUPYTERHUB_USER", "WANDB_USERNAME"), USER)
    caches = {"XDG_CACHE_HOME": str(home / ".cache"), "MPLCONFIGDIR": str(home / ".matplotlib")}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    return {**kept, **names, **caches, "HOME": str(home), "WANDB_API_KEY": KEY, "CIRLIB_HOME": str(home / "project")}


def parts(content: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """A file, its name and, as far as they are packed, its members: archives, checkpoints, compressed text of pictures, data of pages."""
    yield name, content
    if zipfile.is_zipfile(io.BytesIO(content)):  # .pt and .npz too
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                yield f"{name}:{member.filename}", member.filename.encode() + archive.read(member)
    if content.startswith(b"\x89PNG"):
        place = 8
        while place < len(content):
            size, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
            if kind in (b"zTXt", b"iTXt"):
                text = content[place + 8 : place + 8 + size]
                start = text.find(b"\x78")
                if start >= 0:
                    with contextlib.suppress(zlib.error):
                        yield f"{name}:{kind.decode()}", zlib.decompressobj().decompress(text[start:])
            place += 12 + size


def found(folder: Path, but: tuple[str, ...] = ()) -> list[str]:
    """Files below a folder, links too, whose name, target or content tells a marker; what matches `but`, or lies in what does, may."""
    told = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(place.match(pattern) for pattern in but for place in (inside, *inside.parents[:-1])):
            continue
        here = str(inside).encode() + (os.readlink(path).encode() if path.is_symlink() else b"")
        members = parts(path.read_bytes(), str(inside)) if path.is_file() else ()
        told += [f"{name}: {word.decode()}" for name, content in ((str(inside), here), *members) for word in WORDS if word in content]
    return told
