"""Labels of single sounds, which sounds train and which are scored, and every score against a plain count."""

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


def f1(truth, told):
    """2 TP / (2 TP + FP + FN) of two lists of bits."""
    hits = sum(t and p for t, p in zip(truth, told, strict=True))
    return 2 * hits / (sum(truth) + sum(told)) if hits else 0.0


def roc_auc(truth, scores):
    """Share of the pairs (one that has it, one that has not) in the right order; equal scores count half."""
    have = [s for t, s in zip(truth, scores, strict=True) if t]
    have_not = [s for t, s in zip(truth, scores, strict=True) if not t]
    return mean(float(a > b) + 0.5 * (a == b) for a in have for b in have_not)


def average_precision(truth, scores):
    """Sum over thresholds, from the highest score down, of precision times the step in recall."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = [t for t, s in zip(truth, scores, strict=True) if s >= threshold]
        area += (sum(found) / sum(truth) - recall) * sum(found) / len(found)
        recall = sum(found) / sum(truth)
    return area


def ranking_scores(truth, scores):
    """Means over the columns that some rows have and some have not."""
    columns = [(list(t), list(s)) for t, s in zip(zip(*truth, strict=True), zip(*scores, strict=True), strict=True)]
    mixed = [(t, s) for t, s in columns if 0 < sum(t) < len(t)]
    if not mixed:
        return {}
    return {"roc_auc_macro": mean(roc_auc(t, s) for t, s in mixed), "map": mean(average_precision(t, s) for t, s in mixed)}


def naive_classes(loss, logits, truth, names):
    told = [max(range(len(names)), key=lambda c, row=row: row[c]) for row in logits]
    out = {
        "sounds": len(truth),
        "accuracy": mean(float(t == p) for t, p in zip(truth, told, strict=True)),
        "f1_macro": mean(f1([t == c for t in truth], [p == c for p in told]) for c in sorted(set(truth))),
    }
    if loss == "instrument":
        best = [sorted(range(len(names)), key=lambda c, row=row: -row[c])[:5] for row in logits]
        return out | {"top5": mean(float(t in five) for t, five in zip(truth, best, strict=True))}
    rest = range(len(names))
    shares = [[math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in logits]
    out |= ranking_scores([[int(t == c) for c in rest] for t in truth], shares)
    return out | {"confusion": [[sum((t, p) == (a, b) for t, p in zip(truth, told, strict=True)) for b in rest] for a in rest]}


def naive_tags(logits, truth, names):
    told = [[int(1 / (1 + math.exp(-x)) >= 0.5) for x in row] for row in logits]
    columns = list(zip(zip(*truth, strict=True), zip(*told, strict=True), strict=True))
    pairs = [(t, p) for row, guess in zip(truth, told, strict=True) for t, p in zip(row, guess, strict=True)]
    return {
        "sounds": len(truth),
        "exact_match": mean(float(list(t) == p) for t, p in zip(truth, told, strict=True)),
        "hamming": mean(float(t != p) for t, p in pairs),
        "f1_macro": mean(f1(t, p) for t, p in columns if any(t)),
        "f1_micro": f1(*zip(*pairs, strict=True)),
        **ranking_scores(truth, logits),
    }


def assert_as_counted(loss, logits, truth):
    """Every score equals its naive count, there is no other, and all are plain numbers."""
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
    """Only some classes occur, others are told; half of the sounds are told right."""
    rng, count = np.random.default_rng(sounds), len(CLASSES[loss])
    truth = rng.choice(np.arange(1, count, 2), sounds)
    logits = rng.normal(size=(sounds, count)).astype(np.float32)
    logits[np.arange(sounds), truth] += rng.choice([0, 3], sounds).astype(np.float32)
    got = assert_as_counted(loss, logits, truth)
    assert sounds < 40 or 0.2 < got["accuracy"] < 0.9


@pytest.mark.parametrize("sounds", [1, 2, 3, 40])
def test_scores_of_tags(sounds):
    """A tag of all sounds and one of none have no ranking; outputs are often equal, and 0 is a probability of 0.5."""
    rng = np.random.default_rng(sounds)
    truth = (rng.random((sounds, len(TAGS))) < 0.2).astype(int)
    truth[:, 3], truth[:, 4:8] = 1, 0
    logits = (rng.integers(-4, 3, truth.shape) / 2 + 2 * truth * rng.integers(0, 2, truth.shape)).astype(np.float32)
    logits[0] = 4 * truth[0] - 2  # told exactly
    got = assert_as_counted("tags", logits, truth)
    assert sounds < 40 or ((logits == 0).any() and 0 < got["exact_match"] < 1)


def test_one_tag_that_occurs():
    """The mean over tags that occur is then the F1 of that tag: two found of three, none told wrongly."""
    truth, logits = np.zeros((4, len(TAGS)), int), -np.ones((4, len(TAGS)), np.float32)
    truth[:3, 2], logits[:2, 2], logits[3, 5] = 1, 1, 1
    got = assert_as_counted("tags", logits, truth)
    assert got["f1_macro"] == pytest.approx(0.8)


def test_no_tag_at_all():
    """Wrong bits are counted all the same, and no score is NaN."""
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


def test_large_outputs_overflow_nothing():
    """A shift of all outputs of a sound changes no probability."""
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(30, 13)), rng.integers(13, size=30)
    small, large = (metrics("family", logits + shift, truth, CLASSES["family"]) for shift in (0, 1e4))
    assert small.pop("confusion") == large.pop("confusion")
    assert large == pytest.approx(small)


def test_collapsed_outputs_are_no_better_than_chance():
    """A classifier that gives every class the same output has not found anything."""
    got = metrics("instrument", np.zeros((20, 20)), np.arange(20), CLASSES["instrument"])
    assert max(got["accuracy"], got["f1_macro"], got["top5"] / 5) <= 1 / 20


@pytest.mark.parametrize("loss", CLASS_LOSSES)
def test_outputs_that_are_not_finite_are_refused(loss):
    """NaN compares false with everything: it would be among the best."""
    truth = np.eye(len(TAGS), dtype=int) if loss == "tags" else np.arange(5)
    with pytest.raises(ValueError, match="NaN"):
        metrics(loss, np.full((len(truth), len(CLASSES[loss])), np.nan), truth, CLASSES[loss])


@pytest.mark.parametrize(("outputs", "sounds"), [(0, 0), (3, 2), (0, 2)])
@pytest.mark.parametrize("loss", CLASS_LOSSES)
def test_nothing_to_score(loss, outputs, sounds):
    truth = np.zeros((sounds, len(TAGS)) if loss == "tags" else sounds, int)
    with pytest.raises(ValueError, match=f"^nothing to score: {outputs} outputs for {sounds} labelled sounds$"):
        metrics(loss, np.zeros((outputs, len(CLASSES[loss]))), truth, CLASSES[loss])


# Labels and sounds


def test_unknown_loss(tone_bank):
    with pytest.raises(ValueError, match=r"'famly' \(did you mean 'family'\?\); valid: instrument, family, tags$"):
        labels(tone_bank, "famly")


def test_labels(tone_bank):
    """Training instruments, in an order of their own, with or without twins; the 13 families; the 27 tags."""
    originals = {f"tones/train/{f}{i}" for f in MIXTURE_FAMILIES for i in range(SPLIT_SIZES["train"])}
    assert labels(tone_bank, "instrument", augmented=False) == labels(tone_bank, "instrument") == sorted(originals)
    assert {type(name) for name in labels(tone_bank, "instrument")} == {str}  # as a checkpoint can keep them
    for augmented in (True, False):
        assert labels(tone_bank, "family", augmented) == list(FAMILIES)
        assert labels(tone_bank, "tags", augmented) == list(TAGS)
    assert (len(FAMILIES), len(TAGS)) == (13, 27)


@pytest.mark.parametrize("augmented", [True, False])
def test_instruments_of_tones(tone_bank, augmented):
    """Of 12 sounds of an instrument or twin the 2nd and 10th are held out; a twin has the label of its original, or does not train."""
    names = labels(tone_bank, "instrument", augmented)
    known, notes = targets(tone_bank, "instrument", names), tone_bank.notes
    original = [uid.removesuffix("_no_fx") for uid in notes.instrument]
    assert [names[k] if k >= 0 else None for k in known] == [n if n in names else None for n in original]
    train, scored = (notes.iloc[rows] for rows in split_rows(tone_bank, "instrument", names, augmented))
    assert not set(train.index) & set(scored.index)
    trains = (notes.split == "train") & (augmented | notes.augments.isna())
    assert set(train.index) | set(scored.index) == set(notes.index[trains])
    playing = set(notes.instrument[trains])
    assert set(scored.instrument) == set(train.instrument) == playing and len(playing) == 3 * (SPLIT_SIZES["train"] + TWINS * augmented)
    own = notes.groupby("instrument").indices
    assert sorted(scored.index) == sorted(own[uid][k] for uid in playing for k in (1, 9))


@pytest.mark.parametrize("augmented", [True, False])
@pytest.mark.parametrize("loss", ["family", "tags"])
def test_families_and_tags_of_tones(tone_bank, loss, augmented):
    """All training sounds train, twins on demand; all sounds of test instruments are scored, and none of validation."""
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


def test_sounds_without_a_label(tmp_path):
    """Families that are none of the 13, none at all, and tags that nobody knows: in no loss, no score and no bit."""
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
    told = [{names[k] for k in np.flatnonzero(row)} for row in bits]
    assert told == [{"bass", "synthetic"}, set(), set(), {"chorus"}, {"effects"}, {"piano"}]
    assert [rows.tolist() for rows in split_rows(bank, "tags", names)] == [[0], [3, 4]]
    assert targets(bank, "instrument", ["i1", "i0"]).tolist() == [1, 0, -1, -1, -1, -1]


def test_held_out_sounds(tmp_path):
    """The 2nd of each 8 sounds of a training instrument, wherever others stand between them: one of every instrument of two or more."""
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
