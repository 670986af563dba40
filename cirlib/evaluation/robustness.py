"""What a mix goes through before it is looked up: ways to degrade the query. Used to test how robust retrieval is, never in training.

A query keeps its length and gets the peak of a mixture; mixture i of a dataset meets the same fate every time. Stems are (S, T), at a
sample rate; what is made of them is (T,), more or less.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np

from ..common.packages import require
from ..common.settings import choose
from ..data.mixtures import PEAK, MixtureDataset

MP3_KBPS, MP3_RATE = 64, 44100
BALANCE_DB = 6
CENTS = 30
DRIVE_DB = 12  # into the limiter


def queries(name: str, dataset: MixtureDataset, indices: Sequence[int]) -> np.ndarray:
    """Mixtures `indices` of a dataset as `name` of DEGRADATIONS leaves them: (M, T). ValueError for an unknown name."""
    if choose("degradation", name, DEGRADATIONS) == "clean":
        return dataset.batch(indices, "none")[0]
    require("degraded queries", "pedalboard", "soxr")
    change, rate = DEGRADATIONS[name], dataset.bank.sample_rate
    out = np.empty((len(indices), dataset.samples), np.float32)
    for sound, i, stems in zip(out, indices, dataset.batch(indices, "stems")[1], strict=True):
        rng = np.random.default_rng([dataset.seed, i])
        heard = change(stems, rate, rng)[: len(sound)]
        sound[: len(heard)], sound[len(heard) :] = heard, 0
        peak = np.abs(sound).max()
        sound *= PEAK / peak if peak > 1e-9 else 0
    return out


def clean(stems, rate, rng):
    """As the test has it."""
    return stems.sum(axis=0)


def mp3(stems, rate, rng):
    """MP3 at MP3_KBPS kbit/s, of one channel at MP3_RATE Hz."""
    import soundfile
    import soxr

    file = io.BytesIO()
    level = (320 - MP3_KBPS) / (320 - 32)  # libsndfile maps 0 to 1 to 320 down to 32 kbit/s
    wave = soxr.resample(clean(stems, rate, rng), rate, MP3_RATE)
    soundfile.write(file, wave / max(1, np.abs(wave).max()), MP3_RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=level)
    file.seek(0)
    return soxr.resample(soundfile.read(file, dtype="float32")[0], MP3_RATE, rate)


def room(stems, rate, rng):
    """A room of random size around it (pedalboard's Reverb)."""
    from pedalboard import Reverb

    return Reverb(room_size=rng.uniform(0.3, 0.8), wet_level=0.25, dry_level=0.4)(clean(stems, rate, rng), rate)


def balance(stems, rate, rng):
    """Each instrument up to BALANCE_DB louder or softer."""
    return (stems * 10 ** (rng.uniform(-BALANCE_DB, BALANCE_DB, (len(stems), 1)).astype(np.float32) / 20)).sum(axis=0)


def half(stems, rate, rng):
    """The first half of the sound alone."""
    return clean(stems, rate, rng)[: stems.shape[1] // 2]


def half_again(stems, rate, rng):
    """The same half twice: how a library hears a mix that is shorter than the clip (query.repeated)."""
    from ..audio.io import repeated

    return repeated(half(stems, rate, rng), stems.shape[1])


def detune(stems, rate, rng):
    """All of it CENTS up or down, and as much faster or slower."""
    import soxr

    ratio = 2 ** (rng.choice([-CENTS, CENTS]) / 1200)
    return soxr.resample(clean(stems, rate, rng), rate * ratio, rate)


def limiter(stems, rate, rng):
    """DRIVE_DB louder, into a limiter."""
    from pedalboard import Gain, Limiter, Pedalboard

    return Pedalboard([Gain(DRIVE_DB), Limiter(threshold_db=-1, release_ms=50)])(clean(stems, rate, rng), rate)


DEGRADATIONS: dict[str, Callable] = {
    "clean": clean,
    f"mp3, {MP3_KBPS} kbit/s": mp3,
    "room": room,
    f"balance within {BALANCE_DB} dB": balance,
    "half as long": half,
    "half, repeated": half_again,
    f"{CENTS} cents off": detune,
    f"limiter, {DRIVE_DB} dB": limiter,
}
