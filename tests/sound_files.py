"""Sound files for tests of the readers: every format that soundfile writes, and odd ones that other programs write."""

import io
import struct
from collections.abc import Iterator

import numpy as np
import soundfile
from conftest import tone

RATE = 22050
FORMATS = {  # suffix and encoding: format of soundfile
    "wav PCM_16": "WAV", "wav PCM_24": "WAVEX", "wav FLOAT": "WAV", "wav ULAW": "WAV", "wav IMA_ADPCM": "WAV", "wav MS_ADPCM": "WAV",
    "wav DOUBLE": "RF64", "aiff PCM_16": "AIFF", "aifc FLOAT": "AIFF", "au PCM_16": "AU", "caf PCM_24": "CAF", "caf ALAC_16": "CAF",
    "w64 PCM_16": "W64", "flac PCM_16": "FLAC", "ogg VORBIS": "OGG", "opus OPUS": "OGG", "mp3 MPEG_LAYER_III": "MP3",
}  # fmt: skip


def encode(kind: str, sound: np.ndarray | None = None, rate: int | None = None, **options) -> bytes:
    """Return a file of a kind of FORMATS: two tones, or `sound`."""
    rate = rate or (48000 if "OPUS" in kind else RATE)
    sound = np.stack([tone(60, 0.8), tone(67, 0.8)], axis=1) if sound is None else sound
    soundfile.write(file := io.BytesIO(), sound, rate, format=FORMATS[kind], subtype=kind.split()[1], **options)
    return file.getvalue()


def wav(riff: int, data: int, samples: bytes, rate: int = RATE) -> bytes:
    """Return a WAV file (16 bits, mono) whose header gives these sizes."""
    head = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + head + b"data" + struct.pack("<I", data) + samples


def rf64(size: int, samples: bytes) -> bytes:
    """Return an RF64 file (16 bits, mono) whose header gives this size of its samples."""
    file = wav(0xFFFFFFFF, 0xFFFFFFFF, samples)
    return b"RF64" + file[4:12] + b"ds64" + struct.pack("<IQQQI", 28, 0, size, 0, 0) + file[12:]


def without_length(flac: bytes) -> bytes:
    """Return a FLAC file that does not give its number of samples, as a program writes to a pipe."""
    return flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]


def mpeg_frames(mp3: bytes) -> Iterator[bytes]:
    """Yield the frames of an mp3 file (MPEG 1 or 2, layer III) that soundfile wrote; the first only gives their number."""
    at = 0
    while at < len(mp3):
        first = mp3[at + 1] >> 3 & 3 == 3
        rate = ((44100, 48000, 32000) if first else (22050, 24000, 16000))[mp3[at + 2] >> 2 & 3]
        kbits = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320) if first else (*range(8, 65, 8), *range(80, 161, 16))
        size = (144 if first else 72) * 1000 * kbits[(mp3[at + 2] >> 4) - 1] // rate + (mp3[at + 2] >> 1 & 1)
        yield mp3[at : at + size]
        at += size


def ogg_pages(ogg: bytes) -> list[bytes]:
    """Return the pages of an Ogg file."""
    starts = [i for i in range(len(ogg)) if ogg.startswith(b"OggS\0", i)]
    return [ogg[start:end] for start, end in zip(starts, [*starts[1:], len(ogg)], strict=True)]


def ogg_page(body: bytes, number: int, *, last: bool) -> bytes:
    """Return a page with a part of a stream, whose checksum is computed bit by bit."""
    sizes = [*[255] * (len(body) // 255), len(body) % 255]
    flags = 2 * (number == 0) + 4 * last
    page = b"OggS\0" + bytes([flags]) + struct.pack("<qIII", 0, 7, number, 0) + bytes([len(sizes), *sizes]) + body
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return page[:22] + struct.pack("<I", value) + page[26:]


def ogg_flac(flac: bytes) -> bytes:
    """Return a FLAC file within Ogg pages."""
    flac = b"\x7fFLAC\1\0\0\1" + flac
    parts = [flac[i : i + 50_000] for i in range(0, len(flac), 50_000)]
    return b"".join(ogg_page(part, i, last=i == len(parts) - 1) for i, part in enumerate(parts))
