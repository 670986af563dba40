"""Embedded virtual instruments: seeded SFZ patches played by sfizz, with pedalboard effects. No download.

About half of the instruments have effects; each of those also gives an effects-off twin, an augmented instrument
used in training only (paper section 3). The same seed gives the same sound, whatever the number of workers.
"""

import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ...audio.io import RATE, fade_end, trim
from ...common.packages import require
from ...common.settings import to_dict
from ..bank import NoteBank
from ..builder import BankBuilder, building, existing
from ..jobs import Sound
from ..note_statistics import spread_notes
from ..taxonomy import FAMILIES, MIXTURE_FAMILIES, family
from .patches import NOISE_FILE, NOISE_SAMPLES, Patch, draw_patch

BLOCK = 256  # samples per call of sfizz; note-off is exact to the sample all the same
TAIL_S = 0.9  # longest sound after note off
VERSION = 4  # part of the bank's specification: change it with anything that changes the sound
VELOCITIES = (100, 70, 127, 85, 110, 60)
MOST_ATTEMPTS = 30  # draws of one instrument
BANDS, FRAMES = 24, 24  # of the fingerprint


@dataclass
class VirtualConfig:
    """What to render."""

    seed: int = 0
    train: int = 60  # training instruments of each of the three mixture families
    valid: int = 20
    test: int = 20
    others: int = 5  # instruments of each other family, 60/20/20 percent by split; 0: none
    notes: int = 16  # per instrument
    distinct_db: float = 5.5  # patches of a family closer than this (log-spectral distance) are redrawn


def build(path: Path, config: VirtualConfig, n_jobs: int = -1) -> NoteBank:
    """Render the instruments into a NoteBank at `path`; nothing is done if that very bank is there already."""
    spec = {"source": "virtual", "version": VERSION, **to_dict(config)}
    with building(path):
        if bank := existing(path, spec):
            return bank
        require("virtual instruments", "joblib", "pysfizz", "pedalboard")
        builder = BankBuilder(path, spec, RATE)
        resumed, started = any(builder.work.glob("*.i16")), time.perf_counter()
        keys, redrawn = _draw(builder, config, n_jobs)
        meta = {"source": "virtual", "license": "CC0-1.0", "citation": "rendered by cirlib.data.sources.virtual with sfizz and pedalboard"}
        bank = builder.finish(keys, meta, redrawn)
    elapsed, sound = time.perf_counter() - started, bank.lengths.sum() / RATE
    speed = "" if resumed else f", {sound / elapsed:.0f} times faster than real time"
    print(f"rendered {len(bank.instruments)} instruments in {elapsed:.0f} s{speed}")
    return bank


def _draw(builder: BankBuilder, config: VirtualConfig, n_jobs: int) -> tuple[list[str], dict[str, str]]:
    """Render every slot until its instrument is usable and unlike the others; keys of the shards, and what was redrawn why."""
    slots = _slots(config)
    attempt, redrawn = dict.fromkeys(slots, 0), {}
    for _ in range(MOST_ATTEMPTS):
        keys = {s: _key(s, attempt[s]) for s in slots}
        jobs = {keys[s]: {"slot": s, "split": split, "attempt": attempt[s], "config": config} for s, split in slots.items()}
        failed = builder.run(jobs, render_instrument, n_jobs, "drawn again" if redrawn else "instruments")
        bad = {s: failed[keys[s]] for s in slots if keys[s] in failed}
        bad |= _near_duplicates(builder, {s: keys[s] for s in slots if s not in bad}, config.distinct_db)
        if not bad:
            return list(keys.values()), redrawn
        for slot, reason in bad.items():
            redrawn[keys[slot]] = reason
            attempt[slot] += 1
    raise ValueError(f"after {MOST_ATTEMPTS} draws {len(bad)} instruments are still unusable or too similar: lower distinct_db")


def _slots(config: VirtualConfig) -> dict[tuple[str, int], str]:
    """(family, number) -> split."""
    slots = {}
    for name in FAMILIES:
        if name in MIXTURE_FAMILIES:
            splits = ["train"] * config.train + ["valid"] * config.valid + ["test"] * config.test
        else:
            splits = [("train", "train", "train", "valid", "test")[i % 5] for i in range(config.others)]
        slots |= {(name, i): split for i, split in enumerate(splits)}
    return slots


def _key(slot: tuple[str, int], attempt: int) -> str:
    return f"{slot[0].replace(' ', '_').lower()}-{slot[1]:04d}-{attempt}"


class Rejected(ValueError):
    """A patch that is no usable instrument; the slot is drawn again."""


def render_instrument(slot: tuple[str, int], split: str, attempt: int, config: VirtualConfig) -> list[Sound]:
    """Sounds of the instrument of a slot, with its effects-off twin where it has effects and trains."""
    name, number = slot
    rng = np.random.default_rng([config.seed, list(FAMILIES).index(name), number, attempt])
    patch = draw_patch(name, rng)
    notes = spread_notes(family(name).pitch, VELOCITIES, config.notes, rng)
    dry = _level(play(patch, notes), patch.peak)
    uid = f"virtual/{config.seed}/{name.lower().replace(' ', '_')}_{number:04d}"
    row = {"family": name, "source": "virtual", "split": split, "hold_s": patch.hold}
    tags = ["synthetic", family(name).tag]
    if not patch.fx:
        return _sounds({**row, "instrument": uid, "tags": tags, "fx": [], "augments": None}, notes, dry)
    fx = [f for f, _ in patch.fx]
    wet = _level([apply_effects(x, patch.fx) for x in dry], patch.peak)
    sounds = _sounds({**row, "instrument": uid, "tags": tags + fx, "fx": fx, "augments": None}, notes, wet)
    if split == "train":
        sounds += _sounds({**row, "instrument": uid + "_no_fx", "tags": tags, "fx": [], "augments": uid}, notes, dry)
    return sounds


def _sounds(row: dict, notes, audio) -> list[Sound]:
    return [Sound({**row, "pitch": float(p), "velocity": float(v)}, trim(x)) for (p, v), x in zip(notes, audio, strict=True)]


@cache
def _noise() -> np.ndarray:
    return (0.3 * np.random.default_rng(0).standard_normal(NOISE_SAMPLES)).clip(-1, 1).astype(np.float32)


def play(patch: Patch, notes: list[tuple[int, int]]) -> list[np.ndarray]:
    """Notes (pitch, velocity) of a patch without its effects, each (n,) float32.

    The patch is loaded anew for each note: sfizz starts from the same state, so the order of notes does not matter.
    """
    import pysfizz
    import soundfile

    with tempfile.TemporaryDirectory(prefix="cirlib-") as folder:
        file = Path(folder) / "patch.sfz"
        file.write_text("<control> hint_ram_based=1\n" + patch.sfz)  # else sfizz reads noise while it plays it, and sometimes too late
        if NOISE_FILE in patch.sfz:
            soundfile.write(Path(folder) / NOISE_FILE, _noise(), RATE, subtype="FLOAT")
        synth = pysfizz.Synth(sample_rate=RATE, block_size=BLOCK)
        sounds = []
        for pitch, velocity in notes:
            if not synth.load_sfz_file(file):
                raise ValueError("sfizz does not read this patch:\n" + patch.sfz)
            stereo = synth.render_note(pitch, velocity, patch.hold, patch.hold + TAIL_S)
            sounds.append(fade_end(stereo.mean(axis=0)))
    return sounds


def apply_effects(audio: np.ndarray, fx: list[tuple[str, dict]]) -> np.ndarray:
    """A sound through a chain of pedalboard effects, same length."""
    import pedalboard

    board = pedalboard.Pedalboard([getattr(pedalboard, name.capitalize())(**values) for name, values in fx])
    return fade_end(board(audio.astype(np.float32), RATE, reset=True))


def _level(notes: list[np.ndarray], peak: float) -> list[np.ndarray]:
    """Notes of an instrument scaled together, the loudest to `peak`; so none clips.

    Rejects an instrument with a note that is not finite, 40 dB under the loudest, a mere click or mostly a constant.
    """
    peaks = np.array([np.abs(x).max() if np.isfinite(x).all() else np.nan for x in notes])
    loudest = peaks.max()  # NaN if one is
    if not peaks.min() > max(0.01 * loudest, 1e-3):
        raise Rejected("a note is silent or not finite")
    for x, top in zip(notes, peaks, strict=True):
        if np.sqrt(np.mean(x**2)) < 0.01 * top or abs(x.mean()) > 0.1 * top:
            raise Rejected("a note is a click or mostly a constant")
    return [x * np.float32(peak / loudest) for x in notes]


def fingerprint(audio: np.ndarray) -> np.ndarray:
    """Log-spectrogram of a sound in dB under its loudest band, (FRAMES, BANDS)."""
    x = np.pad(audio, (0, max(0, 1024 * FRAMES - len(audio))))[: 1024 * FRAMES].reshape(FRAMES, 1024)
    power = np.abs(np.fft.rfft(x * np.hanning(1024))) ** 2
    edges = np.geomspace(4, 512, BANDS + 1).astype(int)
    bands = np.add.reduceat(power, edges[:-1], axis=1)
    return 10 * np.log10(bands / max(bands.max(), 1e-12) + 1e-5)


def fingerprint_distances(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """RMS difference in dB of a fingerprint to others (N, FRAMES, BANDS), over the frames where either sounds."""
    sounding = (np.maximum(one, others) > -40).any(axis=2)  # (N, FRAMES)
    squared = ((others - one) ** 2).mean(axis=2)
    return np.sqrt((squared * sounding).sum(axis=1) / sounding.sum(axis=1))


def _near_duplicates(builder: BankBuilder, keys: dict[tuple[str, int], str], distinct_db: float) -> dict[tuple[str, int], str]:
    """Slots whose instrument sounds like an earlier one of its family: RMS difference of fingerprints below the limit."""
    bad, kept = {}, {}
    for slot, key in keys.items():
        rows, audio = builder.load(key)
        print_ = fingerprint(audio[: rows[0]["length"]] / 32767)  # the first note: same pitch and velocity in a family
        others = kept.setdefault(slot[0], [])
        if others and fingerprint_distances(print_, np.array(others)).min() < distinct_db:
            bad[slot] = "too similar to another instrument"
        else:
            others.append(print_)
    return bad
