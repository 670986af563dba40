"""What several sources share: splits, jobs and specs of their banks, sounds read from files, notes rendered by a synthesizer."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ...audio.io import Unusable, check_usable, fade_end, mix_down, read_audio, resample, trim
from ...common.settings import to_dict
from ...common.untrusted import inside
from ..builder import names
from ..jobs import Remark, Sound
from ..note_statistics import OTHER_RANGE, spread_notes
from ..taxonomy import FAMILIES

RATE = 48000  # Hz of rendering; banks have 16 kHz
VELOCITIES = (100, 70, 127, 85, 110, 60)
DRUM_KEYS = (36, 41, 57)  # lowest, middle, highest key of a drum kit
PEAK_DB = (-14.0, -1.0)  # drawn for each note, so that level does not reveal the instrument
NOT_IN_SPEC = ("path", "midi", "statistics", "limit_s")  # settings that the sounds do not depend on: contents are in `inputs`


def make_spec(config, *, source: str, version: int, inputs, **others) -> dict:
    """Return the spec of a bank: the settings, the version of the source's code, and hashes of its inputs, which decide how it sounds."""
    settings = {name: value for name, value in to_dict(config).items() if name not in NOT_IN_SPEC}
    return {"source": source, "version": version, **others, **settings, "path": names(config.path), "inputs": inputs}


def split_jobs(instruments: Iterable[tuple[str, str | None, dict]], config) -> dict[str, dict]:
    """Return a job for each (uid, family, more arguments), with the split of its instrument by the shares `valid` and `test`."""
    instruments = list(instruments)
    splits = assign_splits({uid: family for uid, family, _ in instruments}, valid=config.valid, test=config.test)
    return {
        f"{i:05d}": {"uid": uid, "family": family, "split": splits[uid], "config": config, **arguments}
        for i, (uid, family, arguments) in enumerate(instruments)
    }


def assign_splits(families: dict[str, str | None], *, valid: float, test: float) -> dict[str, str]:
    """Return instrument -> split, from instrument -> family: shares of each family, at least one of each split from three instruments on.

    The order within a family is that of a hash of the name, independent of alphabet and folder. Raises ValueError for impossible shares.
    """
    if valid < 0 or test < 0 or valid + test >= 1:
        raise ValueError(f"valid and test are shares with a sum under 1, got {valid} and {test}")
    groups: dict[str | None, list[str]] = {}
    for name, family in families.items():
        groups.setdefault(family, []).append(name)
    splits = {}
    for members in groups.values():
        members.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        counts = [max(round(share * len(members)), int(share > 0 and len(members) > 2)) for share in (test, valid)]
        for i, name in enumerate(members):
            splits[name] = "test" if i < counts[0] else "valid" if i < sum(counts) else "train"
    return splits


def read_or_remark(
    folder: Path, path: str, *, name: str, seconds: float | None = None, links: bool = False
) -> tuple[np.ndarray | None, list[Remark]]:
    """Return a file of a folder as read_audio does, or None, and remarks about `name`: why it cannot be used, or what is odd about it.

    A file that lies outside of the folder is only read with `links`.
    """
    odd: list[str] = []
    try:
        audio = read_audio(Path(folder, path) if links else inside(folder, path), seconds, remarks=odd)
        return audio, [Remark(name, text, stored=True) for text in odd]
    except FileNotFoundError:
        reason = "no such file"
    except OSError as error:
        reason = f"not readable ({error.strerror or error})"
    except ValueError as error:
        reason = str(error)
    return None, [Remark(name, reason)]


def instrument_rng(seed: int, uid: str) -> np.random.Generator:
    """Return the random generator of one instrument, which does not depend on the other instruments."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4], "little")])


def to_mono(stereo: np.ndarray, rate: int = RATE, *, remarks: list[str] | None = None) -> np.ndarray:
    """Return a rendered note (channels, n) as a bank stores it: mixed down (io.mix_down), 16 kHz, faded, without the silent end."""
    mono = check_usable(mix_down(stereo, remarks), rate)
    return trim(fade_end(resample(mono, rate)))


def choose_notes(keys: Sequence[int], family: str | None, *, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return `count` notes (pitch, velocity) on the playable keys in the range of the family, or on all if it has none there.

    The first is on the middle key of the family, or of the playable keys if some in its range are not.
    """
    low, middle, high = DRUM_KEYS if family == "Drum Kit" else FAMILIES[family].pitch if family in FAMILIES else OTHER_RANGE
    keys = [key for key in keys if low <= key <= high] or keys
    first = middle - low if len(keys) == high - low + 1 else len(keys) // 2
    return [(keys[i], velocity) for i, velocity in spread_notes((0, first, len(keys) - 1), VELOCITIES, count, rng)]


def draw_peaks(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the peaks of notes, (count,)."""
    return 10 ** (rng.uniform(*PEAK_DB, count) / 20)


def render_notes(
    row: dict,
    notes: Sequence[tuple[int, int]],
    render: Callable[..., np.ndarray],
    *,
    holds: Sequence[float] = (),
    peaks: Sequence[float] = (),
) -> Iterator[Sound | Remark]:
    """Yield the sounds of notes that `render(pitch, velocity)` returns as (channels, n), then a remark for each unusable one.

    holds: seconds from note on to note off of each note, a third argument of `render`; default: as in `row`. peaks: levels of the sounds;
    default: as rendered. Raises Unusable if no note is usable.
    """
    remarks = []
    for i, (pitch, velocity) in enumerate(notes):
        name, odd = f"{row['instrument']} note {pitch}-{velocity}", []
        try:
            columns = {"pitch": float(pitch), "velocity": float(velocity), **({"hold_s": float(holds[i])} if len(holds) else {})}
            audio = to_mono(render(pitch, velocity, *holds[i : i + 1]), remarks=odd)
            if len(peaks):
                audio *= np.float32(peaks[i] / np.abs(audio).max())
            yield Sound({**row, **columns}, audio)
            yield from (Remark(name, text, stored=True) for text in odd)
        except Unusable as reason:
            remarks.append(Remark(name, str(reason)))
    if len(remarks) == len(notes):
        raise Unusable(f"no usable note ({remarks[0].text})")
    yield from remarks
