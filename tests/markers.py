"""Markers in place of a key, a user and a home folder, and a search for them in all written files."""

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
    """Return the environment of a user with this home folder and a key."""
    home.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(("USER", "LOGNAME", "USERNAME", "JUPYTERHUB_USER", "WANDB_USERNAME"), USER)
    caches = {"XDG_CACHE_HOME": str(home / ".cache"), "MPLCONFIGDIR": str(home / ".matplotlib")}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    return {**kept, **names, **caches, "HOME": str(home), "WANDB_API_KEY": KEY, "CIRLIB_HOME": str(home / "project")}


def parts(content: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of a file and of its compressed parts: members of archives and checkpoints, texts of PNG files."""
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
    """Return the files and links below a folder whose name, target or content has a marker, except those that match `but`."""
    out = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(place.match(pattern) for pattern in but for place in (inside, *inside.parents[:-1])):
            continue
        here = str(inside).encode() + (os.readlink(path).encode() if path.is_symlink() else b"")
        members = parts(path.read_bytes(), str(inside)) if path.is_file() else ()
        out += [f"{name}: {word.decode()}" for name, content in ((str(inside), here), *members) for word in WORDS if word in content]
    return out
