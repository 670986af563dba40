"""Baselines without training: features of whole sounds, standardised and compared by l2 (paper section 4), and Demucs (demucs.py).

mfcc            mean and standard deviation over time of 40 coefficients
timbre-toolbox  descriptors of timbre.py
"""

import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np

from ..audio.log_mel import RATE
from ..common.device import best_device
from ..common.settings import choose
from ..data.bank import NoteBank
from ..models.encoder import AudioEncoder
from . import timbre
from .demucs import separate, stem_retriever

FRAME, HOP, BANDS, COEFFICIENTS = 1024, 256, 128, 40


def mfcc(audio: np.ndarray, sample_rate: int = RATE) -> np.ndarray:
    """Return the mean and standard deviation over time, (80,), of 40 coefficients of the log-mel of a sound (n,) at 16 kHz."""
    if sample_rate != RATE:
        raise ValueError(f"MFCC need sounds at {RATE} Hz, got {sample_rate} Hz")
    import torch

    audio = np.pad(np.asarray(audio, np.float32), (0, max(0, FRAME - len(audio))))
    coefficients = _mfcc()(torch.from_numpy(audio))  # (40, frames)
    return torch.cat([coefficients.mean(dim=1), coefficients.std(dim=1, correction=0)]).numpy()


@cache
def _mfcc():
    from torchaudio.transforms import MFCC

    return MFCC(RATE, COEFFICIENTS, log_mels=True, melkwargs={"n_fft": FRAME, "hop_length": HOP, "n_mels": BANDS})


FEATURES = {"mfcc": mfcc, "timbre-toolbox": timbre.vector}


class Features:
    """Retriever by features, standardised with the reference notes of the training instruments (the paper: with all training notes).

    Sounds are analysed as they are in a bank, at 16 kHz (the paper: at 48 kHz). A feature that is NaN becomes the mean. A sound without any
    feature gets a random vector, always the same, and so a random rank.
    """

    heads = ()  # as Retriever.heads

    def __init__(self, name: str, bank: NoteBank, seconds: float, n_jobs: int = -1):
        self.feature, self.n_jobs = FEATURES[choose("features", name, FEATURES)], n_jobs
        self.samples, self.failed = round(seconds * RATE), 0  # failed: number of sounds without any feature
        gallery = bank.gallery()
        notes = [self._note(bank, row) for row in gallery.reference[gallery.split == "train"]]
        known = self._raw(notes) if notes else np.empty((0, 1))
        known = known[np.isfinite(known).any(axis=1)]
        if not len(known):
            raise ValueError(f"no training instrument of this bank has {name} features: there is nothing to standardise with")
        counts = np.isfinite(known).sum(axis=0)
        self.mean = np.where(counts > 0, np.nansum(known, axis=0) / np.maximum(counts, 1), 0)
        deviation = np.sqrt(np.nansum((known - self.mean) ** 2, axis=0) / np.maximum(counts, 1))
        self.deviation = np.where(deviation > 1e-9, deviation, np.inf)  # constant features are ignored

    def notes(self, bank: NoteBank, rows: Sequence[int], protocol: str = "strict") -> np.ndarray:
        """Return vectors (N, D) of sounds of a bank, of at most `seconds`, without padding."""
        return self._vectors([self._note(bank, row) for row in rows], rows)

    def mixtures(self, waveforms: np.ndarray) -> np.ndarray:
        """Return vectors (B, D) of mixtures (B, T)."""
        return self._vectors(list(waveforms), [zlib.crc32(w.tobytes()) for w in waveforms])

    def _note(self, bank: NoteBank, row: int) -> np.ndarray:
        audio = bank.audio(row, self.samples)
        peak = np.abs(audio).max(initial=0)
        return audio / peak if peak > 1e-9 else audio

    def _raw(self, sounds: Sequence[np.ndarray]) -> np.ndarray:
        from joblib import Parallel, delayed

        jobs = self.n_jobs if len(sounds) > 64 and self.feature is not mfcc else 1  # workers take seconds to start
        blocks = [sounds[i : i + 32] for i in range(0, len(sounds), 32)]
        return np.concatenate(Parallel(jobs)(delayed(_block)(self.feature, block) for block in blocks)).astype(np.float64)

    def _vectors(self, sounds: Sequence[np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        if not len(sounds):
            return np.empty((0, len(self.mean)))
        raw = self._raw(sounds)
        missing = ~np.isfinite(raw)
        out = np.where(missing, 0, (np.where(missing, 0, raw) - self.mean) / self.deviation)
        for i in np.flatnonzero(missing.all(axis=1)):
            self.failed += 1
            out[i] = np.random.default_rng(int(seeds[i])).standard_normal(out.shape[1])
        return out


def _block(feature, sounds: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([feature(sound, RATE) for sound in sounds])


def make_retriever(config, bank: NoteBank, n_jobs: int = -1):
    """Return the retriever of config.task: mfcc, timbre-toolbox or demucs."""
    if config.task == "demucs":
        single = AudioEncoder.load(config.single_run()[1], device=best_device())
        return stem_retriever(single, lambda waveforms: separate(waveforms, config.families))
    return Features(config.task, bank, config.seconds, n_jobs)
