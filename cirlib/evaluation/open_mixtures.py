"""Open mixtures: an unknown number of instruments of any family, retrieved from the whole gallery without being told the family.

Which families play at all is told by `Presence`, a calibrated linear reading of the embedding that needs no gallery.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.files import write_json
from ..common.paths import short
from ..common.settings import choose
from ..common.untrusted import read_json
from ..data.bank import NoteBank
from ..data.mixtures import MixtureDataset
from ..data.taxonomy import FAMILIES, GROUPS
from ..models.heads import MIX, select_family_head, select_head
from . import protocol as evaluate
from . import ranking as retrieval

MOST = 6  # instruments of a mixture
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)  # of the fit (inverse regularisation) that are tried
BINS = 10  # of calibration


def families_of(bank: NoteBank) -> list[str]:
    """Families that have instruments in every split, in the order of the taxonomy; ValueError if there are none."""
    table = bank.instruments[bank.instruments.augments.isna()]
    found = [name for name in FAMILIES if table[table.family == name].split.nunique() == 3]
    if not found:
        raise ValueError("no family of this bank has instruments in all of train, valid and test: open mixtures need such families")
    return found


def datasets(bank: NoteBank, families: Sequence[str], split: str, size: int, seed: int, **options) -> list[MixtureDataset]:
    """Mixtures of 1 to MOST instruments (at most one of each family), about `size` in all, as many of each; options of MixtureDataset."""
    most = min(MOST, len(families))
    each = max(1, size // most)
    return [
        MixtureDataset(bank, families=families, split=split, size=each, seed=seed + v, max_instruments=v, augmented=False, **options)
        for v in range(1, most + 1)
    ]


def embed(retriever: evaluate.Retriever, mixtures: Sequence[MixtureDataset]) -> tuple[np.ndarray, pd.DataFrame]:
    """Vectors (N, D) of all mixtures, and a row per instrument that plays: query, voices, family, instrument."""
    vectors, tables, before = [], [], 0
    for dataset in mixtures:
        found, table = evaluate.embed_mixtures(retriever, dataset)
        vectors.append(found)
        tables.append(table.drop(columns="place").assign(query=table["query"] + before, max_instruments=dataset.max_instruments))
        before += len(dataset)
    return np.concatenate(vectors), pd.concat(tables, ignore_index=True)


def ranks(
    vectors: np.ndarray, truth: pd.DataFrame, gallery: np.ndarray, items: pd.DataFrame, metric: str, heads: Sequence[str] = ()
) -> pd.DataFrame:
    """`truth` with the rank of each instrument (0 = first) among the whole gallery, and `rank_in_family` among its family's items.

    The share of ranks below k is the recall at k: at most k / voices of a mixture's instruments can be among its first k. `heads`: families
    that the vectors have a part for; the whole gallery is ranked by the part for mixes.
    """
    position = pd.Series(np.arange(len(items)), index=items.index)[truth.instrument].to_numpy()
    queries = vectors[truth["query"].to_numpy()]
    told = select_family_head(queries, truth.family, heads), select_family_head(gallery, items.family, heads)
    inside = retrieval.ranks(*told, position, groups=items.family.to_numpy(), metric=metric)
    whole = retrieval.ranks(select_head(queries, MIX, heads), select_head(gallery, MIX, heads), position, metric=metric)
    return truth.assign(rank=whole, rank_in_family=inside)


def present(truth: pd.DataFrame, families: Sequence[str]) -> np.ndarray:
    """(N, F) bool: which families play in each mixture."""
    out = np.zeros((int(truth["query"].max()) + 1, len(families)), bool)
    out[truth["query"], pd.Index(families).get_indexer(truth.family)] = True
    return out


def nearest_by_family(vectors: np.ndarray, gallery: np.ndarray, items: pd.DataFrame, families: Sequence[str], metric: str) -> np.ndarray:
    """(N, F): minus the distance to the nearest item of each family, the score of a family that needs no fit."""
    distance = retrieval.distances(vectors, gallery, metric)
    return -np.stack([distance[:, (items.family == name).to_numpy()].min(axis=1) for name in families], axis=1)


@dataclass
class Presence:
    """Probability that each family plays in a sound: sigmoid(W x + b) of the embedding x (in heads: of the one for mixes) at unit length.

    Calibrated over mixtures of 1 to MOST instruments, as many of each: told for a sound of which the number is known, it is too high for
    one instrument and too low for many.
    """

    families: list[str]
    weights: np.ndarray  # (F, D)
    bias: np.ndarray  # (F,)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """(N, F) of embeddings (N, D). ValueError for embeddings of another size."""
        if vectors.shape[1] != self.weights.shape[1]:
            raise ValueError(f"this presence.json is of embeddings of {self.weights.shape[1]} numbers, not of {vectors.shape[1]}")
        return 1 / (1 + np.exp(-(_unit(vectors) @ self.weights.T + self.bias)))

    @classmethod
    def fit(cls, families: Sequence[str], train: tuple, valid: tuple) -> "Presence":
        """Logistic regressions on mixtures of training instruments, calibrated (Platt 1999) on those of validation instruments.

        train, valid: embeddings (N, D) and present (N, F). The regularisation is the one with the best mean average precision on `valid`.
        ValueError for a family that plays in all of them or in none.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        for name, *told in zip(families, train[1].T, valid[1].T, strict=True):
            if any(column.all() or not column.any() for column in told):
                raise ValueError(
                    f"{name} plays in all of these mixtures or in none: its presence cannot be learned; use a bank of more families"
                )

        scaler = StandardScaler().fit(_unit(train[0]))
        x, y = scaler.transform(_unit(train[0])), train[1]
        held, best = scaler.transform(_unit(valid[0])), None
        for strength in STRENGTHS:
            models = [LogisticRegression(C=strength, solver="newton-cholesky").fit(x, column) for column in y.T]
            weights, bias = np.concatenate([m.coef_ for m in models]), np.concatenate([m.intercept_ for m in models])
            precision = average_precision(held @ weights.T + bias, valid[1]).mean()
            if best is None or precision > best[0]:
                best = precision, weights, bias
        _, weights, bias = best
        slope, shift = calibrate(held @ weights.T + bias, valid[1])
        weights, bias = slope[:, None] * weights, slope * bias + shift
        weights = weights / scaler.scale_
        return cls(list(families), weights, bias - weights @ scaler.mean_)

    def save(self, path: Path, encoder: str) -> Path:
        """Write it as JSON beside its encoder, whose digest it tells."""
        values = {"families": self.families, "weights": self.weights.tolist(), "bias": self.bias.tolist(), "encoder": encoder}
        return write_json(path, values)

    @classmethod
    def load(cls, path: Path, encoder: str) -> "Presence | None":
        """What `save` wrote, or None if it is not there or of another encoder."""
        try:
            values = read_json(path) if path.is_file() else {}
            if values.get("encoder") != encoder:
                return None
            families, weights, bias = values["families"], np.array(values["weights"], float), np.array(values["bias"], float)
            if not isinstance(families, list) or weights.ndim != 2 or not len(families) == len(weights) == bias.size == len(bias):
                raise ValueError("its sizes do not fit")
            for name in families:
                choose("family", name, GROUPS)
            if not (np.abs(weights) < 1e9).all() or not (np.abs(bias) < 1e9).all():
                raise ValueError("its numbers are not finite")
            return cls(families, weights, bias)
        except Exception as error:  # whatever numpy makes of its values
            raise ValueError(f"{short(path)} is damaged ({type(error).__name__}): run notebooks/09_open_mixtures.ipynb again") from None


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def calibrate(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and shifts (F,) that make sigmoid(slope * score + shift) a probability, family by family (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    spread = np.maximum(scores.std(axis=0), 1e-12)
    models = [LogisticRegression(C=100.0).fit(column[:, None], told) for column, told in zip((scores / spread).T, truth.T, strict=True)]
    return np.array([m.coef_[0, 0] for m in models]) / spread, np.array([m.intercept_[0] for m in models])


def average_precision(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(F,) average precision of each family's scores (N, F); chance is its share of the mixtures."""
    from sklearn.metrics import average_precision_score

    return np.array([average_precision_score(told, column) for column, told in zip(scores.T, truth.T, strict=True)])


def calibration(probability: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    """Return a row for each of BINS equal ranges of probabilities (N, F): mean prediction, share that is true, number."""
    place = np.minimum((probability.ravel() * BINS).astype(int), BINS - 1)
    frame = pd.DataFrame({"bin": place, "predicted": probability.ravel(), "true": truth.ravel().astype(float)})
    return frame.groupby("bin").agg(predicted=("predicted", "mean"), true=("true", "mean"), number=("true", "size")).reset_index()


def calibration_error(table: pd.DataFrame) -> float:
    """Return the expected calibration error: the mean difference between predicted and true of `calibration`, weighted by number."""
    return float(((table.predicted - table.true).abs() * table.number).sum() / table.number.sum())


def presence_summary(probability: np.ndarray, truth: np.ndarray, draws: int = 300, seed: int = 0) -> dict:
    """Mean average precision over families with a 95% bootstrap interval over mixtures, calibration error and Brier score."""
    rng, value = np.random.default_rng(seed), average_precision(probability, truth)
    boot = []
    for _ in range(draws):
        rows = rng.integers(len(truth), size=len(truth))
        if truth[rows].any(axis=0).all():
            boot.append(average_precision(probability[rows], truth[rows]).mean())
    low, high = np.quantile(boot, [0.025, 0.975])
    return {
        "map": float(value.mean()), "map_ci": [float(low), float(high)], "chance": float(truth.mean()),
        "calibration_error": calibration_error(calibration(probability, truth)), "brier": float(((probability - truth) ** 2).mean()),
    }  # fmt: skip
