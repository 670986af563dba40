"""The folder of a released encoder: made from a run by one command, described by its card, refused where its sounds are tested."""

import dataclasses
import json
import sys
from unittest.mock import patch

import numpy as np
import pytest
from conftest import build_bank, tone_sounds

from cirlib.common.paths import FIGURES
from cirlib.data.trained_on import check_unseen, describe
from cirlib.evaluation.open_mixtures import Presence
from cirlib.evaluation.protocol import Retriever, embed_mixtures, embed_test
from cirlib.models import pretrained
from cirlib.models.encoder import AudioEncoder, digest
from cirlib.reporting.model_card import model_card
from cirlib.reporting.release import main, release
from cirlib.search.library import load_trained
from cirlib.training.loop import fit

TABLE = """| three-instrument mixtures | distance | top-1 | top-5 |
|---|---|---|---|
| chance | | 0.3 | 1.5 |
| MFCC | l2 | 1.7 (1.0 to 2.0) | 5.6 (5.0 to 6.0) |
| triplet | l2 | 9.9 (9.0 to 10.0) | 19.9 (19.0 to 20.0) |
| cirlib-small | cosine | 61.2 (60.0 to 62.0) | 85.0 (84.0 to 86.0) |

Percent, with 95 % intervals.
"""


@pytest.fixture
def run(config):
    """A trained run of an encoder with heads."""
    return fit(dataclasses.replace(config, task="family", loss="family-infonce", batch_size=24, steps=2, valid_every=2), show=False)


@pytest.fixture
def figures(tmp_path):
    """Tables of two presets, one without a row of the encoder."""
    for preset, text in (("demo", TABLE), ("other", TABLE.replace("cirlib-small", "infonce"))):
        (tmp_path / "figures" / preset).mkdir(parents=True)
        (tmp_path / "figures" / preset / "table_mixture.md").write_text(text)
    return tmp_path / "figures"


def test_release_of_a_run(run, tmp_path, figures, monkeypatch):
    """Weights, settings, ONNX file, presence and card, all from the files of the run; a second release replaces the first."""
    runtime = pytest.importorskip("onnxruntime")
    trained = AudioEncoder.load(run.checkpoint)
    presence = Presence(["Bass", "Piano"], np.ones((2, trained.head_dim)), np.zeros(2))
    presence.save(run.folder / "presence.json", digest(trained))
    folder = release(run.checkpoint, tmp_path / "small", figures)
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "model.onnx", "presence.json", "README.md"}
    encoder, clips = AudioEncoder.load(folder), 0.1 * np.random.default_rng(0).standard_normal((2, 8000)).astype(np.float32)
    np.testing.assert_allclose(encoder.embed(clips), trained.embed(clips), atol=5e-3)
    session = runtime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"waveforms": clips})[0], encoder.embed(clips), atol=1e-5)
    small, large = ((folder / "model.onnx").stat().st_size, sum(p.numel() for p in encoder.parameters()) * 4)
    assert small < 0.8 * large, "weights of the ONNX file are not stored as float16"
    assert Presence.load(folder / "presence.json", digest(encoder)).families == ["Bass", "Piano"]
    (run.folder / "presence.json").unlink()
    release(run.checkpoint, folder, figures)
    assert not (folder / "presence.json").exists()
    monkeypatch.setattr(pretrained, "PLACE", folder)
    assert load_trained(None)[1:] == ("cirlib-small", "cosine")


def test_totals_include_the_run_that_is_continued(run, config, tmp_path, figures, monkeypatch):
    monkeypatch.setattr("cirlib.reporting.release.curve", lambda folder: [{"minutes": 1}, {"minutes": 3}])
    family = {"task": "family", "loss": "family-infonce", "batch_size": 24, "steps": 2, "valid_every": 2}
    second = fit(dataclasses.replace(config, **family, encoder=str(run.checkpoint), experiment="second"), show=False)
    folders = [release(one.checkpoint, tmp_path / one.folder.parent.name, figures) for one in (run, second)]
    first, both = (json.loads((folder / "config.json").read_text())["training"] for folder in folders)
    assert (first["clips_seen"], both["clips_seen"]) == (48, 96) and both["settings"]["encoder"].endswith("best.pt")
    assert (first["minutes"], both["minutes"]) == (3, 6)


def test_the_card_is_written_from_files(run, tmp_path, figures):
    """Data with licence, command, minutes, and the numbers of each benchmark beside those of the baselines."""
    folder = release(run.checkpoint, tmp_path / "small", figures)
    card, about = (folder / "README.md").read_text(), json.loads((folder / "config.json").read_text())
    assert card.startswith("---\nlicense: mit\n") and card == model_card(folder, figures)
    assert "| tones | tones | 27 | 324 | train, valid | CC0-1.0 |" in card
    assert "make reproduce PRESET=test ROWS=multi-infonce SEEDS=0" in card and "48 clips in batches of 24, loss `family-infonce`" in card
    assert f"{about['training']['minutes']:,.0f} minutes on CPU" in card and "single, mix, Chromatic Percussion, Bass, Synth Lead" in card
    assert about["digest"] in card and "### demo: table_mixture" in card and "### other" not in card
    expected = [line for line in TABLE.splitlines() if not line.startswith("| triplet")]
    assert "\n".join(expected) in card
    assert "Not tested yet." in model_card(folder, tmp_path / "none")


def test_release_from_the_shell(run, tmp_path, capsys):
    with patch.object(sys, "argv", ["release", str(run.checkpoint), str(tmp_path / "small")]):
        main()
    assert [line.split(": ")[0].split("/")[-1] for line in capsys.readouterr().out.splitlines()] == sorted(
        p.name for p in (tmp_path / "small").iterdir()
    )
    AudioEncoder.create("cnn", seconds=0.5, width=4, dim=8).save(tmp_path / "alone" / "best.pt")
    for checkpoint in (tmp_path / "alone" / "best.pt", tmp_path / "none.pt"):
        with (
            patch.object(sys, "argv", ["release", str(checkpoint)]),
            pytest.raises(SystemExit, match=r"^error: no (run|checkpoint) [^\n]+$"),
        ):
            main()
    assert not (tmp_path / "alone" / "config.json").exists()


def test_a_checkpoint_that_does_not_describe_its_sounds(run, tmp_path, tone_bank):
    """It was trained before checkpoints did: the banks of its run are described."""
    encoder = AudioEncoder.load(run.checkpoint)
    assert encoder.trained_on == describe(tone_bank)
    encoder.trained_on = []
    encoder.save(run.checkpoint)
    assert AudioEncoder.load(release(run.checkpoint, tmp_path / "small", FIGURES)).trained_on == describe(tone_bank)


def moved(sound):
    """Make a training instrument a test instrument and the other way round."""
    swap = {"train": "test", "test": "train"}
    sound.row["split"] = swap.get(sound.row["split"], sound.row["split"])
    return sound


def test_an_encoder_is_not_tested_on_its_training_sounds(run, tmp_path, tone_bank, config):
    """Its own bank may be tested; another bank, whose test instruments it was trained on, may not, whichever test it is."""
    retriever = Retriever(AudioEncoder.load(run.checkpoint))
    embed_test(retriever, tone_bank, dataclasses.replace(config, queries=2))
    sounds = [moved(s) for s in tone_sounds() if s.row["augments"] is None]
    other = build_bank(tmp_path / "other", sounds)
    with pytest.raises(
        ValueError, match=r"^this encoder was trained on 18 of the 18 test instruments, such as tones/train/.* \(bank tones\): test it"
    ):
        embed_test(retriever, other, dataclasses.replace(config, tests=("single",)))
    with pytest.raises(ValueError, match=r"^this encoder was trained on 18 of the 18"):
        embed_mixtures(retriever, config.mixtures(other, "test", 2, 0))
    embed_mixtures(retriever, config.mixtures(other, "valid", 2, 0))
    embed_test(Retriever(AudioEncoder.create("cnn", seconds=0.5).eval()), other, dataclasses.replace(config, queries=2))


def test_sounds_of_earlier_training_are_kept(run, config, tone_bank, tmp_path):
    """An encoder that goes on from another one was trained on the sounds of both; without steps, on those of the other."""
    start = AudioEncoder.load(run.checkpoint)
    start.trained_on = [{**describe(tone_bank)[0], "bank": "first"}]
    path = str(start.save(tmp_path / "start.pt"))
    more = dataclasses.replace(config, encoder=path, experiment="more", loss="multi-infonce", steps=1, valid_every=1)
    assert [bank["bank"] for bank in AudioEncoder.load(fit(more, show=False).checkpoint).trained_on] == ["first", "tones"]
    tested = fit(dataclasses.replace(more, experiment="tested", steps=0), show=False)
    encoder = AudioEncoder.load(tested.checkpoint)
    assert [bank["bank"] for bank in encoder.trained_on] == ["first"]
    assert encoder.config.heads == start.config.heads and digest(encoder) == digest(start), "a row without steps tests the encoder as it is"


def test_describe_several_banks(tone_bank, tmp_path):
    """An entry for each; instruments of the test split are not in it."""
    one = build_bank(tmp_path / "one", [s for s in tone_sounds()[:24]])
    two = build_bank(tmp_path / "two", tone_sounds()[-24:])
    both = type(one).open([tmp_path / "one", tmp_path / "two"])
    entries = describe(both)
    assert [entry["bank"] for entry in entries] == ["one", "two"] and entries == describe(one) + describe(two)
    assert entries[0]["instruments"] == 1 and entries[0]["splits"] == ["train"] and len(entries[0]["used"]) == 12
    assert (entries[1]["instruments"], entries[1]["sounds"], entries[1]["used"]) == (0, 0, "")
    check_unseen(entries, ["tones/test/Bass0"])
    with pytest.raises(ValueError, match="this encoder was trained on 1 of the 2 test instruments"):
        check_unseen(entries, ["tones/test/Bass0", one.notes.instrument[0]])
