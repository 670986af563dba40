"""Virtual instruments: random SFZ patches rendered by sfizz, with pedalboard effects. No download.

About half of the instruments have effects. A training instrument with effects also gives a twin without them, which augments the
training set (paper section 3). The same seed gives the same sound, whatever the number of workers.
"""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ...audio.io import RATE, fade_end, trim
from ...common.packages import require
from ...common.settings import to_dict
from ..bank import NoteBank
from ..builder import BankBuilder, building, existing
from ..jobs import Sound, note_row
from ..note_statistics import spread_notes
from ..taxonomy import FAMILIES, MIXTURE_FAMILIES
from .patches import NOISE_FILE, NOISE_SAMPLES, Patch, draw_patch
from .shared import VELOCITIES, draw_peaks

BLOCK = 256  # samples per call of sfizz; note off is exact to the sample
TAIL_S = 0.9  # longest sound after note off
# drawn for each note, for all families alike, so that neither duration nor level reveals the instrument
HOLD_S = (0.2, 1.4)  # from note on to note off
STRETCH = (1 / 3, 3.0)  # of the patch's decay and release
ALIKE = 0.2  # smaller standard deviations of the logarithm of the lengths would reveal the instrument (of 8 notes or more)
VERSION = 6  # increase it with every change of the sound
MAX_ATTEMPTS = 30  # draws of one instrument
BANDS, FRAMES = 24, 24  # of a fingerprint


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


def build(path: Path, config: VirtualConfig, *, n_jobs: int = -1) -> NoteBank:
    """Render the instruments into a NoteBank at `path`, or open it if it is up to date.

    Raises ValueError if MAX_ATTEMPTS draws of an instrument are unusable or too similar to others.
    """
    spec = {"source": "virtual", "version": VERSION, **to_dict(config)}
    with building(path):
        if bank := existing(path, spec):
            return bank
        require("virtual instruments", "joblib", "pysfizz", "pedalboard")
        builder = BankBuilder(path, spec, RATE)
        keys, redrawn = _draw(builder, config, n_jobs)
        meta = {"source": "virtual", "license": "CC0-1.0", "citation": "rendered by cirlib.data.sources.virtual with sfizz and pedalboard"}
        return builder.finish(keys, meta, redrawn)


def _draw(builder: BankBuilder, config: VirtualConfig, n_jobs: int) -> tuple[list[str], dict[str, str]]:
    """Render every slot until its instrument is usable and unlike the others. Return keys of shards, and why others were redrawn."""
    slots = _slots(config)
    attempt, redrawn = dict.fromkeys(slots, 0), {}
    for _ in range(MAX_ATTEMPTS):
        keys = {slot: f"{slot[0].replace(' ', '_').lower()}-{slot[1]:04d}-{attempt[slot]}" for slot in slots}
        jobs = {keys[s]: {"slot": s, "split": split, "attempt": attempt[s], "config": config} for s, split in slots.items()}
        failed = builder.run(jobs, render_instrument, n_jobs=n_jobs, title="drawn again" if redrawn else "instruments")
        bad = {s: failed[keys[s]] for s in slots if keys[s] in failed}
        bad |= _near_duplicates(builder, {s: keys[s] for s in slots if s not in bad}, config.distinct_db)
        if not bad:
            return list(keys.values()), redrawn
        for slot, reason in bad.items():
            redrawn[keys[slot]] = reason
            attempt[slot] += 1
    raise ValueError(f"after {MAX_ATTEMPTS} draws {len(bad)} instruments are still unusable or too similar: lower distinct_db")


def _slots(config: VirtualConfig) -> dict[tuple[str, int], str]:
    """Return (family, number) -> split."""
    mixture = ["train"] * config.train + ["valid"] * config.valid + ["test"] * config.test
    other = [("train", "train", "train", "valid", "test")[i % 5] for i in range(config.others)]
    return {(name, i): split for name in FAMILIES for i, split in enumerate(mixture if name in MIXTURE_FAMILIES else other)}


def render_instrument(*, slot: tuple[str, int], split: str, attempt: int, config: VirtualConfig) -> list[Sound]:
    """Return the sounds of the instrument of a slot, and of its twin without effects if it has effects and trains."""
    name, number = slot
    rng = np.random.default_rng([config.seed, list(FAMILIES).index(name), number, attempt])
    patch = draw_patch(name, rng)
    notes = spread_notes(FAMILIES[name].pitch, VELOCITIES, config.notes, rng)
    holds, peaks = np.round(rng.uniform(*HOLD_S, len(notes)), 2), draw_peaks(len(notes), rng)
    stretches = np.exp(rng.uniform(*np.log(STRETCH), len(notes)))
    dry = _level(render(patch, notes, holds, stretches), peaks)
    uid = f"virtual/{config.seed}/{name.lower().replace(' ', '_')}_{number:04d}"
    tags, fx = ["synthetic", FAMILIES[name].tag], [effect for effect, _ in patch.fx]
    row = note_row(uid, name, "virtual", split, tags=tags + fx, fx=fx)
    if not fx:
        return _sounds(row, notes, holds, dry)
    sounds = _sounds(row, notes, holds, _level([apply_effects(x, patch.fx) for x in dry], peaks))
    if split == "train":
        sounds += _sounds({**row, "instrument": uid + "_no_fx", "tags": tags, "fx": [], "augments": uid}, notes, holds, dry)
    return sounds


def _sounds(row: dict, notes: list[tuple[int, int]], holds: np.ndarray, audio: list[np.ndarray]) -> list[Sound]:
    return [
        Sound({**row, "pitch": float(p), "velocity": float(v), "hold_s": float(hold)}, trim(x))
        for (p, v), hold, x in zip(notes, holds, audio, strict=True)
    ]


@cache
def _noise() -> np.ndarray:
    return (0.3 * np.random.default_rng(0).standard_normal(NOISE_SAMPLES)).clip(-1, 1).astype(np.float32)


def _stretched(sfz: str, factor: float) -> str:
    """Return a patch whose amplitude takes `factor` times as long to decay, and to fade after note off."""
    return re.sub(r"(?<=ampeg_)(decay|release)=(\S+)", lambda time: f"{time[1]}={factor * float(time[2]):.5g}", sfz)


def render(patch: Patch, notes: list[tuple[int, int]], holds: Sequence[float], stretches: Sequence[float] = ()) -> list[np.ndarray]:
    """Return notes (pitch, velocity) of a patch without its effects, each (n,) float32.

    holds: seconds from note on to note off. stretches: factors of the times of decay and release, by default 1.

    The patch is loaded anew for each note, so that sfizz starts from the same state and the order of notes does not matter.
    """
    import pysfizz
    import soundfile

    with tempfile.TemporaryDirectory(prefix="cirlib-") as folder:
        file = Path(folder) / "patch.sfz"
        if NOISE_FILE in patch.sfz:
            soundfile.write(Path(folder) / NOISE_FILE, _noise(), RATE, subtype="FLOAT")
        synth = pysfizz.Synth(sample_rate=RATE, block_size=BLOCK)
        sounds = []
        for (pitch, velocity), hold, stretch in zip(notes, holds, stretches if len(stretches) else np.ones(len(notes)), strict=True):
            text = _stretched(patch.sfz, stretch)
            file.write_text("<control> hint_ram_based=1\n" + text)  # else sfizz streams the noise, sometimes too late
            if not synth.load_sfz_file(file):
                raise ValueError("sfizz does not read this patch:\n" + patch.sfz)
            stereo = synth.render_note(pitch, velocity, float(hold), float(hold) + TAIL_S)
            sounds.append(fade_end(stereo.mean(axis=0)))
    return sounds


def apply_effects(audio: np.ndarray, fx: list[tuple[str, dict]]) -> np.ndarray:
    """Return a sound after a chain of pedalboard effects, same length."""
    import pedalboard

    board = pedalboard.Pedalboard([getattr(pedalboard, name.capitalize())(**values) for name, values in fx])
    return fade_end(board(audio.astype(np.float32), RATE, reset=True))


def _level(notes: list[np.ndarray], peaks: np.ndarray) -> list[np.ndarray]:
    """Return the notes of an instrument, each scaled to its peak, so that none clips.

    Raises ValueError for an instrument with a note that is not finite, 40 dB below the loudest, a click or mostly a constant, and for
    one whose notes are about equally long.
    """
    tops = np.array([np.abs(x).max() if np.isfinite(x).all() else np.nan for x in notes])
    loudest = tops.max()  # NaN if one is
    if not tops.min() > max(0.01 * loudest, 1e-3):
        raise ValueError("a note is silent or not finite")
    for x, top in zip(notes, tops, strict=True):
        if np.sqrt(np.mean(x**2)) < 0.01 * top or abs(x.mean()) > 0.1 * top:
            raise ValueError("a note is a click or mostly a constant")
    if len(notes) >= 8 and np.std(np.log([len(trim(x)) for x in notes])) < ALIKE:
        raise ValueError("its notes are about equally long")
    return [x * np.float32(peak / top) for x, peak, top in zip(notes, peaks, tops, strict=True)]


def fingerprint(audio: np.ndarray) -> np.ndarray:
    """Return a log-spectrogram (FRAMES, BANDS) of a sound, in dB relative to its loudest band."""
    x = np.pad(audio, (0, max(0, 1024 * FRAMES - len(audio))))[: 1024 * FRAMES].reshape(FRAMES, 1024)
    power = np.abs(np.fft.rfft(x * np.hanning(1024))) ** 2
    edges = np.geomspace(4, 512, BANDS + 1).astype(int)
    bands = np.add.reduceat(power, edges[:-1], axis=1)
    return 10 * np.log10(bands / max(bands.max(), 1e-12) + 1e-5)


def fingerprint_distances(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the RMS difference in dB of a fingerprint to others (N, FRAMES, BANDS), over the frames where either is not silent."""
    sounding = (np.maximum(one, others) > -40).any(axis=2)  # (N, FRAMES)
    squared = ((others - one) ** 2).mean(axis=2)
    return np.sqrt((squared * sounding).sum(axis=1) / sounding.sum(axis=1))


def _near_duplicates(builder: BankBuilder, keys: dict[tuple[str, int], str], distinct_db: float) -> dict[tuple[str, int], str]:
    """Return the slots, with a reason, whose first note is closer than `distinct_db` to that of an earlier instrument of the family."""
    bad, accepted = {}, {}
    for (family, number), key in keys.items():
        rows, audio = builder.load(key)
        own = fingerprint(audio[: rows[0]["length"]] / 32767)  # the first notes of a family have the same pitch and velocity
        others = accepted.setdefault(family, [])
        if others and fingerprint_distances(own, np.array(others)).min() < distinct_db:
            bad[family, number] = "too similar to another instrument"
        else:
            others.append(own)
    return bad
