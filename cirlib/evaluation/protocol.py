"""Evaluation: embed the gallery and the queries of both tasks once, rank, and hand out tables.

Mixture test: queries are mixtures of test instruments, the ranking of a family holds its gallery items only.
Single test: queries are all sounds of test instruments, the gallery holds every instrument (paper section 4).
`protocol="paper"` counts the reference notes themselves among the single queries; `strict` leaves them out.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from ..audio.log_mel import RATE
from ..common.files import write_atomic, write_json
from ..common.paths import at_home
from ..data.bank import NoteBank
from ..data.mixtures import MixtureDataset, load_sounds
from ..models import distributed as processes
from ..models.encoder import AudioEncoder
from ..models.heads import SINGLE, select_family_head, select_head
from . import ranking as retrieval
from . import robustness as degrade

TESTS = ("mixture", "single")
EVAL_SEED = 12345  # of the mixtures that are ranked; the same for every row
BLOCK = 64  # clips embedded at once
KEPT_MIXTURES = 500  # whose embeddings are kept for the notebooks that look at the space
SELF_MATCH = 0.95  # share of reference notes that find themselves first, under which something is wrong
Waves = Callable[[np.ndarray], np.ndarray]  # what is made of waveforms (B, T)


def open_banks(names: Iterable[str]) -> NoteBank:
    """The banks of a run as one; relative paths are relative to the project's home. ValueError if they are not at 16 kHz."""
    bank = NoteBank.open([at_home(name) for name in names])
    if bank.sample_rate != RATE:
        raise ValueError(f"encoders hear sound at {RATE} Hz, this bank is at {bank.sample_rate} Hz: build it again at {RATE}")
    return bank


def progress(items, title: str, show: bool = True, done: int = 0):
    """A text progress bar that looks the same in a notebook, a terminal and a log; at most one update in five seconds.

    `done`: how many items came before these, in an earlier run.
    """
    from tqdm import tqdm

    return tqdm(items, desc=title, mininterval=5, disable=not show, initial=done, total=done + len(items) if done else None)


class Retriever:
    """How a method hears: one vector per single sound, one vector (or one per family) per mixture.

    `mixtures`: (B, T) waveforms -> (B, D) or, with one vector per family, (B, S, D); by default the encoder's embedding.
    `separate`: (B, T) waveforms -> stems (B, S, T), of a method that separates; else None.
    """

    def __init__(self, encoder: AudioEncoder, mixtures: Waves | None = None, separate: Waves | None = None):
        self.encoder, self.mixtures, self.separate = encoder, mixtures or encoder.embed, separate
        self.heads = encoder.config.heads  # families that its vectors have a part for

    def notes(self, bank: NoteBank, rows: Sequence[int], protocol: str = "strict") -> np.ndarray:
        """Vectors (N, D) of single sounds of a bank, cut or padded to the encoder's clip length."""
        return embed_rows(self.encoder, bank, rows, protocol)


def embed_rows(
    encoder: AudioEncoder, bank: NoteBank, rows: Sequence[int], protocol: str = "strict", outputs: bool = False, n_jobs: int = 1
) -> np.ndarray:
    """Embeddings (N, D), or outputs of its last layer, of single sounds of a bank, cut or padded to the encoder's clip length.

    `n_jobs`: worker processes of joblib, of this machine or of a Dask cluster that sees the same disk (joblib.parallel_config);
    1: this process, with all its cores or its GPU.
    """
    rows = np.asarray(rows)  # a column of a table is indexed by its names
    if not len(rows):
        return np.empty((0, encoder.config.outputs if outputs else encoder.dim), np.float32)
    if n_jobs != 1:
        from joblib import Parallel, delayed, effective_n_jobs

        parts = np.array_split(rows, min(len(rows), effective_n_jobs(n_jobs)))  # the encoder travels with each
        return np.concatenate(Parallel(n_jobs)(delayed(_embed_part)(encoder, bank.paths, part, protocol, outputs) for part in parts))
    samples = round(encoder.config.seconds * bank.sample_rate)
    return _in_blocks(len(rows), lambda i: encoder.embed(load_sounds(bank, rows[i], samples=samples, protocol=protocol), outputs=outputs))


def _embed_part(encoder: AudioEncoder, paths: list[Path], rows: Sequence[int], protocol: str, outputs: bool) -> np.ndarray:
    """In a worker process: the bank is opened there, its sounds do not travel."""
    return embed_rows(encoder, _opened(tuple(paths)), rows, protocol, outputs)


@cache
def _opened(paths: tuple[Path, ...]) -> NoteBank:
    return NoteBank.open(paths)


def embed_mixtures(retriever, dataset: MixtureDataset, degraded: str = "clean") -> tuple[np.ndarray, pd.DataFrame]:
    """Vectors (N, D) or (N, S, D) of the mixtures of a dataset, and one row per stem: query, place (of its family), family, instrument.

    `degraded`: one of degrade.DEGRADATIONS.
    """
    vectors = _in_blocks(len(dataset), lambda i: retriever.mixtures(degrade.queries(degraded, dataset, i)))
    rows = [
        {"query": i, "place": dataset.families.index(f), "family": f, "instrument": uid}
        for i in range(len(dataset))
        for f, uid in dataset.plan(i)
    ]
    return vectors, pd.DataFrame(rows)


def _in_blocks(count: int, vectors: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """vectors(indices) of range(count), BLOCK at a time; processes that train together share the work and must all call this."""
    return processes.share(count, lambda own: np.concatenate([vectors(own[i : i + BLOCK]) for i in range(0, len(own), BLOCK)]))


def mixture_ranks(vectors, truth: pd.DataFrame, gallery, items: pd.DataFrame, metric: str, heads: Sequence[str] = ()) -> pd.DataFrame:
    """`truth` with the rank of each instrument among the gallery items of its family, for vectors of embed_mixtures.

    `heads`: families that the vectors have a part for; these are compared by that part alone.
    """
    query = truth["query"].to_numpy()
    queries = vectors[query] if vectors.ndim == 2 else vectors[query, truth.place.to_numpy()]
    queries, gallery = select_family_head(queries, truth.family, heads), select_family_head(gallery, items.family, heads)
    position = pd.Series(np.arange(len(items)), index=items.index)[truth.instrument].to_numpy()
    rank = retrieval.ranks(queries, gallery, position, groups=items.family.to_numpy(), metric=metric)
    return truth.drop(columns="place").assign(source=items.source.to_numpy()[position], rank=rank)


def single_ranks(queries, rows, bank: NoteBank, gallery, items: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rank of the instrument of each sound (bank rows) among the whole gallery.

    `found` is the family of the item that comes first. `distance` in pitch to the reference note: the near or the far half
    of the sounds of an instrument, or "several notes" for a sound without one pitch.
    """
    notes = bank.notes.loc[rows, ["instrument", "family", "source", "pitch", "velocity"]].reset_index(drop=True)
    position = pd.Series(np.arange(len(items)), index=items.index)[notes.instrument].to_numpy()
    interval = np.abs(notes.pitch.to_numpy() - bank.pitches[items.reference.to_numpy()[position]])
    middle = pd.Series(interval).groupby(notes.instrument.to_numpy()).transform("median").to_numpy()
    distance = np.where(np.isnan(interval), "several notes", np.where(interval <= middle, "near half", "far half"))
    first = retrieval.nearest(queries, gallery, 1, metric=metric)[:, 0]
    rank = retrieval.ranks(queries, gallery, position, metric=metric)
    return notes.assign(row=rows, distance=distance, found=items.family.to_numpy()[first], rank=rank)


def single_queries(bank: NoteBank, split: str, protocol: str = "strict") -> np.ndarray:
    """Bank rows of all sounds of the instruments of a split; without reference notes under `strict`."""
    keep = (bank.notes.split == split) & bank.notes.augments.isna()
    if protocol == "strict":
        keep &= ~bank.notes.index.isin(bank.gallery().reference)
    return np.flatnonzero(keep)


def _asked(bank: NoteBank, split: str, protocol: str) -> np.ndarray:
    """`single_queries`, of which there must be one."""
    rows = single_queries(bank, split, protocol)
    if not len(rows):
        besides = " besides their reference notes" if (bank.instruments.split == split).any() else ""
        raise ValueError(f"the bank has no sounds of {split} instruments{besides}: none is left to retrieve (tests: single)")
    return rows


class Validation:
    """Retrieval among the validation instruments only, on sounds that never change: {"mrr", "top1", "top5"}."""

    def __init__(self, bank: NoteBank, config, on_mixtures: bool):
        self.bank, self.config, self.on_mixtures = bank, config, on_mixtures
        items = bank.gallery(config.families if on_mixtures else None)
        self.items = items[items.split == "valid"]
        if self.items.empty:
            raise ValueError("the bank has no validation instruments; training validates by retrieving them")
        if on_mixtures:
            self.dataset = config.mixtures(bank, "valid", config.valid_size, EVAL_SEED)
        else:
            rows = _asked(bank, "valid", config.protocol)
            self.rows = np.random.default_rng(EVAL_SEED).permutation(rows)[: config.valid_size]

    def __call__(self, retriever: Retriever) -> dict[str, float]:
        bank, items, metric, protocol = self.bank, self.items, self.config.metric, self.config.protocol
        gallery = retriever.notes(bank, items.reference.to_numpy(), protocol)
        if self.on_mixtures:
            table = mixture_ranks(*embed_mixtures(retriever, self.dataset), gallery, items, metric, retriever.heads)
        else:
            table = single_ranks(retriever.notes(bank, self.rows, protocol), self.rows, bank, gallery, items, metric)
        rank = table["rank"].to_numpy()
        return {"mrr": float((1 / (1 + rank)).mean()), "top1": retrieval.top_k(rank, 1), "top5": retrieval.top_k(rank, 5)}


@dataclass
class Embedded:
    """Everything that the tests rank, embedded once; what is not tested is None."""

    items: pd.DataFrame  # gallery: every instrument but twins, G rows
    gallery: np.ndarray  # (G, D)
    mixtures: np.ndarray | None = None  # (Q, D), or (Q, S, D) with one vector per family
    truth: pd.DataFrame | None = None  # a row per stem of the mixtures
    singles: np.ndarray | None = None  # (N, D)
    rows: np.ndarray | None = None  # (N,) bank rows of the single sounds
    heads: tuple[str, ...] = ()  # families that the vectors have a part for; single sounds are compared by the part for them


def embed_test(retriever: Retriever, bank: NoteBank, config, split: str = "test") -> Embedded:
    """Gallery and queries, of the instruments of a split, of the tests that `config.tests` names; another split hears none of "test"."""
    items = bank.gallery()
    items = items[(items.split != "test") | (split == "test")]
    out = Embedded(items, retriever.notes(bank, items.reference.to_numpy(), config.protocol), heads=retriever.heads)
    if "mixture" in config.tests:
        out.mixtures, out.truth = embed_mixtures(retriever, config.mixtures(bank, split, config.queries, EVAL_SEED))
    if "single" in config.tests:
        out.rows = _asked(bank, split, config.protocol)
        out.singles = retriever.notes(bank, out.rows, config.protocol)
    return out


def rank_test(found: Embedded, bank: NoteBank, config, metric: str) -> dict[str, pd.DataFrame]:
    """Ranks of each test with one distance: {"mixture": ..., "single": ...}."""
    ranks = {}
    if found.mixtures is not None:
        inside = found.items.family.isin(config.families).to_numpy()
        ranks["mixture"] = mixture_ranks(found.mixtures, found.truth, found.gallery[inside], found.items[inside], metric, found.heads)
    if found.singles is not None:
        singles, gallery = (select_head(vectors, SINGLE, found.heads) for vectors in (found.singles, found.gallery))
        ranks["single"] = single_ranks(singles, found.rows, bank, gallery, found.items, metric)
    return ranks


def metrics(test: str, ranks: pd.DataFrame, items: pd.DataFrame) -> dict:
    """Summary of one test: all, chance, and slices by family, source and (single) distance in pitch to the reference note."""
    if test == "mixture":
        sizes = items[items.family.isin(ranks.family.unique())].family.value_counts().to_dict()
        slices = {"family": ranks.family, "source": ranks.source, "source and family": ranks.source + ", " + ranks.family}
    else:
        sizes = {"all": len(items)}
        slices = {"family": ranks.family.fillna("(none)"), "source": ranks.source, "distance": ranks.distance}
    among = "family" if test == "mixture" else None
    by = {
        f"by_{name}": {k: retrieval.summary(ranks, by=among, mask=labels == k) for k in sorted(labels.unique())} for name, labels in slices.items()
    }
    total = retrieval.summary(ranks, by=among)
    return {"chance": {f"top{k}": retrieval.chance(sizes, k) for k in retrieval.TOP_K}, **total, **by}


def score(found: Embedded, bank: NoteBank, config) -> tuple[dict[str, pd.DataFrame], dict]:
    """Ranks with the distance of the row, and its metrics with it; top-1 and top-5 with every other distance beside."""
    ranks = {metric: rank_test(found, bank, config, metric) for metric in retrieval.METRICS}
    own = ranks[config.metric]
    result = {test: {"metric": config.metric, **metrics(test, table, found.items)} for test, table in own.items()}
    for test in result:
        others = {metric: ranks[metric][test]["rank"] for metric in retrieval.METRICS}
        result[test]["distances"] = {m: {f"top{k}": retrieval.top_k(r, k) for k in (1, 5)} for m, r in others.items()}
    return own, result


def self_match(found: Embedded, metric: str) -> float:
    """Share of the reference notes that find themselves first in the gallery; a low one is told, it is for the reader to judge."""
    gallery = select_head(found.gallery, SINGLE, found.heads)
    itself = retrieval.ranks(gallery, gallery, np.arange(len(found.items)), metric=metric)
    share = retrieval.top_k(itself, 1)
    print(f"reference notes that find themselves first: {100 * share:.1f} %")
    if share < SELF_MATCH:
        print("WARNING: that should be nearly all of them: either vectors collapsed, or the bank holds several copies of a sound")
    return share


def write_results(folder: Path, found: Embedded, ranks: dict[str, pd.DataFrame], result: dict) -> dict:
    """Write embeddings.npz, <test>_ranks.parquet and, last, metrics.json; returns what metrics.json holds.

    Ranks of tests that were asked for earlier and are no longer go.
    """
    arrays = {"gallery": found.gallery, "items": found.items.index.to_numpy(str), "heads": np.array(found.heads, str)}
    if found.mixtures is not None:
        arrays["mixtures"] = found.mixtures[:KEPT_MIXTURES]
    if found.singles is not None:
        arrays |= {"singles": found.singles, "rows": found.rows}

    def save(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez(file, **arrays)

    write_atomic(folder / "embeddings.npz", save)
    for test in set(TESTS) - ranks.keys():
        (folder / f"{test}_ranks.parquet").unlink(missing_ok=True)
    for test, table in ranks.items():
        write_atomic(folder / f"{test}_ranks.parquet", table.to_parquet)
    write_json(folder / "metrics.json", result)
    return result
