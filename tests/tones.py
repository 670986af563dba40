"""Helpers for tests of sources: tones at any sample rate, measurements of sounds, interrupted builds."""

from pathlib import Path

import numpy as np
import soundfile
from conftest import RATE, hz, tone

from cirlib.data.bank import NoteBank


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of the files of a folder by name."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def at_rate(pitch: float, rate: int, seconds: float = 0.5, level: float = 0.5) -> np.ndarray:
    """Return a pure tone like conftest.tone, at any sample rate."""
    return level * np.cos(2 * np.pi * hz(pitch) * np.arange(round(seconds * rate)) / rate)


def note(pitch: float, seconds: float = 0.3) -> np.ndarray:
    """Return a tone with noise: an untrained encoder amplifies the rounding noise between the partials of a pure tone."""
    return tone(pitch, seconds) + np.random.default_rng(1).normal(0, 0.02, round(seconds * RATE))


def sounds(*lengths, seed=0):
    """Return noise of these lengths, samples."""
    rng = np.random.default_rng(seed)
    return [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in lengths]


def write(path: Path, audio: np.ndarray, rate: int = RATE, **options) -> Path:
    """Write an audio file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, **options)
    return path


def frequency(audio: np.ndarray) -> float:
    """Return the strongest frequency (Hz) of a sound at 16 kHz."""
    size = 1 << 18
    return np.abs(np.fft.rfft(audio * np.hanning(len(audio)), size)).argmax() * RATE / size


def amplitude(audio: np.ndarray, frequency: float) -> float:
    """Return the level of a partial of a sound at 16 kHz."""
    window = np.hanning(len(audio))
    return 2 * np.abs(np.sum(audio * window * np.exp(-2j * np.pi * frequency * np.arange(len(audio)) / RATE))) / window.sum()


def rows(bank: NoteBank, *columns: str) -> list[tuple]:
    """Return columns of the notes; None where null."""
    table = bank.notes[list(columns)].astype(object)
    return [tuple(row) for row in table.where(table.notna(), None).itertuples(index=False)]
