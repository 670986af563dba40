"""Mixtures are a function of bank, seed and index; their levels, delays, instruments and references follow both protocols."""

from collections import Counter

import numpy as np
import pytest
from conftest import RATE, SPLIT_SIZES, TWINS, build_bank, instrument_tones, sound, tone
from played import play

from cirlib.data.mixtures import PROTOCOLS, MixtureDataset, add_delayed, fade_out, load_sound
from cirlib.data.taxonomy import MIXTURE_FAMILIES


def same(a, b):
    arrays = all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("mixture", "stems", "references"))
    return arrays and a.instruments == b.instruments


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_mixture_depends_on_seed_and_index_only(tone_bank, protocol):
    """Two datasets agree, in whatever order their mixtures are asked for."""
    first, second = (MixtureDataset(tone_bank, size=6, seed=3, seconds=2, protocol=protocol) for _ in range(2))
    forwards = [first[i] for i in range(6)]
    backwards = [second[i] for i in reversed(range(6))][::-1]
    assert all(same(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not same(forwards[0], forwards[1])
    assert not same(forwards[0], MixtureDataset(tone_bank, size=6, seed=4, seconds=2, protocol=protocol)[0])


def test_splits_have_draws_of_their_own(tone_bank):
    """The same seed and index play another rhythm in another split."""
    tempos = {play(MixtureDataset(tone_bank, split=s, size=1, seconds=1), 1)[0].quarters[0] for s in SPLIT_SIZES}
    assert len(tempos) == 3


# Levels and delays


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_levels(tone_bank, protocol):
    """Tracks peak at 0.99, percussion weighs 4 times as much; they sum to the mixture, which then peaks at 0.99."""
    for p in play(MixtureDataset(tone_bank, size=30, seconds=6, protocol=protocol), 30):
        m = p.mixture
        assert m.mixture.shape == (6 * RATE,)
        assert m.stems.shape == m.references.shape == (3, 6 * RATE)
        assert m.mixture.dtype == m.stems.dtype == m.references.dtype == np.float32
        np.testing.assert_allclose(m.stems.sum(axis=0), m.mixture, atol=1e-6)
        assert np.abs(m.mixture).max() == pytest.approx(0.99, abs=1e-5)
        np.testing.assert_allclose(np.abs(p.tracks).max(axis=1), [4 * 0.99, 0.99, 0.99], rtol=1e-5)


def test_level_when_the_loudest_sample_is_shifted_out(tmp_path):
    """It peaks at 0.99 all the same, and its tracks still sum to it."""
    bank = build_bank(tmp_path / "bank", [sound("rising", np.linspace(0, 0.5, RATE) ** 2)])
    for p in play(MixtureDataset(bank, families=["Bass"], size=20, seconds=0.25), 20):
        assert np.abs(p.mixture.mixture).max() == pytest.approx(0.99, abs=1e-5)
        np.testing.assert_allclose(p.mixture.stems[0], p.mixture.mixture, atol=1e-6)


@pytest.mark.parametrize(("length", "samples", "expected"), [(6, 3, [1, 1, 1, 1, 0.5, 0]), (2, 3, [1, 0]), (0, 3, [])])
def test_fade_out(length, samples, expected):
    note = np.ones(length, np.float32)
    fade_out(note, samples)
    np.testing.assert_allclose(note, expected)


@pytest.mark.parametrize(
    ("samples", "circular", "expected"),
    [
        (1, False, [[0, 1, 2, 3], [0, 5, 6, 7]]),
        (3, False, [[0, 0, 0, 1], [0, 0, 0, 5]]),
        (1, True, [[4, 1, 2, 3], [8, 5, 6, 7]]),
        (3, True, [[2, 3, 4, 1], [6, 7, 8, 5]]),
        (0, False, [[1, 2, 3, 4], [5, 6, 7, 8]]),
        (0, True, [[1, 2, 3, 4], [5, 6, 7, 8]]),
        (4, False, [[0] * 4] * 2),
        (5, False, [[0] * 4] * 2),
        (4, True, [[1, 2, 3, 4], [5, 6, 7, 8]]),
        (5, True, [[4, 1, 2, 3], [8, 5, 6, 7]]),
    ],
)
def test_tracks_are_delayed_or_wrap(samples, circular, expected):
    """strict: silence comes first and the end is lost; paper: what leaves at the end comes in at the start."""
    out = np.full((2, 4), 10.0)
    for track, to in zip(np.arange(1.0, 9).reshape(2, 4), out, strict=True):
        add_delayed(track, samples, circular=circular, out=to)
    np.testing.assert_array_equal(out - 10, expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_tracks_are_delayed_together(tone_bank, protocol):
    """By up to a tenth of a quarter."""
    several = play(MixtureDataset(tone_bank, size=40, seconds=3, protocol=protocol), 40)
    for p in several:
        expected = np.zeros_like(p.tracks)
        for track, to in zip(p.tracks, expected, strict=True):
            add_delayed(track, p.delay, circular=protocol == "paper", out=to)
        expected *= 0.99 / np.abs(expected.sum(axis=0)).max()
        np.testing.assert_allclose(p.mixture.stems, expected, atol=1e-6)
    delays = [p.delay / p.quarters[0] for p in several]
    assert 0 <= min(delays) < 0.02
    assert 0.08 < max(delays) <= 0.1 + 1e-3


# Batches


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("count", [1, 3])
def test_batch_equals_the_items(tone_bank, protocol, count):
    """In any order, bit for bit, without stems or references that are not asked for."""
    data, indices = MixtureDataset(tone_bank, size=9, seconds=1.5, protocol=protocol, max_instruments=count), [4, 0, 8, 4]
    items = [data[i] for i in indices]
    for tracks in ("references", "stems"):
        mixtures, sounds = data.batch(indices, tracks)
        np.testing.assert_array_equal(mixtures, np.stack([m.mixture for m in items]))
        np.testing.assert_array_equal(sounds, np.stack([getattr(m, tracks) for m in items]))
    mixtures, sounds = data.batch(indices, "none")
    np.testing.assert_array_equal(mixtures, np.stack([m.mixture for m in items]))
    assert sounds is None
    with pytest.raises(ValueError, match="unknown tracks 'stem'"):
        data.batch(indices, "stem")
    with pytest.raises(IndexError, match="mixture 9 of 9"):
        data.batch([9])


def test_sounds_are_requested_before_they_are_read(tone_bank, monkeypatch):
    """Each note of the batch once, as far as it is played, then the references: so that a disk can read them together."""
    data, requested, read = MixtureDataset(tone_bank, size=9, seconds=1.5), {}, []
    monkeypatch.setattr(
        tone_bank, "read_ahead", lambda rows, limits: requested.setdefault(len(read), []).extend(zip(rows, limits, strict=False))
    )
    audio = tone_bank.audio
    monkeypatch.setattr(tone_bank, "audio", lambda row, limit=None: read.append((row, limit)) or audio(row, limit))
    data.batch(range(9))
    assert list(requested) == [0]  # both times before anything was read
    scores = [data.score(i) for i in range(9)]
    played = [(row, length) for s in scores for track in s.tracks for row, _, length in track]
    references = [(row, data.samples) for s in scores for row in s.references]
    notes = requested[0][: -len(references)]
    assert requested[0][-len(references) :] == references
    assert dict(notes) == {row: max(n for r, n in played if r == row) for row, _ in played} and len(dict(notes)) == len(notes)
    assert Counter(read) == Counter(played + references)


# Instruments


@pytest.mark.parametrize("split", SPLIT_SIZES)
def test_every_instrument_plays_before_one_repeats(tone_bank, split):
    """Twins of training instruments among them; later ones are drawn too."""
    dataset = MixtureDataset(tone_bank, split=split, size=60)
    pool = SPLIT_SIZES[split] + (TWINS if split == "train" else 0)
    for column, family in enumerate(MIXTURE_FAMILIES):
        names = [dataset.plan(i)[column] for i in range(60)]
        assert {f for f, _ in names} == {family}
        assert len(set(names[:pool])) == len(set(names)) == pool
        assert set(tone_bank.instruments.loc[[uid for _, uid in names], "split"]) == {split}
    assert dataset[0].instruments == [uid for _, uid in dataset.plan(0)]
    assert dataset[0].families == list(MIXTURE_FAMILIES)


def test_defaults_are_those_of_the_paper(tone_bank):
    """40,000 mixtures of 10 s, as in the paper, of seed 0."""
    dataset = MixtureDataset(tone_bank)
    assert (len(dataset), dataset.samples, dataset.seed, dataset.protocol) == (40_000, 10 * RATE, 0, "strict")


def test_later_instruments_are_drawn_by_their_notes(tmp_path):
    """An instrument with nine times as many notes plays nine times as often."""
    sounds = [sound("one", tone(60))] + [sound("nine", tone(60)) for _ in range(9)]
    dataset = MixtureDataset(build_bank(tmp_path / "bank", sounds), families=["Bass"], size=3000)
    names = [dataset.plan(i)[0][1] for i in range(3000)]
    assert names.count("nine") / 3000 == pytest.approx(0.9, abs=0.02)


def test_twins_play_in_training_only(tone_bank, tmp_path):
    """And not there either with augmented=False; a twin in another split, as a foreign bank may hold, stays out."""
    original = instrument_tones("Bass", "a", 0.5, split="test")
    twin = instrument_tones("Bass", "a_no_fx", 0.5, split="test", augments="a")
    stray_bank = build_bank(tmp_path / "bank", original + twin)

    def twins(bank, **options):
        dataset = MixtureDataset(bank, **options)
        return {uid for i in range(len(dataset)) for _, uid in dataset.plan(i) if uid.endswith("_no_fx")}

    assert len(twins(tone_bank, size=60)) == 3 * TWINS
    assert not twins(tone_bank, size=60, augmented=False)
    assert not twins(stray_bank, families=["Bass"], split="test", size=10)


def test_originals_replace_twins(tone_bank):
    """What must not come twice in a batch."""
    dataset = MixtureDataset(tone_bank, size=60)
    gallery = tone_bank.gallery()
    assert {uid for i in range(60) for uid in dataset.originals(i)} == set(gallery[gallery.split == "train"].index)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_instruments_than_families(tone_bank, count):
    """Each mixture draws which families play, in their order."""
    dataset = MixtureDataset(tone_bank, size=60, seconds=1, max_instruments=count)
    playing = Counter(tuple(f for f, _ in dataset.plan(i)) for i in range(60))
    assert len(playing) == 3
    assert all(list(p) == sorted(p, key=MIXTURE_FAMILIES.index) and len(p) == count for p in playing)
    m = dataset[0]
    assert m.stems.shape == m.references.shape == (count, RATE)
    assert m.families == [f for f, _ in dataset.plan(0)]


# Reference notes and what the two protocols do differently


@pytest.mark.parametrize("case", ["valid strict", "test strict", "train paper", "test paper"])
def test_references_are_the_reference_notes(tone_bank, case):
    """The one that the gallery holds; under paper in training too."""
    split, protocol = case.split()
    dataset = MixtureDataset(tone_bank, split=split, size=6, seconds=1, protocol=protocol)
    for i in range(6):
        m = dataset[i]
        for uid, reference in zip(m.instruments, m.references, strict=True):
            row = tone_bank.instruments.reference[uid]
            np.testing.assert_array_equal(reference, load_sound(tone_bank, row, samples=RATE, protocol=protocol))


def test_training_references_are_random_notes(tone_bank):
    """Under strict: every note of the instrument may come, not only the one in the middle."""
    dataset, pitches = MixtureDataset(tone_bank, size=40, seconds=1), set()
    for i in range(40):
        m = dataset[i]
        rows = tone_bank.notes.index[tone_bank.notes.instrument == m.instruments[0]]
        matching = [r for r in rows if np.array_equal(m.references[0], load_sound(tone_bank, r, samples=RATE))]
        assert len(matching) == 1
        pitches.add(tone_bank.pitches[matching[0]])
    assert len(pitches) > 8


def test_loaded_sound_is_peak_normalised(tmp_path):
    """strict: by the largest magnitude; paper: by the largest positive sample; silence stays silence."""
    lopsided = np.where(tone(60) < 0, tone(60) * 2, tone(60))  # from -1 to 0.5
    sounds = [sound("a", lopsided), sound("a", np.zeros(100)), sound("a", -np.ones(100)), sound("a", np.full(100, 3.1e-9))]
    bank = build_bank(tmp_path / "bank", sounds)
    strict, paper = (load_sound(bank, 0, samples=8000, protocol=protocol) for protocol in PROTOCOLS)
    assert (strict.min(), paper.max()) == pytest.approx((-0.99, 0.99))
    assert paper.min() == pytest.approx(-1.98, abs=0.01)
    assert len(strict) == 8000
    assert not strict[len(lopsided) :].any()
    assert [len(load_sound(bank, 0, samples=n, protocol=protocol)) for n in (50, 0) for protocol in PROTOCOLS] == [50, 50, 0, 0]
    assert load_sound(bank, 3, samples=100) == pytest.approx(np.full(100, 0.99)), "the quietest that a bank holds is not silent"
    for row, protocol in ((1, "strict"), (1, "paper"), (2, "paper")):
        assert not load_sound(bank, row, samples=100, protocol=protocol).any()


def test_no_stem_is_silent_under_strict(tone_bank):
    """Even in mixtures so short that most tracks have one or two slots; under paper an instrument may rest throughout."""
    strict, paper = (MixtureDataset(tone_bank, size=600, seconds=1, protocol=p) for p in PROTOCOLS)
    shortest = min(np.count_nonzero(stem) for i in range(600) for stem in strict[i].stems)
    assert shortest > 0.04 * RATE
    silent = np.array([[not stem.any() for stem in paper[i].stems] for i in range(600)]).mean(axis=0)
    percussion, bass, _ = silent
    assert percussion == 0
    assert bass > 0.02


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_mixture_of_silent_sounds_is_silent(tmp_path, protocol):
    """Not NaN."""
    bank = build_bank(tmp_path / "bank", [sound("a", np.zeros(800)), sound("b", np.zeros(800), family="Synth Lead")])
    m = MixtureDataset(bank, families=["Bass", "Synth Lead"], size=1, seconds=1, protocol=protocol)[0]
    assert not m.mixture.any() and not m.stems.any() and not m.references.any()


# Bad arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": ["Bas"]}, r"unknown family 'Bas' \(did you mean 'Bass'\?\); valid: Piano"),
        ({"families": ["Piano"]}, "the bank has no train instrument of family 'Piano'; it has Chromatic Percussion"),
        ({"families": ["Piano"], "split": "valid"}, r"the .* has Chromatic Percussion \(3\), Bass \(3\), Synth Lead \(3\)$"),
        ({"families": ["Bass", "Bass"]}, "families must be one or more different ones, got Bass, Bass"),
        ({"families": []}, "families must be one or more different ones, got none"),
        ({"split": "dev"}, "unknown split 'dev'; valid: train, valid, test"),
        ({"protocol": "Paper"}, "unknown protocol 'Paper' .*valid: strict, paper"),
        ({"max_instruments": 0}, r"max_instruments must be 1 to 3 \(the number of families\), got 0"),
        ({"max_instruments": 4}, "max_instruments must be 1 to 3"),
    ],
)
def test_bad_arguments(tone_bank, options, message):
    with pytest.raises(ValueError, match="^" + message) as caught:
        MixtureDataset(tone_bank, **options)
    assert "\n" not in str(caught.value)


def test_split_without_instruments(tmp_path):
    bank = build_bank(tmp_path / "bank", [sound("a", tone(60))])
    with pytest.raises(ValueError, match=r"^the bank has no test instrument of family 'Bass'; it has no test instruments at all$"):
        MixtureDataset(bank, families=["Bass"], split="test")


def test_mixtures_of_one_sample(tone_bank):
    assert MixtureDataset(tone_bank, size=1, seconds=1 / RATE)[0].mixture.shape == (1,)
    with pytest.raises(ValueError, match=r"^seconds must be one sample or more, got 1e-05$"):
        MixtureDataset(tone_bank, size=1, seconds=1e-5)


@pytest.mark.parametrize("i", [-1, 5])
def test_index_outside(tone_bank, i):
    with pytest.raises(IndexError, match=f"mixture {i} of 5"):
        MixtureDataset(tone_bank, size=5)[i]
