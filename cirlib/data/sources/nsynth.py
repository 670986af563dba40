"""NSynth from its official release (Engel et al. 2017, magenta.tensorflow.org/datasets/nsynth, CC BY 4.0).

`path` holds the folders nsynth-train, nsynth-valid and nsynth-test, or their tarballs, which are unpacked next to themselves;
`download` fetches the missing ones. The official valid and test splits share instruments; here every instrument is in one split:
those of nsynth-train train, and within each family the others alternate between test and valid. Pitch ranges and excluded
instruments are those of the paper (taxonomy.py). Protocol `strict` skips files with nothing but noise (magenta issue 2092) and all
excluded instruments; `paper` stores the noise, and the two instruments that the authors' code includes because of a missing comma.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.files import sha256
from ...common.packages import require
from ...common.paths import short
from ...common.settings import choose
from ...common.untrusted import read_json
from ..bank import NoteBank
from ..builder import build_once, existing, locked, made_elsewhere
from ..jobs import Remark, Sound, note_row
from ..notes import SPLITS
from ..taxonomy import NSYNTH, NSYNTH_EXCLUDED, NSYNTH_KEPT_BY_REFERENCE, fx_tags
from .download import download, extract
from .shared import read_or_remark

VERSION = 1
URL = "http://download.magenta.tensorflow.org/datasets/nsynth/"
HOLD_S = 3.0
LICENSE = "CC BY 4.0"
CITATION = "Engel et al., Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders, ICML 2017 (NSynth)"
FIELDS = ("instrument_str", "instrument_family_str", "instrument_source_str", "pitch", "velocity", "qualities_str")  # that are read
SEGMENT, SEGMENTS, BAND = 4096, 8, 32  # of noise detection: samples, number of segments, bins of a band
NOISE_DB = 9.0  # a weaker line of the mean spectrum is no tone
CLEAR_DB = 20.0  # noise does not reach it, even in one segment


@dataclass
class NSynthConfig:
    """What to read."""

    path: str = "data/downloads/nsynth"  # folder of nsynth-train, nsynth-valid, nsynth-test or their .jsonwav.tar.gz
    download: bool = False  # fetch what is missing (about 24 GB; 39 GB unpacked)
    protocol: str = "strict"  # or paper


def build(path: Path, config: NSynthConfig, *, n_jobs: int = -1) -> NoteBank:
    """Read the release into a NoteBank at `path`, or open it if it is up to date. Raises FileNotFoundError if the release is missing."""
    excluded_instruments(config.protocol)  # checks it
    require("NSynth's notes", "joblib")
    folders = {split: Path(config.path) / f"nsynth-{split}" for split in SPLITS}
    if not all((folder / "examples.json").is_file() for folder in folders.values()):
        if bank := made_elsewhere(path, "nsynth", {"protocol": config.protocol}):
            return bank  # the release may have been deleted
        check(config)
        Path(config.path).mkdir(parents=True, exist_ok=True)
        with locked(Path(config.path) / "nsynth"):
            for folder in folders.values():
                _provide(folder)
    inputs = {split: _state(folder) for split, folder in folders.items()}
    spec = {"source": "nsynth", "version": VERSION, "protocol": config.protocol, "inputs": inputs}
    if bank := existing(path, spec):
        return bank
    jobs, remarks = _jobs(_read_notes(folders), config.protocol)
    meta = {"source": "nsynth", "license": LICENSE, "citation": CITATION}
    return build_once(path, spec, jobs, read_instrument, meta=meta, n_jobs=n_jobs, remarks=remarks)


def excluded_instruments(protocol: str) -> set[str]:
    """Return the names of instruments that a protocol skips. Raises ValueError for an unknown protocol."""
    choose("protocol", protocol, ("strict", "paper"))
    return NSYNTH_EXCLUDED - (NSYNTH_KEPT_BY_REFERENCE if protocol == "paper" else set())


def check(config: NSynthConfig) -> None:
    """Raise FileNotFoundError, which names every split of the release that is missing, unless they are to be downloaded."""
    root = Path(config.path)
    splits = [f"nsynth-{split}" for split in SPLITS]
    missing = [name for name in splits if not any((root / f"{name}{end}").exists() for end in ("/examples.json", ".jsonwav.tar.gz"))]
    if missing and not config.download:
        wanted = " and no ".join(f"{name}/examples.json or {name}.jsonwav.tar.gz" for name in missing)
        raise FileNotFoundError(
            f"no {wanted} in {short(root)}: set path to the folder of the NSynth release ({URL}), or options: {{download: true}} (24 GB)"
        )


def _provide(folder: Path) -> None:
    """Unpack, and download if it is missing, the folder of a split. Raises OSError or FileNotFoundError, which say what to do."""
    if (folder / "examples.json").is_file():
        return
    if folder.is_dir():
        raise FileNotFoundError(f"{short(folder)} has no examples.json: delete it, or put the whole folder of the release there")
    archive = folder.with_name(f"{folder.name}.jsonwav.tar.gz")
    if not archive.exists():
        require("downloads", "requests")
        download(URL + archive.name, archive)
    extract(archive, folder.name, "examples.json")


def _state(folder: Path) -> list:
    """Return the hash of the metadata and the number of files of a split, which change with its content."""
    if not (folder / "audio").is_dir():
        raise FileNotFoundError(f"{short(folder)} has no folder audio: delete it and unpack its archive again")
    return [sha256(folder / "examples.json"), sum(1 for _ in os.scandir(folder / "audio"))]


def _read_notes(folders: dict[str, Path]) -> dict[str, list[tuple[Path, str, dict]]]:
    """Return instrument -> (folder of its split, name, fields) of its notes."""
    notes: dict[str, list] = {}
    for folder in folders.values():
        for name, fields in _read_examples(folder / "examples.json").items():
            notes.setdefault(fields["instrument_str"], []).append((folder, name, fields))
    return notes


def _read_examples(file: Path) -> dict[str, dict]:
    """Return note_str -> FIELDS; other fields are dropped while reading, as train has 289,205 notes."""

    def select(values: dict) -> dict:
        return {name: values[name] for name in FIELDS} if "instrument_str" in values else values

    try:
        examples = read_json(file, object_hook=select)
        if wrong := next((name for name, fields in examples.items() if fields.keys() != set(FIELDS) or not _is_note(name, fields)), None):
            raise ValueError(f"{wrong!r:.100} is no note")
    except (ValueError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{short(file)} is not the metadata of NSynth ({reason}): unpack the archive again") from None
    return examples


def _is_note(name: str, fields: dict) -> bool:
    """Return whether names are plain, as they become file names, and numbers are valid for MIDI."""
    words = (name, *(fields[f"{field}_str"] for field in ("instrument", "instrument_family", "instrument_source")))
    plain = all(isinstance(word, str) and re.fullmatch(r"\w[\w.+-]*", word) for word in words)
    numbers = all(type(fields[field]) is int and 0 <= fields[field] <= 127 for field in ("pitch", "velocity"))
    return plain and numbers and isinstance(fields["qualities_str"], list)


def _jobs(notes: dict[str, list], protocol: str) -> tuple[dict[str, dict], list[Remark]]:
    """Return a job for each instrument, with its split and its notes in range, and remarks about what is skipped."""
    excluded, jobs, remarks, held_out = excluded_instruments(protocol), {}, [], {}
    for instrument in sorted(notes):
        rows = sorted(notes[instrument], key=lambda row: row[1])
        first_folder, _, fields = notes[instrument][0]
        family = fields["instrument_family_str"]
        if family not in NSYNTH:
            raise ValueError(f"unknown NSynth family {family!r} of {instrument}")
        split = "train"
        if first_folder.name != "nsynth-train":  # valid and test share instruments
            held_out[family] = held_out.get(family, 0) + 1
            split = "test" if held_out[family] % 2 else "valid"
        if instrument in excluded:
            remarks.append(Remark(instrument, "instrument excluded by the paper"))
            continue
        low, _, high = NSYNTH[family][2]
        chosen = [(str(f), n, v["pitch"], v["velocity"], "reverb" in v["qualities_str"]) for f, n, v in rows if low <= v["pitch"] <= high]
        if outside := len(rows) - len(chosen):
            remarks.append(Remark(instrument, f"{outside} notes outside MIDI {low} to {high}"))
        if chosen:
            jobs[instrument] = {
                "instrument": instrument, "family": family, "split": split, "notes": chosen,
                "origin": fields["instrument_source_str"], "store_noise": protocol == "paper",
            }  # fmt: skip
    return jobs, remarks


def read_instrument(*, instrument: str, family: str, split: str, notes: list, origin: str, store_noise: bool) -> Iterator[Sound | Remark]:
    """Yield the sounds of one instrument, and a remark for each file that is missing, damaged, silent or noise."""
    group, tag, _ = NSYNTH[family]
    for folder, name, pitch, velocity, reverb in notes:
        audio, remarks = read_or_remark(Path(folder, "audio"), f"{name}.wav", name=name)
        yield from remarks
        if audio is None:
            continue
        if noise_only(audio):
            yield Remark(name, "noise only", stored=store_noise)
            if not store_noise:
                continue
        fx = ["reverb"] if reverb else []
        columns = {"pitch": float(pitch), "velocity": float(velocity), "hold_s": HOLD_S, "fx": fx}
        yield Sound(note_row(f"nsynth/official/{instrument}", group, "nsynth", split, tags=[origin, tag, *fx_tags(fx)], **columns), audio)


_WINDOW = np.hanning(SEGMENT).astype(np.float32)


def noise_only(audio: np.ndarray) -> bool:
    """Return whether a sound (n,) at 16 kHz has no tone: no line of its mean spectrum stands out of the bins around it.

    Welch spectrum of the first 2 s, all segments with the same weight. Spectra are too steep in the lowest band to find lines there;
    a sound that is mostly in that band is no noise. For most tonal sounds, one segment is enough.
    """
    count = min(SEGMENTS, len(audio) // SEGMENT)
    if count < 2:
        return False
    segments = audio[: count * SEGMENT].reshape(count, SEGMENT)
    if _line_db(_spectra(segments[1:2])[0]) > CLEAR_DB:
        return False
    power = _spectra(segments)  # (K, N / 2)
    mean = (power / np.maximum(power.sum(axis=1, keepdims=True), 1e-9)).mean(axis=0)  # (N / 2,)
    return bool(mean[:BAND].sum() <= 0.8 and _line_db(mean) < NOISE_DB)


def _spectra(segments: np.ndarray) -> np.ndarray:
    """Return power spectra (K, N / 2) of segments (K, N), without the constant."""
    return np.abs(np.fft.rfft(segments * _WINDOW, axis=1)[:, 1:]) ** 2


def _line_db(power: np.ndarray) -> float:
    """Return how far, in dB, a bin stands out of the median of its band: the largest value of all bands but the lowest."""
    bands = power.reshape(-1, BAND)[1:]
    return 10 * np.log10((bands.max(axis=1) / np.maximum(np.median(bands, axis=1), 1e-12)).max() + 1e-12)
