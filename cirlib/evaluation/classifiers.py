"""Classifiers of single sounds: their labels, which sounds train and which are tested, and their scores (paper section 4).

instrument  one label per training instrument (a twin has the label of its original); tested on held-out sounds of the same instruments
family      the 13 families; tested on sounds of test instruments
tags        any of the 27 tags; tested on sounds of test instruments
"""

import numpy as np
import pandas as pd

from ..common.settings import choose
from ..data.bank import NoteBank
from ..data.taxonomy import FAMILIES, TAGS
from .ranking import top_k

HELD_OUT = 8  # of each training instrument, sounds 2, 10, 18 ... are held out to test instrument classifiers
CLASS_LOSSES = ("instrument", "family", "tags")


def labels(bank: NoteBank, loss: str, augmented: bool = True) -> list[str]:
    """Return the names of the outputs of a classifier: training instruments, families or tags."""
    choose("classification loss", loss, CLASS_LOSSES)
    if loss == "instrument":
        table = bank.instruments
        trained = table[(table.split == "train") & (augmented | table.augments.isna())]
        return sorted(trained.augments.fillna(trained.index.to_series()).unique())
    return list(FAMILIES if loss == "family" else TAGS)


def targets(bank: NoteBank, loss: str, names: list[str]) -> np.ndarray:
    """Return the target of every sound of a bank: its class (N,), -1 without one; for tags (N, C) of 0 and 1."""
    notes = bank.notes
    if loss == "tags":
        column = {name: i for i, name in enumerate(names)}
        out = np.zeros((len(notes), len(names)), np.int64)
        for row, tags in enumerate(notes.tags):
            out[row, [column[tag] for tag in tags if tag in column]] = 1
        return out
    return pd.Index(names).get_indexer(notes.augments.fillna(notes.instrument) if loss == "instrument" else notes.family)


def split_rows(bank: NoteBank, loss: str, names: list[str], augmented: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return the bank rows to train on and those to test on; sounds without a label are in neither."""
    notes, known = bank.notes, targets(bank, loss, names)
    labelled = known.any(axis=1) if loss == "tags" else known >= 0
    train = labelled & (notes.split == "train").to_numpy() & (augmented | notes.augments.isna().to_numpy())
    if loss != "instrument":
        return np.flatnonzero(train), np.flatnonzero(labelled & (notes.split == "test").to_numpy())
    held_out = (notes.groupby("instrument").cumcount() % HELD_OUT == 1).to_numpy()
    return np.flatnonzero(train & ~held_out), np.flatnonzero(train & held_out)


def metrics(loss: str, logits: np.ndarray, truth: np.ndarray, names: list[str]) -> dict:
    """Return the scores of logits (N, C) for classes (N,), or tags (N, C) of 0 and 1; shares in 0..1, macro means over classes that occur.

    instrument: accuracy, top5 (ties count half), f1_macro. family: accuracy, f1_macro, roc_auc_macro, map (mean average precision, one
    class against the rest), confusion (true, predicted). tags, from a probability of 0.5: exact_match, hamming (share of wrong bits),
    f1_macro, f1_micro, roc_auc_macro, map. Raises ValueError without sounds and for outputs that are not finite.
    """
    if not len(logits) or len(logits) != len(truth):
        raise ValueError(f"nothing to score: {len(logits)} outputs for {len(truth)} labelled sounds")
    if not np.isfinite(logits).all():
        raise ValueError("outputs of the classifier hold NaN or infinite values")
    scores = _tag_scores(logits, truth) if loss == "tags" else _class_scores(loss, logits, truth, names)
    return {"sounds": len(truth), **{k: v if isinstance(v, list) else float(v) for k, v in scores.items()}}


def _tag_scores(logits: np.ndarray, truth: np.ndarray) -> dict:
    from sklearn import metrics as sk

    predicted, occurs = (logits >= 0).astype(int), truth.any(axis=0)
    return {
        "exact_match": sk.accuracy_score(truth, predicted),
        "hamming": sk.hamming_loss(truth, predicted),
        "f1_macro": sk.f1_score(truth, predicted, average=None, zero_division=0)[occurs].sum() / max(1, occurs.sum()),
        "f1_micro": sk.f1_score(truth, predicted, average="micro", zero_division=0),
        **_ranking_scores(truth, logits),
    }


def _class_scores(loss: str, logits: np.ndarray, truth: np.ndarray, names: list[str]) -> dict:
    from scipy.special import softmax
    from sklearn import metrics as sk

    predicted = logits.argmax(axis=1)
    f1 = sk.f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)
    scores = {"accuracy": sk.accuracy_score(truth, predicted), "f1_macro": f1}
    if loss == "family":
        confusion = sk.confusion_matrix(truth, predicted, labels=range(len(names))).tolist()
        return scores | _ranking_scores(np.eye(len(names), dtype=int)[truth], softmax(logits, axis=1)) | {"confusion": confusion}
    own = np.take_along_axis(logits, truth[:, None], axis=1)
    rank = (logits > own).sum(axis=1) + ((logits == own).sum(axis=1) - 1) / 2
    return scores | {"top5": top_k(rank, 5)}


def _ranking_scores(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Return macro ROC AUC and mean average precision over the classes that some sounds have and others lack."""
    from sklearn import metrics as sk

    mixed = truth.any(axis=0) & ~truth.all(axis=0)
    functions = {"roc_auc_macro": sk.roc_auc_score, "map": sk.average_precision_score}
    return {name: function(truth[:, mixed], scores[:, mixed], average="macro") for name, function in functions.items() if mixed.any()}
