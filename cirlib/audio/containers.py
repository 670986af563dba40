"""Whether a sound file is complete, by its own structure: libsndfile also decodes what is left of a cut one.

Sizes that programs write before they know the length, to a pipe for instance, are recognised: such a sound ends with its file.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from . import flac, mpeg, ogg
from .unusable import Unusable

LARGEST = 1 << 30  # bytes of a file that is read at once
UNKNOWN = (0x7F000000, 0x7FFFF000, 0x80000000, 0xFFFFFFFF, 1 << 63, 1 << 64)  # near these, a size stands for an unknown one, as 0 does
NEAR = 4096  # bytes of headers that programs add or subtract
MPEG_IN_WAV = 0x50, 0x55  # formats
TRUNCATED = "truncated: shorter than its header says"


class _Layout(NamedTuple):
    """How the chunks of a container lie in it."""

    start: int  # of the first
    header: str  # name and size
    align: int  # to a multiple of this many bytes
    counted: int  # bytes of the header that the size includes
    sound: bytes  # name of the chunk with the samples
    kinds: tuple[bytes, ...] = ()  # of such containers that hold sound, in bytes 8 to 12


_LAYOUTS = {
    b"RIFF": _Layout(12, "<4sI", 2, 0, b"data", (b"WAVE",)),
    b"RIFX": _Layout(12, ">4sI", 2, 0, b"data", (b"WAVE",)),
    b"RF64": _Layout(12, "<4sI", 2, 0, b"data", (b"WAVE",)),
    b"FORM": _Layout(12, ">4sI", 2, 0, b"SSND", (b"AIFF", b"AIFC")),
    b"caff": _Layout(8, ">4sQ", 1, 0, b"data"),
    b"riff": _Layout(40, "<4s12xQ", 8, 24, b"data"),  # Wave64
}
_MAGIC = (*_LAYOUTS, b"fLaC", b"OggS", b".snd", b"dns.")


def whole(path: Path) -> list[Path | io.BytesIO]:
    """Return what to decode, one after another: the file itself, or its content in a form that libsndfile decodes completely.

    Raises Unusable if its end is missing.
    """
    with open(path, "rb") as file:
        start = _after_tags(file)
        kind = file.read(4)
        if len(kind) < 4 and (kind[:1] == b"\xff" or any(magic.startswith(kind) for magic in _MAGIC)):
            raise Unusable(TRUNCATED)
        parts = None
        if kind in _LAYOUTS:
            parts = _container(file, start, kind)
        elif kind in (b".snd", b"dns."):
            offset, size = struct.unpack(">II" if kind == b".snd" else "<II", file.read(8).ljust(8, b"\xff"))
            _missing(size, available=file.seek(0, io.SEEK_END) - start - offset)
        elif kind == b"fLaC":
            parts = [flac.with_length(file, start)]
        elif kind == b"OggS":
            parts = ogg.links(_read(file, start))
        else:
            parts = [mpeg.with_count(_read(file, start))]
        return [io.BytesIO(part) for part in parts] if parts and all(parts) else [path]


def _after_tags(file: BinaryIO) -> int:
    """Return the position after ID3 tags at the beginning of a file, which is there then."""
    start = 0
    while (tag := file.read(10))[:3] == b"ID3" and len(tag) == 10:
        start += 10 + sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True)) + (10 if tag[5] & 16 else 0)
        file.seek(start)
    file.seek(start)
    return start


def _read(file: BinaryIO, start: int, size: int | None = None) -> bytes:
    if size is None and file.seek(0, io.SEEK_END) - start > LARGEST:
        raise Unusable(f"larger than {LARGEST >> 30} GB: its format must be read at once")
    file.seek(start)
    return file.read(-1 if size is None else size)


def _missing(size: int, *, available: int) -> bool:
    """Return whether a declared size is none. Raises Unusable if the file has fewer bytes than the size says."""
    unknown = size > available and any(abs(size - value) <= NEAR for value in UNKNOWN)
    if available < 0 or (size > available and not unknown):
        raise Unusable(TRUNCATED)
    return unknown or not size


def _container(file: BinaryIO, start: int, kind: bytes) -> list[bytes] | None:
    """Return the sound of a container in a form that libsndfile decodes completely, None if the file is such."""
    layout, form, field, found = _LAYOUTS[kind], 0, None, False
    width = 8 if layout.header.endswith("Q") else 4
    file.seek(start + 8)
    if layout.kinds and len(inner := file.read(4)) == 4 and inner not in layout.kinds:
        return None
    for name, size, body in _chunks(file, start, layout):
        if name == b"ds64":  # the sizes of an RF64 file
            field, large = body + 8, int.from_bytes(file.read(16)[8:], "little")
        elif name == b"fmt ":
            form = int.from_bytes(file.read(2), "big" if kind == b"RIFX" else "little")
        elif name == layout.sound:
            found, available = True, file.seek(0, io.SEEK_END) - body
            place, width, size = (body - width, width, size) if field is None or size != 0xFFFFFFFF else (field, 8, large)
            unknown = _missing(size, available=available)
            if form in MPEG_IN_WAV:
                sound = _read(file, body, available if unknown else size)
                return [mpeg.with_count(sound) or sound]
            if unknown and available and (kind in (b"RF64", b"caff") or (kind == b"RIFF" and not size)):
                data = bytearray(_read(file, 0))
                data[place : place + width] = available.to_bytes(width, "big" if layout.header[0] == ">" else "little")
                return [bytes(data)]
            if kind != b"caff" or unknown:  # the table of packets of a CAF file may come after its sound
                return None
    if not found:
        raise Unusable(TRUNCATED)
    return None


def _chunks(file: BinaryIO, start: int, layout: _Layout) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, size and position of each chunk, where the file is then. Raises Unusable if the last one is incomplete."""
    header, at, end = struct.calcsize(layout.header), start + layout.start, file.seek(0, io.SEEK_END)
    while at + header <= end:
        file.seek(at)
        name, size = struct.unpack(layout.header, file.read(header))
        size, at = max(0, size - layout.counted), at + header
        yield name, size, at
        at += size + -size % layout.align
        if at > end:
            raise Unusable(TRUNCATED)
