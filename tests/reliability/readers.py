"""Readers to fuzz: a valid file of each kind, and a function that reads it and raises, or returns finite values."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import yaml
from conftest import build_bank, sound, tone
from source_files import write_font
from tones import write

from cirlib.audio.io import read_audio, read_long
from cirlib.common.settings import from_dict, read_params
from cirlib.data.bank import NoteBank
from cirlib.data.card import text_card
from cirlib.data.note_statistics import NoteStatistics, count_notes, default_duration, read_midi
from cirlib.data.sources import sfz, soundfont
from cirlib.evaluation.open_mixtures import Presence
from cirlib.models.encoder import AudioEncoder
from cirlib.search.library import Library
from cirlib.training.config import TrainConfig, read_config

SETTINGS = {"preset": "p", "experiment": "x", "steps": 10, "families": ["Bass", "Piano"], "hard_negative_ratio": 0.5, "start_lr": 1e-3}


@dataclass
class Reader:
    """A kind of file: `make(folder)` writes a valid one and what belongs to it; `read(file)` reads it."""

    make: Callable[[Path], Path]
    read: Callable[[Path], None]
    json: bool = False  # its structure is mutated too
    share: float = 1.0  # of the inputs; smaller for slow readers


def finite(values) -> None:
    """Assert that all numbers are finite."""
    assert np.isfinite(np.asarray(values, float)).all(), "not finite"


def _bank(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        sounds = [sound(f"a/b/{i % 3}", tone(50 + i, 0.05), pitch=None if i == 5 else 50.0 + i) for i in range(9)]
        return build_bank(folder / "bank", sounds).paths[0] / name

    return make


def _read_bank(file: Path) -> None:
    bank = NoteBank.open(file.parent)
    for i in range(min(len(bank), 50)):
        assert len(bank.audio(i)) == bank.lengths[i]
        finite(bank.audio(i))
    bank.read_ahead([0], [100])
    text_card(bank)
    assert bank.instruments.reference.notna().all()
    bank.verify()


def _audio(kind: str, **options) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return write(folder / f"x.{kind}", np.stack([tone(60, 0.2), tone(67, 0.2)], axis=1), 22050, **options)

    return make


def _read_audio(file: Path) -> None:
    """Read a file as a sound of a bank, then as a query."""
    audio = read_audio(file, 10.0)
    finite(audio)
    assert audio.ndim == 1 and len(audio)
    finite(read_long(file))


def _sfz(folder: Path) -> Path:
    write(folder / "s" / "a.wav", tone(60, 0.1), 48000)
    (folder / "more.h").write_text("<region> sample=a.wav key=62 ampeg_release=0.1\n")
    text = "<control> default_path=s/\n#define $K 60\n// all\n<global> volume=-3 loop_mode=one_shot\n<group> lovel=1 hivel=127\n"
    text += '<region> sample=a.wav key=$K pitch_keycenter=60 cutoff=900 fil_type=lpf_2p\n<region> sample=*saw key=61\n#include "more.h"\n'
    (folder / "x.sfz").write_text(text)
    return folder / "x.sfz"


def _read_sfz(file: Path) -> None:
    config = sfz.SfzConfig(str(file.parent), notes=1, hold_s=0.02, tail_s=0.02)
    for item in sfz.render_instrument(uid="a", file=str(file), family=None, split="train", config=config):
        finite(getattr(item, "audio", 0))


def _font(folder: Path) -> Path:
    return write_font(folder / "x.sf2", copyright=b"free")


def _read_font(file: Path) -> None:
    assert isinstance(soundfont.read_license(file), str)
    for bank, program, name in soundfont.read_presets(file)[:50]:
        soundfont.preset_family(bank, program, name=name, general_midi=True)


def _play_font(file: Path) -> None:
    """Render a short note of the first preset, as a build does."""
    bank, program, _ = soundfont.read_presets(file)[0]
    config = soundfont.SoundFontConfig(notes=1, hold_s=0.05, tail_s=0.05)
    preset = {"uid": "a", "file": str(file), "bank": bank, "program": program, "family": None, "split": "train"}
    for item in soundfont.render_preset(**preset, config=config):
        finite(getattr(item, "audio", 0))


def _checkpoint(folder: Path) -> Path:
    return AudioEncoder.create("cnn", seconds=0.25, width=1, dim=4, outputs=2, heads=("Bass",)).save(folder / "x.pt", step=3)


def _read_checkpoint(file: Path) -> None:
    finite(AudioEncoder.load(file).embed([np.float32(tone(60, 0.1))]))


def _ast(folder: Path) -> Path:
    from cirlib.models.encoder import EncoderConfig

    shape = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "patch_size": 16}
    shape |= {"time_stride": 12, "frequency_stride": 12, "max_length": 32, "num_mel_bins": 128}
    return AudioEncoder(EncoderConfig(name="own", seconds=0.25, ast=shape)).save(folder / "x.pt")


def _params(folder: Path) -> Path:
    (folder / "x.yaml").write_text(yaml.safe_dump(SETTINGS) + "options: {a: &b [1, 2], c: 'x'}\n# end\n")
    return folder / "x.yaml"


def _read_params(file: Path) -> None:
    values = read_params(file)
    values.pop("options", None)
    from_dict(TrainConfig, values)


def _config(folder: Path) -> Path:
    (folder / "config.yaml").write_text(json.dumps({"key": "abc", "config": SETTINGS}))  # which is YAML too
    return folder / "config.yaml"


def _library(folder: Path) -> Path:
    bank = _bank("bank.json")(folder).parent
    return Library.build(bank, folder / "lib", AudioEncoder.create("cnn", seconds=0.25, width=1, dim=4).eval()).path / "library.json"


def _read_library(file: Path) -> None:
    library = Library.open(file.parent)
    assert library.describe()["sounds"] == 3
    finite(library.search(tone(60, 0.2)).distance)


def _presence(folder: Path) -> Path:
    return Presence(["Bass", "Piano"], np.ones((2, 4)), np.zeros(2)).save(folder / "presence.json", "abc")


def _read_presence(file: Path) -> None:
    if (presence := Presence.load(file, "abc")) is not None:
        finite(presence(np.ones((1, 4))))


def _score(folder: Path) -> Path:
    import pretty_midi

    score = pretty_midi.PrettyMIDI(initial_tempo=100)
    score.instruments = [pretty_midi.Instrument(p, is_drum=p == 5, name="x") for p in (0, 5, 33)]
    for part in score.instruments:
        part.notes = [pretty_midi.Note(80, 40 + i, 0.1 * i, 0.1 * i + 0.3) for i in range(8)]
    score.write(str(folder / "x.mid"))
    return folder / "x.mid"


def _read_score(file: Path) -> None:
    for rows in (notes := read_midi(file)).values():
        finite(rows)
    count_notes({file: notes})


def _statistics(folder: Path) -> Path:
    edges = np.linspace(-2, 1, 61).tolist()
    table = {"values": [36, 40, 43], "probabilities": [0.5, 0.25, 0.25]}
    durations = {"bin_edges": edges, "probabilities": default_duration().tolist()}
    NoteStatistics({"pitch": {"Bass": table}, "velocity": {"Bass": table}, "log_duration_s": {"Bass": durations}}).save(folder / "x.json")
    return folder / "x.json"


def _read_statistics(file: Path) -> None:
    statistics = NoteStatistics.load(file)
    for group in ("Bass", "Piano"):
        finite(statistics.draw(group, 3, np.random.default_rng(0)))


READERS = {
    "bank.json": Reader(_bank("bank.json"), _read_bank, json=True),
    "notes.parquet": Reader(_bank("notes.parquet"), _read_bank, share=2),
    "WAV": Reader(_audio("wav", subtype="PCM_24"), _read_audio),
    "WAV, float": Reader(_audio("wav", subtype="FLOAT"), _read_audio),
    "FLAC": Reader(_audio("flac"), _read_audio),
    "OGG": Reader(_audio("ogg"), _read_audio),
    "MP3": Reader(_audio("mp3"), _read_audio),
    "AIFF": Reader(_audio("aiff"), _read_audio),
    "SFZ": Reader(_sfz, _read_sfz, share=0.5),
    "SoundFont": Reader(_font, _read_font),
    "SoundFont, played": Reader(_font, _play_font, share=0.3),
    "checkpoint": Reader(_checkpoint, _read_checkpoint),
    "checkpoint of an AST": Reader(_ast, _read_checkpoint, share=0.5),
    "params": Reader(_params, _read_params),
    "config.yaml of a run": Reader(_config, lambda file: read_config(file.parent), json=True),
    "library.json": Reader(_library, _read_library, json=True, share=0.3),
    "presence.json": Reader(_presence, _read_presence, json=True),
    "MIDI": Reader(_score, _read_score),
    "note statistics": Reader(_statistics, _read_statistics, json=True),
}

assert soundfile  # loads libsndfile before processes fork
