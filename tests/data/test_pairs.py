"""Batches of single sounds: pairs of one instrument and single notes, by seed and step only."""

from itertools import islice

import numpy as np
import pytest
from conftest import SPLIT_SIZES, TWINS, build_bank, sound, tone

from cirlib.data.pairs import NoteSteps, PairSteps

ORIGINALS = SPLIT_SIZES["train"]  # training instruments of each family, twins not counted
ROWS = np.arange(100, 160)[::-1]  # of a bank, whatever they hold


@pytest.fixture
def original(tone_bank):
    """{instrument: its original}"""
    return {u: u.removesuffix("_no_fx") for u in tone_bank.instruments.index}


def columns(bank, batch):
    """Instrument of both sounds of each pair, (pairs, 2), and family of each pair."""
    notes = bank.notes.iloc[batch.ravel()]
    assert set(notes.split) == {"train"}
    return notes.instrument.to_numpy().reshape(batch.shape), notes.family.to_numpy().reshape(batch.shape)[:, 0]


@pytest.mark.parametrize("ratio", [0, 0.5, 1])
def test_pairs_are_two_sounds_of_one_instrument(tone_bank, original, ratio):
    """Different ones; no instrument twice in a batch, a twin counting as its original."""
    for batch in PairSteps(tone_bank, pairs=6, hard_negative_ratio=ratio).epoch(0):
        names, _ = columns(tone_bank, batch)
        assert batch.shape == (6, 2)
        assert (names[:, 0] == names[:, 1]).all()
        assert (batch[:, 0] != batch[:, 1]).all()
        assert len({original[n] for n in names[:, 0]}) == 6


@pytest.mark.parametrize(("ratio", "hard"), [(0, 0), (0.5, 3), (0.65, 4), (1, 6)])
def test_hard_negative_ratio_is_exact(tone_bank, ratio, hard):
    """round(ratio * pairs) pairs come from one family, the others from the other families; the family varies."""
    families = set()
    for batch in PairSteps(tone_bank, pairs=6, hard_negative_ratio=ratio).epoch(0):
        _, family = columns(tone_bank, batch)
        assert len(set(family[:hard])) == min(1, hard)
        assert hard == 0 or family[0] not in family[hard:]
        families |= set(family[:1])
    assert len(families) == 3


def test_no_family_is_not_another_family(tmp_path):
    """Bass and Brass begin alike; an instrument of no family must not make them one."""
    names = ("Bass", "Brass", None)
    sounds = [sound(f"{f}{i}", tone(60 + k), family=f) for f in names for i in range(4) for k in range(2)]
    bank = build_bank(tmp_path / "bank", sounds)
    for batch in PairSteps(bank, pairs=4, hard_negative_ratio=1).epoch(0):
        assert len(set(bank.notes.family.fillna("")[batch[:, 0]])) == 1


def test_excluded_families_are_not_used(tone_bank):
    excluded = ("Bass", "Synth Lead")
    sampler = PairSteps(tone_bank, pairs=3, excluded=excluded)
    assert set(tone_bank.notes.family[np.concatenate([b.ravel() for b in sampler.epoch(0)])]) == {"Chromatic Percussion"}
    with pytest.raises(ValueError, match="outside of Bass, Synth Lead; there are 6: use a smaller single_pairs"):
        PairSteps(tone_bank, pairs=7, excluded=excluded)


def test_sounds_are_seen_about_equally_often(tone_bank):
    """Sounds that were drawn become unlikely: after one epoch nearly all were drawn, none often."""
    rows = np.concatenate(list(PairSteps(tone_bank, pairs=6).epoch(0))).ravel()
    counts = np.bincount(rows, minlength=len(tone_bank))[(tone_bank.notes.split == "train").to_numpy()]
    assert (counts > 0).mean() > 0.75  # 0.63 if they were drawn regardless
    assert counts.max() <= 4


def test_sounds_are_drawn_by_their_weight(tmp_path):
    """Each by exp(-times drawn), whichever instrument it is of: here of instruments of 2, 3 and 7 sounds."""
    bank = build_bank(tmp_path / "bank", [sound(name, tone(60 + k)) for name, n in (("a", 2), ("b", 3), ("c", 7)) for k in range(n)])
    sampler, count = PairSteps(bank, pairs=1), 4000
    steps = np.array([list(islice(sampler.epoch(number), 2)) for number in range(count)])[:, :, 0]  # (epochs, steps, 2)
    error = 4 * np.sqrt(0.25 / count)
    np.testing.assert_allclose(np.bincount(steps[:, 0, 0], minlength=12) / count, 1 / 12, atol=error)
    both = np.isin(steps[:, 0, 0], [0, 1])  # first the two sounds of a, so that each weighs 1 / e
    again = np.isin(steps[both, 1, 0], [0, 1]).mean()
    assert again == pytest.approx(2 / np.e / (2 / np.e + 10), abs=4 * np.sqrt(0.07 * 0.93 / both.sum()))


@pytest.mark.parametrize("augmented", [True, False])
def test_twins_are_paired_only_if_augmented(tone_bank, augmented):
    """With them every training instrument is seen, without them every original one, and never a twin."""
    rows = np.concatenate(list(PairSteps(tone_bank, pairs=6, augmented=augmented).epoch(0))).ravel()
    table = tone_bank.instruments.query("split == 'train'")
    assert set(tone_bank.notes.instrument[rows]) == set(table.index[augmented | table.augments.isna()])


def test_twin_replaces_its_original_in_a_batch(tone_bank, original):
    """Batches of all instruments hold each original or its twin, by turns."""
    batches = [columns(tone_bank, b)[0][:, 0] for b in PairSteps(tone_bank, pairs=3 * ORIGINALS).epoch(0)]
    for names in batches:
        assert len({original[n] for n in names}) == len(names) == 3 * ORIGINALS
    assert len({sum(n.endswith("_no_fx") for n in names) for names in batches}) > 1


def test_epoch_draws_as_many_sounds_as_there_are(tone_bank):
    sampler = PairSteps(tone_bank, pairs=5)
    assert len(list(sampler.epoch(0))) == sampler.batches_per_epoch == 3 * (ORIGINALS + TWINS) * 12 // 10


def test_any_pair_step_can_be_taken_first(tone_bank, monkeypatch):
    """Random access gives what sequential access gives, across epochs and without restarting them; seeds differ."""
    source, other, another = (PairSteps(tone_bank, pairs=12, seed=seed) for seed in (0, 0, 1))
    begun, epoch = [], PairSteps.epoch
    with monkeypatch.context() as patch:
        patch.setattr(PairSteps, "epoch", lambda self, n: begun.append(n) or epoch(self, n))
        sequence = [source.batch(k) for k in range(30)]
    assert begun == [0, 1, 2] and source.batches_per_epoch == 12
    for k in [29, 3, 11, 12, 13, 0, 24, 24]:
        np.testing.assert_array_equal(other.batch(k), sequence[k])
    for number in range(2):
        np.testing.assert_array_equal(sequence[12 * number : 12 * (number + 1)], list(source.epoch(number)))
    assert not np.array_equal(sequence[0], sequence[12]) and not np.array_equal(sequence[0], another.batch(0))


def test_processes_share_a_step_of_pairs(tone_bank):
    """Disjoint, and together the batch of one process, in every epoch."""
    whole, *parts = (PairSteps(tone_bank, pairs=12, rank=r, world=w) for r, w in ((0, 1), (0, 2), (1, 2)))
    for k in (0, 11, 12):
        split = [part.batch(k) for part in parts]
        assert [len(part) for part in split] == [6, 6]
        assert sorted(map(tuple, np.concatenate(split))) == sorted(map(tuple, whole.batch(k)))


def test_instrument_of_one_sound_has_no_pair(tmp_path):
    bank = build_bank(tmp_path / "bank", [sound("a", tone(60)), sound("a", tone(61)), sound("b", tone(60))])
    assert set(next(PairSteps(bank, pairs=1).epoch(0)).ravel()) == {0, 1}
    with pytest.raises(ValueError, match=r"2 pairs need .* instruments with two sounds or more; there are 1: use a smaller batch_size"):
        PairSteps(bank, pairs=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pairs": 0}, "a batch of pairs needs a batch_size of 2 or more"),
        ({"pairs": 3 * ORIGINALS + 1}, f"^{3 * ORIGINALS + 1} pairs need .*there are {3 * ORIGINALS}: use a smaller batch_size$"),
        ({"pairs": 12, "world": 5}, "5 processes cannot share 12 pairs evenly: change batch_size"),
    ],
)
def test_unusable_pair_settings_are_refused(tone_bank, options, words):
    with pytest.raises(ValueError, match=words):
        PairSteps(tone_bank, **options)


# Single sounds


@pytest.mark.parametrize("batch_size", [1, 12, 60])
def test_every_sound_once_in_an_epoch(batch_size):
    """In another order in every epoch."""
    source, per_epoch = NoteSteps(ROWS, batch_size), len(ROWS) // batch_size
    epochs = [np.concatenate([source.batch(k) for k in range(e * per_epoch, (e + 1) * per_epoch)]) for e in range(3)]
    for order in epochs:
        assert sorted(order) == sorted(ROWS)
    assert len({tuple(order) for order in epochs}) == 3


def test_left_over_sounds_change_with_the_epoch():
    """60 sounds in batches of 25: none twice in an epoch, and those left over are in another."""
    source = NoteSteps(ROWS, 25)
    epochs = [np.concatenate([source.batch(2 * e), source.batch(2 * e + 1)]) for e in range(6)]
    assert {len(set(rows)) for rows in epochs} == {len(rows) for rows in epochs} == {50}
    assert set(np.concatenate(epochs)) == set(ROWS)


def test_note_steps_depend_on_seed_and_step():
    source, other, another = NoteSteps(ROWS, 12), NoteSteps(list(ROWS), 12, seed=0), NoteSteps(ROWS, 12, seed=1)
    sequence = [source.batch(k).tolist() for k in range(12)]
    assert [other.batch(k).tolist() for k in (11, 3, 4, 0, 0)] == [sequence[k] for k in (11, 3, 4, 0, 0)]
    assert another.batch(0).tolist() != sequence[0]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_share_a_step_of_sounds(world):
    """Disjoint, of the same size, and together the batch of one process."""
    whole, parts = NoteSteps(ROWS, 12), [NoteSteps(ROWS, 12, rank=r, world=world) for r in range(world)]
    for k in (0, 4, 7):
        split = [part.batch(k) for part in parts]
        assert {len(part) for part in split} == {12 // world}
        assert sorted(np.concatenate(split)) == sorted(whole.batch(k))


@pytest.mark.parametrize("batch_size", [0, 61, -1])
def test_empty_or_too_large_batch_of_sounds_is_refused(batch_size):
    with pytest.raises(ValueError, match=rf"^a batch needs 1 to 60 sounds \(those of the training split\), got {batch_size}$"):
        NoteSteps(ROWS, batch_size)
    with pytest.raises(ValueError, match="5 processes cannot share 12 sounds evenly"):
        NoteSteps(ROWS, 12, world=5)
