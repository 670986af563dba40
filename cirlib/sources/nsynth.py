"""NSynth from its official release (Engel et al. 2017, magenta.tensorflow.org/datasets/nsynth, CC BY 4.0).

`path` holds the folders nsynth-train, nsynth-valid and nsynth-test, or their tarballs, which are unpacked beside themselves;
`download` fetches what is missing. The official splits share instruments between valid and test: here an instrument
belongs to one split. Those of nsynth-train train; within each family, the others alternate between test and valid.
Pitch ranges and excluded instruments: taxonomy of the paper (families.py). `protocol="strict"` leaves out noise-only files
(magenta issue 2092) and every excluded instrument; `paper` keeps the noise, noted, and the two instruments that a missing
comma left in the reference's data.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bank import NoteBank
from ..builder import Remark, Sound, build_once, note_row
from ..config import choose
from ..families import NSYNTH, NSYNTH_EXCLUDED, NSYNTH_KEPT_BY_REFERENCE, fx_tags
from .audio import Unusable, read_audio
from .download import download, extract

VERSION = 1
URL = "http://download.magenta.tensorflow.org/datasets/nsynth/"
PARTS = ("train", "valid", "test")
HOLD_S = 3.0
LICENSE = "CC BY 4.0"
CITATION = "Engel et al., Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders, ICML 2017 (NSynth)"
SEGMENT, SEGMENTS, BAND = 4096, 8, 32  # of the noise detector: samples, number, bins of a band
NOISE_DB = 9.0  # strongest line over its band


@dataclass
class NSynthConfig:
    """What to read."""

    path: str = "data/downloads/nsynth"  # folder of nsynth-train, nsynth-valid, nsynth-test or their .jsonwav.tar.gz
    download: bool = False  # fetch what is missing (23 GB; 40 GB unpacked)
    protocol: str = "strict"  # or paper
    url: str = URL  # of the tarballs


def build(path: Path, config: NSynthConfig, n_jobs: int = -1) -> NoteBank:
    """Read the release into a NoteBank at `path`; nothing is done if that very bank is there already."""
    choose("protocol", config.protocol, ("strict", "paper"))
    folders = {part: _folder(Path(config.path), part, config) for part in PARTS}
    notes, digest = {}, hashlib.sha256()
    for part, folder in folders.items():
        file = folder / "examples.json"
        digest.update(file.read_bytes())
        for name, values in _read_examples(file).items():
            notes.setdefault(values["instrument_str"], []).append((part, name, values))
    jobs, remarks = _jobs(notes, folders, config.protocol)
    spec = {"source": "nsynth", "version": VERSION, "protocol": config.protocol, "inputs": digest.hexdigest()}
    meta = {"source": "nsynth", "license": LICENSE, "citation": CITATION}
    return build_once(path, spec, jobs, read_instrument, meta, n_jobs=n_jobs, remarks=remarks)


def _folder(root: Path, part: str, config: NSynthConfig) -> Path:
    """The extracted folder of a split: found, unpacked or downloaded; FileNotFoundError that says how to get it."""
    name = f"nsynth-{part}"
    if (root / name / "examples.json").is_file():
        return root / name
    archive = root / f"{name}.jsonwav.tar.gz"
    if not archive.exists() and not config.download:
        raise FileNotFoundError(
            f"no {name}/examples.json and no {archive.name} in {root}: set path to the folder that holds the NSynth release "
            f"({URL}), or set download to true"
        )
    if not archive.exists():
        download(config.url + archive.name, archive)
    try:
        return extract(archive, name, "examples.json")
    except OSError as error:
        if not config.download or error.errno:
            raise
        archive.unlink()
        raise OSError(f"{archive.name} from {config.url} was no NSynth archive and was deleted: {error}") from None


def _read_examples(file: Path) -> dict[str, dict]:
    """note_str -> the few fields that matter; the others are dropped while reading (289,205 notes in train)."""
    keep = ("instrument_str", "instrument_family_str", "instrument_source_str", "pitch", "velocity", "qualities_str")

    def small(values: dict) -> dict:
        return {k: values[k] for k in keep} if "instrument_str" in values else values

    try:
        return json.loads(file.read_text(), object_hook=small)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{file} is not the metadata of NSynth ({type(error).__name__}: {error}): unpack the archive again") from None


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
        inside = [(str(folders[part] / "audio" / f"{n}.wav"), v) for part, n, v in sorted(rows, key=lambda r: r[1])]
        chosen = [(file, v["pitch"], v["velocity"], "reverb" in v["qualities_str"]) for file, v in inside if low <= v["pitch"] <= high]
        if outside := len(inside) - len(chosen):
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
    for file, pitch, velocity, reverb in notes:
        name = Path(file).stem
        try:
            audio = read_audio(Path(file))
        except FileNotFoundError:
            yield Remark(name, "no such file")
            continue
        except (Unusable, OSError) as error:
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
    told there, and a sound that is mostly there is no noise.
    """
    count = min(SEGMENTS, len(audio) // SEGMENT)
    if count < 2:
        return False
    segments = audio[: count * SEGMENT].reshape(count, SEGMENT) * _WINDOW  # (K, N)
    power = np.abs(np.fft.rfft(segments, axis=1)[:, 1:]) ** 2  # (K, N / 2)
    mean = (power / np.maximum(power.sum(axis=1, keepdims=True), 1e-9)).mean(axis=0)  # (N / 2,)
    bands = mean.reshape(-1, BAND)
    stands_out = bands.max(axis=1) / np.maximum(np.median(bands, axis=1), 1e-12)
    if bands[0].sum() > 0.8:  # most power under 125 Hz: a low tone, or a rumble that is not worth keeping out
        return False
    return bool(stands_out[1:].max() < 10 ** (NOISE_DB / 10))
