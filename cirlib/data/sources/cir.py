"""The data layout of the paper's authors, read as it is: nsynth_v<version>[_small]/examples.csv and surge_v<version>[_small]/audio.csv.

`path` is the folder that holds those folders, or one of them; of several versions the latest is read. Patches whose id ends in
`_no_fx` or `_aftertouch` are augmented twins. Their note statistics (slakh2100_no_audio/notes_distributions.json) are found where
the folder is named as `statistics` of an experiment (midi.py).
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...audio.io import read_audio
from ...common.packages import require
from ...common.paths import short
from ...common.settings import check_above_zero, choose, to_dict
from ...common.untrusted import inside
from ..bank import NoteBank
from ..builder import build_once
from ..jobs import Remark, Sound, note_row
from ..notes import SPLITS
from ..taxonomy import NSYNTH, NSYNTH_EXCLUDED, NSYNTH_KEPT_BY_REFERENCE, fx_tags, surge_category
from .nsynth import HOLD_S

VERSION = 1
KINDS = {"nsynth": "examples.csv", "surge": "audio.csv"}
NEEDED = {
    "nsynth": ("path", "split", "instrument", "instrument_family", "instrument_source", "pitch", "velocity", "qualities"),
    "surge": ("path", "split", "patch_UID", "patch_family", "patch_fx", "midi_pitch", "midi_velocity"),
}
LONGEST_LITERAL = 2000  # characters of a cell that holds a list
TWIN = re.compile(r"(_no_fx|_aftertouch)+$")
LICENSES = {"nsynth": "CC BY 4.0", "surge": "presets and synthesizer: GPL-3.0-or-later"}


@dataclass
class CirConfig:
    """What to read."""

    path: str = "data"  # folder of nsynth_v*, surge_v*, or one of these
    sets: tuple[str, ...] = ("nsynth", "surge")
    small: bool = False  # the authors' small sets
    protocol: str = "strict"  # or paper: keeps two NSynth instruments that the reference failed to exclude
    seconds: float = 10.0  # longest sound; the rest is cut


def build(path: Path, config: CirConfig, n_jobs: int = -1) -> NoteBank:
    """Read the sets that are there into one NoteBank at `path`; nothing is done if that very bank is there already."""
    check_above_zero(config, "seconds")
    choose("protocol", config.protocol, ("strict", "paper"))
    require("sets of 48 kHz", "joblib", "soxr")
    folders = check(config)
    jobs, remarks, digests = {}, [], {}
    for kind, folder in folders.items():
        table = _read_table(folder / KINDS[kind], kind)
        digests[folder.name] = hashlib.sha256((folder / KINDS[kind]).read_bytes()).hexdigest()
        more, left_out = _jobs(kind, folder, table, config)
        jobs |= more
        remarks += left_out
    values = {k: v for k, v in to_dict(config).items() if k != "path"}
    spec = {"source": "cir", "version": VERSION, **values, "inputs": digests}
    meta = {
        "source": "cir", "license": "; ".join(f"{k}: {LICENSES[k]}" for k in folders),
        "citation": "Le Vaillant and Molle, ICASSP 2026 (arXiv 2509.13285); NSynth: Engel et al., ICML 2017",
    }  # fmt: skip
    return build_once(path, spec, jobs, read_instrument, meta, n_jobs=n_jobs, remarks=remarks)


def check(config: CirConfig) -> dict[str, Path]:
    """Folder of each set that is there; FileNotFoundError if there is none."""
    folders = {kind: found for kind in config.sets if (found := latest(Path(config.path), choose("set", kind, KINDS), config.small))}
    if not folders:
        small = "_small" if config.small else ""
        wanted = ", ".join(f"{kind}_v<version>{small}/{KINDS[kind]}" for kind in config.sets)
        raise FileNotFoundError(
            f"none of {wanted} in {short(Path(config.path))}: set path to the folder that holds them (small sets: options: {{small: true}})"
        )
    return folders


def latest(root: Path, kind: str, small: bool = False) -> Path | None:
    """Folder of the latest version of a set in `root`, or `root` itself if it is one; None if there is none."""
    pattern = re.compile(rf"{kind}_v(\d+(?:\.\d+)*)" + ("_small" if small else "") + "$")
    if (root / KINDS[kind]).is_file() and root.name.startswith(kind):
        return root
    found = [(tuple(map(int, m[1].split("."))), f) for f in root.glob(f"{kind}_v*") if (m := pattern.match(f.name))]
    found = [(version, f) for version, f in found if (f / KINDS[kind]).is_file()]
    return max(found)[1] if found else None


def _read_table(file: Path, kind: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(file, low_memory=False, dtype={"instrument": str, "patch_UID": str})  # 0001 stays 0001
    except (ValueError, OSError) as error:
        raise ValueError(f"{short(file)} is not readable as a table: {error}") from None
    if missing := [c for c in NEEDED[kind] if c not in table]:
        raise ValueError(f"{short(file)} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    numbers = ("pitch", "velocity") if kind == "nsynth" else ("midi_pitch", "midi_velocity")
    for name in (*numbers, *({"hold_s"} & set(table))):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise ValueError(f"{short(file)}: {name} must hold numbers")
    for name in table.split.unique():
        choose(f"split in {file.name}", name, SPLITS)
    return table


def _jobs(kind: str, folder: Path, table: pd.DataFrame, config: CirConfig) -> tuple[dict[str, dict], list[Remark]]:
    """One job per instrument, in the order of the table."""
    jobs, remarks = {}, []
    excluded = NSYNTH_EXCLUDED - (NSYNTH_KEPT_BY_REFERENCE if config.protocol == "paper" else set())
    for name, rows in table.groupby("instrument" if kind == "nsynth" else "patch_UID", sort=False):
        name = str(name)
        if kind == "nsynth" and name in excluded:
            remarks.append(Remark(name, "instrument excluded by the paper"))
            continue
        if rows.split.nunique() > 1:
            raise ValueError(f"{name} is in several splits of {folder / KINDS[kind]}: an instrument belongs to one")
        columns, plan = (_nsynth if kind == "nsynth" else _surge)(rows, remarks)
        if TWIN.search(name):
            if columns["split"] != "train":
                raise ValueError(f"{name} of {folder.name} is an augmented twin outside of the train split")
            columns["augments"] = f"{kind}/{folder.name}/{TWIN.sub('', name)}"
        columns["source"] = kind
        if plan:
            uid = f"{kind}/{folder.name}/{name}"
            job = {"uid": uid, "folder": str(folder), "columns": columns, "plan": plan, "seconds": config.seconds}
            jobs[f"{kind}-{len(jobs):05d}"] = job
    return jobs, remarks


def _nsynth(rows: pd.DataFrame, remarks: list[Remark]) -> tuple[dict, list]:
    """Columns that the sounds of an NSynth instrument share, and (path, pitch, velocity, hold, tags, fx) of each."""
    first = rows.iloc[0]
    group, tag, (low, _, high) = NSYNTH[choose("NSynth family", first.instrument_family, NSYNTH)]
    plan = []
    for r in rows.itertuples():
        if low <= r.pitch <= high:
            fx = ["reverb"] if "reverb" in _words(r.qualities) else []
            plan.append((r.path, _none(r.pitch), _none(r.velocity), HOLD_S, [first.instrument_source, tag, *fx_tags(fx)], fx))
    if len(plan) < len(rows):
        remarks.append(Remark(first.instrument, f"{len(rows) - len(plan)} notes outside MIDI {low} to {high}"))
    return {"family": group, "split": first.split}, plan


def _surge(rows: pd.DataFrame, remarks: list[Remark]) -> tuple[dict, list]:
    """The same of a Surge patch; stems of several notes have no pitch and no velocity."""
    first = rows.iloc[0]
    known = surge_category(str(first.patch_family))
    if known is None:
        remarks.append(Remark(str(first.patch_UID), f"unknown category {first.patch_family!r}: no family", kept=True))
    group, tag, _ = known or (None, None, "")
    fx = [name.strip() for name in str(first.patch_fx).split(",") if name.strip()] if pd.notna(first.patch_fx) else []
    tags = ["synthetic", *([tag] if tag else []), *fx_tags(fx)]
    holds = rows["hold_s"] if "hold_s" in rows else pd.Series([None] * len(rows))
    values = zip(rows.path, rows.midi_pitch, rows.midi_velocity, holds, strict=True)
    return {"family": group, "split": first.split}, [(path, _none(p), _none(v), _none(h), tags, fx) for path, p, v, h in values]


def _none(value) -> float | None:
    return None if pd.isna(value) else float(value)


def _words(literal) -> list[str]:
    """A list of strings that a CSV cell holds as Python text."""
    try:
        words = ast.literal_eval(literal[:LONGEST_LITERAL]) if isinstance(literal, str) else []
        if isinstance(words, (list, tuple)):
            return list(words)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    raise ValueError(f"qualities {literal!r:.100} is no list of strings")


def read_instrument(uid: str, folder: str, columns: dict, plan: list, seconds: float) -> Iterator[Sound | Remark]:
    """Sounds of one instrument, and a remark for each file that is missing or unusable."""
    for path, pitch, velocity, hold, tags, fx in plan:
        try:
            audio = read_audio(inside(Path(folder), str(path)), seconds)
        except FileNotFoundError:
            yield Remark(f"{Path(folder).name}/{path}", "no such file")
        except (ValueError, OSError) as error:
            yield Remark(f"{Path(folder).name}/{path}", str(error))
        else:
            yield Sound(note_row(uid, **columns, pitch=pitch, velocity=velocity, hold_s=hold, tags=tags, fx=fx), audio)
