"""Baselines that are not trained: features of a whole sound, standardised and searched by l2 (paper section 4), and Demucs.

mfcc: mean and standard deviation over time of 40 coefficients. timbre-toolbox: descriptors of timbre.py.
demucs: a pretrained separator, whose stems the encoder for single sounds embeds.
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
    """Mean and standard deviation over time of 40 coefficients of the log-mel of a sound (n,): (80,)."""
    if sample_rate != RATE:
        raise ValueError(f"MFCC hear sound at {RATE} Hz, got {sample_rate} Hz")
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
    """Retriever by features, standardised with the mean and deviation of the training instruments' reference notes (the paper: of
    all training notes), and heard at the 16 kHz of a bank, with nothing above 8 kHz (the paper's Surge sounds: 48 kHz).

    A feature that is not defined for a sound (NaN) takes the mean; a sound of which no feature is defined gets a random vector, so
    that it ranks at random, always the same one.
    """

    heads = ()  # as Retriever.heads

    def __init__(self, name: str, bank: NoteBank, seconds: float, n_jobs: int = -1):
        self.feature, self.n_jobs = FEATURES[choose("features", name, FEATURES)], n_jobs
        self.samples = round(seconds * RATE)
        gallery = bank.gallery()
        notes = [self._note(bank, row) for row in gallery.reference[gallery.split == "train"]]
        known = self._raw(notes) if notes else np.empty((0, 1))
        known = known[np.isfinite(known).any(axis=1)]
        if not len(known):
            raise ValueError(f"no training instrument of this bank has {name} features: there is nothing to standardise with")
        counts = np.isfinite(known).sum(axis=0)
        self.mean = np.where(counts > 0, np.nansum(known, axis=0) / np.maximum(counts, 1), 0)
        deviation = np.sqrt(np.nansum((known - self.mean) ** 2, axis=0) / np.maximum(counts, 1))
        self.deviation = np.where(deviation > 1e-9, deviation, np.inf)  # what never varies tells nothing
        self.failed = 0  # sounds so far of which no feature was defined

    def notes(self, bank: NoteBank, rows: Sequence[int], protocol: str = "strict") -> np.ndarray:
        """Vectors (N, D) of single sounds of a bank, their first `seconds` at most, without padding."""
        return self._vectors([self._note(bank, row) for row in rows], rows)

    def mixtures(self, waveforms: np.ndarray) -> np.ndarray:
        """Vectors (B, D) of mixtures (B, T)."""
        return self._vectors(list(waveforms), [zlib.crc32(w.tobytes()) for w in waveforms])

    def _note(self, bank: NoteBank, row: int) -> np.ndarray:
        audio = bank.audio(row, self.samples)
        peak = np.abs(audio).max(initial=0)
        return audio / peak if peak > 1e-9 else audio

    def _raw(self, sounds: Sequence[np.ndarray]) -> np.ndarray:
        from joblib import Parallel, delayed

        jobs = self.n_jobs if len(sounds) > 64 and self.feature is not mfcc else 1  # starting workers costs seconds
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
    """Retriever of a baseline that is not trained: config.task mfcc, timbre-toolbox or demucs."""
    if config.task == "demucs":
        single = AudioEncoder.load(config.single_run()[1], device=best_device())
        return stem_retriever(single, lambda waveforms: separate(waveforms, config.families))
    return Features(config.task, bank, config.seconds, n_jobs)
