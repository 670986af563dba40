"""The data of the paper's authors in its own layout: nsynth_v<version>[_small]/examples.csv and surge_v<version>[_small]/audio.csv.

`path` is the folder that holds those folders, or one of them; the latest version is read. Patches whose id ends in `_no_fx` or
`_aftertouch` are augmented twins. The authors' note statistics (slakh2100_no_audio/notes_distributions.json) are used where the
folder is given as `statistics` (note_statistics.py).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ...common.files import sha256
from ...common.packages import require
from ...common.paths import short
from ...common.settings import check_above_zero, choose, to_dict
from ..bank import NoteBank
from ..builder import build_once
from ..jobs import Remark, Sound, note_row
from ..notes import SPLITS
from ..taxonomy import NSYNTH, fx_tags, surge_category
from .nsynth import HOLD_S, excluded_instruments
from .shared import RATE, instrument_rng, read_or_remark

VERSION = 1
TABLES = {"nsynth": "examples.csv", "surge": "audio.csv"}
COLUMNS = {
    "nsynth": ("path", "split", "instrument", "instrument_family", "instrument_source", "pitch", "velocity", "qualities"),
    "surge": ("path", "split", "patch_UID", "patch_family", "patch_fx", "midi_pitch", "midi_velocity"),
}
TRANSPOSE = 4
TWIN = re.compile(r"(_no_fx|_aftertouch)+$")
LICENSES = {"nsynth": "CC BY 4.0", "surge": "presets and synthesizer: GPL-3.0-or-later"}
CITATION = "Le Vaillant and Molle, ICASSP 2026 (arXiv 2509.13285); NSynth: Engel et al., ICML 2017"


@dataclass
class CirConfig:
    """What to read."""

    path: str = "data"  # folder of nsynth_v*, surge_v*, or one of these
    sets: tuple[str, ...] = ("nsynth", "surge")
    small: bool = False  # the authors' small sets
    protocol: str = "strict"  # or paper: stores two NSynth instruments that the authors' code failed to exclude
    seconds: float = 10.0  # longest sound; the rest is cut
    transposed: int = 0  # copies of each training note, resampled by up to TRANSPOSE semitones


def build(path: Path, config: CirConfig, *, n_jobs: int = -1) -> NoteBank:
    """Read the sets into one NoteBank at `path`, or open it if it is up to date. Raises ValueError for tables that do not fit."""
    check_above_zero(config, "seconds")
    require("sets of 48 kHz", "joblib", "soxr")
    folders, jobs, remarks = check(config), {}, []
    for kind, folder in folders.items():
        table = _read_table(folder / TABLES[kind], kind)
        found = _nsynth(table, excluded_instruments(config.protocol), remarks) if kind == "nsynth" else _surge(table, remarks)
        instruments = list(found)
        splits = {name: columns["split"] for name, columns, _ in instruments}
        for name, columns, notes in instruments:
            if TWIN.search(name):
                if columns["split"] != "train":
                    raise ValueError(f"{name} of {folder.name} is an augmented twin outside of the train split")
                original = TWIN.sub("", name)
                if splits.get(original, "train") != "train":
                    remarks.append(Remark(name, "twin of an instrument outside of the train split"))
                    continue
                columns["augments"] = f"{kind}/{folder.name}/{original}"
            job = {"uid": f"{kind}/{folder.name}/{name}", "folder": str(folder), "columns": columns, "notes": notes}
            copies = config.transposed if columns["split"] == "train" else 0
            jobs[f"{kind}-{len(jobs):05d}"] = {**job, "seconds": config.seconds, "transposed": copies}
    settings = {name: value for name, value in to_dict(config).items() if name != "path"}
    inputs = {folder.name: sha256(folder / TABLES[kind]) for kind, folder in folders.items()}
    spec = {"source": "cir", "version": VERSION, **settings, "inputs": inputs}
    meta = {"source": "cir", "license": "; ".join(f"{kind}: {LICENSES[kind]}" for kind in folders), "citation": CITATION}
    return build_once(path, spec, jobs, read_instrument, meta=meta, n_jobs=n_jobs, remarks=remarks)


def check(config: CirConfig) -> dict[str, Path]:
    """Return the folder of each set. Raises FileNotFoundError if there is none, ValueError for an unknown setting."""
    excluded_instruments(config.protocol)
    folders = {choose("set", kind, TABLES): latest(Path(config.path), kind, small=config.small) for kind in config.sets}
    folders = {kind: folder for kind, folder in folders.items() if folder}
    if not folders:
        small = "_small" if config.small else ""
        wanted = ", ".join(f"{kind}_v<version>{small}/{TABLES[kind]}" for kind in config.sets)
        raise FileNotFoundError(
            f"none of {wanted} in {short(Path(config.path))}: set path to the folder that holds them (small sets: options: {{small: true}})"
        )
    return folders


def latest(root: Path, kind: str, *, small: bool = False) -> Path | None:
    """Return the folder of the latest version of a set in `root`, or `root` itself if it is one; None if there is none."""
    if root.name.startswith(kind) and (root / TABLES[kind]).is_file():
        return root
    pattern = re.compile(rf"{kind}_v(\d+(?:\.\d+)*)" + ("_small" if small else "") + "$")
    versions = [(m, f) for f in root.glob(f"{kind}_v*") if (m := pattern.match(f.name)) and (f / TABLES[kind]).is_file()]
    return max(versions, key=lambda version: [int(n) for n in version[0][1].split(".")])[1] if versions else None


def _read_table(file: Path, kind: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(file, low_memory=False, dtype={"instrument": str, "patch_UID": str})  # 0001 stays 0001
    except (ValueError, OSError) as error:
        raise ValueError(f"{short(file)} is not readable as a table: {error}") from None
    if missing := [name for name in COLUMNS[kind] if name not in table]:
        raise ValueError(f"{short(file)} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    for name in {"pitch", "velocity", "midi_pitch", "midi_velocity", "hold_s"} & set(table):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise ValueError(f"{short(file)}: {name} must hold numbers")
    for name in table.split.unique():
        choose(f"split in {file.name}", name, SPLITS)
    uid = "instrument" if kind == "nsynth" else "patch_UID"
    splits = table.groupby(uid, sort=False).split.nunique()
    if (splits > 1).any():
        raise ValueError(f"{splits.index[splits > 1][0]} is in several splits of {short(file)}: an instrument belongs to one")
    return table


# An instrument: its name, the columns that its sounds share, and (path, pitch, velocity, hold_s, tags, fx) of each sound


def _nsynth(table: pd.DataFrame, excluded: set[str], remarks: list[Remark]) -> Iterator[tuple[str, dict, list]]:
    """Yield the NSynth instruments of a table, in its order; add a remark for what is skipped."""
    for name, rows in table.groupby("instrument", sort=False):
        if name in excluded:
            remarks.append(Remark(name, "instrument excluded by the paper"))
            continue
        first = rows.iloc[0]
        group, tag, (low, _, high) = NSYNTH[choose("NSynth family", first.instrument_family, NSYNTH)]
        notes = []
        for row in rows[rows.pitch.between(low, high)].itertuples():
            fx = ["reverb"] if "reverb" in str(row.qualities) else []  # the text of a list
            tags = [first.instrument_source, tag, *fx_tags(fx)]
            notes.append((row.path, float(row.pitch), _number(row.velocity), HOLD_S, tags, fx))
        if len(notes) < len(rows):
            remarks.append(Remark(name, f"{len(rows) - len(notes)} notes outside MIDI {low} to {high}"))
        if notes:
            yield name, {"family": group, "source": "nsynth", "split": first.split}, notes


def _surge(table: pd.DataFrame, remarks: list[Remark]) -> Iterator[tuple[str, dict, list]]:
    """Yield the Surge patches of a table, in its order. Stems of several notes have no pitch and no velocity."""
    for name, rows in table.groupby("patch_UID", sort=False):
        first = rows.iloc[0]
        category = surge_category(str(first.patch_family))
        if category is None:
            remarks.append(Remark(name, f"unknown category {first.patch_family!r}: no family", stored=True))
        group, tag, _ = category or (None, None, "")
        fx = [effect.strip() for effect in str(first.patch_fx).split(",") if effect.strip()] if pd.notna(first.patch_fx) else []
        tags = ["synthetic", *([tag] if tag else []), *fx_tags(fx)]
        holds = rows["hold_s"] if "hold_s" in rows else [None] * len(rows)
        values = zip(rows.path, rows.midi_pitch, rows.midi_velocity, holds, strict=True)
        notes = [(path, _number(pitch), _number(velocity), _number(hold), tags, fx) for path, pitch, velocity, hold in values]
        yield name, {"family": group, "source": "surge", "split": first.split}, notes


def _number(value) -> float | None:
    return None if pd.isna(value) else float(value)


def read_instrument(*, uid: str, folder: str, columns: dict, notes: list, seconds: float, transposed: int) -> Iterator[Sound | Remark]:
    """Yield the sounds of one instrument, `transposed` copies of each that has a pitch, and a remark for each file that is unusable."""
    rng = instrument_rng(0, uid)
    for path, pitch, velocity, hold, tags, fx in notes:
        audio, remarks = read_or_remark(Path(folder), str(path), name=f"{Path(folder).name}/{path}", seconds=seconds)
        yield from remarks
        if audio is not None:
            row = note_row(uid, **columns, pitch=pitch, velocity=velocity, hold_s=hold, tags=tags, fx=fx)
            yield Sound(row, audio)
            for _ in range(transposed if pitch is not None else 0):
                yield _transpose(row, audio, rng.uniform(-TRANSPOSE, TRANSPOSE))


def _transpose(row: dict, audio: np.ndarray, semitones: float) -> Sound:
    """Return a note at another speed: pitch, duration and formants change together, as in a sampler."""
    import soxr

    ratio = 2 ** (semitones / 12)
    hold = row["hold_s"] and row["hold_s"] / ratio
    return Sound({**row, "pitch": round(row["pitch"] + semitones), "hold_s": hold}, soxr.resample(audio, RATE * ratio, RATE))
