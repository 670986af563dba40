"""Clips of the encoder's length, cut from whole sounds: without silence at the beginning, without an offset, at the level of training."""

import numpy as np

from ..audio.io import QUIET_DB, RATE, SHORTEST_S
from ..data.mixtures import PEAK

ONSET_DB = -50.0  # relative to the peak: a sound begins at its first sample above


def remove_offset(audio: np.ndarray) -> np.ndarray:
    """Return audio (n,) without its mean."""
    return audio - audio.mean(dtype=np.float64).astype(np.float32)


def onset(audio: np.ndarray) -> int:
    """Return the first sample of audio (n,) above ONSET_DB relative to the peak."""
    return int(np.argmax(np.abs(audio) > np.abs(audio).max() * 10 ** (ONSET_DB / 20)))


def normalise(audio: np.ndarray) -> np.ndarray:
    """Return audio (n,) without its mean and at the peak level of training; silence stays silence."""
    audio = remove_offset(audio)
    peak = np.abs(audio).max(initial=0)
    return audio * np.float32(PEAK / peak) if peak > 1e-9 else audio


def cut(audio: np.ndarray, seconds: float, *, most: int | None = None) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the clips of a sound (n,) at 16 kHz, at most `most`: their starts (W,) in seconds, and waveforms, each normalised.

    The first clip starts at the onset, silent clips are skipped, and the last one may be shorter than `seconds`.
    """
    length, shortest, first = round(seconds * RATE), round(SHORTEST_S * RATE), onset(audio)
    floor = np.abs(audio).max() * 10 ** (QUIET_DB / 20)
    starts = range(first, max(first + 1, len(audio) - shortest), length)[:most]
    starts = [i for i in starts if np.abs(audio[i : i + length]).max() > floor]
    return np.array(starts) / RATE, [normalise(audio[i : i + length]) for i in starts]
