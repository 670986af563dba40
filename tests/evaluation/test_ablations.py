"""Ablations: what is kept, and gains with intervals that count instruments and seeds."""

import json

import numpy as np
import pandas as pd
import pytest

from cirlib.evaluation.ablations import Ablations, markdown, shares, validate
from cirlib.evaluation.protocol import EVAL_SEED, Retriever, embed_mixtures, mixture_ranks, single_ranks
from cirlib.models.encoder import AudioEncoder
from cirlib.training.config import TrainConfig

NAMES = [f"i{k}" for k in range(50)]


def found(shift: float, seed: int = 0, names=NAMES) -> dict[str, pd.Series]:
    shares = np.random.default_rng(seed).uniform(0.2, 0.6, len(names))
    return {"mixture": pd.Series(shares + shift, names), "single": pd.Series(shares, names)}


KEYS = {"recipe": "a", "other": "b", "better": "c", "noisy": "d"}


def test_records_are_kept_and_those_of_changed_ideas_go(tmp_path, capsys):
    kept = Ablations(tmp_path / "a.json", KEYS)
    assert not kept.holds("recipe", 0)
    kept.add("recipe", 0, found(0), minutes=2)
    kept.add("other", 0, found(0.1))
    again = Ablations(tmp_path / "a.json", KEYS)
    assert again.holds("recipe", 0) and again.holds("other", 0) and not again.holds("recipe", 1)
    assert again.records[0]["minutes"] == 2 and len(again.records) == 2 and not capsys.readouterr().out
    changed = Ablations(tmp_path / "a.json", KEYS | {"other": "changed"})
    assert changed.holds("recipe", 0) and not changed.holds("other", 0)
    assert "1 records of a.json are left out" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "a.json").read_text())["records"]) == 2  # until there is a new one
    changed.add("other", 0, found(0.2))
    stored = json.loads((tmp_path / "a.json").read_text())
    assert [r["key"] for r in stored["records"]] == ["a", "changed"] and stored["instruments"]["mixture"] == NAMES


def test_ideas_of_other_code_are_told(tmp_path):
    kept = Ablations(tmp_path / "a.json", KEYS)
    for idea, seed, code in (("recipe", 0, "x"), ("recipe", 1, "y"), ("other", 0, "y"), ("better", 0, "x"), ("better", 1, "z")):
        kept.add(idea, seed, found(0), provenance={"code": code})
    assert kept.of_other_code("recipe") == ["better"]


def test_other_sounds_are_refused_and_nothing_is_lost(tmp_path):
    kept = Ablations(tmp_path / "a.json", KEYS)
    kept.add("recipe", 0, found(0))
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(ValueError, match=r"a\.json holds ideas that were tried on other sounds: delete it"):
        kept.add("other", 0, found(0, names=["x", *NAMES[1:]]))
    assert (tmp_path / "a.json").read_bytes() == before


def test_gains_compare_each_instrument_with_itself(tmp_path):
    """A gain that is the same for all instruments has no spread over them; without a second seed the spread of training is not known."""
    kept = Ablations(tmp_path / "a.json", KEYS)
    kept.add("recipe", 0, found(0))
    kept.add("better", 0, found(0.1))
    table = kept.table("recipe")
    assert table.mixture_gain["better"] == pytest.approx(10, abs=0.01) and table.single_gain["better"] == 0
    assert np.isnan(table.mixture_width["better"]) and table.mixture_width["recipe"] < 1e-9
    kept.add("recipe", 1, found(0.04))
    table = kept.table("recipe")
    assert table.mixture_gain["better"] == pytest.approx(8, abs=0.01)
    spread = np.std([0, 4], ddof=1)  # between the seeds of the recipe
    assert table.mixture_width["better"] == pytest.approx(12.7 * spread * np.sqrt(1 + 1 / 2), rel=0.02)  # of one degree of freedom
    kept.add("noisy", 0, {"mixture": found(0.02, seed=5)["mixture"], "single": found(0)["single"]})
    assert kept.table("recipe").mixture_width["noisy"] > table.mixture_width["better"]  # its instruments differ
    kept.add("better", 1, found(0.08))
    spread = np.sqrt((spread**2 + np.std([10, 8], ddof=1) ** 2) / 2)
    assert kept.table("recipe").mixture_width["better"] == pytest.approx(4.30 * spread, rel=0.02)  # of two, two runs of each


def test_markdown_has_a_gain_and_its_width(tmp_path):
    kept = Ablations(tmp_path / "a.json", KEYS)
    for seed in (0, 1):
        kept.add("recipe", seed, found(0.02 * seed))
    kept.add("better", 0, found(0.1))
    lines = markdown(kept.table("recipe")).splitlines()
    assert lines[2].startswith("| recipe |") and lines[2].endswith("| 2 |")
    assert "+9.0 ± 22." in lines[3] and lines[3].endswith("| 1 |")


def test_validation_hears_no_test_instrument(tone_bank):
    encoder, config = AudioEncoder.create("cnn", 0.5), TrainConfig(loss="infonce", seconds=0.5, queries=40)
    got = shares(validate(Retriever(encoder), tone_bank, config))
    items = tone_bank.gallery()
    items = items[items.split != "test"]
    assert set(got["mixture"].index) <= set(items.index[items.split == "valid"]) and 0 <= got["single"].mean() <= 1
    retriever, rows = Retriever(encoder), items.reference.to_numpy()
    inside = items.family.isin(config.families).to_numpy()
    gallery = retriever.notes(tone_bank, rows)
    vectors, truth = embed_mixtures(retriever, config.mixtures(tone_bank, "valid", 40, EVAL_SEED))
    table = mixture_ranks(vectors, truth, gallery[inside], items[inside], "cosine")
    expected = (table["rank"] < 1).groupby(table.instrument).mean()
    pd.testing.assert_series_equal(got["mixture"], expected)
    notes = tone_bank.notes
    single = np.flatnonzero((notes.split == "valid") & notes.augments.isna() & ~notes.index.isin(rows))
    table = single_ranks(retriever.notes(tone_bank, single), single, tone_bank, gallery, items, "cosine")
    pd.testing.assert_series_equal(got["single"], (table["rank"] < 1).groupby(table.instrument).mean())
