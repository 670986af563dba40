"""Evaluation against brute force, and retrievers of known skill: one that knows the truth, one that guesses."""

import dataclasses
import json
import os
import subprocess
import sys
import types

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SPLIT_SIZES, TWINS, build_bank, sound, tone
from test_retrieval import brute_distances, brute_ranks

from cirlib.data.mixtures import MixtureDataset, clip
from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.evaluation import protocol as evaluate
from cirlib.evaluation import ranking as retrieval
from cirlib.evaluation import robustness as degrade
from cirlib.evaluation.protocol import (
    EVAL_SEED,
    Embedded,
    Retriever,
    Validation,
    embed_mixtures,
    embed_test,
    metrics,
    mixture_ranks,
    rank_test,
    score,
    self_match,
    single_queries,
    single_ranks,
    write_results,
)
from cirlib.evaluation.ranking import TOP_K
from cirlib.models.encoder import AudioEncoder
from cirlib.models.heads import SOUND, one_part
from cirlib.training.config import TrainConfig

CONFIG = TrainConfig(preset="test", seconds=0.1, queries=30, valid_size=40)


class Oracle:
    """Knows which instruments sound in the mixtures of some datasets: one axis for each instrument.

    A mixture is the sum of its instruments, or with `each` one vector per family of the datasets.
    """

    parts = ()

    def __init__(self, bank, datasets, each=False):
        self.axes = dict(zip(bank.instruments.index, np.eye(len(bank.instruments)), strict=True))
        self.played = {}
        for data in datasets:
            for i in range(len(data)):
                m = data[i]
                vectors = np.zeros((len(data.families), len(self.axes)))
                for name, uid in zip(m.families, m.instruments, strict=True):
                    vectors[data.families.index(name)] = self.axes[uid]
                self.played[m.mixture.tobytes()] = vectors if each else vectors.sum(axis=0)

    def mixtures(self, waveforms):
        return np.stack([self.played[w.tobytes()] for w in waveforms])

    def notes(self, bank, rows, protocol="strict"):
        return np.stack([self.axes[uid] for uid in bank.notes.instrument[rows]])


class Guess:
    """A random vector for every sound."""

    parts = ()

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def mixtures(self, waveforms):
        return self.rng.normal(size=(len(waveforms), 8))

    def notes(self, bank, rows, protocol="strict"):
        return self.rng.normal(size=(len(rows), 8))


@pytest.fixture(scope="module")
def odd_bank(tmp_path_factory):
    """Instruments with one pitch per sound, with stems of several notes among them, with such stems only, and without a family.

    The last one swings further down than up.
    """
    sounds = []
    for name, family, pitches in (
        ("plain", "Bass", (40, 41, 44, 45, 49)),
        ("stems", "Bass", (40, 63, None, 80, None)),
        ("only stems", "Bass", (None, None)),
        ("odd", None, (50, 52)),
    ):
        for k, p in enumerate(pitches):
            columns = {"pitch": None, "velocity": None} if p is None else {"pitch": float(p)}
            audio = tone(60 + k) if family else tone(60 + k) - 0.3
            sounds.append(sound(name, audio, family=family, split="test", **columns))
    return build_bank(tmp_path_factory.mktemp("banks") / "odd", sounds)


# Mixtures


@pytest.fixture
def asked(tone_bank):
    """Random vectors of 25 mixtures, per family and one for all; the gallery of the mixture families in random order."""
    rng = np.random.default_rng(0)
    data = MixtureDataset(tone_bank, split="test", size=25, seconds=0.05)
    items = tone_bank.gallery(MIXTURE_FAMILIES).sample(frac=1, random_state=0)
    return data, rng.normal(size=(25, 6)), rng.normal(size=(25, 3, 6)), items, rng.normal(size=(len(items), 6))


class Given:
    """Hands out vectors in the order of the queries."""

    def __init__(self, vectors):
        self.vectors, self.place = vectors, 0

    def mixtures(self, waveforms):
        self.place += len(waveforms)
        return self.vectors[self.place - len(waveforms) : self.place]


@pytest.mark.parametrize("each", [False, True], ids=["one vector", "one vector per family"])
@pytest.mark.parametrize("metric", retrieval.METRICS)
def test_ranks_of_mixtures(asked, each, metric):
    """Every instrument of every mixture against the gallery of its own family, by the vector of its family where there is one."""
    data, single, several, items, gallery = asked
    vectors, truth = embed_mixtures(Given(several if each else single), data)
    got = mixture_ranks(vectors, truth, gallery, items, metric)
    plans = [(i, name, uid) for i in range(25) for name, uid in data.plan(i)]
    assert list(got[["query", "family", "instrument"]].itertuples(index=False, name=None)) == plans
    queries = np.array([several[i, MIXTURE_FAMILIES.index(name)] if each else single[i] for i, name, _ in plans])
    place = [items.index.get_loc(uid) for *_, uid in plans]
    np.testing.assert_array_equal(got["rank"], brute_ranks(queries, gallery, place, items.family.to_numpy(), metric))
    assert got["rank"].nunique() > 5 and got["rank"].max() < items.family.value_counts().max()
    assert (got.source == "tones").all() and "place" not in got


def test_degraded_mixtures_are_what_is_heard(asked):
    heard, data = [], asked[0]
    listener = types.SimpleNamespace(mixtures=lambda waves: heard.append(waves) or waves[:, :2])
    embed_mixtures(listener, data, "half as long")
    expected = degrade.queries("half as long", data, range(len(data)))
    np.testing.assert_array_equal(np.concatenate(heard), expected)
    assert not expected[:, data.samples // 2 :].any()


def test_source_of_a_mixture_is_that_of_the_instrument_that_is_asked_for(asked):
    data, single, _, items, gallery = asked
    items = items.assign(source=[f"from {uid}" for uid in items.index])
    got = mixture_ranks(*embed_mixtures(Given(single), data), gallery, items, "l2")
    assert (got.source == "from " + got.instrument).all()


def test_mixtures_are_numbered_across_blocks(asked, monkeypatch):
    data, single, *_ = asked
    whole, truth = embed_mixtures(Given(single), data)
    monkeypatch.setattr(evaluate, "BLOCK", 4)
    vectors, parts = embed_mixtures(Given(single), data)
    np.testing.assert_array_equal(vectors, single)
    np.testing.assert_array_equal(whole, single)
    pd.testing.assert_frame_equal(parts, truth)
    assert list(truth["query"].unique()) == list(range(25))


@pytest.mark.parametrize("max_instruments", [1, 2])
def test_mixtures_of_fewer_instruments_than_families(tone_bank, asked, voices):
    """`place` is that of the family among all families, not of the stem in its mixture; families in an order of their own."""
    *_, several, items, gallery = asked
    order = ("Synth Lead", "Chromatic Percussion", "Bass")
    data = MixtureDataset(tone_bank, order, "test", 25, seconds=0.05, max_instruments=voices)
    vectors, truth = embed_mixtures(Given(several), data)
    assert list(truth.place) == [order.index(f) for f in truth.family]
    assert (truth.groupby("query").size() == voices).all() and truth.place.nunique() == 3
    assert (tone_bank.instruments.family[truth.instrument] == truth.family.to_numpy()).all()
    got = mixture_ranks(vectors, truth, gallery, items, "cosine")
    queries = np.array([several[q, order.index(f)] for q, f in zip(truth["query"], truth.family, strict=True)])
    place = [items.index.get_loc(uid) for uid in truth.instrument]
    np.testing.assert_array_equal(got["rank"], brute_ranks(queries, gallery, place, items.family.to_numpy(), "cosine"))


# Single sounds


def test_single_queries(tone_bank):
    """All sounds of a split's instruments, never of twins; `strict` leaves out reference notes."""
    notes, references = tone_bank.notes, set(tone_bank.gallery().reference)
    for split, count in SPLIT_SIZES.items():
        paper, strict = single_queries(tone_bank, split, "paper"), single_queries(tone_bank, split)
        assert len(paper) == 12 * 3 * count and len(strict) == 11 * 3 * count
        assert set(paper) - set(strict) == set(paper) & references and not set(strict) & references
        assert set(notes.split[paper]) == {split} and notes.augments[paper].isna().all()
    assert notes.augments.notna().sum() == 12 * 3 * TWINS


@pytest.mark.parametrize("metric", retrieval.METRICS)
def test_ranks_of_single_sounds(tone_bank, metric):
    """Against the whole gallery, and the family of what comes first."""
    rng = np.random.default_rng(1)
    items = tone_bank.gallery().sample(frac=1, random_state=1)
    rows = rng.permutation(single_queries(tone_bank, "test"))[:60]
    queries, gallery = rng.normal(size=(60, 5)), rng.normal(size=(len(items), 5))
    got = single_ranks(queries, rows, tone_bank, gallery, items, metric)
    for name in ("instrument", "family", "source", "pitch", "velocity"):
        assert list(got[name]) == list(tone_bank.notes[name][rows])
    assert list(got.row) == list(rows) and list(got.index) == list(range(60))
    place = [items.index.get_loc(uid) for uid in got.instrument]
    np.testing.assert_array_equal(got["rank"], brute_ranks(queries, gallery, place, np.zeros(len(items)), metric))
    assert got["rank"].max() >= 13, "more than one family is ranked"
    first = brute_distances(queries, gallery, metric).argmin(axis=1)
    assert list(got.found) == list(items.family.iloc[first])
    assert 0 < (got.found == got.family).mean() < 1


def test_distance_in_pitch_to_the_reference_note(odd_bank):
    """Half of an instrument's sounds are near, by its own median; a stem of several notes is neither near nor far."""
    items = odd_bank.gallery()
    rows = single_queries(odd_bank, "test", "paper")
    vectors = np.random.default_rng(0).normal(size=(len(odd_bank), 4))
    got = single_ranks(vectors[rows], rows, odd_bank, vectors[items.reference], items, "l2")
    told = {name: list(part.distance) for name, part in got.groupby("instrument")}
    near, far, several = "near half", "far half", "several notes"
    assert told == {
        "plain": [far, near, near, near, far],  # reference 44, intervals 4 3 0 1 5
        "stems": [far, near, several, near, several],  # reference 63, intervals 23 0 17
        "only stems": [several, several],
        "odd": [near, far],  # reference 50, intervals 0 2
    }
    assert got.family.isna().sum() == 2 and set(got["rank"]) <= {0.0, 1.0, 2.0, 3.0}


def test_near_half_of_some_sounds(odd_bank):
    """The half is of the sounds that are asked for; those below the reference note are as far as those above."""
    items = odd_bank.gallery()
    uid = items.index[0]
    rows = odd_bank.notes.index[odd_bank.notes.instrument == uid].to_numpy()[[0, 4, 1]]  # 40, 49, 41; reference 44
    vectors = np.random.default_rng(0).normal(size=(len(odd_bank), 4))
    got = single_ranks(vectors[rows], rows, odd_bank, vectors[items.reference], items, "l2")
    assert list(zip(got.pitch, got.distance, strict=True)) == [(40, "near half"), (49, "far half"), (41, "near half")]


def test_family_found_may_be_none(odd_bank):
    """An item without a family may come first."""
    items = odd_bank.gallery()
    axes = np.eye(4)
    rows = single_queries(odd_bank, "test", "paper")
    number = items.index.get_indexer(odd_bank.notes.instrument[rows])
    got = single_ranks(axes[number], rows, odd_bank, axes, items, "cosine")
    assert (got["rank"] == 0).all()
    assert list(got.found.fillna("(none)")) == list(got.family.fillna("(none)"))


# Summaries


@pytest.fixture
def ranked():
    """Mixture ranks of two families and sources, and gallery items of three families, of sizes 10, 4 and 6."""
    rank = [0, 0, 2, 0, 9, 4.5, 0, 1]
    family = ["Bass"] * 5 + ["Synth Lead"] * 3
    source = ["a", "a", "a", "b", "b", "a", "a", "a"]
    items = pd.DataFrame({"family": ["Bass"] * 10 + ["Synth Lead"] * 4 + ["Organ"] * 6})
    return pd.DataFrame({"family": family, "source": source, "instrument": list("uuvwwxyz"), "rank": rank}), items


def test_metrics_of_mixtures(ranked):
    """Means over families, whatever their number of queries; chance within the galleries of the families that were asked for."""
    table, items = ranked
    got = metrics("mixture", table, items)
    assert got["top1"] == pytest.approx((3 / 5 + 1 / 3) / 2)
    assert got["top5"] == pytest.approx((4 / 5 + 1) / 2)
    assert (got["queries"], got["rank_median"]) == (8, 0.5)
    assert got["chance"] == pytest.approx({f"top{k}": (min(1, k / 10) + min(1, k / 4)) / 2 for k in TOP_K})
    shares = {
        "by_family": {"Bass": 3 / 5, "Synth Lead": 1 / 3},
        "by_source": {"a": 3 / 6, "b": 1 / 2},
        "by_source and family": {"a, Bass": 2 / 3, "b, Bass": 1 / 2, "a, Synth Lead": 1 / 3},
    }
    assert {k for k in got if k.startswith("by_")} == shares.keys()
    for kind, expected in shares.items():
        assert {name: part["top1"] for name, part in got[kind].items()} == pytest.approx(expected)
        assert sum(part["queries"] for part in got[kind].values()) == 8
        for part in got[kind].values():
            assert part["top1_ci"][0] <= part["top1"] <= part["top1_ci"][1]


def test_metrics_of_single_sounds(ranked):
    """All queries alike; chance within the whole gallery; sounds without a family have a slice of their own."""
    table, items = ranked
    table = table.assign(distance=["near half"] * 4 + ["far half"] * 3 + ["several notes"])
    table.loc[7, "family"] = None
    got = metrics("single", table, items)
    assert got["top1"] == pytest.approx(4 / 8) and got["top3"] == pytest.approx(6 / 8)
    assert got["chance"] == pytest.approx({f"top{k}": k / 20 for k in TOP_K})
    shares = {
        "by_family": {"Bass": 3 / 5, "Synth Lead": 1 / 2, "(none)": 0},
        "by_source": {"a": 3 / 6, "b": 1 / 2},
        "by_distance": {"near half": 3 / 4, "far half": 1 / 3, "several notes": 0},
    }
    assert {k for k in got if k.startswith("by_")} == shares.keys()
    for kind, expected in shares.items():
        assert {name: part["top1"] for name, part in got[kind].items()} == pytest.approx(expected)
    json.dumps(got, allow_nan=False)


# The whole test


@pytest.fixture(scope="module")
def embedded(tone_bank):
    """A test of both kinds with guessed vectors."""
    return embed_test(Guess(), tone_bank, CONFIG)


def test_what_is_embedded(tone_bank, embedded):
    """The gallery holds every instrument but twins; queries are those of test instruments."""
    counts = sum(SPLIT_SIZES.values()) * 3
    assert list(embedded.items.index) == list(tone_bank.gallery().index) and embedded.gallery.shape == (counts, 8)
    assert embedded.mixtures.shape == (30, 8) and len(embedded.truth) == 90
    assert set(embedded.truth.instrument) <= set(tone_bank.instruments.index[tone_bank.instruments.split == "test"])
    plan = CONFIG.mixtures(tone_bank, "test", 30, EVAL_SEED).plan(7)
    assert list(embedded.truth[embedded.truth["query"] == 7].instrument) == [uid for _, uid in plan]
    np.testing.assert_array_equal(embedded.rows, single_queries(tone_bank, "test"))
    assert embedded.singles.shape == (len(embedded.rows), 8)


@pytest.mark.parametrize("tests", [("mixture",), ("single",)])
def test_only_what_is_to_be_tested(tone_bank, tests):
    config = dataclasses.replace(CONFIG, tests=tests, protocol="paper", queries=5)
    found = embed_test(Guess(), tone_bank, config)
    assert [x is None for x in (found.mixtures, found.truth)] == 2 * ["mixture" not in tests]
    assert [x is None for x in (found.singles, found.rows)] == 2 * ["single" not in tests]
    if "single" in tests:
        np.testing.assert_array_equal(found.rows, single_queries(tone_bank, "test", "paper"))
    ranks, result = score(found, tone_bank, config)
    assert set(ranks) == set(result) == set(tests)


def test_the_retriever_is_told_the_protocol(tone_bank):
    class Listener(Guess):
        def notes(self, bank, rows, protocol="strict"):
            asked.append(protocol)
            return super().notes(bank, rows, protocol)

    for protocol in ("strict", "paper"):
        asked = []
        config = dataclasses.replace(CONFIG, protocol=protocol, queries=2, valid_size=2)
        embed_test(Listener(), tone_bank, config)
        Validation(tone_bank, config, on_mixtures=False)(Listener())
        assert asked == [protocol] * 4


@pytest.mark.parametrize("each", [False, True], ids=["one vector", "one vector per family"])
def test_a_retriever_that_knows_the_truth(tone_bank, each):
    data = CONFIG.mixtures(tone_bank, "test", CONFIG.queries, EVAL_SEED)
    ranks, result = score(embed_test(Oracle(tone_bank, [data], each), tone_bank, CONFIG), tone_bank, CONFIG)
    for test in ("mixture", "single"):
        assert (ranks[test]["rank"] == 0).all()
        assert result[test]["top1"] == result[test]["mrr"] == 1 and 0 < result[test]["top1_ci"][0] < result[test]["top1_ci"][1] == 1
    assert (ranks["single"].found == ranks["single"].family).all()


def test_mixtures_are_ranked_among_the_families_that_play(tone_bank):
    """The others are not in the gallery, nor in its covariance."""
    config = dataclasses.replace(CONFIG, families=("Bass", "Synth Lead"), queries=10, tests=("mixture",))
    found = embed_test(Guess(), tone_bank, config)
    inside = found.items.family.isin(config.families).to_numpy()
    got = rank_test(found, tone_bank, config, "mahalanobis")["mixture"]
    place = [found.items.index[inside].get_loc(uid) for uid in got.instrument]
    families = found.items.family[inside].to_numpy()
    expected = brute_ranks(found.mixtures[got["query"]], found.gallery[inside], place, families, "mahalanobis")
    np.testing.assert_array_equal(got["rank"], expected)


@pytest.mark.parametrize(("loss", "own"), [("multi-infonce", "cosine"), ("triplet-full", "l2")])
def test_score_is_by_the_distance_of_the_row(tone_bank, embedded, loss, own):
    """The others stand beside, with top-1 and top-5 of all queries alike."""
    config = dataclasses.replace(CONFIG, loss=loss)
    ranks, result = score(embedded, tone_bank, config)
    for test in ("mixture", "single"):
        assert result[test]["metric"] == own
        pd.testing.assert_frame_equal(ranks[test], rank_test(embedded, tone_bank, config, own)[test])
        expected = metrics(test, ranks[test], embedded.items)
        assert {k: v for k, v in result[test].items() if k not in ("metric", "distances")} == expected
        assert list(result[test]["distances"]) == list(retrieval.METRICS)
        for metric, told in result[test]["distances"].items():
            rank = rank_test(embedded, tone_bank, config, metric)[test]["rank"]
            assert told == {"top1": (rank < 1).mean(), "top5": (rank < 5).mean()}
    assert len({told["top5"] for told in result["single"]["distances"].values()}) > 1


# Files


def test_results_are_written_and_metrics_last(tone_bank, embedded, tmp_path, monkeypatch):
    """metrics.json says that all is there; the vectors need no pickles to be read."""
    ranks, result = score(embedded, tone_bank, CONFIG)
    there = []
    monkeypatch.setattr(evaluate, "KEPT_MIXTURES", 12)
    write = evaluate.write_json
    monkeypatch.setattr(evaluate, "write_json", lambda *a: (there.extend(p.name for p in tmp_path.iterdir()), write(*a)))
    returned = write_results(tmp_path, embedded, ranks, {"experiment": "x", **result})
    assert sorted(there) == ["embeddings.npz", "mixture_ranks.parquet", "single_ranks.parquet"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(json.dumps(returned))
    assert returned["experiment"] == "x" and returned["single"] == result["single"]
    with np.load(tmp_path / "embeddings.npz", allow_pickle=False) as file:
        assert set(file) == {"gallery", "items", "parts", "mixtures", "singles", "rows"}
        np.testing.assert_array_equal(file["gallery"], embedded.gallery)
        np.testing.assert_array_equal(file["mixtures"], embedded.mixtures[:12])
        np.testing.assert_array_equal(file["singles"], embedded.singles)
        np.testing.assert_array_equal(file["rows"], embedded.rows)
        assert list(file["items"]) == list(embedded.items.index)
    for test in ("mixture", "single"):
        stored = pd.read_parquet(tmp_path / f"{test}_ranks.parquet")
        pd.testing.assert_frame_equal(stored, ranks[test], check_dtype=False)


def test_files_of_one_test_only(tone_bank, tmp_path):
    found = Embedded(tone_bank.gallery(), np.ones((39, 2)), singles=np.ones((3, 2)), rows=np.arange(3))
    (tmp_path / "mixture_ranks.parquet").write_text("of a test that is no longer asked for")
    write_results(tmp_path, found, {"single": pd.DataFrame({"rank": [1.0]})}, {})
    assert {p.name for p in tmp_path.iterdir()} == {"embeddings.npz", "single_ranks.parquet", "metrics.json"}
    with np.load(tmp_path / "embeddings.npz", allow_pickle=False) as file:
        assert set(file) == {"gallery", "items", "parts", "singles", "rows"}


@pytest.mark.parametrize(("vectors", "share"), [(np.eye(39), 1.0), (np.ones((39, 2)), 0.0)], ids=["distinct", "collapsed"])
def test_share_of_reference_notes_that_find_themselves(tone_bank, capsys, vectors, share):
    """A collapse is told and stops nothing."""
    assert self_match(Embedded(tone_bank.gallery(), vectors), "l2") == share
    assert ("WARNING: that should be nearly all" in capsys.readouterr().out) == (share == 0)


def test_a_write_that_fails_leaves_no_metrics(tone_bank, embedded, tmp_path):
    bad = pd.DataFrame({"rank": [object()]})
    with pytest.raises(Exception, match=r"object|convert"):
        write_results(tmp_path, embedded, {"mixture": bad}, {})
    assert {p.name for p in tmp_path.iterdir()} == {"embeddings.npz"}


# Validation


@pytest.mark.parametrize("on_mixtures", [True, False], ids=["mixtures", "single sounds"])
def test_validation_of_the_truth_and_of_a_guess(tone_bank, on_mixtures):
    """Three validation instruments of each family: all nine are ranked for single sounds, three for mixtures."""
    config = dataclasses.replace(CONFIG, valid_size=200)
    validation = Validation(tone_bank, config, on_mixtures)
    assert set(validation.items.split) == {"valid"} and len(validation.items) == 9
    data = config.mixtures(tone_bank, "valid", 200, EVAL_SEED)
    assert validation(Oracle(tone_bank, [data])) == {"mrr": 1, "top1": 1, "top5": 1}
    size = 3 if on_mixtures else 9
    got = validation(Guess())
    assert got["top1"] == pytest.approx(1 / size, abs=0.1)
    assert got["mrr"] == pytest.approx(np.mean(1 / np.arange(1, size + 1)), abs=0.1)
    again, items = Guess(), validation.items
    gallery = again.notes(tone_bank, items.reference)
    if on_mixtures:
        vectors, truth = embed_mixtures(again, data)
        rank = mixture_ranks(vectors, truth, gallery, items, "cosine")["rank"]
    else:
        rank = single_ranks(again.notes(tone_bank, validation.rows), validation.rows, tone_bank, gallery, items, "cosine")["rank"]
    expected = {"mrr": (1 / (1 + rank)).mean(), **{f"top{k}": (rank < k).mean() for k in (1, 5)}}
    assert got == pytest.approx(expected)


def test_validation_never_changes_its_sounds(tone_bank):
    """`valid_size` of them, whatever the seed of the run, never reference notes under `strict`."""
    first, again = (Validation(tone_bank, dataclasses.replace(CONFIG, seed=seed, valid_size=50), False) for seed in (0, 1))
    np.testing.assert_array_equal(first.rows, again.rows)
    assert len(set(first.rows)) == 50 and set(first.rows) <= set(single_queries(tone_bank, "valid"))
    assert len(Validation(tone_bank, dataclasses.replace(CONFIG, valid_size=999), False).rows) == 9 * 11
    paper = Validation(tone_bank, dataclasses.replace(CONFIG, valid_size=999, protocol="paper"), False)
    assert set(paper.rows) == set(single_queries(tone_bank, "valid", "paper"))
    first, again = (Validation(tone_bank, dataclasses.replace(CONFIG, seed=seed), True).dataset for seed in (0, 1))
    assert len(first) == 40 and all(first.plan(i) == again.plan(i) for i in range(40))


def test_validation_ranks_by_the_distance_of_the_loss(tone_bank):
    """Vectors along one axis: cosine cannot tell them apart, l2 can."""

    class Lengths(Oracle):
        def notes(self, bank, rows, protocol="strict"):
            return 1.0 + super().notes(bank, rows).argmax(axis=1)[:, None] * np.ones((1, 2))

    for loss, top1 in (("triplet", 1.0), ("infonce", 0.0)):
        config = dataclasses.replace(CONFIG, task="single", loss=loss)
        assert Validation(tone_bank, config, False)(Lengths(tone_bank, []))["top1"] == top1


def test_validation_on_mixtures_holds_the_families_that_play(tone_bank):
    config = dataclasses.replace(CONFIG, families=("Bass", "Synth Lead"))
    assert set(Validation(tone_bank, config, True).items.family) == {"Bass", "Synth Lead"}
    assert set(Validation(tone_bank, config, False).items.family) == set(MIXTURE_FAMILIES)


def test_a_bank_without_validation_instruments(odd_bank):
    with pytest.raises(ValueError, match="no validation instruments"):
        Validation(odd_bank, CONFIG, False)


# The retriever of an encoder


def test_retriever_of_an_encoder(odd_bank, monkeypatch):
    """Notes are cut and normalised as in mixtures and embedded in blocks; mixtures as given, or as a method has it."""
    torch.manual_seed(0)
    encoder = AudioEncoder.create("cnn", seconds=0.5, width=8, dim=16)
    monkeypatch.setattr(evaluate, "BLOCK", 3)
    rows = [13, 0, 5, 12, 4, 7, 9]
    retriever = Retriever(encoder)
    found = {protocol: retriever.notes(odd_bank, rows, protocol) for protocol in ("strict", "paper")}
    for protocol, vectors in found.items():
        expected = [encoder.embed(clip(odd_bank, row, 8000, protocol)[None])[0] for row in rows]
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert np.abs(found["paper"] - found["strict"]).max() > 1e-3
    assert retriever.notes(odd_bank, []).shape == (0, 16)
    waveforms = np.random.default_rng(0).normal(size=(2, 8000)).astype(np.float32)
    np.testing.assert_array_equal(retriever.mixtures(waveforms), encoder.embed(waveforms))
    assert Retriever(encoder, lambda w: w.sum(axis=1)).mixtures(waveforms).shape == (2,)


def test_embedding_over_a_dask_cluster_gives_the_same_vectors(tone_bank, tmp_path):
    """Two worker processes that open the bank themselves."""
    pytest.importorskip("distributed")
    torch.manual_seed(0)
    encoder = AudioEncoder.create("cnn", seconds=0.5, width=4, dim=8).eval()
    encoder.save(tmp_path / "encoder.pt")
    rows, script = [5, 0, 100, 7, 31, 30, 29], tmp_path / "with_dask.py"
    script.write_text(f"""
if __name__ == "__main__":
    import joblib, numpy
    from dask.distributed import Client, LocalCluster
    from cirlib.evaluation import protocol as evaluate
    bank, encoder = evaluate.NoteBank.open({str(tone_bank.paths[0])!r}), evaluate.AudioEncoder.load({str(tmp_path / "encoder.pt")!r})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        with joblib.parallel_config(backend="dask"):
            numpy.save({str(tmp_path / "vectors.npy")!r}, evaluate.embed_rows(encoder, bank, {rows}, n_jobs=-1))
""")
    env = {**os.environ, "DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "tcp"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = evaluate.embed_rows(encoder, tone_bank, rows)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-6)
    assert np.abs(expected - expected[0]).max(axis=1)[1:6].min() > 1e-4  # the last is the same tone


def test_each_worker_embeds_one_part(tone_bank, monkeypatch):
    """The encoder travels with each part; no part is empty."""
    encoder, parts, embed = AudioEncoder.create("cnn", seconds=0.5, width=4, dim=8).eval(), [], evaluate._embed_part
    monkeypatch.setattr(evaluate, "_embed_part", lambda *args: parts.append(list(args[2])) or embed(*args))
    with joblib.parallel_config(backend="threading"):
        for n_jobs, expected in ((3, [[4, 3, 2], [1, 0], [9, 8]]), (50, [[k] for k in (4, 3, 2, 1, 0, 9, 8)])):
            found = evaluate.embed_rows(encoder, tone_bank, np.concatenate(expected), n_jobs=n_jobs)
            assert sorted(parts) == sorted(expected) and found.shape == (7, 8)
            parts.clear()


def test_rows_may_be_a_column_of_a_table(tone_bank):
    encoder, gallery = AudioEncoder.create("cnn", seconds=0.5, width=4, dim=8), tone_bank.gallery(["Bass"])
    expected = evaluate.embed_rows(encoder, tone_bank, gallery.reference.tolist())
    np.testing.assert_array_equal(Retriever(encoder).notes(tone_bank, gallery.reference), expected)


def test_the_bar_of_a_run_that_goes_on_counts_what_was_done_before(capsys):
    assert list(evaluate.progress(range(6, 8), "resumed", done=6)) == [6, 7]
    assert "resumed: 100%" in (told := capsys.readouterr().err) and "8/8" in told
    assert list(evaluate.progress(iter("ab"), "new")) == ["a", "b"], "no length is asked for"


def test_a_mixture_is_compared_by_the_part_of_the_family(tone_bank):
    """Parts that know the truth for their family only, and are wrong for all others."""
    items = tone_bank.gallery(MIXTURE_FAMILIES)
    g, parts = len(items), MIXTURE_FAMILIES
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(g, 5, g))
    place = {name: 2 + parts.index(name) for name in parts}
    for i, family in enumerate(items.family):
        gallery[i, place[family]] = np.eye(g)[i]
    queries = rng.normal(size=(g, 5, g))  # one for each item, which plays in it
    for i, family in enumerate(items.family):
        queries[i, place[family]] = np.eye(g)[i]
    truth = pd.DataFrame({"query": range(g), "place": 0, "family": items.family.to_numpy(), "instrument": items.index})
    own = mixture_ranks(queries.reshape(g, -1), truth, gallery.reshape(g, -1), items, "cosine", parts)
    assert (own["rank"] == 0).all()
    whole = mixture_ranks(queries.reshape(g, -1), truth, gallery.reshape(g, -1), items, "cosine")
    assert (whole["rank"] > 0).any()
    gallery[:, 0] = np.eye(g)  # of single sounds
    gallery = gallery.reshape(g, -1)
    singles = np.zeros((g, 5 * g))
    singles[:, :g], singles[:, g:] = np.eye(g), 9 * rng.normal(size=(g, 4 * g))
    rows = items.reference.to_numpy()
    found = Embedded(items, gallery, queries.reshape(g, -1), truth, singles, rows, parts)
    tables = evaluate.rank_test(found, tone_bank, TrainConfig(loss="infonce"), "cosine")
    assert (tables["mixture"]["rank"] == 0).all() and (tables["single"]["rank"] == 0).all()
    found = Embedded(items, gallery, parts=parts)
    assert self_match(found, "cosine") == 1 and one_part(found.gallery, SOUND, parts).shape == (g, g)
