"""Embedded virtual instruments: the same ones everywhere, audible, in tune, with twins where they belong."""

from itertools import combinations

import numpy as np
import pytest
from conftest import RATE, hz, tone
from scipy.stats import f_oneway
from tones import frequency

from cirlib.audio.io import trim
from cirlib.data.note_statistics import spread_notes
from cirlib.data.sources import virtual
from cirlib.data.sources.patches import Patch
from cirlib.data.sources.virtual import VirtualConfig, apply_effects, build, fingerprint, fingerprint_distances, render
from cirlib.data.taxonomy import FAMILIES, MIXTURE_FAMILIES, family

CONFIG = VirtualConfig(train=4, valid=2, test=2, others=0, notes=4)
SINE = Patch("<region> sample=*sine")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return build(tmp_path_factory.mktemp("virtual") / "bank", CONFIG, n_jobs=1)


def test_another_seed_makes_other_sounds(bank, tmp_path):
    """In place of the bank that was there."""
    small = {"train": 1, "valid": 0, "test": 0, "others": 0, "notes": 2}
    banks = [build(tmp_path / "bank", VirtualConfig(seed=seed, **small), n_jobs=1) for seed in (0, 1)]
    assert banks[1].infos[0]["made"]["seed"] == 1
    assert not set(banks[0].instruments.index) & set(banks[1].instruments.index)
    prints = [fingerprint(b.audio(0)) for b in banks]
    assert fingerprint_distances(prints[0], prints[1][None])[0] > CONFIG.distinct_db


def test_splits(bank):
    """As many original instruments of each mixture family as configured; others=0 means no other families."""
    counts = bank.gallery().groupby(["family", "split"]).size().to_dict()
    expected = {"train": CONFIG.train, "valid": CONFIG.valid, "test": CONFIG.test}
    assert counts == {(f, s): n for f in MIXTURE_FAMILIES for s, n in expected.items()}
    assert (bank.instruments.notes == CONFIG.notes).all()


def test_every_family_can_be_played(tmp_path):
    """The others are split 60/20/20."""
    bank = build(tmp_path / "bank", VirtualConfig(train=1, valid=0, test=0, others=5, notes=2), n_jobs=1)
    counts = bank.gallery().groupby(["family", "split"]).size().unstack(fill_value=0)
    assert set(counts.index) == set(FAMILIES)
    others = counts.drop(list(MIXTURE_FAMILIES))
    assert (others == {"train": 3, "valid": 1, "test": 1}).all(axis=None)


def test_every_note_is_usable(bank):
    """Finite, without clipping, of a level in the range that is drawn, with a pitch in the range of the family."""
    for i, note in bank.notes.iterrows():
        audio = bank.audio(i)
        peak = np.abs(audio).max()
        assert np.isfinite(audio).all() and -14.01 <= 20 * np.log10(peak) <= -0.99
        assert np.sqrt(np.mean(audio**2)) > 0.01 * peak
        low, _, high = family(note.family).pitch
        assert low <= note.pitch <= high
        assert 0.02 * RATE < len(audio) <= (note.hold_s + virtual.TAIL_S) * RATE + 1


@pytest.mark.parametrize("bad", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("value", [0.0, 1e-4, np.nan, np.inf])
def test_an_instrument_with_an_unusable_note_is_rejected(bad, value):
    """Silent, far too quiet, not finite: whichever note it is."""
    notes = [tone(69), tone(69)]
    assert [np.abs(x).max() for x in virtual._level(notes, np.array([0.4, 0.2]))] == pytest.approx([0.4, 0.2])
    notes[bad][:] = value * np.sign(notes[bad])
    with pytest.raises(ValueError, match="a note is"):
        virtual._level(notes, np.array([0.5, 0.5]))


def test_twins_are_training_instruments_without_their_effects(bank):
    """Each training instrument with effects has one, with the same notes and another sound; no other instrument has."""
    table = bank.instruments
    twins = table[table.augments.notna()]
    assert len(twins) > 0
    assert set(twins.split) == {"train"}
    originals = table.loc[twins.augments]
    assert list(twins.index) == [f"{uid}_no_fx" for uid in originals.index]
    assert twins.fx.map(len).eq(0).all()
    with_effects = table[table.fx.map(len) > 0]
    assert set(with_effects[with_effects.split == "train"].index) == set(originals.index)
    assert not with_effects[with_effects.split != "train"].empty  # there were instruments to get it wrong with
    for twin, original in zip(twins.index, originals.index, strict=True):
        dry, wet = (bank.notes[bank.notes.instrument == uid] for uid in (twin, original))
        assert (dry[["pitch", "velocity"]].to_numpy() == wet[["pitch", "velocity"]].to_numpy()).all()
        x, y = bank.audio(dry.index[0]), bank.audio(wet.index[0])
        n = min(len(x), len(y))
        assert np.abs(x[:n] - y[:n]).max() > 0.01 * np.abs(x).max()
        assert set(wet.tags.iloc[0]) - set(dry.tags.iloc[0]) == set(wet.fx.iloc[0])


def test_instruments_of_a_family_differ(bank):
    """First notes, of the same pitch and velocity, are at least `distinct_db` apart."""
    gallery = bank.gallery()
    for name in MIXTURE_FAMILIES:
        first = [bank.notes.index[bank.notes.instrument == uid][0] for uid in gallery.index[gallery.family == name]]
        assert bank.notes.loc[first, ["pitch", "velocity"]].nunique().eq(1).all()
        for a, b in combinations([fingerprint(bank.audio(i)) for i in first], 2):
            assert fingerprint_distances(a, b[None])[0] >= CONFIG.distinct_db - 0.05


def test_a_sine_is_in_tune():
    """A note sounds at the frequency of its MIDI pitch, 440 Hz at 69."""
    pitches = [40, 60, 69, 81]
    for pitch, audio in zip(pitches, render(SINE, [(p, 100) for p in pitches], [0.5] * len(pitches)), strict=True):
        assert 12 * np.log2(frequency(audio) / hz(pitch)) == pytest.approx(0, abs=0.02)


def periodicity(audio: np.ndarray, pitch: float) -> float:
    """Correlation of a note with itself, later by two periods of a pitch (so an octave or a fifth below is no mistake)."""
    lag = 2 * RATE / hz(pitch)
    audio = audio[800:6400]
    n = len(audio) - int(lag) - 2
    late = np.interp(np.arange(n) + lag, np.arange(len(audio)), audio)
    return audio[:n] @ late / np.sqrt((audio[:n] @ audio[:n]) * (late @ late))


@pytest.mark.parametrize("name", ["Bass", "Synth Lead"])
def test_tonal_families_play_the_pitch_that_is_written(bank, name):
    """Most notes repeat after two periods of their pitch, better than of the pitches beside it; some are noisy."""
    rows = bank.notes.index[bank.notes.family == name]
    right = [
        periodicity(bank.audio(i), bank.pitches[i])
        > max(0.7, *(periodicity(bank.audio(i), bank.pitches[i] + off) for off in (-2, -1, 1, 2)))
        for i in rows
    ]
    assert np.mean(right) > 0.6


def test_hold_and_level_do_not_reveal_the_instrument(bank):
    """Both are drawn per note: their means do not differ between instruments more than by chance (analysis of variance)."""
    notes = bank.notes.assign(peak=[np.abs(bank.audio(i)).max() for i in range(len(bank))])[bank.notes.augments.isna()]
    for column in ("hold_s", "peak"):
        groups = [values.to_numpy() for _, values in notes.groupby("instrument")[column]]
        assert all(len(set(values)) > 1 for values in groups)
        assert f_oneway(*groups).pvalue > 0.01


def test_notes_do_not_depend_on_the_notes_before():
    holds, notes = [0.5, 0.4, 0.5], [(60, 100), (67, 40), (60, 100)]
    first, second, third = render(SINE, notes, holds)
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(render(SINE, notes[::-1], holds[::-1])[1], second)
    assert np.abs(second).max() < np.abs(first).max()  # velocity


def test_noise_is_the_same_every_time():
    """sfizz has the noise in memory before it plays: it never comes too late."""
    patch = Patch(f"<region> sample={virtual.NOISE_FILE} pitch_keytrack=0 offset=12000")
    first, *others = (render(patch, [(60, 100), (62, 100)], [0.6, 0.6]) for _ in range(20))
    assert np.abs(first[0][2000:9000]).max() > 0.01
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_effects_keep_the_length_and_change_the_sound():
    (dry,) = render(SINE, [(60, 100)], [0.5])
    before = dry.copy()
    for fx in ([("delay", {"delay_seconds": 0.1})], [("chorus", {}), ("reverb", {})]):
        wet = apply_effects(dry, fx)
        assert wet.shape == dry.shape
        assert np.abs(wet - dry).max() > 0.01
        np.testing.assert_array_equal(wet, apply_effects(dry, fx))
    np.testing.assert_array_equal(dry, before)


@pytest.mark.parametrize(
    ("audio", "kept"),
    [
        ([0, 1, 0.5, 0.002, 0.0005, 0], 4),  # below a thousandth of the peak is cut
        ([0, -0.1, 0.05, 0.0002, 0.00005, 0], 4),  # relative to the peak, whatever its sign
        ([1, 0, 0, 0.5], 4),  # only at the end
        ([1, 1], 2),
        ([0, 0, 0], 3),  # silence is left as it is
    ],
)
def test_trim(audio, kept):
    np.testing.assert_array_equal(trim(np.array(audio, float)), audio[:kept])


def test_a_patch_that_sfizz_cannot_read():
    with pytest.raises(ValueError, match="sfizz does not read this patch"):
        render(Patch("this is no SFZ"), [(60, 100)], [0.5])


def test_no_note_of_an_instrument_comes_twice(bank):
    """A copy of the reference note among the queries would be a free hit."""
    assert not bank.notes.duplicated(["instrument", "pitch", "velocity"]).any()
    for name in FAMILIES:
        notes = spread_notes(family(name).pitch, virtual.VELOCITIES, 16, np.random.default_rng(0))
        assert len(notes) == len(set(notes)) == 16
