"""NSynth from its official release (Engel et al. 2017, magenta.tensorflow.org/datasets/nsynth, CC BY 4.0).

`path` holds the folders nsynth-train, nsynth-valid and nsynth-test, or their tarballs, which are unpacked beside themselves;
`download` fetches what is missing. The official splits share instruments between valid and test: here an instrument
belongs to one split. Those of nsynth-train train; within each family, the others alternate between test and valid.
Pitch ranges and excluded instruments: taxonomy of the paper (families.py). `protocol="strict"` leaves out noise-only files
(magenta issue 2092) and every excluded instrument; `paper` keeps the noise, noted, and the two instruments that a missing
comma left in the reference's data.
"""

import os
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...audio.io import read_audio
from ...common.files import sha256
from ...common.packages import require
from ...common.paths import short
from ...common.settings import choose
from ...common.untrusted import inside, read_json
from ..bank import NoteBank
from ..builder import build_once, existing, locked, made_elsewhere
from ..jobs import Remark, Sound, note_row
from ..taxonomy import NSYNTH, NSYNTH_EXCLUDED, NSYNTH_KEPT_BY_REFERENCE, fx_tags
from .download import download, extract

VERSION = 1
URL = "http://download.magenta.tensorflow.org/datasets/nsynth/"
PARTS = ("train", "valid", "test")
HOLD_S = 3.0
LICENSE = "CC BY 4.0"
CITATION = "Engel et al., Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders, ICML 2017 (NSynth)"
SEGMENT, SEGMENTS, BAND = 4096, 8, 32  # of the noise detector: samples, number, bins of a band
NOISE_DB = 9.0  # of the mean spectrum: a weaker line is no tone
CLEAR_DB = 20.0  # of one segment: noise does not reach it


@dataclass
class NSynthConfig:
    """What to read."""

    path: str = "data/downloads/nsynth"  # folder of nsynth-train, nsynth-valid, nsynth-test or their .jsonwav.tar.gz
    download: bool = False  # fetch what is missing (about 24 GB; 39 GB unpacked)
    protocol: str = "strict"  # or paper
    url: str = URL  # of the tarballs


def build(path: Path, config: NSynthConfig, n_jobs: int = -1) -> NoteBank:
    """Read the release into a NoteBank at `path`; nothing is done if that very bank is there already."""
    choose("protocol", config.protocol, ("strict", "paper"))
    require("NSynth's notes", "joblib")
    root = Path(config.path)
    folders = {part: root / f"nsynth-{part}" for part in PARTS}
    if any(not (folder / "examples.json").is_file() for folder in folders.values()):
        if bank := made_elsewhere(path, "nsynth", {"protocol": config.protocol}):
            return bank  # the release may be gone
        check(config)
        if config.download:
            root.mkdir(parents=True, exist_ok=True)
        with locked(root / "nsynth") if root.is_dir() else nullcontext():
            for part in PARTS:
                _get(root, part, config)
    inputs = {part: _state(folder) for part, folder in folders.items()}
    spec = {"source": "nsynth", "version": VERSION, "protocol": config.protocol, "inputs": inputs}
    if bank := existing(path, spec):
        return bank
    jobs, remarks = _jobs(_notes(folders), folders, config.protocol)
    meta = {"source": "nsynth", "license": LICENSE, "citation": CITATION}
    return build_once(path, spec, jobs, read_instrument, meta, n_jobs=n_jobs, remarks=remarks)


def check(config: NSynthConfig) -> None:
    """FileNotFoundError that names every split of the release that is neither there nor to be downloaded."""
    root = Path(config.path)
    lacking = [
        f"nsynth-{p}" for p in PARTS if not any((root / f"nsynth-{p}{end}").exists() for end in ("/examples.json", ".jsonwav.tar.gz"))
    ]
    if lacking and not config.download:
        wanted = " and no ".join(f"{name}/examples.json or {name}.jsonwav.tar.gz" for name in lacking)
        raise FileNotFoundError(
            f"no {wanted} in {short(root)}: set path to the folder of the NSynth release ({URL}), or options: {{download: true}} (24 GB)"
        )


def _get(root: Path, part: str, config: NSynthConfig) -> None:
    """See to the extracted folder of a split: there, unpacked or downloaded; FileNotFoundError that says how to get it."""
    name = f"nsynth-{part}"
    if (root / name / "examples.json").is_file():
        return
    if (root / name).is_dir():
        raise FileNotFoundError(f"{short(root / name)} has no examples.json: delete it, or put the whole folder of the release there")
    archive = root / f"{name}.jsonwav.tar.gz"
    fetched = not archive.exists() and config.download
    if fetched:
        require("downloads", "requests")
        download(f"{config.url.rstrip('/')}/{archive.name}", archive)
    try:
        extract(archive, name, "examples.json")
    except OSError as error:
        if not fetched or error.errno:
            raise
        archive.unlink()
        raise OSError(f"{archive.name} from {config.url} was no NSynth archive and was deleted: {error}") from None


def _state(folder: Path) -> list:
    """Digest of the metadata and number of the files of a split: what tells that something changed."""
    if not (folder / "audio").is_dir():
        raise FileNotFoundError(f"{short(folder)} has no folder audio: delete it and unpack its archive again")
    return [sha256(folder / "examples.json"), sum(1 for _ in os.scandir(folder / "audio"))]


def _notes(folders: dict[str, Path]) -> dict[str, list]:
    """instrument -> (split of the release, name, fields) of its notes."""
    notes: dict[str, list] = {}
    for part, folder in folders.items():
        for name, values in _read_examples(folder / "examples.json").items():
            notes.setdefault(values["instrument_str"], []).append((part, name, values))
    return notes


def _read_examples(file: Path) -> dict[str, dict]:
    """note_str -> the few fields that matter; the others are dropped while reading (289,205 notes in train)."""
    keep = ("instrument_str", "instrument_family_str", "instrument_source_str", "pitch", "velocity", "qualities_str")

    def small(values: dict) -> dict:
        return {k: values[k] for k in keep} if "instrument_str" in values else values

    try:
        examples = read_json(file, object_hook=small)
        if wrong := next((name for name, values in examples.items() if values.keys() != set(keep) or not _is_note(name, values)), None):
            raise ValueError(f"{wrong!r:.100} is no note")
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{short(file)} is not the metadata of NSynth ({type(error).__name__}: {error}): unpack the archive again"
        ) from None
    return examples


def _is_note(name: str, values: dict) -> bool:
    """Whether names are plain, as they become those of files, and numbers are MIDI's."""
    told = (name, *(values[f"{k}_str"] for k in ("instrument", "instrument_family", "instrument_source")))
    plain = all(isinstance(word, str) and re.fullmatch(r"\w[\w.+-]*", word) for word in told)
    numbers = all(type(values[k]) is int and 0 <= values[k] <= 127 for k in ("pitch", "velocity"))
    return plain and numbers and isinstance(values["qualities_str"], list)


def _jobs(notes: dict[str, list], folders: dict[str, Path], protocol: str) -> tuple[dict[str, dict], list[Remark]]:
    """One job per instrument, with its split and its notes in range; what is left out is told."""
    excluded = NSYNTH_EXCLUDED - (NSYNTH_KEPT_BY_REFERENCE if protocol == "paper" else set())
    jobs, remarks, held_out = {}, [], {}
    for instrument in sorted(notes):
        rows = notes[instrument]
        name = rows[0][2]["instrument_family_str"]
        if name not in NSYNTH:
            raise ValueError(f"unknown NSynth family {name!r} of {instrument}")
        split = "train"
        if rows[0][0] != "train":  # valid and test share instruments: alternate, test first
            held_out[name] = held_out.get(name, 0) + 1
            split = "test" if held_out[name] % 2 else "valid"
        if instrument in excluded:
            remarks.append(Remark(instrument, "instrument excluded by the paper"))
            continue
        low, _, high = NSYNTH[name][2]
        files = [(folders[part], n, v) for part, n, v in sorted(rows, key=lambda r: r[1])]
        chosen = [(str(f), n, v["pitch"], v["velocity"], "reverb" in v["qualities_str"]) for f, n, v in files if low <= v["pitch"] <= high]
        if outside := len(files) - len(chosen):
            remarks.append(Remark(instrument, f"{outside} notes outside MIDI {low} to {high}"))
        if chosen:
            jobs[instrument] = {
                "instrument": instrument, "family": name, "split": split, "notes": chosen,
                "origin": rows[0][2]["instrument_source_str"], "keep_noise": protocol == "paper",
            }  # fmt: skip
    return jobs, remarks


def read_instrument(instrument: str, family: str, split: str, notes: list, origin: str, keep_noise: bool) -> Iterator[Sound | Remark]:
    """Sounds of one instrument, and a remark for each file that is missing, damaged, silent or noise."""
    group, tag, _ = NSYNTH[family]
    for folder, name, pitch, velocity, reverb in notes:
        try:
            audio = read_audio(inside(Path(folder, "audio"), f"{name}.wav"))
        except FileNotFoundError:
            yield Remark(name, "no such file")
            continue
        except (ValueError, OSError) as error:
            yield Remark(name, str(error))
            continue
        if noise_only(audio):
            yield Remark(name, "noise only", kept=keep_noise)
            if not keep_noise:
                continue
        fx = ["reverb"] if reverb else []
        columns = {"pitch": float(pitch), "velocity": float(velocity), "hold_s": HOLD_S, "fx": fx}
        yield Sound(note_row(f"nsynth/official/{instrument}", group, "nsynth", split, tags=[origin, tag, *fx_tags(fx)], **columns), audio)


_WINDOW = np.hanning(SEGMENT).astype(np.float32)


def noise_only(audio: np.ndarray) -> bool:
    """Whether a sound (n,) at 16 kHz holds no tone: no line of its mean spectrum stands out of the bins around it.

    Welch spectrum of the first 2 s, every segment weighing the same. Spectra are steep in the lowest band: a line cannot be
    told there, and a sound that is mostly there is no noise. One segment alone settles most tonal sounds.
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
    """Power spectra (K, N / 2) of segments (K, N), without the constant."""
    return np.abs(np.fft.rfft(segments * _WINDOW, axis=1)[:, 1:]) ** 2


def _line_db(power: np.ndarray) -> float:
    """How far the strongest bin stands out of its band, over all bands but the lowest, in dB."""
    bands = power.reshape(-1, BAND)[1:]
    return 10 * np.log10((bands.max(axis=1) / np.maximum(np.median(bands, axis=1), 1e-12)).max() + 1e-12)
