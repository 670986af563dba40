"""Labels of single sounds, the split into training and test sounds, and every score against plain Python."""

import json
import math

import numpy as np
import pytest
from conftest import SPLIT_SIZES, TWINS, build_bank, sound, tone

from cirlib.data.taxonomy import FAMILIES, MIXTURE_FAMILIES, TAGS
from cirlib.evaluation.classifiers import CLASS_LOSSES, labels, metrics, split_rows, targets

CLASSES = {"instrument": [f"i{k:02d}" for k in range(20)], "family": list(FAMILIES), "tags": list(TAGS)}


# Scores


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def f1(truth, predicted):
    """2 TP / (2 TP + FP + FN) of two lists of bits."""
    hits = sum(t and p for t, p in zip(truth, predicted, strict=True))
    return 2 * hits / (sum(truth) + sum(predicted)) if hits else 0.0


def roc_auc(truth, scores):
    """Return the share of (positive, negative) pairs in the right order; equal scores count half."""
    positive = [s for t, s in zip(truth, scores, strict=True) if t]
    negative = [s for t, s in zip(truth, scores, strict=True) if not t]
    return mean(float(a > b) + 0.5 * (a == b) for a in positive for b in negative)


def average_precision(truth, scores):
    """Return the sum over thresholds, from the highest score down, of precision times the step in recall."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        retrieved = [t for t, s in zip(truth, scores, strict=True) if s >= threshold]
        area += (sum(retrieved) / sum(truth) - recall) * sum(retrieved) / len(retrieved)
        recall = sum(retrieved) / sum(truth)
    return area


def ranking_scores(truth, scores):
    """Return means over the columns with both values."""
    columns = [(list(t), list(s)) for t, s in zip(zip(*truth, strict=True), zip(*scores, strict=True), strict=True)]
    mixed = [(t, s) for t, s in columns if 0 < sum(t) < len(t)]
    if not mixed:
        return {}
    return {"roc_auc_macro": mean(roc_auc(t, s) for t, s in mixed), "map": mean(average_precision(t, s) for t, s in mixed)}


def naive_classes(loss, logits, truth, names):
    predicted = [max(range(len(names)), key=lambda c, row=row: row[c]) for row in logits]
    out = {
        "sounds": len(truth),
        "accuracy": mean(float(t == p) for t, p in zip(truth, predicted, strict=True)),
        "f1_macro": mean(f1([t == c for t in truth], [p == c for p in predicted]) for c in sorted(set(truth))),
    }
    if loss == "instrument":
        best = [sorted(range(len(names)), key=lambda c, row=row: -row[c])[:5] for row in logits]
        return out | {"top5": mean(float(t in five) for t, five in zip(truth, best, strict=True))}
    rest = range(len(names))
    shares = [[math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in logits]
    out |= ranking_scores([[int(t == c) for c in rest] for t in truth], shares)
    return out | {"confusion": [[sum((t, p) == (a, b) for t, p in zip(truth, predicted, strict=True)) for b in rest] for a in rest]}


def naive_tags(logits, truth, names):
    predicted = [[int(1 / (1 + math.exp(-x)) >= 0.5) for x in row] for row in logits]
    columns = list(zip(zip(*truth, strict=True), zip(*predicted, strict=True), strict=True))
    pairs = [(t, p) for row, guess in zip(truth, predicted, strict=True) for t, p in zip(row, guess, strict=True)]
    return {
        "sounds": len(truth),
        "exact_match": mean(float(list(t) == p) for t, p in zip(truth, predicted, strict=True)),
        "hamming": mean(float(t != p) for t, p in pairs),
        "f1_macro": mean(f1(t, p) for t, p in columns if any(t)),
        "f1_micro": f1(*zip(*pairs, strict=True)),
        **ranking_scores(truth, logits),
    }


def assert_as_counted(loss, logits, truth):
    """Check that every score equals its naive count, that there are no others, and that all are plain numbers."""
    names = CLASSES[loss]
    got = metrics(loss, logits, truth, names)
    plain = logits.tolist(), truth.tolist(), names
    expected = naive_tags(*plain) if loss == "tags" else naive_classes(loss, *plain)
    assert got.keys() == expected.keys()
    assert got.get("confusion") == expected.get("confusion")
    scores = [k for k in expected if k != "confusion"]
    assert [got[k] for k in scores] == pytest.approx([expected[k] for k in scores], abs=1e-9)
    assert json.loads(json.dumps(got)) == got
    return got


@pytest.mark.parametrize("sounds", [1, 2, 3, 40])
@pytest.mark.parametrize("loss", ["instrument", "family"])
def test_scores_of_classes(loss, sounds):
    """Only some classes occur, others are predicted; half of the predictions are right."""
    rng, count = np.random.default_rng(sounds), len(CLASSES[loss])
    truth = rng.choice(np.arange(1, count, 2), sounds)
    logits = rng.normal(size=(sounds, count)).astype(np.float32)
    logits[np.arange(sounds), truth] += rng.choice([0, 3], sounds).astype(np.float32)
    got = assert_as_counted(loss, logits, truth)
    assert sounds < 40 or 0.2 < got["accuracy"] < 0.9


@pytest.mark.parametrize("sounds", [1, 2, 3, 40])
def test_scores_of_tags(sounds):
    """Some tags are in all sounds or in none; outputs are often equal or 0, a probability of 0.5."""
    rng = np.random.default_rng(sounds)
    truth = (rng.random((sounds, len(TAGS))) < 0.2).astype(int)
    truth[:, 3], truth[:, 4:8] = 1, 0
    logits = (rng.integers(-4, 3, truth.shape) / 2 + 2 * truth * rng.integers(0, 2, truth.shape)).astype(np.float32)
    logits[0] = 4 * truth[0] - 2
    got = assert_as_counted("tags", logits, truth)
    assert sounds < 40 or ((logits == 0).any() and 0 < got["exact_match"] < 1)


def test_scores_without_any_tag():
    """Without any tag, wrong bits still count and no score is NaN."""
    logits = -np.ones((4, len(TAGS)), np.float32)
    logits[0, :2] = 1
    got = metrics("tags", logits, np.zeros((4, len(TAGS)), int), list(TAGS))
    assert (got["exact_match"], got["hamming"]) == (0.75, pytest.approx(2 / (4 * len(TAGS))))
    assert all(math.isfinite(v) for v in got.values())


def test_perfect_scores():
    for loss, count in (("instrument", 20), ("family", 13)):
        got = metrics(loss, 5 * np.eye(count), np.arange(count), CLASSES[loss])
        got.pop("confusion", None)
        assert set(got.values()) == {count, 1.0}
    truth = np.eye(len(TAGS), dtype=int)
    assert set((metrics("tags", truth - 0.5, truth, list(TAGS)) | {"hamming": 1.0}).values()) == {len(TAGS), 1.0}


def test_large_outputs_do_not_overflow():
    """A shift of all outputs of a sound changes no probability."""
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(30, 13)), rng.integers(13, size=30)
    small, large = (metrics("family", logits + shift, truth, CLASSES["family"]) for shift in (0, 1e4))
    assert small.pop("confusion") == large.pop("confusion")
    assert large == pytest.approx(small)


@pytest.mark.parametrize("loss", CLASS_LOSSES)
def test_nothing_to_score_is_refused(loss):
    for outputs, sounds in ((0, 0), (3, 2), (0, 2)):
        truth = np.zeros((sounds, len(TAGS)) if loss == "tags" else sounds, int)
        with pytest.raises(ValueError, match=f"^nothing to score: {outputs} outputs for {sounds} labelled sounds$"):
            metrics(loss, np.zeros((outputs, len(CLASSES[loss]))), truth, CLASSES[loss])
    truth = np.eye(len(TAGS), dtype=int) if loss == "tags" else np.arange(5)
    with pytest.raises(ValueError, match="NaN"):  # it compares false with everything and would be among the best
        metrics(loss, np.full((len(truth), len(CLASSES[loss])), np.nan), truth, CLASSES[loss])


# Labels and sounds


def test_labels(tone_bank):
    """Sorted training instruments without twins, the 13 families, the 27 tags."""
    originals = {f"tones/train/{f}{i}" for f in MIXTURE_FAMILIES for i in range(SPLIT_SIZES["train"])}
    assert labels(tone_bank, "instrument", augmented=False) == labels(tone_bank, "instrument") == sorted(originals)
    assert {type(name) for name in labels(tone_bank, "instrument")} == {str}  # plain, for checkpoints
    with pytest.raises(ValueError, match=r"'famly' \(did you mean 'family'\?\); valid: instrument, family, tags$"):
        labels(tone_bank, "famly")
    for augmented in (True, False):
        assert labels(tone_bank, "family", augmented) == list(FAMILIES)
        assert labels(tone_bank, "tags", augmented) == list(TAGS)
    assert (len(FAMILIES), len(TAGS)) == (13, 27)


@pytest.mark.parametrize("augmented", [True, False])
def test_instrument_labels_and_split(tone_bank, augmented):
    """Sounds 2 and 10 of each instrument or twin are held out; a twin has the label of its original."""
    names = labels(tone_bank, "instrument", augmented)
    known, notes = targets(tone_bank, "instrument", names), tone_bank.notes
    original = [uid.removesuffix("_no_fx") for uid in notes.instrument]
    assert [names[k] if k >= 0 else None for k in known] == [n if n in names else None for n in original]
    train, scored = (notes.iloc[rows] for rows in split_rows(tone_bank, "instrument", names, augmented))
    assert not set(train.index) & set(scored.index)
    trained = (notes.split == "train") & (augmented | notes.augments.isna())
    assert set(train.index) | set(scored.index) == set(notes.index[trained])
    owners = set(notes.instrument[trained])
    assert set(scored.instrument) == set(train.instrument) == owners and len(owners) == 3 * (SPLIT_SIZES["train"] + TWINS * augmented)
    own = notes.groupby("instrument").indices
    assert sorted(scored.index) == sorted(own[uid][k] for uid in owners for k in (1, 9))


@pytest.mark.parametrize("augmented", [True, False])
@pytest.mark.parametrize("loss", ["family", "tags"])
def test_family_and_tag_labels_and_split(tone_bank, loss, augmented):
    """Training sounds train, twins optionally; sounds of test instruments are tested."""
    names, notes = labels(tone_bank, loss), tone_bank.notes
    known = targets(tone_bank, loss, names)
    if loss == "family":
        assert [names[k] for k in known] == list(notes.family)
    else:
        assert [[names[k] for k in np.flatnonzero(row)] for row in known] == [list(tags) for tags in notes.tags]
    train, scored = split_rows(tone_bank, loss, names, augmented)
    assert set(train) == set(notes.index[(notes.split == "train") & (augmented | notes.augments.isna())])
    assert set(scored) == set(notes.index[notes.split == "test"])
    assert len(train) == 3 * 12 * (SPLIT_SIZES["train"] + TWINS * augmented)
    assert len(scored) == 3 * 12 * SPLIT_SIZES["test"]


def test_sounds_without_a_label_are_skipped(tmp_path):
    """Unknown or missing families and unknown tags are neither trained nor tested."""
    plain = [
        ("Bass", ["bass", "synthetic"], "train"), ("Drum Kit", ["drums"], "train"), (None, [], "test"),
        ("Organ", ["chorus", "drums"], "test"), ("Sound Effects", ["effects"], "test"), ("Piano", ["piano"], "valid"),
    ]  # fmt: skip
    sounds = [sound(f"i{k}", tone(60), family=f, tags=t, split=s) for k, (f, t, s) in enumerate(plain)]
    bank = build_bank(tmp_path / "bank", sounds)
    names = labels(bank, "family")
    assert targets(bank, "family", names).tolist() == [names.index("Bass"), -1, -1, names.index("Organ"), -1, names.index("Piano")]
    assert [rows.tolist() for rows in split_rows(bank, "family", names)] == [[0], [3]]
    names = labels(bank, "tags")
    bits = targets(bank, "tags", names)
    assert (bits.shape, bits.dtype) == ((6, 27), np.int64)
    predicted = [{names[k] for k in np.flatnonzero(row)} for row in bits]
    assert predicted == [{"bass", "synthetic"}, set(), set(), {"chorus"}, {"effects"}, {"piano"}]
    assert [rows.tolist() for rows in split_rows(bank, "tags", names)] == [[0], [3, 4]]
    assert targets(bank, "instrument", ["i1", "i0"]).tolist() == [1, 0, -1, -1, -1, -1]


def test_one_sound_in_eight_is_held_out(tmp_path):
    """Sound 2 of each 8 of a training instrument, also if instruments alternate in the bank."""
    counts = {"a": 1, "b": 2, "c": 8, "d": 9, "e": 10, "f": 20}
    turns = [sound(uid, tone(60), split="train") for k in range(20) for uid, n in counts.items() if k < n]
    turns += [sound("test", tone(60), split="test") for _ in range(9)]
    bank = build_bank(tmp_path / "bank", turns)
    names = labels(bank, "instrument")
    assert names == list(counts)
    train, scored = split_rows(bank, "instrument", names)
    assert not set(train) & set(scored)
    assert sorted([*train, *scored]) == list(range(sum(counts.values())))
    owner = bank.notes.instrument.to_numpy()
    assert {uid: int((owner[scored] == uid).sum()) for uid in counts} == {"a": 0, "b": 1, "c": 1, "d": 1, "e": 2, "f": 3}
    assert set(owner[train]) == set(counts)
    assert set(np.flatnonzero(owner == "f")[[1, 9, 17]]) == {row for row in scored if owner[row] == "f"}
