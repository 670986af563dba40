"""FLAC: whether the metadata of a file are all there, and the length of a file that was written without one. Format: RFC 9639."""

import io
from typing import BinaryIO

from .unusable import Unusable

_LENGTH = slice(18, 26)  # bytes of a file; their last 36 bits are the number of samples, 0 if unknown
_BITS = (1 << 36) - 1
_BLOCKS = {1: 192, **{code: 144 << code for code in range(2, 6)}, **{code: 1 << code for code in range(8, 16)}}  # samples by code
_MORE = {6: 1, 7: 2}  # bytes at the end of a header that give the number of samples, by code
_RATE = {12: 1, 13: 2, 14: 2}  # the same of the sample rate


def with_length(file: BinaryIO, start: int) -> bytes | None:
    """Return a FLAC file of unknown length with the number of samples that its last frame gives; None if it has that number.

    The file begins at `start`. Raises Unusable if its metadata are incomplete, or if no frame follows them.
    """
    end, last = file.seek(0, io.SEEK_END), 0
    frames = start + 4
    while not last:
        file.seek(frames)
        head = file.read(4)
        last, frames = head[:1] >= b"\x80", frames + 4 + int.from_bytes(head[1:], "big")
        if len(head) < 4 or frames > end:
            raise Unusable("truncated: its header is incomplete")
    file.seek(start)
    head = file.read(_LENGTH.stop)
    length = int.from_bytes(head[_LENGTH], "big")
    if length & _BITS:
        return None
    data = head + file.read()
    frames -= start
    first, at = data[frames : frames + 16], len(data)
    while _frame(first) and (at := data.rfind(first[:2], frames, at)) >= 0:  # fixed or variable blocks, as in the first frame
        head = data[at : at + 16]
        if (frame := _frame(head)) and (head[2] & 15, head[3] & 15) == (first[2] & 15, first[3] & 15):  # sample rate, bits
            number, block = frame
            end = block + (number if head[1] & 1 else number * _frame(first)[1])
            return data[: _LENGTH.start] + (length | end).to_bytes(8, "big") + data[_LENGTH.stop :]
    raise Unusable("truncated: it has no sound")


def _frame(head: bytes) -> tuple[int, int] | None:
    """Return the number of a frame (of its first sample where blocks vary) and its samples; None if this is no header of a frame."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8:
        return None
    count = max(1, 8 - (head[4] ^ 0xFF).bit_length())  # bytes of the number, which is coded as in UTF-8
    number, end = head[4] & 0xFF >> count, 4 + count
    for byte in head[5:end]:
        number = number << 6 | byte & 63
    more = _MORE.get(head[2] >> 4, 0)
    block = 1 + int.from_bytes(head[end : end + more], "big") if more else _BLOCKS.get(head[2] >> 4, 0)
    end += more + _RATE.get(head[2] & 15, 0)
    return (number, block) if block and len(head) > end and _checksum(head[:end]) == head[end] else None


def _checksum(head: bytes) -> int:
    value = 0
    for byte in head:
        value ^= byte
        for _ in range(8):
            value = value << 1 & 0xFF ^ (7 if value & 0x80 else 0)
    return value
