"""MPEG audio (mp3): the frames of a file are counted, as headers may give a wrong number of them or none.

libsndfile takes the number from a header (Xing, Info, VBRI), which a cut file still has, and otherwise guesses it from the first bitrate.
"""

import struct
from collections.abc import Iterator

from .unusable import Unusable

FRAME = 1152  # samples, at most
START_WITHIN = 1 << 16  # bytes before the first frame, at most
INCOMPLETE = "truncated: its last frame is incomplete"
_VERSION_1, _LAYER_3 = 3, 1  # codes in a frame header
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz by version
_BITRATES = {  # kbit/s by (is version 1, layer) from index 1 on; index 0 is any bitrate
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    **{(False, layer): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160) for layer in (1, 2)},
}


def with_count(data: bytes) -> bytes | None:
    """Return an MPEG stream behind a header that gives its number of frames; None if it has one, or if the bytes are no such stream.

    Raises Unusable if its end is missing, which a stream without a header does not show if it was cut between two frames.
    """
    if data[:1] == b"\xff" and len(data) > 2 and data[1] >= 0xE0 and data[2] < 16:
        raise Unusable("not readable as sound (MPEG of free bitrate)")  # the length of such frames is unknown
    start = _next_frame(data, 0, whole=False)
    if start is None or start > START_WITHIN:
        return None
    ends = list(_ends(data, start))
    declared, length = _declared(data[start : ends[0]])
    count = len(ends) - (declared is not None)
    counts_itself = declared == count + 1 and length and start + length <= len(data)
    if declared is not None and count < declared and not counts_itself:
        raise Unusable("truncated: it has fewer frames than its header says")
    if declared == count or _frame(data, start)[0][1] != _LAYER_3 or not count:
        return None
    return _header(data[start : start + 4], count) + data[start if declared is None else ends[0] :]


def _frame(data: bytes, at: int) -> tuple[tuple[int, int, int], int] | None:
    """Return version, layer and index of the sample rate, and the bytes, of the frame at a position; None if there is no header of one."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer, rate, bitrate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or layer not in (1, 2) or bitrate in (0, 15) or rate == 3:
        return None
    bits = 1000 * _BITRATES[version == _VERSION_1, layer][bitrate - 1]
    slots = 72 if layer == _LAYER_3 and version != _VERSION_1 else 144
    return (version, layer, rate), slots * bits // _RATES[version][rate] + (head[2] >> 1 & 1)


def _ends(data: bytes, start: int) -> Iterator[int]:
    """Yield where each frame ends, from the one at `start` on; what is no frame (tags) is skipped. Raises Unusable for a cut frame."""
    at, kind = start, _frame(data, start)[0]
    while at is not None and at < len(data):
        frame = _frame(data, at)
        if frame is None or frame[0] != kind:
            if len(data) - at < 4 and data[start : start + 2].startswith(data[at : at + 2]):
                raise Unusable(INCOMPLETE)
            at = _next_frame(data, at + 1, kind)
            continue
        at += frame[1]
        if at > len(data):
            raise Unusable(INCOMPLETE)
        yield at


def _next_frame(data: bytes, at: int, kind: tuple | None = None, *, whole: bool = True) -> int | None:
    """Return the position of the next frame (of a kind) that another one or the end follows; the first one may be cut unless `whole`."""
    while (at := data.find(b"\xff", at)) >= 0:
        if (frame := _frame(data, at)) and kind in (None, frame[0]):
            end = at + frame[1]
            follows = _frame(data, end)
            if end == len(data) or (follows and follows[0] == frame[0]) or (at == 0 and end > len(data) and not whole):
                return at
        at += 1
    return None


def _side(head: bytes) -> int:
    """Return the bytes between the header of a frame and the place of a Xing header."""
    mono = head[3] >> 6 == 3
    return (17 if mono else 32) if head[1] >> 3 & 3 == _VERSION_1 else (9 if mono else 17)


def _declared(frame: bytes) -> tuple[int | None, int]:
    """Return the numbers of frames and bytes that a header in the first frame gives; None and 0 without one."""
    at = 4 + _side(frame)
    if frame[at : at + 4] in (b"Xing", b"Info") and len(frame) >= at + 16:
        flags, frames, length = struct.unpack(">III", frame[at + 4 : at + 16])
        return (frames if flags & 1 else 0), (length if flags & 3 == 3 else 0)
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return struct.unpack(">II", frame[46:54])[::-1]
    return None, 0


def _header(head: bytes, count: int) -> bytes:
    """Return a frame of the kind of `head` with a Xing header that gives the number of frames."""
    head = bytes([0xFF, head[1] | 1, 9 << 4 | head[2] & 0x0C, head[3]])  # without checksum; long enough at each sample rate
    frame = head + bytes(_side(head)) + b"Xing" + struct.pack(">II", 1, count)
    return frame.ljust(_frame(head, 0)[1], b"\0")
