"""Which instruments play in a mixture, which sounds stand for them, and what the two protocols do differently."""

from collections import Counter

import numpy as np
import pytest
from conftest import RATE, SPLIT_SIZES, TWINS, build_bank, instrument_tones, sound, tone

from cirlib.data.mixtures import PROTOCOLS, MixtureDataset, clip
from cirlib.data.taxonomy import MIXTURE_FAMILIES


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


def test_unless_told_otherwise(tone_bank):
    """40,000 mixtures of 10 s, as in the paper, of seed 0."""
    dataset = MixtureDataset(tone_bank)
    assert (len(dataset), dataset.samples, dataset.seed, dataset.protocol) == (40_000, 10 * RATE, 0, "strict")


def test_then_instruments_are_drawn_by_drawing_a_note(tmp_path):
    """An instrument with nine times as many notes plays nine times as often."""
    sounds = [sound("one", tone(60))] + [sound("nine", tone(60)) for _ in range(9)]
    dataset = MixtureDataset(build_bank(tmp_path / "bank", sounds), ["Bass"], size=3000)
    names = [dataset.plan(i)[0][1] for i in range(3000)]
    assert names.count("nine") / 3000 == pytest.approx(0.9, abs=0.02)


def test_twins_play_in_training_only(tone_bank, tmp_path):
    """And not there either with augmented=False; a twin in another split, as a foreign bank may hold, stays out."""
    original = instrument_tones("Bass", "a", 0.5, split="test")
    twin = instrument_tones("Bass", "a_no_fx", 0.5, split="test", augments="a")
    stray_bank = build_bank(tmp_path / "bank", original + twin)

    def twins(bank, *args, **options):
        dataset = MixtureDataset(bank, *args, **options)
        return {uid for i in range(len(dataset)) for _, uid in dataset.plan(i) if uid.endswith("_no_fx")}

    assert len(twins(tone_bank, size=60)) == 3 * TWINS
    assert not twins(tone_bank, size=60, augmented=False)
    assert not twins(stray_bank, ["Bass"], split="test", size=10)


def test_originals_name_a_twin_by_its_original(tone_bank):
    """What must not come twice in a batch."""
    dataset = MixtureDataset(tone_bank, size=60)
    gallery = tone_bank.gallery()
    assert {uid for i in range(60) for uid in dataset.originals(i)} == set(gallery[gallery.split == "train"].index)


@pytest.mark.parametrize("max_instruments", [1, 2])
def test_voices(tone_bank, voices):
    """With fewer voices than families each mixture draws which ones play, in the order of the families."""
    dataset = MixtureDataset(tone_bank, size=60, seconds=1, max_instruments=voices)
    playing = Counter(tuple(f for f, _ in dataset.plan(i)) for i in range(60))
    assert len(playing) == 3
    assert all(list(p) == sorted(p, key=MIXTURE_FAMILIES.index) and len(p) == voices for p in playing)
    m = dataset[0]
    assert m.stems.shape == m.references.shape == (voices, RATE)
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
            np.testing.assert_array_equal(reference, clip(tone_bank, row, RATE, protocol))


def test_training_references_are_random_notes(tone_bank):
    """Under strict: every note of the instrument may come, not only the one in the middle."""
    dataset, pitches = MixtureDataset(tone_bank, size=40, seconds=1), set()
    for i in range(40):
        m = dataset[i]
        rows = tone_bank.notes.index[tone_bank.notes.instrument == m.instruments[0]]
        matching = [r for r in rows if np.array_equal(m.references[0], clip(tone_bank, r, RATE))]
        assert len(matching) == 1
        pitches.add(tone_bank.pitches[matching[0]])
    assert len(pitches) > 8


def test_clip_normalises_by_the_peak(tmp_path):
    """strict: by the largest magnitude; paper: by the largest positive sample; silence stays silence."""
    lopsided = np.where(tone(60) < 0, tone(60) * 2, tone(60))  # from -1 to 0.5
    sounds = [sound("a", lopsided), sound("a", np.zeros(100)), sound("a", -np.ones(100)), sound("a", np.full(100, 3.1e-9))]
    bank = build_bank(tmp_path / "bank", sounds)
    strict, paper = (clip(bank, 0, 8000, protocol) for protocol in PROTOCOLS)
    assert (strict.min(), paper.max()) == pytest.approx((-0.99, 0.99))
    assert paper.min() == pytest.approx(-1.98, abs=0.01)
    assert len(strict) == 8000
    assert not strict[len(lopsided) :].any()
    assert len(clip(bank, 0, 50)) == 50 and not any(len(clip(bank, 0, 0, protocol)) for protocol in PROTOCOLS)
    assert clip(bank, 3, 100) == pytest.approx(np.full(100, 0.99)), "the quietest that a bank holds is not silent"
    for row, protocol in ((1, "strict"), (1, "paper"), (2, "paper")):
        assert not clip(bank, row, 100, protocol).any()


def test_no_stem_is_silent_under_strict(tone_bank):
    """Even in clips so short that most tracks have one or two slots; under paper an instrument may rest throughout."""
    strict, paper = (MixtureDataset(tone_bank, size=600, seconds=1, protocol=p) for p in PROTOCOLS)
    shortest = min(np.count_nonzero(stem) for i in range(600) for stem in strict[i].stems)
    assert shortest > 0.04 * RATE
    silent = np.array([[not stem.any() for stem in paper[i].stems] for i in range(600)]).mean(axis=0)
    percussion, bass, _ = silent
    assert percussion == 0
    assert bass > 0.02


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_mixture_of_silent_sounds_is_silent(tmp_path, protocol):
    """Not NaN."""
    bank = build_bank(tmp_path / "bank", [sound("a", np.zeros(800)), sound("b", np.zeros(800), family="Synth Lead")])
    m = MixtureDataset(bank, ["Bass", "Synth Lead"], size=1, seconds=1, protocol=protocol)[0]
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
        ({"max_instruments": 0}, r"voices must be 1 to 3 \(the number of families\), got 0"),
        ({"max_instruments": 4}, "voices must be 1 to 3"),
    ],
)
def test_bad_arguments(tone_bank, options, message):
    with pytest.raises(ValueError, match="^" + message) as caught:
        MixtureDataset(tone_bank, **options)
    assert "\n" not in str(caught.value)


def test_a_bank_without_instruments_of_a_split(tmp_path):
    bank = build_bank(tmp_path / "bank", [sound("a", tone(60))])
    with pytest.raises(ValueError, match=r"^the bank has no test instrument of family 'Bass'; it has no test instruments at all$"):
        MixtureDataset(bank, ["Bass"], "test")


def test_mixtures_of_one_sample(tone_bank):
    assert MixtureDataset(tone_bank, size=1, seconds=1 / RATE)[0].mixture.shape == (1,)
    with pytest.raises(ValueError, match=r"^seconds must hold one sample at least, got 1e-05$"):
        MixtureDataset(tone_bank, size=1, seconds=1e-5)


@pytest.mark.parametrize("i", [-1, 5])
def test_index_outside(tone_bank, i):
    with pytest.raises(IndexError, match=f"mixture {i} of 5"):
        MixtureDataset(tone_bank, size=5)[i]
