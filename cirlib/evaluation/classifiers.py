"""Classifiers of single sounds: what their labels are and how well they tell them (paper section 4, classification baselines).

`instrument`: one label per training instrument (a twin has that of its original), heard again on sounds that are held out of
training (test instruments have no label).
`family`: the 13 families. `tags`: any of the 27 tags. The last two are scored on sounds of test instruments.
"""

import numpy as np
import pandas as pd

from ..common.settings import choose
from ..data.bank import NoteBank
from ..data.taxonomy import FAMILIES, TAGS

HELD_OUT = 8  # of the sounds of a training instrument, the 2nd, 10th, 18th ... are held out for the accuracy of instrument classifiers
THRESHOLD = 0.5  # probability from which a tag counts as told

CLASS_LOSSES = ("instrument", "family", "tags")


def labels(bank: NoteBank, loss: str, augmented: bool = True) -> list[str]:
    """Names of the outputs of a classifier: training instruments, families or tags."""
    choose("classification loss", loss, CLASS_LOSSES)
    if loss == "instrument":
        table = bank.instruments
        trains = table[(table.split == "train") & (augmented | table.augments.isna())]
        return sorted(trains.augments.fillna(trains.index.to_series()).unique())
    return list(FAMILIES if loss == "family" else TAGS)


def targets(bank: NoteBank, loss: str, names: list[str]) -> np.ndarray:
    """Target of every sound of a bank: class (N,), -1 where it has none; for tags 0 or 1 (N, C)."""
    notes = bank.notes
    if loss == "tags":
        place = {name: i for i, name in enumerate(names)}
        out = np.zeros((len(notes), len(names)), np.int64)
        for row, tags in enumerate(notes.tags):
            out[row, [place[tag] for tag in tags if tag in place]] = 1
        return out
    return pd.Index(names).get_indexer(notes.augments.fillna(notes.instrument) if loss == "instrument" else notes.family)


def split_rows(bank: NoteBank, loss: str, names: list[str], augmented: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Bank rows that train, and bank rows that are scored; sounds without a label are in neither."""
    notes, known = bank.notes, targets(bank, loss, names)
    labelled = known.any(axis=1) if loss == "tags" else known >= 0
    train = labelled & (notes.split == "train").to_numpy() & (augmented | notes.augments.isna().to_numpy())
    if loss != "instrument":
        return np.flatnonzero(train), np.flatnonzero(labelled & (notes.split == "test").to_numpy())
    held_out = (notes.groupby("instrument").cumcount() % HELD_OUT == 1).to_numpy()
    return np.flatnonzero(train & ~held_out), np.flatnonzero(train & held_out)


def metrics(loss: str, logits: np.ndarray, truth: np.ndarray, names: list[str]) -> dict:
    """How well logits (N, C) tell the truth, (N,) classes or (N, C) of 0 and 1; all shares in 0..1, macro means over classes that occur.

    instrument: accuracy, top5, f1_macro. family: accuracy, f1_macro, roc_auc_macro, map (mean average precision, one class
    against the rest) and confusion (true, told). tags: exact_match, hamming (share of wrong bits), f1_macro, f1_micro,
    roc_auc_macro, map, at a probability of 0.5. Raises ValueError if there is nothing to score or an output is not finite.
    """
    from sklearn import metrics as sk

    if not len(logits) or len(logits) != len(truth):
        raise ValueError(f"nothing to score: {len(logits)} outputs for {len(truth)} labelled sounds")
    if not np.isfinite(logits).all():
        raise ValueError("outputs of the classifier hold NaN or infinite values")
    if loss == "tags":
        told = (logits >= np.log(THRESHOLD / (1 - THRESHOLD))).astype(int)
        occurs = truth.any(axis=0)
        scores = {
            "exact_match": sk.accuracy_score(truth, told),
            "hamming": sk.hamming_loss(truth, told),
            "f1_macro": sk.f1_score(truth, told, average=None, zero_division=0)[occurs].sum() / max(1, occurs.sum()),
            "f1_micro": sk.f1_score(truth, told, average="micro", zero_division=0),
            **_rankings(truth, logits),
        }
    else:
        told, present = logits.argmax(axis=1), np.unique(truth)
        scores = {
            "accuracy": sk.accuracy_score(truth, told),
            "f1_macro": sk.f1_score(truth, told, labels=present, average="macro", zero_division=0),
        }
        if loss == "family":
            one_hot = np.eye(len(names), dtype=int)[truth]
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores |= _rankings(one_hot, shifted / shifted.sum(axis=1, keepdims=True))
            scores["confusion"] = sk.confusion_matrix(truth, told, labels=range(len(names))).tolist()
        else:
            own = np.take_along_axis(logits, truth[:, None], axis=1)
            rank = (logits > own).sum(axis=1) + ((logits == own).sum(axis=1) - 1) / 2  # ties count half, as in retrieval
            scores["top5"] = float((rank < 5).mean())
    return {"sounds": len(truth), **{k: v if isinstance(v, list) else float(v) for k, v in scores.items()}}


def _rankings(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Macro ROC AUC and mean average precision over the classes that some sounds have and some have not."""
    from sklearn import metrics as sk

    mixed = truth.any(axis=0) & ~truth.all(axis=0)
    if not mixed.any():
        return {}
    return {
        "roc_auc_macro": sk.roc_auc_score(truth[:, mixed], scores[:, mixed], average="macro"),
        "map": sk.average_precision_score(truth[:, mixed], scores[:, mixed], average="macro"),
    }
