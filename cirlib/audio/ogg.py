"""Ogg: pages are checked, as libsndfile takes a stream without its end, and only the first of chained streams."""

import io
import zlib
from collections.abc import Iterator

from .flac import with_length
from .unusable import Unusable

_FIRST, _LAST = 2, 4  # flags of a page
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte with its bits in reverse order


def links(data: bytes) -> list[bytes]:
    """Return the chained streams of an Ogg file, each complete, FLAC streams as FLAC files. Raises Unusable for a damaged or cut file."""
    found, opened, start = [], {}, 0
    for at, end, flags, serial, number in _pages(data):
        if flags & _FIRST:
            start = start if opened else at
        elif opened.get(serial) != number - 1:
            raise Unusable("damaged: one of its pages is missing")
        opened[serial] = number
        if flags & _LAST:
            del opened[serial]
            if not opened:
                found.append(data[start:end])
    if opened or not found:
        raise Unusable("truncated: its last page is missing")
    return [_flac_of(link) if link.startswith(b"\x7fFLAC", 27 + link[26]) else link for link in found]


def _pages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield start, end, flags, serial number of the stream and number of each page. Raises Unusable for a cut or damaged one."""
    at = 0
    while at < len(data) and b"OggS".startswith(data[at : at + 4]):
        head = data[at : at + 27]
        sizes = data[at + 27 : at + 27 + head[26]] if len(head) == 27 else b""
        end = at + 27 + len(sizes) + sum(sizes)
        if len(head) < 27 or len(sizes) < head[26] or end > len(data):
            raise Unusable("truncated: its last page is incomplete")
        if _checksum(data[at : at + 22] + bytes(4) + data[at + 26 : end]) != head[22:26]:
            raise Unusable("damaged: the checksum of one of its pages differs")
        yield at, end, head[5], int.from_bytes(head[14:18], "little"), int.from_bytes(head[18:22], "little")
        at = end
    if b"OggS" in data[at:]:
        raise Unusable("damaged: there is something else between its pages")


def _checksum(page: bytes) -> bytes:
    """Return the checksum of a page (RFC 3533): that of zlib with all bits in the opposite order, and other initial and final values."""
    value = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return value.to_bytes(4, "big").translate(_REVERSED)


def _flac_of(link: bytes) -> bytes:
    """Return the FLAC file in an Ogg stream: its pages without their headers, after the 9 bytes of Ogg's own."""
    pages = list(_pages(link))
    own = [(at + 27 + link[at + 26], end) for at, end, _, serial, _ in pages if serial == pages[0][3]]
    flac = b"".join(link[begin:end] for begin, end in own)[9:]
    return with_length(io.BytesIO(flac), 0) or flac
