"""Ablations: stored records, and gains with intervals over instruments and seeds."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from cirlib.evaluation.ablations import Ablations, findings, holm, markdown, shares, validate
from cirlib.evaluation.protocol import EVAL_SEED, Retriever, embed_mixtures, mixture_ranks, single_queries, single_ranks
from cirlib.models.encoder import AudioEncoder
from cirlib.training.config import TrainConfig

NAMES = [f"i{k}" for k in range(50)]


def accuracy(shift: float, seed: int = 0, names=NAMES) -> dict[str, pd.Series]:
    shares = np.random.default_rng(seed).uniform(0.2, 0.6, len(names))
    return {"mixture": pd.Series(shares + shift, names), "single": pd.Series(shares, names)}


KEYS = {"recipe": "a", "other": "b", "better": "c", "noisy": "d"}


def test_records_of_changed_ideas_are_dropped(tmp_path, capsys):
    results = Ablations(tmp_path / "a.json", KEYS)
    assert not results.has("recipe", 0)
    results.add("recipe", 0, accuracy(0), minutes=2)
    results.add("other", 0, accuracy(0.1))
    again = Ablations(tmp_path / "a.json", KEYS)
    assert again.has("recipe", 0) and again.has("other", 0) and not again.has("recipe", 1)
    assert again.records[0]["minutes"] == 2 and len(again.records) == 2 and not capsys.readouterr().out
    changed = Ablations(tmp_path / "a.json", KEYS | {"other": "changed"})
    assert changed.has("recipe", 0) and not changed.has("other", 0)
    assert "1 records of a.json are skipped" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "a.json").read_text())["records"]) == 2  # until the next record
    changed.add("other", 0, accuracy(0.2))
    stored = json.loads((tmp_path / "a.json").read_text())
    assert [r["key"] for r in stored["records"]] == ["a", "changed"] and stored["instruments"]["mixture"] == NAMES


def test_ideas_from_other_code_are_named(tmp_path):
    results = Ablations(tmp_path / "a.json", KEYS)
    for idea, seed, code in (("recipe", 0, "x"), ("recipe", 1, "y"), ("other", 0, "y"), ("better", 0, "x"), ("better", 1, "z")):
        results.add(idea, seed, accuracy(0), provenance={"code": code})
    assert results.other_code("recipe") == ["better"]


def test_other_instruments_are_refused(tmp_path):
    results = Ablations(tmp_path / "a.json", KEYS)
    results.add("recipe", 0, accuracy(0))
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(ValueError, match=r"a\.json holds results on other instruments: delete it"):
        results.add("other", 0, accuracy(0, names=["x", *NAMES[1:]]))
    assert (tmp_path / "a.json").read_bytes() == before


def test_width_combines_instruments_and_seeds(tmp_path):
    """An equal gain of all instruments has no spread; without a second seed the spread of training is unknown."""
    results = Ablations(tmp_path / "a.json", KEYS)
    results.add("recipe", 0, accuracy(0))
    results.add("better", 0, accuracy(0.1))
    table = results.table("recipe")
    assert table.mixture_gain["better"] == pytest.approx(10, abs=0.01) and table.single_gain["better"] == 0
    assert np.isnan(table.mixture_width["better"]) and table.mixture_width["recipe"] < 1e-9
    results.add("recipe", 1, accuracy(0.04))
    table = results.table("recipe")
    assert table.mixture_gain["better"] == pytest.approx(8, abs=0.01)
    spread = np.std([0, 4], ddof=1)  # between the seeds of the recipe
    assert table.mixture_width["better"] == pytest.approx(12.7 * spread * np.sqrt(1 + 1 / 2), rel=0.02)  # of one degree of freedom
    results.add("noisy", 0, {"mixture": accuracy(0.02, seed=5)["mixture"], "single": accuracy(0)["single"]})
    assert results.table("recipe").mixture_width["noisy"] > table.mixture_width["better"]  # its instruments differ
    results.add("better", 1, accuracy(0.08))
    spread = np.sqrt((spread**2 + np.std([10, 8], ddof=1) ** 2) / 2)
    assert results.table("recipe").mixture_width["better"] == pytest.approx(4.30 * spread, rel=0.02)  # of two, two runs of each


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # sorted: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04, raised to the one before
        ([0.2], [0.2]),
        ([0.5, 0.9, 0.4], [1, 1, 1]),
        ([[0.01, np.nan], [np.nan, 0.02]], [[0.02, np.nan], [np.nan, 0.02]]),  # missing values do not count
        ([np.nan], [np.nan]),
    ],
)
def test_holm_against_values_by_hand(p, corrected):
    np.testing.assert_allclose(holm(np.array(p)), corrected)


def test_p_is_the_level_at_which_the_interval_ends_at_zero(tmp_path):
    """Of Student's t with the spread of the recipe's two seeds, corrected for two gains."""
    results = Ablations(tmp_path / "a.json", KEYS)
    for idea, seed, shift in (("recipe", 0, 0.0), ("recipe", 1, 0.01), ("better", 0, 0.25), ("better", 1, 0.26), ("other", 0, 0.01)):
        results.add(idea, seed, {"mixture": accuracy(shift)["mixture"]})
    table = results.table("recipe", ["mixture"])
    t = table.mixture_gain["better"] / (np.std([0, 1], ddof=1) * np.sqrt(1 / 2 + 1 / 2))
    assert table.mixture_p["better"] == pytest.approx(2 * 2 * student.sf(t, 2), rel=0.05)  # two gains; two degrees of freedom
    assert np.isnan(table.mixture_p["recipe"]) and table.mixture_p["other"] > 0.5
    text = findings(table)
    assert text.startswith("Of 2 comparisons with the recipe,") and text.endswith("gain on mixture: better (+25.0); loss on mixture: none.")


def test_markdown_shows_gains_and_widths(tmp_path):
    results = Ablations(tmp_path / "a.json", KEYS)
    for seed in (0, 1):
        results.add("recipe", seed, accuracy(0.02 * seed))
    results.add("better", 0, accuracy(0.1))
    lines = markdown(results.table("recipe")).splitlines()
    assert lines[2].startswith("| recipe |") and lines[2].endswith("| 2 |")
    assert "+9.0 ± 22." in lines[3] and lines[3].endswith("| 1 |") and lines[0].count("| p |") == 2
    assert "Of 2 comparisons with the recipe, significant" in lines[-1] and lines[-1].endswith("loss on single: none.")


def test_validation_excludes_test_instruments(tone_bank):
    """The gallery holds training and validation instruments."""
    retriever, config = Retriever(AudioEncoder.create("cnn", seconds=0.5)), TrainConfig(loss="infonce", seconds=0.5, queries=40)
    got = shares(validate(retriever, tone_bank, config))
    items = tone_bank.gallery()
    items = items[items.split != "test"]
    assert set(got["mixture"].index) <= set(items.index[items.split == "valid"])
    inside = items.family.isin(config.families).to_numpy()
    gallery = retriever.notes(tone_bank, items.reference)
    data = config.mixtures(tone_bank, "valid", 40, EVAL_SEED)
    rows = single_queries(tone_bank, "valid")
    vectors = retriever.notes(tone_bank, rows)
    tables = {
        "mixture": mixture_ranks(*embed_mixtures(retriever, data), gallery=gallery[inside], items=items[inside], metric="cosine"),
        "single": single_ranks(vectors, rows, bank=tone_bank, gallery=gallery, items=items, metric="cosine"),
    }
    for test, table in tables.items():
        pd.testing.assert_series_equal(got[test], (table["rank"] < 1).groupby(table.instrument).mean())
