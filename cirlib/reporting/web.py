"""What every page of this project is made of: text that cannot break out, sounds and pictures as data, and the policy's hashes."""

import base64
import hashlib
import io
from html import escape

import numpy as np

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
MP3_LEVEL = 0.6  # of soundfile, 0 is best: about 4 kB for a second of a steady tone


def plain(text: str) -> str:
    """Text on one line; what no page may hold or what hides text becomes a replacement character."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def text(words: str) -> str:
    """Plain text escaped for elements and for quoted attributes."""
    return escape(plain(words))


def data_uri(kind: str, data: bytes) -> str:
    """A data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def allowed(code: str) -> str:
    """A style or script as a content security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def check_rate(sample_rate: int) -> None:
    """ValueError for a rate that MP3 lacks."""
    if sample_rate not in MP3_RATES:
        raise ValueError(f"sample_rate must be one that MP3 has ({', '.join(map(str, MP3_RATES))}), got {sample_rate}")


def check_audio(audio: np.ndarray, name: str) -> None:
    """ValueError for audio that cannot be played: not (n,), empty or not finite."""
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 1 or not len(audio):
        raise ValueError(f"audio of {name!r} must be one channel of at least one sample, got shape {audio.shape}")
    if not np.isfinite(audio).all():
        raise ValueError(f"audio of {name!r} holds NaN or infinite values")


def mp3(audio: np.ndarray, sample_rate: int) -> bytes:
    """Audio (n,) as an MP3 file of variable rate, scaled down to full scale if it is above.

    Every browser plays it, exact in length (the LAME header tells the padding).
    """
    import soundfile

    audio, file = np.asarray(audio, np.float32), io.BytesIO()
    mode = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE", "compression_level": MP3_LEVEL}
    soundfile.write(file, audio / max(1, np.abs(audio).max()), sample_rate, **mode)
    return file.getvalue()
