"""Batches of mixtures: nothing twice in one, the same ones from the same seed, shares of one global batch for several processes."""

import numpy as np
import pytest
from conftest import SPLIT_SIZES, TWINS, build_bank, instrument_tones, sound, tone

from cirlib.data.batches import FamilySteps, MixtureSteps, mixture_batches
from cirlib.data.mixtures import MixtureDataset
from cirlib.data.taxonomy import MIXTURE_FAMILIES

ORIGINALS = SPLIT_SIZES["train"]  # training instruments of each family, twins not counted


@pytest.fixture
def original(tone_bank):
    """{instrument: its original}"""
    return {u: u.removesuffix("_no_fx") for u in tone_bank.instruments.index}


# Mixtures of an epoch


@pytest.mark.parametrize("size", [2, 4, 5])
def test_batch_has_no_instrument_twice(tone_bank, original, size):
    """An instrument and its effects-off twin count as one."""
    dataset, seen = MixtureDataset(tone_bank, size=300), set()
    for batch in mixture_batches(dataset, size):
        names = [original[uid] for i in batch for _, uid in dataset.plan(i)]
        assert batch.shape == (size,)
        assert len(names) == len(set(names)) == 3 * size
        seen |= {uid for i in batch for _, uid in dataset.plan(i)}
    assert len(seen) == 3 * (ORIGINALS + TWINS)


@pytest.mark.parametrize(("size", "share"), [(1, 1), (3, 0.9)])
def test_epoch_uses_each_mixture_once(tone_bank, size, share):
    """Few are left over at its end, though many have to wait."""
    used = np.concatenate(list(mixture_batches(MixtureDataset(tone_bank, size=300), size)))
    assert len(used) == len(set(used)) >= share * 300


def test_processes_share_a_global_batch(tone_bank):
    dataset = MixtureDataset(tone_bank, size=100)
    shares = [list(mixture_batches(dataset, 2, rank=rank, world=3)) for rank in range(3)]
    for whole, *split in zip(mixture_batches(dataset, 6), *shares, strict=True):
        assert all(len(part) == 2 for part in split)
        assert sorted(np.concatenate(split)) == sorted(whole)


@pytest.mark.parametrize(("count", "world", "most"), [(3, 1, 6), (3, 2, 3), (2, 1, 9), (1, 1, 18)])
def test_too_large_batch_is_refused(tone_bank, count, world, most):
    """One mixture more than the 6 instruments of each of 3 families allow."""
    dataset = MixtureDataset(tone_bank, size=2000, max_instruments=count)
    assert len(next(mixture_batches(dataset, most, world=world), range(most))) == most  # allowed, if not always found
    with pytest.raises(ValueError, match=f"a batch of {(most + 1) * world} mixtures .* train has {most * world}"):
        next(mixture_batches(dataset, most + 1, world=world))


def test_families_of_unequal_size_limit_the_batch(tmp_path):
    """Two instruments a mixture of families with 1, 1 and 5: 2 mixtures at most, as each needs one of the small ones."""
    counts = zip(MIXTURE_FAMILIES, (1, 1, 5), strict=True)
    sounds = [s for f, n in counts for i in range(n) for s in instrument_tones(f, f"{f}{i}", 0.5)]
    dataset = MixtureDataset(build_bank(tmp_path / "bank", sounds), size=50, max_instruments=2)
    assert len(next(mixture_batches(dataset, 2))) == 2
    with pytest.raises(ValueError, match="train has 2"):
        next(mixture_batches(dataset, 3))


@pytest.mark.parametrize(("size", "epoch"), [(0, 50), (4, 3)])
def test_empty_batch_or_short_epoch_is_refused(tone_bank, size, epoch):
    with pytest.raises(ValueError, match=f"a batch needs 1 to {epoch} mixtures .* got {size}"):
        next(mixture_batches(MixtureDataset(tone_bank, size=epoch), size))


# MixtureSteps


def steps(bank, batch_size=16, **options):
    """batch_size 16: 8, 5 or 4 mixtures of 1, 2 or 3 instruments."""
    return MixtureSteps(bank, **{"batch_size": batch_size, "steps": 20, "size": 40, **options})


def mixtures_of(batch):
    """Seed, instruments per mixture and index of each mixture of a step."""
    dataset, indices = batch
    return [(dataset.seed, dataset.max_instruments, int(i)) for i in indices]


def test_all_families_play_by_default(tone_bank):
    source = steps(tone_bank, steps=9)
    assert {source.instruments(k) for k in (0, 4, 8, 100)} == {3}
    assert len(source.batch(0)[1]) == 4


def test_instruments_per_mixture_are_drawn(tone_bank):
    """1 to max_instruments, in about as many steps each, of families that each mixture draws; batch_size stays."""
    source = steps(tone_bank, steps=60, max_instruments=2)
    drawn = [source.instruments(k) for k in range(60)]
    assert set(drawn) == {1, 2} and 20 <= drawn.count(1) <= 40
    playing = set()
    for k in (drawn.index(1), drawn.index(2)):
        dataset, indices = source.batch(k)
        assert (dataset.max_instruments, len(indices)) == (drawn[k], 16 // (1 + drawn[k]))
        playing |= {tuple(family for family, _ in dataset.plan(i)) for i in indices}
    assert len(playing) > 3
    other = steps(tone_bank, steps=60, max_instruments=2, seed=1)
    assert drawn != [other.instruments(k) for k in range(60)]


def test_open_mixtures_are_shared_by_processes(tone_bank):
    """batch_size 16 is 8, 5 and 4 mixtures; two processes skip one of the 5."""
    parts = [steps(tone_bank, steps=12, max_instruments=3, rank=r, world=2) for r in range(2)]
    for k in range(12):
        batches = [mixtures_of(part.batch(k)) for part in parts]
        assert len(batches[0]) == len(batches[1]) == {1: 4, 2: 2, 3: 2}[parts[0].instruments(k)]
        assert not set(batches[0]) & set(batches[1])
    assert len(steps(tone_bank, 8, steps=1, max_instruments=3, world=2).batch(1)[1]) == 1  # just enough
    with pytest.raises(ValueError, match=r"a batch_size of 7 is less than one mixture and its 3 instruments .* use 8 or more"):
        steps(tone_bank, 7, max_instruments=3, world=2)


@pytest.mark.parametrize("count", [0, 3])
def test_any_step_can_be_taken_first(tone_bank, count):
    """Random access, as after a resume, gives what sequential access gives; each epoch has new mixtures."""
    source, other = (steps(tone_bank, max_instruments=count) for _ in range(2))
    sequence = [mixtures_of(source.batch(k)) for k in range(20)]
    for k in [19, 3, 0, 12, 13, 4, 5, 17, 17]:
        assert mixtures_of(other.batch(k)) == sequence[k]
    everything = [m for batch in sequence for m in batch]
    assert len(everything) == len(set(everything))
    assert len({seed for seed, _, _ in everything}) > max(1, count)  # more than one epoch


@pytest.mark.parametrize("planned", [4, 40])
def test_epochs_follow_each_other(tone_bank, planned):
    """No batch is skipped, also after the planned steps; then another epoch begins."""
    source = steps(tone_bank, steps=planned)
    batches = [source.batch(k) for k in range(12)]
    dataset = batches[0][0]
    expected = list(mixture_batches(dataset, 4))
    assert 5 < len(expected) < 12
    assert [list(indices) for _, indices in batches[: len(expected)]] == [list(indices) for indices in expected]
    assert batches[len(expected) - 1][0] is dataset is not batches[len(expected)][0]


def test_consecutive_steps_do_not_restart_the_epoch(tone_bank, monkeypatch):
    begun, batches = [], MixtureSteps._batches
    monkeypatch.setattr(MixtureSteps, "_batches", lambda self, n: begun.append(n) or batches(self, n))
    source = steps(tone_bank, max_instruments=3)
    for k in range(20):
        source.batch(k)
    assert sorted(begun) == [1, 2, 3]


def test_epoch_without_a_batch_is_an_error(tone_bank):
    """Not an endless search: 6 mixtures of 8 instruments of which 4 are twins almost surely share one."""
    with pytest.raises(ValueError, match="6 mixtures give no batch of 6 without a repeated instrument: use a smaller batch_size"):
        MixtureSteps(tone_bank, batch_size=24, size=6).batch(0)


@pytest.mark.parametrize("augmented", [True, False])
def test_twins_play_only_if_augmented(tone_bank, augmented):
    source = steps(tone_bank, 12, augmented=augmented)
    seen = {uid for k in range(20) for dataset, indices in [source.batch(k)] for i in indices for _, uid in dataset.plan(i)}
    table = tone_bank.instruments.query("split == 'train'")
    assert seen == set(table.index[augmented | table.augments.isna()])


@pytest.mark.parametrize("count", [0, 3])
def test_global_step_has_no_instrument_twice(tone_bank, original, count):
    """All processes together, and together they have the batch of one process where it can be shared evenly."""
    whole, *parts = (steps(tone_bank, 8, max_instruments=count, rank=r, world=w) for r, w in ((0, 1), (0, 2), (1, 2)))
    for k in range(20):
        mixtures = [(dataset, i) for source in parts for dataset, indices in [source.batch(k)] for i in indices]
        names = [original[uid] for dataset, i in mixtures for _, uid in dataset.plan(i)]
        assert len(names) == len(set(names)) == len(mixtures) * parts[0].instruments(k)
        assert sorted(m for part in parts for m in mixtures_of(part.batch(k))) == sorted(mixtures_of(whole.batch(k)))


# FamilySteps


def family_steps(bank, batch_size=36, **options):
    return FamilySteps(bank, batch_size=batch_size, **{"steps": 20, "size": 2000, "seconds": 0.25, **options})


@pytest.mark.parametrize(("batch_size", "times", "groups"), [(14, 1, 2), (27, 1, 3), (36, 3, 4), (24, 2, 3)])
def test_instruments_are_in_several_mixtures(tone_bank, original, batch_size, times, groups):
    """Each in as many mixtures, in the place of its family, and with two different notes of its own."""
    sampler = family_steps(tone_bank, batch_size, mixtures_per_instrument=times)
    assert list(sampler.families) == list(MIXTURE_FAMILIES)
    seen = set()
    for step in range(8):
        dataset, indices, named, rows = sampler.batch(step)
        assert len(indices) == len(dataset) == groups * times and rows.shape == (2, 3 * groups) == (2, len(named))
        assert len({original[uid] for _, uid in named}) == len(named)
        plans = [tuple(dataset.plan(i)) for i in indices]
        for pair in named:
            assert sum(pair in plan for plan in plans) == times
        assert all([name for name, _ in plan] == list(MIXTURE_FAMILIES) for plan in plans)
        notes = tone_bank.notes.instrument.to_numpy()[rows]
        assert (notes == [uid for _, uid in named]).all() and (rows[0] != rows[1]).all()
        seen.add(dataset[0].mixture.tobytes())
    assert len(seen) == 8


def test_families_are_drawn_at_each_step(tone_bank, original):
    """1 to max_instruments, the same in all mixtures of a step; fewer families leave room for more groups."""
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


def test_processes_draw_the_same_families(tone_bank):
    for step in range(4):
        options = {"mixtures_per_instrument": 2, "max_instruments": 2}
        whole, *parts = (family_steps(tone_bank, 24, rank=r, world=w, **options).batch(step) for r, w in ((0, 1), (0, 2), (1, 2)))
        instruments = {tuple(pair) for part in parts for pair in part[2]}
        assert instruments <= {tuple(pair) for pair in whole[2]} and len(parts[0][2]) == len(parts[1][2])
        assert {name for name, _ in instruments} == {name for name, _ in whole[2]}


def test_mixtures_are_new_combinations(tone_bank):
    batches = map(family_steps(tone_bank, 36, mixtures_per_instrument=3).batch, range(10))
    plans = [set(map(tuple, map(dataset.plan, indices))) for dataset, indices, *_ in batches]
    assert np.mean([len(plan) for plan in plans]) > 10  # of 12


@pytest.mark.parametrize("count", [0, 2])
def test_any_family_step_can_be_taken_first(tone_bank, count):
    options = {"mixtures_per_instrument": 2, "max_instruments": count}
    sampler, other, another = (family_steps(tone_bank, 20, seed=seed, **options) for seed in (0, 0, 1))
    sampler.batch(0), sampler.batch(1)
    for a, b in zip(sampler.batch(2)[1:], other.batch(2)[1:], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(sampler.batch(2)[0][1].mixture, other.batch(2)[0][1].mixture)
    assert another.batch(2)[2] != other.batch(2)[2]


def test_processes_share_a_family_step(tone_bank):
    whole, parts = family_steps(tone_bank, 28).batch(1), [family_steps(tone_bank, 28, rank=r, world=2).batch(1) for r in range(2)]
    assert sorted(np.concatenate([part[1] for part in parts])) == list(whole[1])
    for r, (dataset, _, named, rows) in enumerate(parts):
        assert named == whole[2][r::2] and (rows == whole[3][:, r::2]).all()
        np.testing.assert_array_equal(dataset[r].mixture, whole[0][r].mixture)


def test_a_note_repeats_only_if_there_is_no_other(tmp_path):
    sounds = [sound(f"{f}{i}", tone(60 + k), family=f) for f in MIXTURE_FAMILIES for i in range(4) for k in range(1 + i % 2)]
    bank = build_bank(tmp_path / "bank", sounds)
    sizes = bank.instruments.notes
    for step in range(6):
        _, _, named, rows = family_steps(bank, 28, steps=9, size=50).batch(step)
        assert [int(a != b) for a, b in rows.T] == [sizes[uid] - 1 for _, uid in named]


# Refusals


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda bank: steps(bank, 3), "a batch_size of 3 is less than one mixture and its 3 instruments for each of 1 .* use 4 or more"),
        (lambda bank: steps(bank, world=3), r"3 processes cannot share 4 mixtures of 3 instruments \(batch_size 16\) evenly"),
        (lambda bank: family_steps(bank, 17, mixtures_per_instrument=3), "a batch_size of 17 holds 1 groups of 3 .* use 18 or more"),
        (lambda bank: family_steps(bank, 18, mixtures_per_instrument=3, world=2), "holds 2 groups .* each of 2 .* use 36 or more"),
        (lambda bank: family_steps(bank, 13, mixtures_per_instrument=3, max_instruments=2), "holds 1 groups .* use 14 or more"),
        (lambda bank: family_steps(bank, 35, world=2), r"2 processes cannot share 5 groups of 1 mixtures .*\(batch_size 35\) evenly"),
    ],
)
def test_unusable_batch_size_is_refused(tone_bank, make, words):
    with pytest.raises(ValueError, match=words):
        make(tone_bank)


def test_large_families_are_drawn_more_often(tmp_path):
    """In proportion to the square root of their instruments: 16 instruments against 4 give twice as many steps."""
    large, small = MIXTURE_FAMILIES[:2]
    uids = [(family, f"{family}{k}") for family, count in ((large, 16), (small, 4)) for k in range(count)]
    bank = build_bank(tmp_path / "bank", [s for family, uid in uids for s in instrument_tones(family, uid, 0.5)])
    source = FamilySteps(bank, families=(large, small), batch_size=6, max_instruments=1, steps=600, seconds=0.1)
    drawn = [source.batch(step)[2][0][0] for step in range(600)]
    assert 1.6 < drawn.count(large) / drawn.count(small) < 2.5
