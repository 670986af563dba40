"""The paper's tests against naive ranks, and with retrievers of known skill: one that is always right, one that guesses."""

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
from conftest import SPLIT_SIZES, TWINS, build_bank, sound, tone
from naive import naive_distances, naive_ranks

from cirlib.data.mixtures import MixtureDataset, load_sounds
from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.evaluation import protocol
from cirlib.evaluation.protocol import (
    EVAL_SEED,
    Embedded,
    Retriever,
    Validation,
    embed_mixtures,
    embed_rows,
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
from cirlib.evaluation.ranking import METRICS, TOP_K
from cirlib.evaluation.robustness import queries
from cirlib.evaluation.selection import best_distances
from cirlib.training.config import TrainConfig

CONFIG = TrainConfig(preset="test", seconds=0.1, queries=30, valid_size=40)


class Oracle:
    """Embed the mixtures of some datasets as the sum of their instruments, one axis for each; with `each` one vector per family."""

    heads = ()

    def __init__(self, bank, datasets, each=False):
        self.axes = dict(zip(bank.instruments.index, np.eye(len(bank.instruments)), strict=True))
        self.known = {}
        for data in datasets:
            for i in range(len(data)):
                vectors = np.zeros((len(data.families), len(self.axes)))
                for name, uid in data.plan(i):
                    vectors[data.families.index(name)] = self.axes[uid]
                self.known[data[i].mixture.tobytes()] = vectors if each else vectors.sum(axis=0)

    def mixtures(self, waveforms):
        return np.stack([self.known[w.tobytes()] for w in waveforms])

    def notes(self, bank, rows, protocol="strict"):
        return np.stack([self.axes[uid] for uid in bank.notes.instrument[rows]])


class Lengths(Oracle):
    """Vectors on one axis, which differ by l2 but not by cosine."""

    def notes(self, bank, rows, protocol="strict"):
        return 1.0 + super().notes(bank, rows).argmax(axis=1)[:, None] * np.ones((1, 2))


class Guess:
    """Embed every sound as a random vector."""

    heads = ()

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def mixtures(self, waveforms):
        return self.rng.normal(size=(len(waveforms), 8))

    def notes(self, bank, rows, protocol="strict"):
        return self.rng.normal(size=(len(rows), 8))


class Given:
    """Return vectors in the order of the queries."""

    def __init__(self, vectors):
        self.vectors, self.place = vectors, 0

    def mixtures(self, waveforms):
        self.place += len(waveforms)
        return self.vectors[self.place - len(waveforms) : self.place]


@pytest.fixture(scope="module")
def odd_bank(tmp_path_factory):
    """Return a bank of instruments with several notes per sound, and of one without a family, whose minimum exceeds its maximum."""
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
def mixture_task(tone_bank):
    """Return 25 mixtures, random vectors for them, one and one per family, and a shuffled gallery with random vectors."""
    rng = np.random.default_rng(0)
    data = MixtureDataset(tone_bank, split="test", size=25, seconds=0.05)
    items = tone_bank.gallery(MIXTURE_FAMILIES).sample(frac=1, random_state=0)
    return data, rng.normal(size=(25, 6)), rng.normal(size=(25, 3, 6)), items, rng.normal(size=(len(items), 6))


@pytest.mark.parametrize("each", [False, True], ids=["one vector", "one vector per family"])
@pytest.mark.parametrize("metric", METRICS)
def test_mixture_ranks_equal_naive_ranks(mixture_task, each, metric):
    """Each instrument of each mixture is ranked in its family, with its own source, by the vector of the family if there is one."""
    data, single, several, items, gallery = mixture_task
    items = items.assign(source=[f"from {uid}" for uid in items.index])
    vectors, truth = embed_mixtures(Given(several if each else single), data)
    got = mixture_ranks(vectors, truth, gallery=gallery, items=items, metric=metric)
    plans = [(i, name, uid) for i in range(25) for name, uid in data.plan(i)]
    assert list(got[["query", "family", "instrument"]].itertuples(index=False, name=None)) == plans
    asked = np.array([several[i, MIXTURE_FAMILIES.index(name)] if each else single[i] for i, name, _ in plans])
    place = [items.index.get_loc(uid) for *_, uid in plans]
    np.testing.assert_array_equal(got["rank"], naive_ranks(asked, gallery, place, items.family.to_numpy(), metric))
    assert got["rank"].nunique() > 5 and got["rank"].max() < items.family.value_counts().max()
    assert (got.source == "from " + got.instrument).all() and "place" not in got


def test_rankings_without_the_own_reference_note_are_a_slice(mixture_task):
    """Those whose reference note, which is in the gallery, is not among the notes of the mixture."""
    data, single, *_, items, gallery = mixture_task
    vectors, truth = embed_mixtures(Given(single), data)
    played = [set(track.rows) for i in range(25) for track in data.score(i).tracks]
    expected = [items.reference[uid] in rows for uid, rows in zip(truth.instrument, played, strict=True)]
    assert list(truth.with_reference) == expected and 0 < np.mean(expected) < 1
    table = mixture_ranks(vectors, truth, gallery=gallery, items=items, metric="l2")
    got, without = metrics("mixture", table, items), table[~table.with_reference]
    assert got["without_reference"]["share"] == pytest.approx(1 - np.mean(expected))
    assert got["without_reference"]["queries"] == len(without) < got["queries"] == 75
    assert got["without_reference"]["top1"] == pytest.approx((without["rank"] < 1).groupby(without.family).mean().mean())
    assert got["top1"] == metrics("mixture", table.drop(columns="with_reference"), items)["top1"]
    every = metrics("mixture", table.assign(with_reference=True), items)
    assert every["without_reference"] == {"share": 0.0}


@pytest.mark.parametrize("count", [1, 2])
def test_mixtures_of_fewer_instruments_than_families(tone_bank, mixture_task, count):
    """`place` is the index of the family among all families of the dataset, not that of the stem in its mixture."""
    *_, several, items, gallery = mixture_task
    families = ("Synth Lead", "Chromatic Percussion", "Bass")
    data = MixtureDataset(tone_bank, families=families, split="test", size=25, seconds=0.05, max_instruments=count)
    vectors, truth = embed_mixtures(Given(several), data)
    assert list(truth.place) == [families.index(f) for f in truth.family]
    assert (truth.groupby("query").size() == count).all() and truth.place.nunique() == 3
    got = mixture_ranks(vectors, truth, gallery=gallery, items=items, metric="cosine")
    asked = np.array([several[q, families.index(f)] for q, f in zip(truth["query"], truth.family, strict=True)])
    place = [items.index.get_loc(uid) for uid in truth.instrument]
    np.testing.assert_array_equal(got["rank"], naive_ranks(asked, gallery, place, items.family.to_numpy(), "cosine"))


def test_degraded_mixtures_are_embedded(mixture_task):
    got, data = [], mixture_task[0]
    embed_mixtures(types.SimpleNamespace(mixtures=lambda waves: got.append(waves) or waves[:, :2]), data, "half as long")
    expected = queries("half as long", data, range(len(data)))
    np.testing.assert_array_equal(np.concatenate(got), expected)
    assert not expected[:, data.samples // 2 :].any()


def test_block_size_does_not_matter(mixture_task, monkeypatch):
    data, single, *_ = mixture_task
    _, truth = embed_mixtures(Given(single), data)
    monkeypatch.setattr(protocol, "BLOCK", 4)
    vectors, table = embed_mixtures(Given(single), data)
    np.testing.assert_array_equal(vectors, single)
    pd.testing.assert_frame_equal(table, truth)


# Single sounds


def test_single_queries_are_sounds_of_a_split(tone_bank):
    """Without twins, and without reference notes if `strict`."""
    notes, references = tone_bank.notes, set(tone_bank.gallery().reference)
    for split, count in SPLIT_SIZES.items():
        paper, strict = single_queries(tone_bank, split, "paper"), single_queries(tone_bank, split)
        assert len(paper) == 12 * 3 * count and len(strict) == 11 * 3 * count
        assert set(paper) - set(strict) == set(paper) & references and not set(strict) & references
        assert set(notes.split[paper]) == {split} and notes.augments[paper].isna().all()
    assert notes.augments.notna().sum() == 12 * 3 * TWINS


@pytest.mark.parametrize("metric", METRICS)
def test_single_ranks_equal_naive_ranks(tone_bank, metric):
    """The whole gallery is ranked; `predicted` is the family of the first item."""
    rng = np.random.default_rng(1)
    items = tone_bank.gallery().sample(frac=1, random_state=1)
    rows = rng.permutation(single_queries(tone_bank, "test"))[:60]
    vectors, gallery = rng.normal(size=(60, 5)), rng.normal(size=(len(items), 5))
    got = single_ranks(vectors, rows, bank=tone_bank, gallery=gallery, items=items, metric=metric)
    for name in ("instrument", "family", "source", "pitch", "velocity"):
        assert list(got[name]) == list(tone_bank.notes[name][rows])
    assert list(got.row) == list(rows) and list(got.index) == list(range(60))
    place = [items.index.get_loc(uid) for uid in got.instrument]
    np.testing.assert_array_equal(got["rank"], naive_ranks(vectors, gallery, place, np.zeros(len(items)), metric))
    assert got["rank"].max() >= 13, "more than one family is ranked"
    assert list(got.predicted) == list(items.family.iloc[naive_distances(vectors, gallery, metric).argmin(axis=1)])
    assert 0 < (got.predicted == got.family).mean() < 1


def test_distance_in_pitch_to_the_reference_note(odd_bank):
    """Half of the sounds of an instrument are near, by the median of those that are ranked."""
    items, vectors = odd_bank.gallery(), np.random.default_rng(0).normal(size=(len(odd_bank), 4))
    options = {"bank": odd_bank, "gallery": vectors[items.reference], "items": items, "metric": "l2"}
    rows = single_queries(odd_bank, "test", "paper")
    got = single_ranks(vectors[rows], rows, **options)
    near, far, several = "near half", "far half", "several notes"
    assert {name: list(part.distance) for name, part in got.groupby("instrument")} == {
        "plain": [far, near, near, near, far],  # reference 44, intervals 4 3 0 1 5
        "stems": [far, near, several, near, several],  # reference 63, intervals 23 0 17
        "only stems": [several, several],
        "odd": [near, far],  # reference 50, intervals 0 2
    }
    assert got.family.isna().sum() == 2 and set(got["rank"]) <= {0.0, 1.0, 2.0, 3.0}
    rows = odd_bank.notes.index[odd_bank.notes.instrument == "plain"].to_numpy()[[0, 4, 1]]  # 40, 49, 41
    assert list(single_ranks(vectors[rows], rows, **options).distance) == [near, far, near]


def test_predicted_family_may_be_missing(odd_bank):
    items, axes = odd_bank.gallery(), np.eye(4)
    rows = single_queries(odd_bank, "test", "paper")
    vectors = axes[items.index.get_indexer(odd_bank.notes.instrument[rows])]
    got = single_ranks(vectors, rows, bank=odd_bank, gallery=axes, items=items, metric="cosine")
    assert (got["rank"] == 0).all()
    assert list(got.predicted.fillna("(none)")) == list(got.family.fillna("(none)"))


# Summaries


@pytest.fixture
def ranked():
    """Return mixture ranks of two families and sources, and gallery items of three families of sizes 10, 4 and 6."""
    rank = [0, 0, 2, 0, 9, 4.5, 0, 1]
    family = ["Bass"] * 5 + ["Synth Lead"] * 3
    source = ["a", "a", "a", "b", "b", "a", "a", "a"]
    items = pd.DataFrame({"family": ["Bass"] * 10 + ["Synth Lead"] * 4 + ["Organ"] * 6})
    return pd.DataFrame({"family": family, "source": source, "instrument": list("uuvwwxyz"), "rank": rank}), items


def check_slices(got, shares):
    """Check top-1 of all slices, and that they contain all queries and their intervals the mean."""
    assert {k for k in got if k.startswith("by_")} == shares.keys()
    for kind, expected in shares.items():
        assert {name: part["top1"] for name, part in got[kind].items()} == pytest.approx(expected)
        assert sum(part["queries"] for part in got[kind].values()) == got["queries"]
        assert all(part["top1_ci"][0] <= part["top1"] <= part["top1_ci"][1] for part in got[kind].values())
    json.dumps(got, allow_nan=False)


def test_metrics_of_mixtures_are_means_over_families(ranked):
    """Chance is that of the galleries of the ranked families."""
    table, items = ranked
    got = metrics("mixture", table, items)
    assert got["top1"] == pytest.approx((3 / 5 + 1 / 3) / 2)
    assert got["top5"] == pytest.approx((4 / 5 + 2.5 / 3) / 2), "a tie for the fifth place is half a hit"
    assert got["gallery"] == {"Bass": 10, "Synth Lead": 4} and "without_reference" not in got
    assert (got["queries"], got["rank_median"]) == (8, 0.5)
    assert got["chance"] == pytest.approx({f"top{k}": (min(1, k / 10) + min(1, k / 4)) / 2 for k in TOP_K})
    by_both = {"a, Bass": 2 / 3, "b, Bass": 1 / 2, "a, Synth Lead": 1 / 3}
    by_family = {"Bass": 3 / 5, "Synth Lead": 1 / 3}
    check_slices(got, {"by_family": by_family, "by_source": {"a": 3 / 6, "b": 1 / 2}, "by_source and family": by_both})


def test_metrics_of_single_sounds_are_means_over_queries(ranked):
    """Chance is that of the whole gallery; sounds without a family are a slice."""
    table, items = ranked
    table = table.assign(distance=["near half"] * 4 + ["far half"] * 3 + ["several notes"])
    table.loc[7, "family"] = None
    got = metrics("single", table, items)
    assert got["top1"] == pytest.approx(4 / 8) and got["top3"] == pytest.approx(6 / 8)
    assert got["chance"] == pytest.approx({f"top{k}": k / 20 for k in TOP_K})
    by_distance = {"near half": 3 / 4, "far half": 1 / 3, "several notes": 0}
    by_family = {"Bass": 3 / 5, "Synth Lead": 1 / 2, "(none)": 0}
    check_slices(got, {"by_family": by_family, "by_source": {"a": 3 / 6, "b": 1 / 2}, "by_distance": by_distance})


# The whole test


@pytest.fixture(scope="module")
def embedded(tone_bank):
    """Return both tests with random vectors."""
    return embed_test(Guess(), tone_bank, CONFIG)


def test_gallery_and_queries_of_the_test(tone_bank, embedded):
    """The gallery holds every instrument without twins; queries are those of test instruments."""
    counts = sum(SPLIT_SIZES.values()) * 3
    assert list(embedded.items.index) == list(tone_bank.gallery().index) and embedded.gallery.shape == (counts, 8)
    assert embedded.mixtures.shape == (30, 8) and len(embedded.truth) == 90
    assert set(embedded.truth.instrument) <= set(tone_bank.instruments.index[tone_bank.instruments.split == "test"])
    plan = CONFIG.mixtures(tone_bank, "test", 30, EVAL_SEED).plan(7)
    assert list(embedded.truth[embedded.truth["query"] == 7].instrument) == [uid for _, uid in plan]
    np.testing.assert_array_equal(embedded.rows, single_queries(tone_bank, "test"))
    assert embedded.singles.shape == (len(embedded.rows), 8)


@pytest.mark.parametrize("tests", [("mixture",), ("single",)])
def test_only_the_tests_of_the_config_are_run(tone_bank, tests):
    config = dataclasses.replace(CONFIG, tests=tests, protocol="paper", queries=5)
    got = embed_test(Guess(), tone_bank, config)
    assert [x is None for x in (got.mixtures, got.truth)] == 2 * ["mixture" not in tests]
    assert [x is None for x in (got.singles, got.rows)] == 2 * ["single" not in tests]
    if "single" in tests:
        np.testing.assert_array_equal(got.rows, single_queries(tone_bank, "test", "paper"))
    ranks, result = score(got, tone_bank, config)
    assert set(ranks) == set(result) == set(tests)


def test_notes_are_embedded_by_the_protocol_of_the_config(tone_bank):
    class Recorder(Guess):
        def notes(self, bank, rows, protocol="strict"):
            got.append(protocol)
            return super().notes(bank, rows, protocol)

    for name in ("strict", "paper"):
        got = []
        config = dataclasses.replace(CONFIG, protocol=name, queries=2, valid_size=2)
        embed_test(Recorder(), tone_bank, config)
        Validation(tone_bank, config, on_mixtures=False)(Recorder())
        assert got == [name] * 4


@pytest.mark.parametrize("each", [False, True], ids=["one vector", "one vector per family"])
def test_oracle_is_always_first(tone_bank, each):
    data = CONFIG.mixtures(tone_bank, "test", CONFIG.queries, EVAL_SEED)
    ranks, result = score(embed_test(Oracle(tone_bank, [data], each), tone_bank, CONFIG), tone_bank, CONFIG)
    for test in ("mixture", "single"):
        assert (ranks[test]["rank"] == 0).all()
        assert result[test]["top1"] == result[test]["mrr"] == 1 and 0 < result[test]["top1_ci"][0] < result[test]["top1_ci"][1] == 1
    assert (ranks["single"].predicted == ranks["single"].family).all()


def test_other_families_are_not_in_the_gallery_of_mixtures(tone_bank):
    """Nor in its covariance."""
    config = dataclasses.replace(CONFIG, families=("Bass", "Synth Lead"), queries=10, tests=("mixture",))
    got = embed_test(Guess(), tone_bank, config)
    inside = got.items.family.isin(config.families).to_numpy()
    table = rank_test(got, tone_bank, config, metric="mahalanobis")["mixture"]
    place = [got.items.index[inside].get_loc(uid) for uid in table.instrument]
    families = got.items.family[inside].to_numpy()
    expected = naive_ranks(got.mixtures[table["query"]], got.gallery[inside], place, families, "mahalanobis")
    np.testing.assert_array_equal(table["rank"], expected)


@pytest.mark.parametrize(("loss", "own"), [("multi-infonce", "cosine"), ("triplet-full", "l2")])
def test_score_uses_the_metric_of_the_loss(tone_bank, embedded, loss, own):
    """Top-1 and top-5 by the other metrics are beside."""
    config = dataclasses.replace(CONFIG, loss=loss)
    ranks, result = score(embedded, tone_bank, config)
    for test in ("mixture", "single"):
        assert result[test]["metric"] == own
        pd.testing.assert_frame_equal(ranks[test], rank_test(embedded, tone_bank, config)[test])
        expected = metrics(test, ranks[test], embedded.items)
        assert {k: v for k, v in result[test].items() if k not in ("metric", "distances")} == expected
        assert list(result[test]["distances"]) == list(METRICS)
        for metric, accuracy in result[test]["distances"].items():
            rank = rank_test(embedded, tone_bank, config, metric=metric)[test]["rank"]
            assert accuracy == {"top1": (rank < 1).mean(), "top5": (rank < 5).mean()}
    assert len({accuracy["top5"] for accuracy in result["single"]["distances"].values()}) > 1


def test_distance_is_chosen_on_validation_instruments(tone_bank):
    """The one that retrieves them best; that of the loss if all are equal, and under the protocol of the paper."""
    config = dataclasses.replace(CONFIG, loss="infonce", valid_size=5, tests=("single",))
    lengths = Lengths(tone_bank, [])
    assert best_distances(lengths, tone_bank, config)["single"] in ("l2", "mahalanobis")  # the cosine sees one direction
    assert best_distances(lengths, tone_bank, dataclasses.replace(config, protocol="paper")) == {"single": "cosine"}
    data = config.mixtures(tone_bank, "valid", 5, EVAL_SEED)
    both = dataclasses.replace(config, tests=("mixture", "single"), loss="triplet")
    assert best_distances(Oracle(tone_bank, [data]), tone_bank, both) == {"mixture": "l2", "single": "l2"}
    assert list(best_distances(Guess(), tone_bank, both)) == ["mixture", "single"]
    got = embed_test(lengths, tone_bank, config)
    ranks, result = score(got, tone_bank, config, distances={"single": "l2"})
    assert result["single"]["metric"] == "l2" and (ranks["single"]["rank"] == 0).all()
    assert result["single"]["top1"] == result["single"]["distances"]["l2"]["top1"] == 1


@pytest.mark.parametrize(("vectors", "share"), [(np.eye(39), 1.0), (np.ones((39, 2)), 0.0)], ids=["distinct", "collapsed"])
def test_self_match_warns_of_collapsed_embeddings(tone_bank, capsys, vectors, share):
    assert self_match(Embedded(tone_bank.gallery(), vectors), "l2") == share
    assert ("WARNING: it should be nearly all" in capsys.readouterr().out) == (share == 0)


def test_each_head_ranks_its_family(tone_bank):
    """The head of a family is right for its own family only, the head for single sounds for single sounds only."""
    items = tone_bank.gallery(MIXTURE_FAMILIES)
    g, rng = len(items), np.random.default_rng(0)
    gallery, mixtures = rng.normal(size=(2, g, 5, g))
    for i, family in enumerate(items.family):
        gallery[i, 2 + MIXTURE_FAMILIES.index(family)] = mixtures[i, 2 + MIXTURE_FAMILIES.index(family)] = np.eye(g)[i]
    gallery[:, 0] = np.eye(g)
    singles = np.concatenate([np.eye(g), 9 * rng.normal(size=(g, 4 * g))], axis=1)
    truth = pd.DataFrame({"query": range(g), "place": 0, "family": items.family.to_numpy(), "instrument": items.index})
    got = Embedded(items, gallery.reshape(g, -1), mixtures.reshape(g, -1), truth, singles, items.reference.to_numpy(), MIXTURE_FAMILIES)
    tables = rank_test(got, tone_bank, TrainConfig(loss="infonce"))
    assert (tables["mixture"]["rank"] == 0).all() and (tables["single"]["rank"] == 0).all() and self_match(got, "cosine") == 1
    without = dataclasses.replace(got, heads=())
    assert (rank_test(without, tone_bank, TrainConfig(loss="infonce"))["mixture"]["rank"] > 0).any()


# Files


def test_metrics_are_written_last(tone_bank, embedded, tmp_path, monkeypatch):
    """And embeddings are read without pickle."""
    ranks, result = score(embedded, tone_bank, CONFIG)
    there = []
    monkeypatch.setattr(protocol, "STORED_MIXTURES", 12)
    write = protocol.write_json
    monkeypatch.setattr(protocol, "write_json", lambda *a: (there.extend(p.name for p in tmp_path.iterdir()), write(*a)))
    returned = write_results(tmp_path, embedded, ranks, {"experiment": "x", **result})
    assert sorted(there) == ["embeddings.npz", "mixture_ranks.parquet", "single_ranks.parquet"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(json.dumps(returned))
    assert returned["experiment"] == "x" and returned["single"] == result["single"]
    with np.load(tmp_path / "embeddings.npz", allow_pickle=False) as file:
        assert set(file) == {"gallery", "items", "heads", "mixtures", "singles", "rows"}
        np.testing.assert_array_equal(file["mixtures"], embedded.mixtures[:12])
        for name in ("gallery", "singles", "rows"):
            np.testing.assert_array_equal(file[name], getattr(embedded, name))
        assert list(file["items"]) == list(embedded.items.index)
    for test in ("mixture", "single"):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / f"{test}_ranks.parquet"), ranks[test], check_dtype=False)


def test_files_of_other_tests_are_deleted(tone_bank, tmp_path):
    got = Embedded(tone_bank.gallery(), np.ones((39, 2)), singles=np.ones((3, 2)), rows=np.arange(3))
    (tmp_path / "mixture_ranks.parquet").write_text("of an earlier test")
    write_results(tmp_path, got, {"single": pd.DataFrame({"rank": [1.0]})}, {})
    assert {p.name for p in tmp_path.iterdir()} == {"embeddings.npz", "single_ranks.parquet", "metrics.json"}


def test_failed_write_leaves_no_metrics(embedded, tmp_path):
    with pytest.raises(Exception, match=r"object|convert"):
        write_results(tmp_path, embedded, {"mixture": pd.DataFrame({"rank": [object()]})}, {})
    assert {p.name for p in tmp_path.iterdir()} == {"embeddings.npz"}


# Validation


@pytest.mark.parametrize("on_mixtures", [True, False], ids=["mixtures", "single sounds"])
def test_validation_of_an_oracle_and_a_guess(tone_bank, on_mixtures):
    """Nine validation instruments are ranked for single sounds, the three of the family for mixtures."""
    config = dataclasses.replace(CONFIG, valid_size=200)
    validation = Validation(tone_bank, config, on_mixtures)
    assert set(validation.items.split) == {"valid"} and len(validation.items) == 9
    data = config.mixtures(tone_bank, "valid", 200, EVAL_SEED)
    assert validation(Oracle(tone_bank, [data])) == {"mrr": 1, "top1": 1, "top5": 1}
    size, got = 3 if on_mixtures else 9, validation(Guess())
    assert got["top1"] == pytest.approx(1 / size, abs=0.1)
    assert got["mrr"] == pytest.approx(np.mean(1 / np.arange(1, size + 1)), abs=0.1)
    again, items = Guess(), validation.items
    options = {"gallery": again.notes(tone_bank, items.reference), "items": items, "metric": "cosine"}
    if on_mixtures:
        rank = mixture_ranks(*embed_mixtures(again, data), **options)["rank"]
    else:
        rank = single_ranks(again.notes(tone_bank, validation.rows), validation.rows, bank=tone_bank, **options)["rank"]
    assert got == pytest.approx({"mrr": (1 / (1 + rank)).mean(), **{f"top{k}": (rank < k).mean() for k in (1, 5)}})


def test_validation_queries_never_change(tone_bank):
    """`valid_size` of them, whatever the seed, without reference notes if `strict`."""
    first, again = (Validation(tone_bank, dataclasses.replace(CONFIG, seed=seed, valid_size=50), False) for seed in (0, 1))
    np.testing.assert_array_equal(first.rows, again.rows)
    assert len(set(first.rows)) == 50 and set(first.rows) <= set(single_queries(tone_bank, "valid"))
    paper = Validation(tone_bank, dataclasses.replace(CONFIG, valid_size=999, protocol="paper"), False)
    assert set(paper.rows) == set(single_queries(tone_bank, "valid", "paper"))
    first, again = (Validation(tone_bank, dataclasses.replace(CONFIG, seed=seed), True).dataset for seed in (0, 1))
    assert len(first) == 40 and all(first.plan(i) == again.plan(i) for i in range(40))


def test_validation_uses_the_metric_of_the_loss(tone_bank):
    for loss, top1 in (("triplet", 1.0), ("infonce", 0.0)):
        config = dataclasses.replace(CONFIG, task="single", loss=loss)
        assert Validation(tone_bank, config, False)(Lengths(tone_bank, []))["top1"] == top1


def test_validation_gallery_holds_the_families_of_mixtures(tone_bank, odd_bank):
    config = dataclasses.replace(CONFIG, families=("Bass", "Synth Lead"))
    assert set(Validation(tone_bank, config, True).items.family) == {"Bass", "Synth Lead"}
    assert set(Validation(tone_bank, config, False).items.family) == set(MIXTURE_FAMILIES)
    with pytest.raises(ValueError, match="no validation instruments"):
        Validation(odd_bank, CONFIG, False)


# Embedding


def test_retriever_embeds_notes_and_mixtures(odd_bank, encoder, monkeypatch):
    """Notes are cut and normalised as in mixtures, mixtures are embedded as they are or by a given function."""
    monkeypatch.setattr(protocol, "BLOCK", 3)
    rows = [13, 0, 5, 12, 4, 7, 9]
    retriever = Retriever(encoder)
    got = {name: retriever.notes(odd_bank, rows, name) for name in ("strict", "paper")}
    for name, vectors in got.items():
        expected = [encoder.embed(load_sounds(odd_bank, [row], samples=8000, protocol=name))[0] for row in rows]
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert np.abs(got["paper"] - got["strict"]).max() > 1e-3
    assert retriever.notes(odd_bank, []).shape == (0, encoder.dim)
    waveforms = np.random.default_rng(0).normal(size=(2, 8000)).astype(np.float32)
    np.testing.assert_array_equal(retriever.mixtures(waveforms), encoder.embed(waveforms))
    assert Retriever(encoder, lambda w: w.sum(axis=1)).mixtures(waveforms).shape == (2,)


def test_rows_may_be_a_pandas_column(tone_bank, encoder):
    gallery = tone_bank.gallery(["Bass"])
    expected = embed_rows(encoder, tone_bank, gallery.reference.tolist())
    np.testing.assert_array_equal(Retriever(encoder).notes(tone_bank, gallery.reference), expected)


def test_dask_workers_give_the_same_vectors(tone_bank, encoder, tmp_path):
    pytest.importorskip("distributed")
    encoder.save(tmp_path / "encoder.pt")
    rows, script = [5, 0, 100, 7, 31, 30, 29], tmp_path / "with_dask.py"
    script.write_text(f"""
if __name__ == "__main__":
    import joblib, numpy
    from dask.distributed import Client, LocalCluster
    from cirlib.evaluation.protocol import AudioEncoder, NoteBank, embed_rows
    bank, encoder = NoteBank.open({str(tone_bank.paths[0])!r}), AudioEncoder.load({str(tmp_path / "encoder.pt")!r})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        with joblib.parallel_config(backend="dask"):
            numpy.save({str(tmp_path / "vectors.npy")!r}, embed_rows(encoder, bank, {rows}, n_jobs=-1))
""")
    env = {**os.environ, "DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "tcp"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = embed_rows(encoder, tone_bank, rows)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-6)
    assert np.abs(expected - expected[0]).max(axis=1)[1:6].min() > 1e-4  # the last one is the same tone


def test_each_worker_embeds_one_block(tone_bank, encoder, monkeypatch):
    """No block is empty."""
    blocks, embed = [], protocol._embed_in_worker
    monkeypatch.setattr(protocol, "_embed_in_worker", lambda *args: blocks.append(list(args[2])) or embed(*args))
    with joblib.parallel_config(backend="threading"):
        for n_jobs, expected in ((3, [[4, 3, 2], [1, 0], [9, 8]]), (50, [[k] for k in (4, 3, 2, 1, 0, 9, 8)])):
            got = embed_rows(encoder, tone_bank, np.concatenate(expected), n_jobs=n_jobs)
            assert sorted(blocks) == sorted(expected) and got.shape == (7, encoder.dim)
            blocks.clear()


def test_progress_bar_includes_earlier_items(capsys):
    assert list(protocol.progress(range(6, 8), "resumed", done=6)) == [6, 7]
    assert "resumed: 100%" in (text := capsys.readouterr().err) and "8/8" in text
    assert list(protocol.progress(iter("ab"), "new")) == ["a", "b"], "items may have no length"
