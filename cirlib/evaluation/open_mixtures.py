"""Open mixtures: an unknown number of instruments of unknown families, retrieved from the whole gallery.

`Presence` estimates which families are in a mixture: a calibrated linear model of the embedding that needs no gallery.
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
from . import ranking
from .protocol import Retriever, embed_mixtures

MOST = 6  # instruments of a mixture
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)  # candidates for the inverse regularisation
BINS = 10  # of calibration


def families_of(bank: NoteBank) -> list[str]:
    """Return the families with instruments in every split, in the order of the taxonomy. Raises ValueError if there are none."""
    table = bank.instruments[bank.instruments.augments.isna()]
    families = [name for name in FAMILIES if table[table.family == name].split.nunique() == 3]
    if not families:
        raise ValueError("no family of this bank has instruments in all of train, valid and test: open mixtures need such families")
    return families


def datasets(bank: NoteBank, *, families: Sequence[str], split: str, size: int, seed: int, **options) -> list[MixtureDataset]:
    """Return datasets of 1, 2 ... MOST instruments of different families, about `size` mixtures in all; options of MixtureDataset."""
    most = min(MOST, len(families))
    common = {"families": families, "split": split, "size": max(1, size // most), "augmented": False, **options}
    return [MixtureDataset(bank, seed=seed + count, max_instruments=count, **common) for count in range(1, most + 1)]


def embed(retriever: Retriever, mixtures: Sequence[MixtureDataset]) -> tuple[np.ndarray, pd.DataFrame]:
    """Embed all mixtures: vectors (N, D), and a row for each of their instruments: query, max_instruments, family, instrument."""
    vectors, tables, before = [], [], 0
    for dataset in mixtures:
        part, table = embed_mixtures(retriever, dataset)
        vectors.append(part)
        tables.append(table.drop(columns="place").assign(query=table["query"] + before, max_instruments=dataset.max_instruments))
        before += len(dataset)
    return np.concatenate(vectors), pd.concat(tables, ignore_index=True)


def ranks(vectors, truth: pd.DataFrame, *, gallery, items: pd.DataFrame, metric: str, heads: Sequence[str] = ()) -> pd.DataFrame:
    """Return `truth` with the `rank` of each instrument in the whole gallery, and `rank_in_family` among the items of its family.

    The share of ranks below k is the recall at k, which is at most k / instruments of a mixture. `heads`: families with a head of their
    own; the whole gallery is ranked by the head for mixtures.
    """
    position, queries = items.index.get_indexer(truth.instrument), vectors[truth["query"].to_numpy()]
    by_family = select_family_head(queries, truth.family, heads), select_family_head(gallery, items.family, heads)
    whole = select_head(queries, MIX, heads), select_head(gallery, MIX, heads)
    return truth.assign(
        rank=ranking.ranks(*whole, position, metric=metric),
        rank_in_family=ranking.ranks(*by_family, position, groups=items.family.to_numpy(), metric=metric),
    )


def present(truth: pd.DataFrame, families: Sequence[str]) -> np.ndarray:
    """Return which families are in each mixture, (N, F) bool."""
    out = np.zeros((int(truth["query"].max()) + 1, len(families)), bool)
    out[truth["query"], pd.Index(families).get_indexer(truth.family)] = True
    return out


def nearest_by_family(vectors, *, gallery, items: pd.DataFrame, families: Sequence[str], metric: str) -> np.ndarray:
    """Return minus the distance (N, F) to the nearest item of each family: a score of presence that is not fitted."""
    distance = ranking.distances(vectors, gallery, metric)
    return -np.stack([distance[:, (items.family == name).to_numpy()].min(axis=1) for name in families], axis=1)


@dataclass
class Presence:
    """Probability of each family in a sound: sigmoid(W x + b) of the embedding x (of its head for mixtures) at unit length.

    Calibrated over mixtures of 1 to MOST instruments together: too high for one instrument, too low for many.
    """

    families: list[str]
    weights: np.ndarray  # (F, D)
    bias: np.ndarray  # (F,)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Return probabilities (N, F) of embeddings (N, D). Raises ValueError for embeddings of another size."""
        if vectors.shape[1] != self.weights.shape[1]:
            raise ValueError(f"presence.json needs embeddings of {self.weights.shape[1]} numbers, got {vectors.shape[1]}")
        return 1 / (1 + np.exp(-(_unit(vectors) @ self.weights.T + self.bias)))

    @classmethod
    def fit(cls, families: Sequence[str], train: tuple, valid: tuple) -> "Presence":
        """Fit logistic regressions on mixtures of training instruments and calibrate them on those of validation instruments.

        train, valid: embeddings (N, D) and `present` (N, F). The regularisation with the best mean average precision on `valid` is used.
        Raises ValueError for a family that is in all mixtures or in none.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        for name, *columns in zip(families, train[1].T, valid[1].T, strict=True):
            if any(column.all() or not column.any() for column in columns):
                raise ValueError(f"{name} is in all of these mixtures or in none, so its presence cannot be learned: use more families")
        scaler = StandardScaler().fit(_unit(train[0]))
        x, held = scaler.transform(_unit(train[0])), scaler.transform(_unit(valid[0]))
        fits = []
        for strength in STRENGTHS:
            models = [LogisticRegression(C=strength, solver="newton-cholesky").fit(x, column) for column in train[1].T]
            weights, bias = np.concatenate([m.coef_ for m in models]), np.concatenate([m.intercept_ for m in models])
            fits.append((average_precision(held @ weights.T + bias, valid[1]).mean(), weights, bias))
        _, weights, bias = max(fits, key=lambda fit: fit[0])
        slope, shift = calibrate(held @ weights.T + bias, valid[1])
        weights, bias = slope[:, None] * weights / scaler.scale_, slope * bias + shift
        return cls(list(families), weights, bias - weights @ scaler.mean_)

    def save(self, path: Path, encoder: str) -> Path:
        """Write it as JSON with the digest of its encoder."""
        values = {"families": self.families, "weights": self.weights.tolist(), "bias": self.bias.tolist(), "encoder": encoder}
        return write_json(path, values)

    @classmethod
    def load(cls, path: Path, encoder: str) -> "Presence | None":
        """Read what `save` wrote; None if there is no file or it belongs to another encoder. Raises ValueError if it is damaged."""
        try:
            values = read_json(path) if path.is_file() else {}
            if values.get("encoder") != encoder:
                return None
            families, weights, bias = values["families"], np.array(values["weights"], float), np.array(values["bias"], float)
            if not isinstance(families, list) or weights.ndim != 2 or not len(families) == len(weights) == bias.size == len(bias):
                raise ValueError("its sizes do not match")
            for name in families:
                choose("family", name, GROUPS)
            if not (np.abs(weights) < 1e9).all() or not (np.abs(bias) < 1e9).all():
                raise ValueError("its numbers are not finite")
            return cls(families, weights, bias)
        except Exception as error:  # its values may be anything
            raise ValueError(f"{short(path)} is damaged ({type(error).__name__}): run notebooks/09_open_mixtures.ipynb again") from None


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def calibrate(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes and shifts (F,) that make sigmoid(slope * score + shift) a probability, for each family (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    spread = np.maximum(scores.std(axis=0), 1e-12)
    models = [LogisticRegression(C=100.0).fit(column[:, None], y) for column, y in zip((scores / spread).T, truth.T, strict=True)]
    return np.array([m.coef_[0, 0] for m in models]) / spread, np.array([m.intercept_[0] for m in models])


def average_precision(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the average precision (F,) of the scores (N, F) of each family; chance is its share of the mixtures."""
    from sklearn.metrics import average_precision_score

    return np.array([average_precision_score(y, column) for column, y in zip(scores.T, truth.T, strict=True)])


def calibration(probability: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    """Return a row for each of BINS equal ranges of probabilities (N, F): mean prediction, share that is true, number."""
    place = np.minimum((probability.ravel() * BINS).astype(int), BINS - 1)
    frame = pd.DataFrame({"bin": place, "predicted": probability.ravel(), "true": truth.ravel().astype(float)})
    return frame.groupby("bin").agg(predicted=("predicted", "mean"), true=("true", "mean"), number=("true", "size")).reset_index()


def calibration_error(table: pd.DataFrame) -> float:
    """Return the expected calibration error: the mean difference between predicted and true of `calibration`, weighted by number."""
    return float(((table.predicted - table.true).abs() * table.number).sum() / table.number.sum())


def presence_summary(probability: np.ndarray, truth: np.ndarray, *, draws: int = 300, seed: int = 0) -> dict:
    """Return the mean average precision over families with a 95% bootstrap interval over mixtures, calibration error and Brier score."""
    rng, precision = np.random.default_rng(seed), average_precision(probability, truth).mean()
    samples = [rng.integers(len(truth), size=len(truth)) for _ in range(draws)]
    drawn = [average_precision(probability[rows], truth[rows]).mean() for rows in samples if truth[rows].any(axis=0).all()]
    return {
        "map": float(precision), "map_ci": np.quantile(drawn, [0.025, 0.975]).tolist(), "chance": float(truth.mean()),
        "calibration_error": calibration_error(calibration(probability, truth)), "brier": float(((probability - truth) ** 2).mean()),
    }  # fmt: skip
