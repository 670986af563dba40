"""Names of rows in tables and their order."""

import random

import pytest

from cirlib.common.paths import PARAMS
from cirlib.reporting import rows as sweep
from cirlib.reporting.labels import LABELS, base_row, label, labels, order

PRESETS = sorted(p.name for p in PARAMS.iterdir() if p.is_dir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("multi-infonce", "multi-positive InfoNCE (ours)"),
        ("family-infonce", "per-family heads (ours)"),
        ("single-sweep-hard_negative_ratio-0.25", "InfoNCE, hard negatives 0.25"),
        ("triplet-24-temperature-0.05-seconds-4.0", "triplet, batch 24, temperature 0.05, seconds 4.0"),
        ("triplet-temperature-0.05", "triplet, temperature 0.05"),
        ("infonce-48-encoder-ast_tiny-loss-infonce_full", "InfoNCE, batch 48, encoder ast_tiny, loss infonce_full"),
        ("triplet-families-Bass+Synth_Lead-tests-none", "triplet, families Bass+Synth_Lead, tests none"),
        ("mine", "mine"),
        ("triplet-mine", "triplet-mine"),
        ("mine-steps-3", "mine-steps-3"),
        ("triplets-steps-3", "triplets-steps-3"),
    ],
)
def test_label_of_a_row(name, words):
    assert label(name) == words


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ("ast-base", "untrained encoder"),
        ("MIT/ast-finetuned-audioset-12-12-0.447", "pretrained on AudioSet"),
        ("models/mine", "pretrained encoder"),
    ],
)
def test_pretrained_weights_are_not_called_untrained(encoder, words):
    runs = [{"experiment": name, "encoder": encoder} for name in ("untrained", "untrained-seconds-2.0", "triplet")]
    assert list(labels(runs).values()) == [words, f"{words}, seconds 2.0", "triplet"]
    assert labels([{"experiment": "untrained"}]) == {"untrained": "untrained encoder"}


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("infonce-48", "infonce-48"),
        ("infonce-48-steps-3", "infonce-48"),
        ("infonce-margin", ""),
        ("infonce-margin-0.2", ""),
        ("triplet-hot", ""),
    ],
)
def test_only_sweeps_belong_to_a_known_row(name, base):
    """A row of one's own does not get the paper's numbers because its name begins like a known one."""
    assert base_row(name) == base


def test_labels_of_sweeps_have_every_value():
    values = {"preset": "p", "experiment": "infonce-48", "encoder": ["MIT/ast-12-12", "cnn"], "steps": [1, 2]}
    ends = [f"encoder {e}, steps {s}" for e in ("MIT_ast_12_12", "cnn") for s in (1, 2)]
    assert [label(row.name) for row in sweep.expand(values)] == [f"InfoNCE, batch 48, {end}" for end in ends]


@pytest.mark.parametrize("preset", PRESETS)
def test_rows_have_short_labels_of_their_own(preset):
    names = [row.name for row in sweep.rows(preset)]
    found = [label(name) for name in names]
    assert len(set(found)) == len(names)
    assert [words for words in found if len(words) > 27] in ([], ["multi-positive InfoNCE (ours)"])
    assert not set(found) & set(names) - {"triplet", "cirlib-small"}


def test_rows_stand_in_the_order_of_the_labels():
    """A sweep stands behind its base, unknown rows last, numbers by value."""
    names = ["untrained", "single-infonce", "single-infonce-no-twins"]
    names += [f"single-sweep-hard_negative_ratio-{r}" for r in ("0.25", "1.0", "10.0")]
    names += ["triplet", "triplet-steps-2", "triplet-24", "triplet-24-seconds-4", "infonce-full-48", "published", "another", "zebra"]
    assert sorted(random.Random(0).sample(names, len(names)), key=order) == names
    assert list(LABELS) == sorted(LABELS, key=order)
