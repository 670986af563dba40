"""Batches: nothing twice in one, the same ones from the same seed, parts of one global batch for several processes."""

from itertools import islice

import numpy as np
import pytest
from conftest import SPLIT_SIZES, TWINS, build_bank, instrument_tones, sound, tone

from cirlib.data import batches as sampling
from cirlib.data.batches import FamilySteps, MixtureSteps, NoteSteps, PairSampler, PairSteps, mixture_batches
from cirlib.data.mixtures import MixtureDataset
from cirlib.data.taxonomy import MIXTURE_FAMILIES

ORIGINALS = SPLIT_SIZES["train"]  # training instruments of each family, twins not counted


@pytest.fixture
def original(tone_bank):
    """{instrument: its original}"""
    return {u: u.removesuffix("_no_fx") for u in tone_bank.instruments.index}


def assert_equal_batches(a, b):
    a, b = list(a), list(b)
    assert len(a) == len(b) > 0
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# Mixtures


@pytest.mark.parametrize("size", [2, 4, 5])
def test_no_instrument_twice_in_a_batch_of_mixtures(tone_bank, original, size):
    """An instrument and its effects-off twin count as one."""
    dataset, seen = MixtureDataset(tone_bank, size=300), set()
    for batch in mixture_batches(dataset, size):
        names = [original[uid] for i in batch for _, uid in dataset.plan(i)]
        assert batch.shape == (size,)
        assert len(names) == len(set(names)) == 3 * size
        seen |= {uid for i in batch for _, uid in dataset.plan(i)}
    assert len(seen) == 3 * (ORIGINALS + TWINS)


@pytest.mark.parametrize(("size", "share"), [(1, 1), (3, 0.9)])
def test_mixtures_wait_their_turn(tone_bank, size, share):
    """No mixture comes twice in an epoch and few are left over at its end, though many have to wait."""
    used = np.concatenate(list(mixture_batches(MixtureDataset(tone_bank, size=300), size)))
    assert len(used) == len(set(used)) >= share * 300


def test_processes_take_parts_of_the_same_mixture_batch(tone_bank):
    """The rule holds for the global batch, whatever the number of processes."""
    dataset = MixtureDataset(tone_bank, size=100)
    parts = [list(mixture_batches(dataset, 2, rank, world=3)) for rank in range(3)]
    for whole, *split in zip(mixture_batches(dataset, 6), *parts, strict=True):
        assert all(len(part) == 2 for part in split)
        assert sorted(np.concatenate(split)) == sorted(whole)


@pytest.mark.parametrize(("max_instruments", "world", "most"), [(3, 1, 6), (3, 2, 3), (2, 1, 9), (1, 1, 18)])
def test_too_large_batch_of_mixtures(tone_bank, voices, world, most):
    """One mixture more than the 6 instruments of each of 3 families allow."""
    dataset = MixtureDataset(tone_bank, size=2000, max_instruments=voices)
    assert len(next(mixture_batches(dataset, most, world=world), range(most))) == most  # allowed, if not always found
    with pytest.raises(ValueError, match=f"a batch of {(most + 1) * world} mixtures .* train has {most * world}"):
        next(mixture_batches(dataset, most + 1, world=world))


def test_too_large_batch_of_families_of_unequal_size(tmp_path):
    """Two voices of families with 1, 1 and 5 instruments: 2 mixtures at most, as each needs one of the small ones."""
    counts = zip(MIXTURE_FAMILIES, (1, 1, 5), strict=True)
    sounds = [s for f, n in counts for i in range(n) for s in instrument_tones(f, f"{f}{i}", 0.5)]
    dataset = MixtureDataset(build_bank(tmp_path / "bank", sounds), size=50, max_instruments=2)
    assert len(next(mixture_batches(dataset, 2))) == 2
    with pytest.raises(ValueError, match="train has 2"):
        next(mixture_batches(dataset, 3))


@pytest.mark.parametrize(("size", "epoch"), [(0, 50), (4, 3)])
def test_batch_of_no_mixture_or_longer_than_the_epoch(tone_bank, size, epoch):
    """Neither would ever give a step to train on."""
    with pytest.raises(ValueError, match=f"a batch needs 1 to {epoch} mixtures .* got {size}"):
        next(mixture_batches(MixtureDataset(tone_bank, size=epoch), size))


# Steps of mixtures


def steps(bank, batch_size=16, **options):
    """16 clips: 8, 5 or 4 mixtures of 1, 2 or 3 instruments."""
    return MixtureSteps(bank, **{"batch_size": clips, "steps": 20, "size": 40, "curriculum": (0.25, 0.4), **options})


def mixtures_of(batch):
    """Seed and index of each mixture of a step: what it is made of."""
    dataset, indices = batch
    return [(dataset.seed, dataset.voices, int(i)) for i in indices]


def test_curriculum(tone_bank):
    """25% of the steps with one instrument per mixture, 40% with two, the rest with all; the number of clips stays."""
    source = steps(tone_bank)
    voices = [source.voices(k) for k in range(20)]
    assert voices == [1] * 5 + [2] * 8 + [3] * 7
    for k, v in enumerate(voices):
        dataset, indices = source.batch(k)
        assert (dataset.voices, len(indices)) == (v, 16 // (1 + v))
        assert len(dataset[indices[0]].instruments) == v


def test_without_curriculum_all_families_play(tone_bank):
    assert {MixtureSteps(tone_bank, steps=9).voices(k) for k in (0, 4, 8, 100)} == {3}


def test_voices_are_drawn_for_each_step(tone_bank):
    """1 to so many instruments in about as many steps each, of families that each mixture draws; the number of clips stays."""
    source = MixtureSteps(tone_bank, batch_size=16, steps=60, size=40, max_instruments=2)
    drawn = [source.voices(k) for k in range(60)]
    assert set(drawn) == {1, 2} and 20 <= drawn.count(1) <= 40
    playing = set()
    for k in (drawn.index(1), drawn.index(2)):
        dataset, indices = source.batch(k)
        assert (dataset.voices, len(indices)) == (drawn[k], 16 // (1 + drawn[k]))
        playing |= {tuple(family for family, _ in dataset.plan(i)) for i in indices}
    assert len(playing) > 3
    assert drawn != [MixtureSteps(tone_bank, batch_size=16, steps=60, max_instruments=2, seed=1).voices(k) for k in range(60)]


def test_open_mixtures_are_shared_by_processes(tone_bank):
    """16 clips are 8, 5 and 4 mixtures; two processes leave one of the 5 out."""
    parts = [MixtureSteps(tone_bank, batch_size=16, steps=12, size=40, max_instruments=3, rank=r, world=2) for r in range(2)]
    for k in range(12):
        batches = [mixtures_of(part.batch(k)) for part in parts]
        assert len(batches[0]) == len(batches[1]) == {1: 4, 2: 2, 3: 2}[parts[0].voices(k)] and not set(batches[0]) & set(batches[1])
    assert len(MixtureSteps(tone_bank, batch_size=8, steps=1, max_instruments=3, world=2).batch(1)[1]) == 1  # just enough
    with pytest.raises(ValueError, match="batches of 7 clips hold less than one mixture of 3 for each of 2 processes: use more clips"):
        MixtureSteps(tone_bank, batch_size=7, max_instruments=3, world=2)


@pytest.mark.parametrize("options", [{}, {"curriculum": (), "max_instruments": 3}], ids=["curriculum", "max_instruments"])
def test_mixture_step_does_not_depend_on_the_steps_before(tone_bank, options):
    """Random access, as after a resume, gives what sequential access gives; each epoch has new mixtures."""
    source, other = steps(tone_bank, **options), steps(tone_bank, **options)
    sequence = [mixtures_of(source.batch(k)) for k in range(20)]
    for k in [19, 3, 0, 12, 13, 4, 5, 17, 17]:
        assert mixtures_of(other.batch(k)) == sequence[k]
    everything = [m for batch in sequence for m in batch]
    assert len(everything) == len(set(everything))
    assert len({seed for seed, _, _ in everything}) >= 4  # 3 voices, more than one epoch


@pytest.mark.parametrize("planned", [4, 40])
def test_steps_of_mixtures_take_the_batches_of_an_epoch_one_by_one(tone_bank, planned):
    """None is left out, also after the steps that were planned; then comes another epoch."""
    source = MixtureSteps(tone_bank, batch_size=16, steps=planned, size=40)
    batches = [source.batch(k) for k in range(12)]
    dataset = batches[0][0]
    expected = list(mixture_batches(dataset, 4))
    assert 5 < len(expected) < 12
    assert_equal_batches([indices for _, indices in batches[: len(expected)]], expected)
    assert batches[len(expected) - 1][0] is dataset is not batches[len(expected)][0]


def test_steps_in_a_row_draw_each_batch_once(tone_bank, monkeypatch):
    """They do not begin the epoch again for every step."""
    begun = []
    for name in ("MixtureSteps", "PairSteps"):
        batches = getattr(sampling, name)._batches
        monkeypatch.setattr(getattr(sampling, name), "_batches", lambda self, n, batches=batches: begun.append(n) or batches(self, n))
    for source in (steps(tone_bank), PairSteps(PairSampler(tone_bank, single_pairs=12))):
        for k in range(20):
            source.batch(k)
    assert begun == [1, 2, 3, 0]  # voices of mixtures, then the first epoch of pairs, which goes on to the second


def test_no_batch_in_an_epoch_is_an_error(tone_bank):
    """Not an endless search: 6 mixtures of 8 instruments of which 4 are twins all but surely share one."""
    with pytest.raises(ValueError, match="6 mixtures give no batch of 6 without a repeated instrument: use fewer clips"):
        MixtureSteps(tone_bank, batch_size=24, size=6).batch(0)


def test_mixture_steps_depend_on_their_seed(tone_bank):
    first, again, other = (mixtures_of(steps(tone_bank, seed=s).batch(0)) for s in (0, 0, 1))
    assert first == again != other


def test_processes_take_parts_of_the_same_mixture_step(tone_bank):
    for k in (0, 15):
        parts = [mixtures_of(steps(tone_bank, 8, rank=r, world=2).batch(k)) for r in range(2)]  # 4 or 2 mixtures
        assert sorted(parts[0] + parts[1]) == sorted(mixtures_of(steps(tone_bank, 8).batch(k)))


@pytest.mark.parametrize("augmented", [True, False])
def test_twins_play_in_mixtures_on_demand(tone_bank, augmented):
    """Every training instrument plays, and twins only if they are asked for."""
    source = MixtureSteps(tone_bank, batch_size=12, size=40, augmented=augmented)
    seen = {uid for k in range(20) for dataset, indices in [source.batch(k)] for i in indices for _, uid in dataset.plan(i)}
    table = tone_bank.instruments.query("split == 'train'")
    assert seen == set(table.index[augmented | table.augments.isna()])


def test_no_instrument_twice_in_a_step_of_mixtures(tone_bank, original):
    """All processes together, whatever the number of instruments per mixture."""
    parts = [steps(tone_bank, 8, rank=r, world=2) for r in range(2)]  # 4, 2 and 2 mixtures
    for k in range(20):
        mixtures = [(dataset, i) for source in parts for dataset, indices in [source.batch(k)] for i in indices]
        names = [original[uid] for dataset, i in mixtures for _, uid in dataset.plan(i)]
        assert len(names) == len(set(names)) == len(mixtures) * parts[0].voices(k)


def test_curriculum_of_all_steps(tone_bank):
    source = MixtureSteps(tone_bank, steps=8, curriculum=(0.5, 0.5))
    assert [source.voices(k) for k in range(9)] == [1] * 4 + [2] * 4 + [3]


@pytest.mark.parametrize("curriculum", [(0.5, 0.6), (-0.1,), (-0.1, 0.5), (0.1, 0.1, 0.1)], ids=str)
def test_bad_curriculum(tone_bank, curriculum):
    with pytest.raises(ValueError, match=r"^curriculum must be at most 2 shares of the steps that sum to at most 1"):
        MixtureSteps(tone_bank, curriculum=curriculum)


# Pairs


def family_steps(bank, batch_size=36, **options):
    return FamilySteps(bank, MIXTURE_FAMILIES, clips, **{"steps": 20, "size": 2000, "seconds": 0.25, **options})


@pytest.mark.parametrize(("batch_size", "mixtures_per_instrument", "groups"), [(14, 1, 2), (27, 1, 3), (36, 3, 4), (24, 2, 3)])
def test_instruments_of_a_batch_meet_again(tone_bank, original, clips, plays, groups):
    """Each plays in as many mixtures of its family's place, and is heard as two different notes of its own."""
    sampler = family_steps(tone_bank, clips, mixtures_per_instrument=plays)
    assert list(sampler.families) == list(MIXTURE_FAMILIES)
    seen = set()
    for step in range(8):
        dataset, indices, named, rows = sampler.batch(step)
        assert len(indices) == len(dataset) == groups * plays and rows.shape == (2, 3 * groups) == (2, len(named))
        assert len({original[uid] for _, uid in named}) == len(named)
        plans = [tuple(dataset.plan(i)) for i in indices]
        for pair in named:
            assert sum(pair in plan for plan in plans) == plays
        assert all([name for name, _ in plan] == list(MIXTURE_FAMILIES) for plan in plans)
        notes = tone_bank.notes.instrument.to_numpy()[rows]
        assert (notes == [uid for _, uid in named]).all() and (rows[0] != rows[1]).all()
        seen.add(dataset[0].mixture.tobytes())
    assert len(seen) == 8


def test_families_that_play_are_drawn_at_each_step(tone_bank, original):
    """1 to `voices` of them, in all mixtures of the step; clips allow the more groups the fewer play."""
    sampler, drawn = family_steps(tone_bank, 20, mixtures_per_instrument=2, max_instruments=2), []
    for step in range(20):
        dataset, indices, named, rows = sampler.batch(step)
        plans = [dataset.plan(i) for i in indices]
        families = [name for name, _ in plans[0]]
        groups = {1: 5, 2: 3}[len(families)]
        assert all([name for name, _ in plan] == families for plan in plans)
        assert len(indices) == 2 * groups and len(named) == len({original[uid] for _, uid in named}) == groups * len(families)
        assert rows.shape == (2, len(named)) and dataset[0].stems.shape[0] == len(families)
        for pair in named:
            assert sum(pair in plan for plan in plans) == 2
        drawn.append(tuple(families))
    singles, pairs = ({d for d in drawn if len(d) == n} for n in (1, 2))
    assert len(singles) == len(pairs) == 3
    again = [
        [name for name, _ in family_steps(tone_bank, 20, mixtures_per_instrument=2, max_instruments=2).batch(step)[0].plan(0)]
        for step in (19, 3)
    ]
    assert again == [list(drawn[19]), list(drawn[3])]


def test_processes_draw_the_same_families(tone_bank):
    for step in range(4):
        whole, *parts = (
            family_steps(tone_bank, 24, mixtures_per_instrument=2, max_instruments=2, rank=r, world=w).batch(step)
            for r, w in ((0, 1), (0, 2), (1, 2))
        )
        heard = {tuple(pair) for part in parts for pair in part[2]}
        assert heard <= {tuple(pair) for pair in whole[2]} and len(parts[0][2]) == len(parts[1][2])
        assert {name for name, _ in heard} == {name for name, _ in whole[2]}


def test_new_combinations_are_not_those_of_the_first_mixtures(tone_bank):
    batches = map(family_steps(tone_bank, 36, mixtures_per_instrument=3).batch, range(10))
    plans = [set(map(tuple, map(dataset.plan, indices))) for dataset, indices, *_ in batches]
    assert np.mean([len(plan) for plan in plans]) > 10  # of 12


def test_family_step_does_not_depend_on_the_steps_before(tone_bank):
    sampler, other = family_steps(tone_bank), family_steps(tone_bank, seed=0)
    sampler.batch(0), sampler.batch(1)
    for a, b in zip(sampler.batch(2)[1:], other.batch(2)[1:], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(sampler.batch(2)[0][4].mixture, other.batch(2)[0][4].mixture)
    assert family_steps(tone_bank, seed=1).batch(2)[2] != other.batch(2)[2]


def test_processes_take_parts_of_the_same_family_step(tone_bank):
    whole, parts = family_steps(tone_bank, 28).batch(1), [family_steps(tone_bank, 28, rank=r, world=2).batch(1) for r in range(2)]
    assert sorted(np.concatenate([part[1] for part in parts])) == list(whole[1])
    for r, (dataset, _, named, rows) in enumerate(parts):
        assert named == whole[2][r::2] and (rows == whole[3][:, r::2]).all()
        np.testing.assert_array_equal(dataset[r].mixture, whole[0][r].mixture)


def test_two_notes_of_an_instrument_are_one_only_where_there_is_no_other(tmp_path):
    sounds = [sound(f"{f}{i}", tone(60 + k), family=f) for f in MIXTURE_FAMILIES for i in range(4) for k in range(1 + i % 2)]
    bank = build_bank(tmp_path / "bank", sounds)
    sizes = bank.instruments.notes
    for step in range(6):
        _, _, named, rows = FamilySteps(bank, MIXTURE_FAMILIES, 28, steps=9, size=50, seconds=0.25).batch(step)
        assert [int(a != b) for a, b in rows.T] == [sizes[uid] - 1 for _, uid in named]


def test_family_step_needs_two_groups_for_each_process(tone_bank):
    with pytest.raises(ValueError, match=r"each process needs clips for 2 groups of 3 mixtures .*\(9 clips\), 17 hold 1"):
        family_steps(tone_bank, 17, mixtures_per_instrument=3)
    with pytest.raises(ValueError, match="18 hold 2"):
        family_steps(tone_bank, 18, mixtures_per_instrument=3, world=2)
    with pytest.raises(ValueError, match=r"\(7 clips\), 13 hold 1"):
        family_steps(tone_bank, 13, mixtures_per_instrument=3, max_instruments=2)


def test_pairs_without_some_families(tone_bank):
    sampler = PairSampler(tone_bank, single_pairs=3, without=("Bass", "Synth Lead"))
    assert set(tone_bank.notes.family[np.concatenate([b.ravel() for b in sampler.epoch(0)])]) == {"Chromatic Percussion"}
    with pytest.raises(ValueError, match="of other families than Bass, Synth Lead; there are 6: use fewer pairs"):
        PairSampler(tone_bank, single_pairs=7, without=("Bass", "Synth Lead"))


def columns(bank, batch):
    """Instrument of both sounds of each pair, (pairs, 2), and family of each pair."""
    notes = bank.notes.iloc[batch.ravel()]
    assert set(notes.split) == {"train"}
    return notes.instrument.to_numpy().reshape(batch.shape), notes.family.to_numpy().reshape(batch.shape)[:, 0]


@pytest.mark.parametrize("hard_negative_ratio", [0, 0.5, 1])
def test_pairs_are_two_sounds_of_one_instrument(tone_bank, original, hard_negative_ratio):
    """Different ones; no instrument twice in a batch, a twin counting as its original."""
    for batch in PairSampler(tone_bank, single_pairs=6, hard_negative_ratio=hard_negative_ratio).epoch(0):
        names, _ = columns(tone_bank, batch)
        assert batch.shape == (6, 2)
        assert (names[:, 0] == names[:, 1]).all()
        assert (batch[:, 0] != batch[:, 1]).all()
        assert len({original[n] for n in names[:, 0]}) == 6


@pytest.mark.parametrize(("hard_negative_ratio", "hard"), [(0, 0), (0.5, 3), (0.65, 4), (1, 6)])
def test_hard_ratio_is_exact(tone_bank, hard_negative_ratio, hard):
    """round(ratio * pairs) pairs come from one family, the others from the other families; the family varies."""
    families = set()
    for batch in PairSampler(tone_bank, single_pairs=6, hard_negative_ratio=hard_negative_ratio).epoch(0):
        _, family = columns(tone_bank, batch)
        assert len(set(family[:hard])) == min(1, hard)
        assert hard == 0 or family[0] not in family[hard:]
        families |= set(family[:1])
    assert len(families) == 3


def test_families_are_told_apart_where_some_have_none(tmp_path):
    """Bass and Brass begin alike; an instrument of no family must not make them one."""
    names = ("Bass", "Brass", None)
    sounds = [sound(f"{f}{i}", tone(60 + k), family=f) for f in names for i in range(4) for k in range(2)]
    bank = build_bank(tmp_path / "bank", sounds)
    for batch in PairSampler(bank, single_pairs=4, hard_negative_ratio=1).epoch(0):
        assert len(set(bank.notes.family.fillna("")[batch[:, 0]])) == 1


def test_every_instrument_is_seen_about_as_often(tone_bank):
    """Sounds that were drawn become unlikely: after one epoch nearly all were drawn, none often."""
    rows = np.concatenate(list(PairSampler(tone_bank, single_pairs=6).epoch(0))).ravel()
    counts = np.bincount(rows, minlength=len(tone_bank))[(tone_bank.notes.split == "train").to_numpy()]
    assert set(tone_bank.notes.instrument[rows]) == set(tone_bank.instruments.query("split == 'train'").index)
    assert (counts > 0).mean() > 0.75  # 0.63 if they were drawn regardless
    assert counts.max() <= 4


def test_sounds_are_drawn_as_from_one_urn(tmp_path):
    """Each by exp(-times drawn), whichever instrument it is of: here of instruments of 2, 3 and 7 sounds."""
    bank = build_bank(tmp_path / "bank", [sound(name, tone(60 + k)) for name, n in (("a", 2), ("b", 3), ("c", 7)) for k in range(n)])
    sampler, count = PairSampler(bank, single_pairs=1), 4000
    steps = np.array([list(islice(sampler.epoch(number), 2)) for number in range(count)])[:, :, 0]  # (epochs, steps, 2)
    error = 4 * np.sqrt(0.25 / count)
    np.testing.assert_allclose(np.bincount(steps[:, 0, 0], minlength=12) / count, 1 / 12, atol=error)
    both = np.isin(steps[:, 0, 0], [0, 1])  # first the two sounds of a, so that each weighs 1 / e
    again = np.isin(steps[both, 1, 0], [0, 1]).mean()
    assert again == pytest.approx(2 / np.e / (2 / np.e + 10), abs=4 * np.sqrt(0.07 * 0.93 / both.sum()))


@pytest.mark.parametrize("augmented", [True, False])
def test_twins_are_paired_on_demand(tone_bank, augmented):
    """With them every training instrument is seen, without them every original one, and never a twin."""
    rows = np.concatenate(list(PairSampler(tone_bank, single_pairs=6, augmented=augmented).epoch(0))).ravel()
    table = tone_bank.instruments.query("split == 'train'")
    assert set(tone_bank.notes.instrument[rows]) == set(table.index[augmented | table.augments.isna()])


def test_a_twin_replaces_its_original_in_a_batch(tone_bank, original):
    """Batches of all instruments hold each original or its twin, by turns."""
    batches = [columns(tone_bank, b)[0][:, 0] for b in PairSampler(tone_bank, single_pairs=3 * ORIGINALS).epoch(0)]
    for names in batches:
        assert len({original[n] for n in names}) == len(names) == 3 * ORIGINALS
    assert len({sum(n.endswith("_no_fx") for n in names) for names in batches}) > 1


def test_an_epoch_draws_as_many_sounds_as_there_are(tone_bank):
    sampler = PairSampler(tone_bank, single_pairs=5)
    sounds = 3 * (ORIGINALS + TWINS) * 12
    assert len(list(sampler.epoch(0))) == sampler.batches_per_epoch == sounds // 10


def test_pairs_depend_on_seed_and_epoch_only(tone_bank):
    first, again, other = (PairSampler(tone_bank, single_pairs=4, **options) for options in ({}, {"seed": 0}, {"seed": 1}))
    assert_equal_batches(first.epoch(1), again.epoch(1))
    assert not np.array_equal(next(first.epoch(0)), next(first.epoch(1)))
    assert not np.array_equal(next(first.epoch(0)), next(other.epoch(0)))


def test_processes_take_parts_of_the_same_batch_of_pairs(tone_bank):
    sampler = PairSampler(tone_bank, single_pairs=6)
    parts = [list(sampler.epoch(0, rank, world=2)) for rank in range(2)]
    for whole, first, second in islice(zip(sampler.epoch(0), *parts, strict=True), 10):
        assert len(first) == len(second) == 3
        assert sorted(map(tuple, [*first, *second])) == sorted(map(tuple, whole))


def test_instrument_of_a_single_sound_has_no_pair(tmp_path):
    bank = build_bank(tmp_path / "bank", [sound("a", tone(60)), sound("a", tone(61)), sound("b", tone(60))])
    assert set(next(PairSampler(bank, single_pairs=1).epoch(0)).ravel()) == {0, 1}
    with pytest.raises(ValueError, match=r"2 pairs need .* instruments with two sounds or more; there are 1: use fewer clips"):
        PairSampler(bank, single_pairs=2)


def test_too_many_pairs(tone_bank):
    """Twins are no instruments of their own."""
    most = 3 * ORIGINALS
    assert len(next(PairSampler(tone_bank, single_pairs=most).epoch(0))) == most
    with pytest.raises(ValueError, match=f"^{most + 1} pairs need .*there are {most}: use fewer clips$"):
        PairSampler(tone_bank, single_pairs=most + 1)


@pytest.mark.parametrize("single_pairs", [0, -1])
def test_batch_of_no_pairs(tone_bank, pairs):
    with pytest.raises(ValueError, match="a batch of pairs needs 2 clips or more"):
        PairSampler(tone_bank, single_pairs=pairs)


@pytest.mark.parametrize("hard_negative_ratio", [-0.1, 1.1])
def test_bad_hard_ratio(tone_bank, hard_negative_ratio):
    with pytest.raises(ValueError, match=f"hard_negative_ratio must be between 0 and 1, got {hard_negative_ratio}"):
        PairSampler(tone_bank, single_pairs=2, hard_negative_ratio=hard_negative_ratio)


def test_pair_step_does_not_depend_on_the_steps_before(tone_bank):
    """Random access gives what sequential access gives, across epochs too."""
    source, other = (PairSteps(PairSampler(tone_bank, single_pairs=12)) for _ in range(2))
    sequence = [source.batch(k) for k in range(30)]
    assert source.sampler.batches_per_epoch == 12
    for k in [29, 3, 11, 12, 13, 0, 24, 24]:
        np.testing.assert_array_equal(other.batch(k), sequence[k])
    for epoch in range(2):
        assert_equal_batches(sequence[12 * epoch : 12 * (epoch + 1)], source.sampler.epoch(epoch))


def test_processes_take_parts_of_the_same_step_of_pairs(tone_bank):
    """Disjoint, and together the batch of one process, in every epoch."""
    sampler = PairSampler(tone_bank, single_pairs=12)
    whole, *parts = PairSteps(sampler), *(PairSteps(sampler, rank=r, world=2) for r in range(2))
    for k in (0, 11, 12):
        split = [part.batch(k) for part in parts]
        assert [len(part) for part in split] == [6, 6]
        assert sorted(map(tuple, np.concatenate(split))) == sorted(map(tuple, whole.batch(k)))


def test_batches_that_processes_cannot_share_evenly(tone_bank):
    """Each would train on another number of sounds."""
    for make, what in (
        (lambda: PairSteps(PairSampler(tone_bank, single_pairs=12), world=5), "12 pairs"),
        (lambda: NoteSteps(ROWS, 12, world=5), "12 sounds"),
        (lambda: MixtureSteps(tone_bank, batch_size=16, world=3), r"4 mixtures of 3 \(16 clips\)"),
        (lambda: steps(tone_bank, world=2), r"5 mixtures of 2 \(16 clips\)"),  # at once, not when the curriculum comes to it
        (lambda: family_steps(tone_bank, 35, world=2), r"5 groups of 1 mixtures and their notes \(35 clips\)"),
    ):
        with pytest.raises(ValueError, match=f"{what} in a batch cannot be shared evenly by [235] processes"):
            make()


# Single sounds

ROWS = np.arange(100, 160)[::-1]  # of a bank, whatever they hold


@pytest.mark.parametrize("batch_size", [1, 12, 60])
def test_every_sound_once_in_an_epoch(clips):
    """In another order in every epoch."""
    source, per_epoch = NoteSteps(ROWS, clips), len(ROWS) // clips
    epochs = [np.concatenate([source.batch(k) for k in range(e * per_epoch, (e + 1) * per_epoch)]) for e in range(3)]
    for order in epochs:
        assert sorted(order) == sorted(ROWS)
    assert len({tuple(order) for order in epochs}) == 3


def test_sounds_that_fill_no_batch_change_with_the_epoch():
    """60 sounds in batches of 25: none twice in an epoch, and those left over are heard in another."""
    source = NoteSteps(ROWS, 25)
    epochs = [np.concatenate([source.batch(2 * e), source.batch(2 * e + 1)]) for e in range(6)]
    assert {len(set(heard)) for heard in epochs} == {len(heard) for heard in epochs} == {50}
    assert set(np.concatenate(epochs)) == set(ROWS)


def test_note_step_does_not_depend_on_the_steps_before():
    sequence = [batch.tolist() for batch in map(NoteSteps(ROWS, 12).batch, range(12))]
    other = NoteSteps(list(ROWS), 12)
    for k in [11, 3, 4, 5, 0, 0]:
        assert other.batch(k).tolist() == sequence[k]


def test_note_steps_depend_on_their_seed():
    first, again, other = (NoteSteps(ROWS, 12, **o).batch(0).tolist() for o in ({}, {"seed": 0}, {"seed": 1}))
    assert first == again != other


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_take_parts_of_the_same_batch_of_sounds(world):
    """Disjoint, of the same size, and together what one process takes."""
    whole, parts = NoteSteps(ROWS, 12), [NoteSteps(ROWS, 12, rank=r, world=world) for r in range(world)]
    for k in (0, 4, 7):
        split = [part.batch(k) for part in parts]
        assert {len(part) for part in split} == {12 // world}
        assert sorted(np.concatenate(split)) == sorted(whole.batch(k))


@pytest.mark.parametrize("batch_size", [0, 61, -1])
def test_batch_of_no_sound_or_more_than_there_are(clips):
    with pytest.raises(ValueError, match=rf"^a batch needs 1 to 60 sounds \(those that train\), got {clips}$"):
        NoteSteps(ROWS, clips)
