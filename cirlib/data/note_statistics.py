"""How notes of each instrument group are distributed: pitch, velocity and duration; and excerpts of MIDI files.

Statistics come from a file in the authors' format (`notes_distributions.json`: pitch and velocity -> group -> values,
probabilities; log_duration_s -> group -> bin_edges (log10 seconds), probabilities), or from any folder of MIDI files:
`python -m cirlib.data.note_statistics FOLDER OUT.json` (Slakh2100: its tracks; General MIDI programs give the groups).

The default, without a file: pitch normal around the middle pitch of the family, two thirds of its range wide on each
side (taxonomy.py) and cut at the range; velocity normal, mean 92, deviation 20, from 30 to 127; log10 of the duration
normal around 0.4 s, deviation 0.3, from 0.05 to 4 s.
"""

import contextlib
import io
import re
import warnings
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np

from ..common.command_line import arguments, clean_exit
from ..common.files import one_line, write_json
from ..common.packages import require
from ..common.paths import short
from ..common.untrusted import read_json
from .taxonomy import FAMILIES, GM_GROUPS, GROUPS, family

DRUMS = 128  # program of Slakh's drum kit
MAX_BYTES, MAX_TIME = 16 << 20, 1e6  # of a MIDI file; seconds
DURATION_EDGES = np.round(np.linspace(-2, 1, 61), 3)  # log10 seconds
OTHER_RANGE = (36, 60, 84)  # lowest, middle, highest pitch of a group that is no family


class NoteStatistics:
    """Distributions per group. A group that is not in the file, or has no notes in it, gets the default."""

    def __init__(self, tables: dict | None = None):
        self.tables = tables or {}

    @classmethod
    def load(cls, path: str | Path) -> "NoteStatistics":
        """Read a statistics file. Raises FileNotFoundError or ValueError with what to do."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"no note statistics at {short(path)}: make them with `python -m cirlib.data.note_statistics FOLDER {short(path)}`"
            )
        try:
            tables = read_json(path)
            if not tables.keys() & {"pitch", "velocity", "log_duration_s"}:
                raise ValueError("neither pitch nor velocity nor log_duration_s is in it")
            for what, groups in tables.items():
                for name, table in groups.items():
                    _check(what, name, table)
        except Exception as error:  # numpy raises various errors for unusable values
            raise ValueError(f"{short(path)} is no file of note statistics ({one_line(error)})") from None
        return cls(tables)

    def save(self, path: Path) -> None:
        """Write a file that `load` reads."""
        write_json(path, self.tables)

    def pitch(self, group: str) -> np.ndarray:
        """Return the probability of each MIDI pitch 0..127, (128,), sums to 1."""
        return self._values("pitch", group, default_pitch)

    def velocity(self, group: str) -> np.ndarray:
        """Return the probability of each MIDI velocity 0..127, (128,), sums to 1."""
        return self._values("velocity", group, default_velocity)

    def duration(self, group: str) -> tuple[np.ndarray, np.ndarray]:
        """Return edges (n + 1,) in log10 seconds and probabilities (n,) of note durations."""
        table = self.tables.get("log_duration_s", {}).get(group)
        if table is None or not sum(table["probabilities"]):
            return DURATION_EDGES, default_duration()
        p = np.array(table["probabilities"], float)
        return np.array(table["bin_edges"], float), p / p.sum()

    def draw(self, group: str, count: int, rng: np.random.Generator) -> list[tuple[int, int, float]]:
        """Draw `count` different notes (pitch, velocity, seconds); fewer if the distributions have fewer."""
        pitch, velocity, (edges, p) = self.pitch(group), self.velocity(group), self.duration(group)
        notes = {}
        for _ in range(20 * count):
            if len(notes) == count:
                break
            k = rng.choice(len(p), p=p)
            seconds = 10 ** rng.uniform(edges[k], edges[k + 1])
            notes.setdefault((int(rng.choice(128, p=pitch)), max(1, int(rng.choice(128, p=velocity)))), round(float(seconds), 3))
        return [(*note, seconds) for note, seconds in notes.items()]

    def _values(self, what: str, group: str, default) -> np.ndarray:
        table = self.tables.get(what, {}).get(group)
        p = np.zeros(128)
        if table is not None:
            np.add.at(p, np.clip(np.round(table["values"]), 0, 127).astype(int), table["probabilities"])
        return p / p.sum() if p.sum() > 0 else default(group)


def _check(what: str, name: str, table: dict) -> None:
    """Raise ValueError for a distribution that cannot be drawn from."""
    p, durations = np.array(table["probabilities"], float), what == "log_duration_s"
    other = np.array(table["bin_edges" if durations else "values"], float)
    usable = p.ndim == other.ndim == 1 and len(p) == len(other[1:] if durations else other) and (p >= 0).all()
    usable = usable and p.sum() < 1e12 and (np.abs(other) < (10 if durations else 1e6)).all()  # 10: log10 seconds
    if not usable or (durations and (np.diff(other) <= 0).any()):
        raise ValueError(f"{what} of {name} has unusable probabilities")


@cache
def default_pitch(group: str) -> np.ndarray:
    """Return the default probabilities of pitches 0..127, (128,)."""
    low, middle, high = family(group).pitch if group in FAMILIES else OTHER_RANGE
    pitch = np.arange(128)
    spread = np.where(pitch < middle, middle - low, high - middle) / 1.5
    density = np.exp(-0.5 * ((pitch - middle) / spread) ** 2) * ((pitch >= low) & (pitch <= high))
    return _frozen(density)


@cache
def default_velocity(group: str = "") -> np.ndarray:
    """Return the default probabilities of velocities 0..127, (128,)."""
    velocity = np.arange(128)
    return _frozen(np.exp(-0.5 * ((velocity - 92) / 20) ** 2) * (velocity >= 30))


@cache
def default_duration() -> np.ndarray:
    """Return the default probabilities over DURATION_EDGES, (60,)."""
    middle = (DURATION_EDGES[1:] + DURATION_EDGES[:-1]) / 2
    return _frozen(np.exp(-0.5 * ((middle - np.log10(0.4)) / 0.3) ** 2) * (middle >= np.log10(0.05)) * (middle <= np.log10(4)))


def _frozen(density: np.ndarray) -> np.ndarray:
    density = density / density.sum()
    density.setflags(write=False)
    return density


def statistics_file(path: str | Path) -> Path:
    """Return a statistics file: `path`, or in the data folder of the authors the latest slakh2100_no_audio/notes_distributions.json."""
    if not Path(path).is_dir():
        return Path(path)
    files = Path(path).glob("slakh2100_no_audio*/**/notes_distributions*.json")
    files = sorted(files, key=lambda f: [int(n) for n in re.findall(r"\d+", f.relative_to(path).as_posix())])
    if not files:
        raise FileNotFoundError(f"no slakh2100_no_audio/notes_distributions.json in {short(path)}")
    return files[-1]


def load_statistics(path: str | Path = "") -> NoteStatistics:
    """Read the statistics of a file or of the authors' data folder; "" is the default."""
    return NoteStatistics.load(statistics_file(path)) if path else NoteStatistics()


def spread_notes(pitch_range: tuple[int, int, int], velocities: tuple[int, ...], count: int, rng) -> list[tuple[int, int]]:
    """Return `count` notes (pitch, velocity) of one instrument: the middle pitch of the range (lowest, middle, highest) first, others
    spread over it, a quarter at another velocity of a pitch."""
    if count < 1:
        raise ValueError(f"an instrument needs 1 note or more, got {count}")
    low, middle, high = pitch_range
    spread = max(1, round(0.75 * count)) - 1
    steps = np.linspace(low, high, spread) + rng.uniform(-1, 1, spread)
    pitches = np.append(middle, np.clip(np.round(steps), low, high)).astype(int)
    notes = list(dict.fromkeys((int(p), velocities[i % len(velocities)]) for i, p in enumerate(pitches)))
    others = [(int(p), v) for p in np.unique(pitches) for v in velocities if (p, v) not in set(notes)]
    return notes + [others[k] for k in rng.permutation(len(others))[: count - len(notes)]]


# Reading MIDI


def midi_files(folder: str | Path) -> list[Path]:
    """Return the MIDI files of a folder and below, without Slakh's `all_src.mid` where its stems lie beside it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {short(folder)}: give one that has .mid files")
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in (".mid", ".midi") and f.is_file())
    files = [f for f in files if f.name != "all_src.mid" or not (f.parent / "MIDI").is_dir()]
    if not files:
        raise ValueError(f"no .mid file in {short(folder)} or below")
    return files


def read_midi(path: Path) -> dict[str, np.ndarray]:
    """Return the notes of a MIDI file by group: (n, 4) start (s), duration (s), pitch, velocity, by start. Raises ValueError."""
    with contextlib.redirect_stdout(io.StringIO()):  # pyfluidsynth, which it imports, prints if the environment sets CI
        import pretty_midi

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tempo changes on other tracks than the first: harmless, and common
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"it is larger than {MAX_BYTES >> 20} MB")
            score = pretty_midi.PrettyMIDI(str(path))
    except Exception as error:  # mido raises whatever the bytes lead to
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"not readable as MIDI ({reason or 'it ends too early, or is empty'})") from None
    notes = defaultdict(list)
    for track in score.instruments:
        group = GM_GROUPS[DRUMS if track.is_drum else track.program]
        notes[group] += [(n.start, n.end - n.start, n.pitch, n.velocity) for n in track.notes]
    if not all(0 <= n[0] < MAX_TIME and 0 <= n[1] < MAX_TIME for rows in notes.values() for n in rows):
        raise ValueError("not readable as MIDI (notes at impossible times)")
    return {group: np.array(sorted(rows)) for group, rows in notes.items() if rows}


def _read_or_error(path: Path) -> dict[str, np.ndarray] | str:
    try:
        return read_midi(path)
    except ValueError as error:
        return str(error)


def read_folder(folder: str | Path, n_jobs: int = -1) -> tuple[dict[Path, dict[str, np.ndarray]], dict[str, str]]:
    """Return the notes by group of every MIDI file of a folder, and the reasons why other files were skipped."""
    require("MIDI files", "joblib", "pretty_midi")
    from joblib import Parallel, delayed
    from tqdm import tqdm

    files = midi_files(folder)
    results = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(_read_or_error)(f) for f in files)
    scores = dict(zip(files, tqdm(results, total=len(files), desc="MIDI files", mininterval=5), strict=True))
    bad = {f.relative_to(folder).as_posix(): notes for f, notes in scores.items() if isinstance(notes, str)}
    good = {f: notes for f, notes in scores.items() if not isinstance(notes, str)}
    if not good:
        raise ValueError(f"no readable MIDI file in {short(folder)}: {next(iter(bad.items()))}")
    return good, bad


def count_notes(scores: dict[Path, dict[str, np.ndarray]]) -> NoteStatistics:
    """Return the statistics of the notes of scores, group by group."""
    tables = {"pitch": {}, "velocity": {}, "log_duration_s": {}}
    for group in [g for g in GROUPS if any(g in notes for notes in scores.values())]:
        _, seconds, pitch, velocity = np.concatenate([notes[group] for notes in scores.values() if group in notes]).T
        for what, values in (("pitch", pitch), ("velocity", velocity)):
            values, counts = np.unique(values.astype(int), return_counts=True)
            tables[what][group] = {"values": values.tolist(), "probabilities": (counts / counts.sum()).tolist()}
        counts, edges = np.histogram(np.log10(np.maximum(seconds, 1e-6)).clip(DURATION_EDGES[0], DURATION_EDGES[-1]), DURATION_EDGES)
        tables["log_duration_s"][group] = {"bin_edges": edges.tolist(), "probabilities": (counts / counts.sum()).tolist()}
    return NoteStatistics(tables)


def excerpts(notes: np.ndarray, seconds: float) -> list[np.ndarray]:
    """Return consecutive windows of a track (n, 4), each (m, 4) with starts from 0, that have 4 notes or more."""
    index = (notes[:, 0] // seconds).astype(int)
    windows = []
    for k in np.unique(index):
        window = notes[index == k].copy()
        window[:, 0] -= k * seconds
        window[:, 1] = np.minimum(window[:, 1], seconds - window[:, 0])
        if len(window) >= 4:
            windows.append(window)
    return windows


def main(folder: str, out: str) -> None:
    """Write the statistics of the MIDI files of a folder, and print a summary."""
    scores, bad = read_folder(folder)
    statistics = count_notes(scores)
    statistics.save(Path(out))
    print(f"{len(scores)} files, {len(bad)} skipped{': ' if bad else ''}{'; '.join(f'{k}: {v}' for k, v in list(bad.items())[:5])}")
    for group, table in statistics.tables["pitch"].items():
        print(f"  {group}: {len(table['values'])} pitches from {min(table['values'])} to {max(table['values'])}")


if __name__ == "__main__":
    given = arguments("usage: python -m cirlib.data.note_statistics FOLDER OUT.json", 2, 2)
    with clean_exit():
        main(*given)
