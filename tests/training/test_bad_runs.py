"""Training, tests and libraries on extreme banks, files and checkpoints: finite numbers, or one clear error."""

import json

import numpy as np
import pytest
import soundfile
import torch
from awful import ODD_NAMES, assert_clear, banks, done_or_refused, examples, finite, sounds
from conftest import build_bank, make, sound, tone
from hypothesis import given
from hypothesis import strategies as st
from tones import write

from cirlib.data.builder import BankBuilder
from cirlib.data.sources import folder
from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.evaluation import open_mixtures, protocol
from cirlib.evaluation.baselines import Features
from cirlib.evaluation.protocol import Retriever
from cirlib.models.encoder import AudioEncoder
from cirlib.search.library import Library
from cirlib.training.config import TrainConfig
from cirlib.training.loop import TrainingError, fit

ROWS = [
    {"task": "mixture", "loss": "multi-infonce"}, {"task": "mixture", "loss": "triplet"}, {"task": "single", "loss": "infonce"},
    {"task": "single", "loss": "triplet"}, {"task": "classify", "loss": "instrument"}, {"task": "family", "loss": "family-infonce"},
]  # fmt: skip


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return AudioEncoder.create("cnn", seconds=0.06, width=8, dim=8).eval()


def settings_of(bank, **values) -> TrainConfig:
    """Return settings of a run of one step on a bank."""
    values = {"queries": 3, "valid_size": 3, "seconds": 0.06, "steps": 1, "epoch_size": 6, **values}
    return TrainConfig(preset="bad", bank=(str(bank.paths[0]),), **values)


def numbers(value) -> list[float]:
    """Return all numbers in nested plain data."""
    if isinstance(value, dict):
        return [n for v in value.values() for n in numbers(v)]
    if isinstance(value, list):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, (int, float)) else []


def metrics_of(retriever, bank, config) -> dict:
    """Return the metrics that 03_retrieve stores."""
    found = protocol.embed_test(retriever, bank, config)
    assert finite(found.gallery, found.mixtures, found.singles)
    _, result = protocol.score(found, bank, config)
    return {**result, "self_match": protocol.self_match(found, config.metric)}


@examples(12)
@given(data=st.data(), bank=banks())
def test_metrics_are_finite_or_refused(place, encoder, data, bank):
    bank = build_bank(place(), bank)
    tests, protocol = data.draw(st.sampled_from([("mixture",), ("single",)])), data.draw(st.sampled_from(["strict", "paper"]))
    config = settings_of(bank, tests=tests, protocol=protocol)
    for retriever in (lambda: Retriever(encoder), lambda: Features("mfcc", bank, 0.06, n_jobs=1)):
        result = done_or_refused(lambda: metrics_of(retriever(), bank, config))  # noqa: B023
        if result:
            assert finite(numbers(result)) and json.dumps(result, allow_nan=False)
    done_or_refused(lambda: open_mixtures.families_of(bank))


@examples(8)
@given(data=st.data(), bank=banks(families=("Bass", "Synth Lead")))
def test_training_gives_finite_metrics_or_is_refused(place, data, bank):
    bank = build_bank(place(), bank)
    row = {
        **data.draw(st.sampled_from(ROWS)),
        "families": ("Bass", "Synth Lead"),
        "batch_size": data.draw(st.integers(1, 16)),
        "mixtures_per_instrument": 1,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cirlib.common.paths.RUNS", place())
        run = done_or_refused(lambda: fit(settings_of(bank, **row), show=False))
    if run:
        assert finite(numbers(run.metrics), run.history.loss.dropna()) and run.checkpoint.exists()


# Files


SUBTYPES = {"float32": "FLOAT", "float64": "DOUBLE", "int16": "PCM_16"}


def written(root, rows) -> list[str]:
    """Write a file for each (name, sound, rate) and return their names; names that no file can have are skipped."""
    root.mkdir()
    there = []
    for name, audio, rate in rows:
        file = f"{name.replace('/', '_')}.wav"
        if "\0" not in file and len(file.encode()) < 200:
            soundfile.write(root / file, audio, rate, SUBTYPES[audio.dtype.name], format="WAV")
            there.append(file)
    return there


files = st.lists(
    st.tuples(st.sampled_from(ODD_NAMES) | st.text(max_size=5), sounds(longest=9000), st.sampled_from([16000, 44100, 1, 7, 2**31 - 1])),
    min_size=1, max_size=4,
)  # fmt: skip


@examples(12)
@given(rows=files)
def test_extreme_folder_is_read_or_refused(place, rows):
    there = written(root := place(), rows)
    bank = done_or_refused(lambda: folder.build(place(), folder.FolderConfig(path=str(root), seconds=0.3, estimate=False), n_jobs=1))
    if bank:
        seen = bank.infos[0]["skipped"]
        assert all(finite(bank.audio(i)) for i in range(len(bank))) and len(bank) + len(seen) >= len({f for f in there if f[0] != "."})
        assert all("Error" not in why and "\n" not in why for why in seen.values())


@examples(12)
@given(rows=files)
def test_extreme_library_is_searched_or_refused(place, encoder, rows):
    written(root := place(), rows)
    library = done_or_refused(lambda: Library.build(root, place(), encoder))
    for _, audio, rate in rows if library else ():
        found = done_or_refused(lambda: library.search(audio, sample_rate=max(rate, 8000)))  # noqa: B023
        assert found is None or finite(found.distance)


# One by one


def test_duplicated_files_are_separate_instruments(tmp_path, encoder):
    for name in ("a.wav", "b.wav", "c/a.wav"):
        write(tmp_path / "sounds" / name, tone(50))
    found = Library.build(tmp_path / "sounds", tmp_path / "library", encoder).search(tone(50))
    assert len(found) == 3 and found.distance.nunique() == 1
    bank = folder.build(tmp_path / "bank", folder.FolderConfig(path=str(tmp_path / "sounds"), estimate=False), n_jobs=1)
    assert len(bank.instruments) == 3


def test_sounds_shorter_than_a_sample_are_skipped(tmp_path, encoder):
    builder = BankBuilder(tmp_path / "bank", {}, 192000)
    builder.run({"all": {"sounds": [sound("long", tone(60)), sound("short", np.ones(1))]}}, make, n_jobs=1)
    builder.finish(["all"], {"source": "x"}, {})
    library = Library.build(tmp_path / "bank", tmp_path / "library", encoder)
    assert (library.changes.new, list(library.changes.skipped.values())) == (1, ["shorter than a sample at 16 kHz"])


def test_instruments_of_one_note_give_no_queries(tmp_path, encoder, monkeypatch):
    """Their only note is the reference note in the gallery."""
    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path / "runs")
    columns = [("a", "train"), ("b", "train"), ("c", "valid"), ("d", "test")]
    sounds = [sound(uid, tone(60 + i), split=split) for uid, split in columns for i in range(1 + (split == "train"))]
    config = settings_of(bank := build_bank(tmp_path / "bank", sounds), tests=("single",), task="single", loss="infonce", batch_size=4)
    for act, split in ((lambda: fit(config, show=False), "valid"), (lambda: metrics_of(Retriever(encoder), bank, config), "test")):
        with pytest.raises(ValueError, match=f"the bank has no sounds of {split} instruments besides their reference notes"):
            act()


def test_features_need_training_instruments(tmp_path):
    bank = build_bank(tmp_path / "bank", [sound("a", tone(60), split="test")])
    with pytest.raises(ValueError, match="no training instrument of this bank has mfcc features"):
        Features("mfcc", bank, 1.0)


def test_features_of_no_sound(tone_bank):
    assert Features("mfcc", tone_bank, 0.1).notes(tone_bank, []).shape == (0, 80)


@pytest.mark.parametrize("harm", ["cut", "shape", "settings"])
def test_a_run_whose_files_are_damaged_is_one_sentence(tone_bank, tmp_path, monkeypatch, harm):
    monkeypatch.setattr("cirlib.common.paths.RUNS", tmp_path)
    config = settings_of(tone_bank, batch_size=12, families=MIXTURE_FAMILIES)
    last = fit(config, show=False).folder / "last.pt"
    (last.parent / "train.json").unlink()
    if harm == "settings":
        (last.parent / "config.yaml").write_text("[1")
    elif harm == "cut":
        last.write_bytes(last.read_bytes()[:5000])
    else:
        torch.save({**torch.load(last), "model": AudioEncoder.create("cnn", seconds=0.06, width=8).state_dict()}, last)
    words = "config.yaml is damaged" if harm == "settings" else "last.pt is damaged or of another version"
    with pytest.raises((TrainingError, ValueError), match=f"{words} .*: delete .* and train again") as caught:
        fit(config, show=False)
    assert_clear(caught.value)
