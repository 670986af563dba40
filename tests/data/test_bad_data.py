"""Bad sounds, names and counts through banks, mixtures, batches and encoders: finite numbers, or a sentence that says what is wrong."""

import numpy as np
import pytest
from awful import KINDS, LOUD, banks, done_or_refused, examples, finite, shapes, sounds
from conftest import build_bank, make, sound
from hypothesis import given
from hypothesis import strategies as st

from cirlib.audio.io import LOUDEST, check_usable
from cirlib.data.bank import NoteBank
from cirlib.data.batches import FamilySteps, MixtureSteps
from cirlib.data.builder import BankBuilder
from cirlib.data.jobs import encode
from cirlib.data.mixtures import PROTOCOLS, MixtureDataset, load_sound
from cirlib.data.pairs import NoteSteps, PairSteps
from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.evaluation.baselines import mfcc
from cirlib.models.encoder import AudioEncoder

SECONDS = 0.06


# Sounds


@examples(60)
@given(st.data())
def test_sound_is_stored_finite_or_refused(data):
    audio = data.draw(sounds().flatmap(shapes))
    if (found := done_or_refused(lambda: encode(sound("x", audio)))) is None:
        return
    row, samples = found
    back = samples.astype(np.float32) / np.float32(row["gain"])
    given = audio / 32768 if audio.dtype == np.int16 else audio
    assert finite(back) and np.abs(back - given).max() <= np.abs(given).max() / 3e4 + 1e-7


@pytest.fixture(scope="module", params=["cnn", "ast-tiny"])
def encoder(request):
    return AudioEncoder.create(request.param, seconds=0.2).eval()


@examples(25)
@given(st.lists(sounds().flatmap(shapes), max_size=3), st.sampled_from([16000, 8000, 44100]))
def test_embeddings_are_finite_or_refused(encoder, batch, rate):
    vectors = done_or_refused(lambda: encoder.embed(batch, sample_rate=rate))
    if vectors is not None:
        assert vectors.shape == (len(batch), encoder.dim) and finite(vectors)


@examples(25)
@given(sounds())
def test_mfcc_are_finite_where_the_sound_is(audio):
    if finite(audio) and np.abs(audio).max() < LOUD / 1e20:
        assert finite(mfcc(audio))


# Banks


@examples(25)
@given(bank=banks(kinds=tuple(KINDS)))
def test_bank_is_built_and_opened_or_refused(place, bank):
    path = place()
    builder = BankBuilder(path, {}, 16000)
    failed = builder.run({f"{i}": {"sounds": [one]} for i, one in enumerate(bank)}, make, n_jobs=1)
    assert all(len(why.split()) > 2 and "Error" not in why for why in failed.values())
    opened = done_or_refused(lambda: builder.finish([f"{i}" for i in range(len(bank))], {"source": "x"}, failed))
    if opened is None:
        return
    opened = NoteBank.open(path)
    opened.verify()
    assert len(opened) == len(bank) - len(failed)
    stored = [one.row["instrument"] for i, one in enumerate(bank) if f"{i}" not in failed]
    assert list(opened.instruments.index) == list(dict.fromkeys(stored))
    for row in range(len(opened)):
        assert finite(opened.audio(row), *(load_sound(opened, row, samples=500, protocol=protocol) for protocol in PROTOCOLS))


@examples(30)
@given(data=st.data(), bank=banks(families=MIXTURE_FAMILIES))
def test_mixtures_are_finite_or_refused(place, data, bank):
    bank = build_bank(place(), bank)
    draw = data.draw
    options = {
        "families": draw(st.lists(st.sampled_from(MIXTURE_FAMILIES), min_size=1, max_size=3)),
        "split": draw(st.sampled_from(["train", "valid", "test"])),
        "protocol": draw(st.sampled_from(PROTOCOLS)),
        "seconds": draw(st.sampled_from([0.0, 1e-5, 1e-4, 0.01, SECONDS, 1.0])),
        "max_instruments": draw(st.none() | st.integers(0, 3)),
    }
    dataset = done_or_refused(lambda: MixtureDataset(bank, size=3, seed=draw(st.integers(0, 9)), **options))
    for i in range(3 if dataset else 0):
        item = dataset[i]
        assert finite(item.mixture, item.stems, item.references)
        assert np.abs(item.mixture).max() <= 1 and np.abs(item.stems.sum(axis=0) - item.mixture).max() < 1e-3


# Batches


@examples(30)
@given(data=st.data(), bank=banks(families=(*MIXTURE_FAMILIES, None)))
def test_batches_are_made_or_refused(place, data, bank):
    bank = build_bank(place(), bank)
    size, pairs, ratio = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 5)), data.draw(st.sampled_from([0.0, 0.5, 1.0]))

    def taken(make, *arguments, **options):
        steps = make(*arguments, **options)
        return [steps.batch(step) for step in (0, 3)]

    for rows in done_or_refused(lambda: taken(PairSteps, bank, pairs=pairs, hard_negative_ratio=ratio)) or ():
        assert rows.shape == (pairs, 2) and (rows[:, 0] != rows[:, 1]).all()
    options = {"size": 6, "seconds": SECONDS, "max_instruments": data.draw(st.sampled_from([0, 2]))}
    for dataset, indices in done_or_refused(lambda: taken(MixtureSteps, bank, batch_size=size, **options)) or ():
        assert finite(*dataset.batch(indices))
    done_or_refused(lambda: taken(FamilySteps, bank, batch_size=4 * size, steps=4, **options))
    done_or_refused(lambda: taken(NoteSteps, np.arange(len(bank)), size))


# One by one


def test_sound_too_loud_for_float32_is_refused(encoder, tmp_path):
    """Its samples are finite, its level in a bank would be 0 and its energy in an embedding infinite."""
    for act in (
        lambda: encode(sound("x", np.array([1e300]))),
        lambda: encoder.embed([np.array([1e30])]),
        lambda: check_usable(np.full(999, 1e30), 16000),
    ):
        with pytest.raises(ValueError, match=r"louder than 1e\+09 times full scale"):
            act()
    assert finite(encoder.embed([np.full(500, -LOUDEST)]), encode(sound("x", np.array([LOUDEST])))[0]["gain"])


@pytest.mark.parametrize(
    "columns", [{"instrument": "\udcff"}, {"instrument": ""}, {"pitch": np.nan}, {"velocity": np.inf}, {"augments": "\ud800"}]
)
def test_row_that_a_bank_cannot_store_fails_its_job(tmp_path, columns):
    builder = BankBuilder(tmp_path / "bank", {}, 16000)
    bad, good = {**{"instrument": "bad"}, **columns}, sound("good", np.ones(9))
    failed = builder.run({"bad": {"sounds": [sound(**bad, audio=np.ones(9))]}, "good": {"sounds": [good]}}, make, n_jobs=1)
    assert list(failed) == ["bad"] and len(failed["bad"].split()) > 4 and "Error" not in failed["bad"]
    assert list(builder.finish(["bad", "good"], {"source": "x"}, failed).instruments.index) == ["good"]
