"""Separation: Demucs is fed and read as it should (by a stand-in), a small separator learns, its files are safe, SI-SDR is what it says."""

import pickle
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RATE, hz, tone

from cirlib.evaluation import separation
from cirlib.evaluation.separation import MaskSeparator, SeparatorConfig, separate_demucs, si_sdr
from cirlib.models.encoder import AudioEncoder, EncoderConfig

TWO = ("Bass", "Synth Lead")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For sounds this short, more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def separator(families=TWO, width=4, seed=0):
    """A small separator with random weights."""
    torch.manual_seed(seed)
    return MaskSeparator(SeparatorConfig(families, width)).eval()


def noise(*shape, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


# Demucs


@pytest.fixture
def demucs(monkeypatch):
    """The stand-in: its modules `pretrained` and `apply`."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "stand_in_demucs"))
    for name in [n for n in sys.modules if n.partition(".")[0] == "demucs"]:
        monkeypatch.delitem(sys.modules, name)
    separation._demucs.cache_clear()
    yield import_module("demucs.pretrained"), import_module("demucs.apply")
    separation._demucs.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] == "demucs"]:
        del sys.modules[name]


SOURCES = {"bass": 80.0, "other": 600.0, "drums": 4000.0}  # frequency of a tone that only this source takes


def waves(samples, rate=RATE, **levels):
    """Tones (samples,) at these levels, by source."""
    time = np.arange(samples) / rate
    return {name: (level * np.sin(2 * np.pi * SOURCES[name] * time)).astype(np.float32) for name, level in levels.items()}


def middle(sound, share=0.1):
    """Without its ends, where resampling and a filter ring."""
    n = round(share * sound.shape[-1])
    return sound[..., n:-n]


@pytest.mark.parametrize(("samples", "rate"), [(16000, 16000), (15999, 16000), (11025, 22050), (22050, 44100)])
def test_demucs_gives_each_family_the_tone_of_its_source(demucs, samples, rate):
    """At its own length, rate and level, also of an odd number of samples."""
    parts = [waves(samples, rate, bass=0.5, other=0.1, drums=0.2), waves(samples, rate, bass=0.01, other=0.03, drums=0.02)]
    stems = separate_demucs([sum(p.values()) for p in parts], ["Chromatic Percussion", "Bass", "Synth Lead"], rate)
    assert (stems.shape, stems.dtype) == ((2, 3, samples), np.float32)
    for got, part in zip(stems, parts, strict=True):
        for stem, source in zip(got, ("drums", "bass", "other"), strict=True):
            np.testing.assert_allclose(middle(stem), middle(part[source]), atol=0.02 * np.abs(part[source]).max())


def test_demucs_families_of_one_source_get_the_same_stem(demucs):
    """In the order of the families: percussion from drums, Bass from bass, everything else from other."""
    mixture = sum(waves(4000, bass=0.5, other=0.1, drums=0.2).values())
    drums, bass, other = separate_demucs(mixture[None], ["Chromatic Percussion", "Bass", "Piano"])[0]
    names = ["Voice", "Drum Kit", "Synth Effects", "Bass", "Percussion", "Organ"]
    expected = [other, drums, other, bass, drums, other]
    np.testing.assert_array_equal(separate_demucs(mixture[None], names)[0], expected)
    assert np.abs(drums - other).max() > 0.1


def test_demucs_hears_a_normalised_stereo_mixture_at_its_own_rate(demucs):
    """One mixture at a time, mean 0 and deviation 1, both channels alike, not moved at random."""
    _, apply = demucs
    mixtures = np.stack([sum(waves(8000, other=level).values()) + 0.25 for level in (0.5, 0.02)])
    stems = separate_demucs(mixtures, ["Synth Lead", "Bass"])
    assert len(apply.calls) == 2
    for (heard, shifts), level in zip(apply.calls, (0.5, 0.02), strict=True):
        assert (heard.shape, shifts) == ((1, 2, 22050), 0)
        assert torch.equal(heard[0, 0], heard[0, 1])
        np.testing.assert_allclose([heard.mean(), heard.std()], [0, 1], atol=1e-3)
        again = waves(22050, 44100, other=level)["other"]
        wave = middle(heard[0, 0].numpy(), 0.2) - middle(heard[0, 0].numpy(), 0.2).mean()
        assert si_sdr(wave, middle(again, 0.2)) > 25
    np.testing.assert_allclose(middle(stems).mean(axis=2), 0.25, atol=0.01)  # as demucs' own command: the mean is in every stem


def test_demucs_is_loaded_once(demucs, tmp_path):
    """And anew for another name or folder."""
    pretrained, _ = demucs
    for _ in range(2):
        separate_demucs(noise(2, 800), TWO)
    (tmp_path / "tiny.yaml").write_text("{sources: [other, bass], samplerate: 8000}")
    for repo in (tmp_path, tmp_path, str(tmp_path)):
        assert separate_demucs(noise(2, 800), TWO, model="tiny", repo=repo).shape == (2, 2, 800)
    assert pretrained.loaded == [("htdemucs", None), ("tiny", tmp_path), ("tiny", tmp_path)]


def test_demucs_leaves_silence_silent(demucs):
    stems = separate_demucs(np.stack([np.zeros(800, np.float32), *noise(1, 800)]), TWO)
    assert not stems[0].any()
    assert stems[1].any()
    assert separate_demucs(np.zeros((0, 800)), TWO).shape == (0, 2, 800)


def test_demucs_without_the_source_of_a_family(demucs, tmp_path):
    (tmp_path / "tiny.yaml").write_text("{sources: [bass, other]}")
    with pytest.raises(ValueError, match=r"^unknown source of Demucs 'tiny' 'drums'; valid: bass, other$"):
        separate_demucs(noise(1, 800), ["Bass", "Chromatic Percussion"], model="tiny", repo=tmp_path)


def test_demucs_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "demucs", None)
    separation._demucs.cache_clear()
    with pytest.raises(ValueError, match=r"^stems by Demucs need the package demucs: pip install demucs$"):
        separate_demucs(noise(1, 800), TWO)


def test_demucs_weights_that_cannot_be_had(demucs, tmp_path, monkeypatch):
    """One line says where they are looked for; nothing ends the process."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/hub")
    with pytest.raises(OSError, match=r"^the weights of Demucs 'htdemucs_ft' cannot be loaded \(URLError: .* not known.*\): ") as caught:
        separate_demucs(noise(1, 800), TWO, model="htdemucs_ft")
    assert "/hub/checkpoints" in str(caught.value)
    assert str(caught.value).endswith("give `repo`, a local folder with htdemucs_ft.yaml and the .th files that it names")
    assert "\n" not in str(caught.value)
    for repo in (tmp_path, tmp_path / "none"):
        with pytest.raises(OSError, match=rf"\(.*\): {repo} must be a folder with htdemucs.yaml and the .th files that it names$"):
            separate_demucs(noise(1, 800), TWO, repo=repo)


def test_demucs_that_lacks_a_package_of_its_own(demucs, monkeypatch):
    """It prints that and ends the process."""
    monkeypatch.setattr(demucs[0], "get_model", lambda *_: sys.exit(1))
    with pytest.raises(OSError, match=r"cannot be loaded \(SystemExit: 1\)"):
        separate_demucs(noise(1, 800), TWO)


BAD = {
    "one sound": (np.zeros(800), r"mixtures must be mono, \(batch, samples\) with at least one sample, got shape \(800,\)"),
    "empty": (np.zeros((2, 0)), r"mixtures must be mono, .* got shape \(2, 0\)"),
    "stereo": (np.zeros((2, 2, 800)), r"mixtures must be mono, .* got shape \(2, 2, 800\)"),
    "nan": (np.full((2, 800), np.nan), "mixtures hold NaN or infinite samples"),
    "inf": (np.array([[0.1, np.inf]]), "mixtures hold NaN or infinite samples"),
}


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD)
def test_unusable_mixtures(demucs, bad, message):
    for separate in (separator().separate, lambda x: separate_demucs(x, TWO)):
        with pytest.raises(ValueError, match=f"^{message}$"):
            separate(bad)


def test_demucs_unknown_family(demucs):
    with pytest.raises(ValueError, match=r"unknown family 'Base' \(did you mean 'Bass'\?\)"):
        separate_demucs(noise(1, 800), ["Base"])


# The small separator


def low_and_high(count, seed, samples=8000):
    """Mixtures (count, T) of a low and a high tone, and these two (count, 2, T): own pitches, levels and onsets."""
    rng, stems = np.random.default_rng(seed), np.zeros((count, 2, samples), np.float32)
    for pair in stems:
        for stem, lowest in zip(pair, (40, 75), strict=True):
            start, level = rng.integers(samples // 2), rng.uniform(0.05, 0.5)
            stem[start:] = tone(rng.uniform(lowest, lowest + 12), 1.0, level)[: samples - start]
    return stems.sum(axis=1), stems


@pytest.fixture(scope="module")
def trained():
    """A separator that learned to tell low from high tones."""
    torch.manual_seed(0)
    model = MaskSeparator(SeparatorConfig(TWO, width=8))
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(30):
        loss = model.loss(*map(torch.from_numpy, low_and_high(4, seed=step)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def test_separator_learns(trained):
    """Tones that it never heard come apart, each family in its place."""
    mixtures, stems = low_and_high(16, seed=1000)
    gain = si_sdr(trained.separate(mixtures), stems) - si_sdr(mixtures[:, None], stems)
    assert gain.mean(axis=0).min() > 10
    right, wrong = (trained.loss(torch.from_numpy(mixtures), torch.from_numpy(s)).item() for s in (stems, stems[:, ::-1].copy()))
    assert right < wrong / 1.5


def test_any_level_is_heard_alike(trained):
    """80 dB below the mixtures that it learned from, too; a family that plays alone keeps its sound."""
    mixtures, stems = low_and_high(4, seed=1001)
    np.testing.assert_allclose(1e4 * trained.separate(1e-4 * mixtures), trained.separate(mixtures), atol=1e-4)
    for family in (0, 1):
        assert si_sdr(trained.separate(stems[:, family])[:, family], stems[:, family]).min() > 15


@pytest.mark.parametrize("samples", [1, 255, 513, 8001, 16000])
@pytest.mark.parametrize("families", [TWO[:1], TWO, ("Bass", "Piano", "Organ")], ids=len)
def test_stems_have_the_length_of_the_mixture_and_sum_to_it(samples, families):
    model, mixtures = separator(families), noise(3, samples)
    stems = model.separate(mixtures)
    assert (stems.shape, stems.dtype) == ((3, len(families), samples), np.float32)
    np.testing.assert_allclose(stems.sum(axis=1), mixtures, atol=1e-6)
    assert len(families) == 1 or np.abs(stems[:, 0] - stems[:, 1]).max() > 1e-4


def test_a_single_family_has_the_whole_mixture():
    """Then the loss is the distance of the magnitudes, whatever the weights."""
    model, mixtures = separator(TWO[:1]), torch.from_numpy(noise(2, 8000))
    assert model.loss(mixtures, mixtures[:, None]).item() == pytest.approx(0, abs=1e-6)
    spectrum = torch.stft(mixtures, 1024, 256, window=torch.hann_window(1024), pad_mode="constant", return_complex=True)
    flatness = [np.abs(x).mean() / np.sqrt((np.abs(x) ** 2).mean()) for x in spectrum.numpy()]
    expected, gains = np.mean([0.75 * flatness[0], 3.0 * flatness[1]]), torch.tensor([0.25, 4.0])[:, None, None]
    for levels in (1.0, 1.0), (100.0, 0.01):
        mixed = torch.tensor(levels)[:, None] * mixtures
        assert model.loss(mixed, gains * mixed[:, None]).item() == pytest.approx(expected, rel=1e-3)


def test_silence_stays_silent_and_gradients_finite():
    """Of a silent mixture, and of a stem that rests in one that is not."""
    model = separator()
    assert not model.separate(np.zeros((2, 3000))).any()
    mixtures = noise(2, 3000)
    for mixed, stems in ((0 * mixtures, 0 * mixtures), (mixtures, mixtures)):
        model.zero_grad()
        model.train().loss(torch.from_numpy(mixed), torch.from_numpy(np.stack([stems, 0 * stems], axis=1))).backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_gradients_reach_every_weight_and_flow_through_stems():
    """Both from the loss and from the waveforms."""
    mixtures, stems = map(torch.from_numpy, low_and_high(2, seed=0))
    for loss in (lambda m: m.loss(mixtures, stems), lambda m: m(mixtures)[:, 0].square().sum()):
        model = separator().train()
        loss(model).backward()
        assert [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("shape", [(2, 3, 800), (2, 2, 799), (1, 2, 800), (2, 800)], ids=str)
def test_stems_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"^stems must be \(B, 2, T\), one per family of mixtures \(B, T\), got "):
        separator().loss(torch.zeros(2, 800), torch.zeros(shape))


def test_separate_in_batches_leaves_the_model_as_it_was(trained):
    """In eval mode, with no gradients; a model in training goes on as before."""
    mixtures, _ = low_and_high(5, seed=3)
    stems, state = trained.separate(mixtures), {k: v.clone() for k, v in trained.state_dict().items()}
    np.testing.assert_allclose(trained(torch.from_numpy(mixtures)).detach(), stems, atol=1e-6)
    assert not trained.training
    trained.train()
    np.testing.assert_allclose(trained.separate(mixtures, batch=2), stems, atol=1e-6)
    assert trained.training
    trained.eval()
    assert all(torch.equal(v, state[k]) for k, v in trained.state_dict().items())
    assert trained.separate(np.zeros((0, 800))).shape == (0, 2, 800)


@pytest.mark.parametrize("families", [(), ("Bass", "Bass")], ids=len)
def test_families_must_differ(families):
    with pytest.raises(ValueError, match=r"families must be one or more different ones, got (none|Bass, Bass)"):
        separator(families)


# Files


def test_checkpoint_gives_the_same_stems(trained, tmp_path):
    """Families in their order; plain data beside them, and no file but the checkpoint."""
    path = trained.save(tmp_path / "separator.pt", step=7)
    loaded, (mixtures, _) = MaskSeparator.load(path), low_and_high(2, seed=4)
    assert (loaded.config, loaded.training) == (SeparatorConfig(("Bass", "Synth Lead"), 8), False)
    np.testing.assert_array_equal(loaded.separate(mixtures), trained.separate(mixtures))
    custom = torch.load(path, weights_only=True)["custom_config"]
    assert (custom["model"]["sr"], custom["step"]) == (16000, 7)
    assert [p.name for p in tmp_path.iterdir()] == ["separator.pt"]


def test_missing_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no checkpoint .*none\.pt: train one with notebooks/02_train.ipynb$"):
        MaskSeparator.load(tmp_path / "none.pt")


def test_damaged_checkpoint(tmp_path):
    """Cut short, empty, or no such file at all."""
    whole = separator().save(tmp_path / "whole.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"RIFF not a checkpoint"):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.pt is damaged or no checkpoint of a separator \(.*\)$"):
            MaskSeparator.load(tmp_path / "bad.pt")


def changed(**changes):
    """A checkpoint of a separator whose configuration is not that of its weights."""
    config = {"families": ["Bass", "Piano"], "width": 4, **changes}
    return {"model_state_dict": separator().net.state_dict(), "custom_config": {"model": {}, "cirlib": config}}


FOREIGN = {
    "a list": ([1, 2], "is no checkpoint of a separator: it lacks model_state_dict or custom_config"),
    "a state dict alone": ({"weight": torch.zeros(2)}, "is no checkpoint of a separator: it lacks model_state_dict"),
    "no configuration": ({"model_state_dict": {}}, "lacks model_state_dict or custom_config"),
    "another model": ({"model_state_dict": {}, "custom_config": {"model": {}}}, "does not fit a separator .*cirlib"),
    "configuration is text": ({"model_state_dict": {}, "custom_config": "none"}, "does not fit a separator"),
    "no weights": ({**changed(), "model_state_dict": {}}, "does not fit a separator"),
    "other weights": (changed(width=8), "does not fit a separator"),
    "other families": (changed(families=["Bass"]), "does not fit a separator"),
    "unknown option": (changed(colour="red"), "does not fit a separator .*unknown SeparatorConfig parameter 'colour'"),
    "option of a wrong type": (changed(width="8"), "does not fit a separator .*SeparatorConfig.width must be int"),
}


@pytest.mark.parametrize(("content", "message"), FOREIGN.values(), ids=FOREIGN)
def test_foreign_checkpoint(tmp_path, content, message):
    """One sentence, on one line, that names the file."""
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(ValueError, match=rf"foreign\.pt .*{message}") as caught:
        MaskSeparator.load(tmp_path / "foreign.pt")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_encoders_and_separators_are_not_taken_for_each_other(tmp_path):
    encoder = AudioEncoder(EncoderConfig(seconds=1.0, width=8, dim=16)).save(tmp_path / "encoder.pt")
    with pytest.raises(ValueError, match=r"encoder\.pt does not fit a separator"):
        MaskSeparator.load(encoder)
    with pytest.raises(ValueError, match=r"separator\.pt does not fit an encoder"):
        AudioEncoder.load(separator().save(tmp_path / "separator.pt"))


class Evil:
    """Code that unpickling would run."""

    def __reduce__(self):
        return (open, ("ran", "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_code_is_never_run(tmp_path, monkeypatch, write):
    """A pickle that would open a file is refused before it does."""
    monkeypatch.chdir(tmp_path)
    with open("evil.pt", "wb") as file:
        write({"model_state_dict": Evil(), "custom_config": {}}, file)
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        MaskSeparator.load("evil.pt")
    assert not (tmp_path / "ran").exists()


# SI-SDR


def test_si_sdr_of_a_known_answer():
    """Noise of a tenth of the amplitude at a right angle is 20 dB below, whatever the scale, the sign and the mean."""
    time = np.arange(RATE) / RATE
    target, rest = np.cos(2 * np.pi * hz(69) * time), np.sin(2 * np.pi * hz(69) * time)
    assert si_sdr(target + 0.1 * rest, target) == pytest.approx(20)
    assert si_sdr(-3 * (target + 0.1 * rest), 0.01 * target) == pytest.approx(20)
    assert si_sdr(target + rest, target) == pytest.approx(0, abs=1e-9)
    assert si_sdr(target + 2 * rest, target) == pytest.approx(-10 * np.log10(4))
    assert si_sdr(target + 0.5, target) == pytest.approx(10 * np.log10(0.5 / 0.25))  # a constant is an error
    assert si_sdr([3.0, 4.0], [1.0, 0.0]) == pytest.approx(10 * np.log10(9 / 16))


def test_si_sdr_of_many_sounds():
    target, rest = noise(2, 3, 500), noise(2, 3, 500, seed=1)
    got = si_sdr(target + rest, target)
    assert got.shape == (2, 3)
    assert got[1, 2] == pytest.approx(si_sdr(target[1, 2] + rest[1, 2], target[1, 2]))
    np.testing.assert_allclose(si_sdr(target[:, :1], target).shape, (2, 3))


def test_si_sdr_without_an_answer():
    """Perfect, silent and unrelated estimates; a silent target."""
    sound, silence = np.array([1.0, 0.0, -2.0]), np.zeros(3)
    assert si_sdr(2 * sound, sound) == np.inf
    assert si_sdr(silence, sound) == si_sdr([0.0, 1.0, 0.0], sound) == -np.inf
    assert np.isnan(si_sdr(sound, silence))
    assert np.isnan(si_sdr(silence, silence))
