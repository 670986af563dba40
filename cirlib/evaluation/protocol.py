"""The tests of the paper: embed the gallery and the queries of both tasks once, rank, summarise, write.

Mixture test: queries are mixtures of test instruments; each instrument is ranked among the gallery items of its family.
Single test: queries are all sounds of test instruments; the gallery holds every instrument (paper section 4). Protocol `strict` excludes
the reference notes, which are in the gallery, from the queries, and chooses the distance on validation instruments; `paper` does neither.
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
from ..data.trained_on import check_unseen
from ..models import distributed
from ..models.encoder import AudioEncoder
from ..models.heads import SINGLE, select_family_head, select_head
from .ranking import METRICS, TOP_K, chance, nearest, ranks, summary, top_k
from .robustness import queries

TESTS = ("mixture", "single")
EVAL_SEED = 12345  # of the mixtures that are ranked, the same for all rows
BLOCK = 64  # sounds embedded at a time
STORED_MIXTURES = 500  # whose embeddings are stored for the notebooks
SELF_MATCH = 0.95  # smaller shares of reference notes that retrieve themselves give a warning
Waves = Callable[[np.ndarray], np.ndarray]  # a function of waveforms (B, T)


def open_banks(names: Iterable[str]) -> NoteBank:
    """Open the banks of a run as one; relative paths are relative to the project's home. Raises ValueError unless they are at 16 kHz."""
    bank = NoteBank.open([at_home(name) for name in names])
    if bank.sample_rate != RATE:
        raise ValueError(f"encoders need sounds at {RATE} Hz, this bank is at {bank.sample_rate} Hz: build it again at {RATE} Hz")
    return bank


def progress(items, title: str, *, show: bool = True, done: int = 0):
    """Return a progress bar over `items` for notebooks, terminals and logs; `done`: number of items of an earlier run."""
    from tqdm import tqdm

    return tqdm(items, desc=title, mininterval=5, disable=not show, initial=done, total=done + len(items) if done else None)


class Retriever:
    """Embed notes and mixtures.

    Args:
        encoder: embeds notes.
        mixtures: waveforms (B, T) -> (B, D), or (B, S, D) with a vector for each family; default: the encoder.
        separate: waveforms (B, T) -> stems (B, S, T), of methods that separate mixtures.
    """

    def __init__(self, encoder: AudioEncoder, mixtures: Waves | None = None, separate: Waves | None = None):
        self.encoder, self.mixtures, self.separate = encoder, mixtures or encoder.embed, separate
        self.heads, self.trained_on = encoder.config.heads, encoder.trained_on  # families with a head of their own; banks

    def notes(self, bank: NoteBank, rows: Sequence[int], protocol: str = "strict") -> np.ndarray:
        """Embed sounds of a bank, cut or padded to the encoder's clip length: (N, D)."""
        return embed_rows(self.encoder, bank, rows, protocol=protocol)


def embed_rows(
    encoder: AudioEncoder, bank: NoteBank, rows: Sequence[int], *, protocol: str = "strict", outputs: bool = False, n_jobs: int = 1
) -> np.ndarray:
    """Embed sounds of a bank, cut or padded to the encoder's clip length: (N, D), or the outputs of its last layer with `outputs`.

    `n_jobs`: joblib workers, of this machine or of a Dask cluster with the same disk (joblib.parallel_config); 1: this process.
    """
    rows = np.asarray(rows)  # positions, also of a pandas Series
    if not len(rows):
        return np.empty((0, encoder.config.outputs if outputs else encoder.dim), np.float32)
    if n_jobs == 1:
        samples = round(encoder.config.seconds * bank.sample_rate)
        return _in_blocks(
            len(rows), lambda i: encoder.embed(load_sounds(bank, rows[i], samples=samples, protocol=protocol), outputs=outputs)
        )
    from joblib import Parallel, delayed, effective_n_jobs

    blocks = np.array_split(rows, min(len(rows), effective_n_jobs(n_jobs)))  # a copy of the encoder goes with each
    options = {"protocol": protocol, "outputs": outputs}
    return np.concatenate(Parallel(n_jobs)(delayed(_embed_in_worker)(encoder, tuple(bank.paths), block, options) for block in blocks))


def _embed_in_worker(encoder: AudioEncoder, paths: tuple[Path, ...], rows: Sequence[int], options: dict) -> np.ndarray:
    return embed_rows(encoder, _open_once(paths), rows, **options)


_open_once = cache(NoteBank.open)


def embed_mixtures(retriever, dataset: MixtureDataset, degraded: str = "clean") -> tuple[np.ndarray, pd.DataFrame]:
    """Embed the mixtures of a dataset: vectors (N, D) or (N, S, D), and a row per stem.

    Columns: query, place (of its family), family, instrument, with_reference (whether its reference note is among the notes).
    `degraded`: one of audio.effects.DEGRADATIONS. Raises ValueError if the encoder was trained on the test instruments.
    """
    _check_unseen(retriever, dataset.bank, dataset.split)
    vectors = _in_blocks(len(dataset), lambda i: retriever.mixtures(queries(degraded, dataset, i)))
    reference, place = dataset.bank.instruments.reference.to_dict(), dataset.families.index
    rows = [
        (i, place(track.family), track.family, track.instrument, reference[track.instrument] in track.rows)
        for i in range(len(dataset))
        for track in dataset.score(i, references=False).tracks
    ]
    return vectors, pd.DataFrame(rows, columns=["query", "place", "family", "instrument", "with_reference"])


def _check_unseen(retriever, bank: NoteBank, split: str) -> None:
    if split == "test":  # others are no tests
        check_unseen(getattr(retriever, "trained_on", ()), bank.gallery().query("split == 'test'").index)


def _in_blocks(count: int, embed: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return embed(indices) of range(count), BLOCK at a time. Processes of distributed training share the work: all must call this."""
    return distributed.share(count, lambda own: np.concatenate([embed(own[i : i + BLOCK]) for i in range(0, len(own), BLOCK)]))


def mixture_ranks(vectors, truth: pd.DataFrame, *, gallery, items: pd.DataFrame, metric: str, heads: Sequence[str] = ()) -> pd.DataFrame:
    """Return `truth` with source and rank of each instrument among the gallery items of its family.

    vectors, truth: of embed_mixtures. gallery (G, D): embeddings of `items`. heads: families with a head of their own; their
    instruments are compared by this head.
    """
    query, position = truth["query"].to_numpy(), items.index.get_indexer(truth.instrument)
    asked = vectors[query] if vectors.ndim == 2 else vectors[query, truth.place.to_numpy()]
    asked, gallery = select_family_head(asked, truth.family, heads), select_family_head(gallery, items.family, heads)
    rank = ranks(asked, gallery, position, groups=items.family.to_numpy(), metric=metric)
    return truth.drop(columns="place").assign(source=items.source.to_numpy()[position], rank=rank)


def single_ranks(vectors, rows, *, bank: NoteBank, gallery, items: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rank of the instrument of each sound (bank rows) among the whole gallery, and `predicted`, the family of the first item.

    `distance`: whether the pitch is in the nearer or farther half, by distance to the reference note, of the sounds of the instrument;
    "several notes" for sounds without a single pitch.
    """
    notes = bank.notes.loc[rows, ["instrument", "family", "source", "pitch", "velocity"]].reset_index(drop=True)
    position = items.index.get_indexer(notes.instrument)
    interval = pd.Series(np.abs(notes.pitch.to_numpy() - bank.pitches[items.reference.to_numpy()[position]]))
    near = interval <= interval.groupby(notes.instrument).transform("median")
    distance = np.where(interval.isna(), "several notes", np.where(near, "near half", "far half"))
    predicted = items.family.to_numpy()[nearest(vectors, gallery, 1, metric=metric)[:, 0]]
    return notes.assign(row=rows, distance=distance, predicted=predicted, rank=ranks(vectors, gallery, position, metric=metric))


def single_queries(bank: NoteBank, split: str, protocol: str = "strict") -> np.ndarray:
    """Return the bank rows of all sounds of the instruments of a split, without reference notes if `strict`. Raises ValueError if none."""
    chosen = (bank.notes.split == split) & bank.notes.augments.isna()
    if protocol == "strict":
        chosen &= ~bank.notes.index.isin(bank.gallery().reference)
    if not chosen.any():
        besides = " besides their reference notes" if (bank.instruments.split == split).any() else ""
        raise ValueError(f"the bank has no sounds of {split} instruments{besides}: the single test needs some (tests: single)")
    return np.flatnonzero(chosen)


class Validation:
    """Retrieval of validation instruments among themselves, with queries that never change."""

    def __init__(self, bank: NoteBank, config, on_mixtures: bool):
        self.bank, self.config, self.on_mixtures = bank, config, on_mixtures
        items = bank.gallery(config.families if on_mixtures else None)
        self.items = items[items.split == "valid"]
        if self.items.empty:
            raise ValueError("the bank has no validation instruments: training needs some to validate with")
        if on_mixtures:
            self.dataset = config.mixtures(bank, "valid", config.valid_size, EVAL_SEED)
        else:
            rows = single_queries(bank, "valid", config.protocol)
            self.rows = np.random.default_rng(EVAL_SEED).permutation(rows)[: config.valid_size]

    def __call__(self, retriever: Retriever) -> dict[str, float]:
        """Return {"mrr", "top1", "top5"} of a retriever."""
        bank, items, protocol = self.bank, self.items, self.config.protocol
        options = {"gallery": retriever.notes(bank, items.reference.to_numpy(), protocol), "items": items, "metric": self.config.metric}
        if self.on_mixtures:
            table = mixture_ranks(*embed_mixtures(retriever, self.dataset), **options, heads=retriever.heads)
        else:
            table = single_ranks(retriever.notes(bank, self.rows, protocol), self.rows, bank=bank, **options)
        rank = table["rank"].to_numpy()
        return {"mrr": float((1 / (1 + rank)).mean()), "top1": top_k(rank, 1), "top5": top_k(rank, 5)}


@dataclass
class Embedded:
    """Embeddings of the gallery and of the queries of the tests; None for a test that is not run."""

    items: pd.DataFrame  # gallery: every instrument without its twins, G rows
    gallery: np.ndarray  # (G, D)
    mixtures: np.ndarray | None = None  # (Q, D), or (Q, S, D) with a vector for each family
    truth: pd.DataFrame | None = None  # a row per stem of the mixtures
    singles: np.ndarray | None = None  # (N, D)
    rows: np.ndarray | None = None  # (N,) bank rows of the single sounds
    heads: tuple[str, ...] = ()  # families with a head of their own


def embed_test(retriever: Retriever, bank: NoteBank, config, *, split: str = "test") -> Embedded:
    """Embed gallery and queries of the tests in `config.tests`; the queries of another split are ranked without test instruments.

    Raises ValueError if the encoder was trained on the test instruments.
    """
    _check_unseen(retriever, bank, split)
    items = bank.gallery()
    items = items[(items.split != "test") | (split == "test")]
    out = Embedded(items, retriever.notes(bank, items.reference.to_numpy(), config.protocol), heads=retriever.heads)
    if "mixture" in config.tests:
        out.mixtures, out.truth = embed_mixtures(retriever, config.mixtures(bank, split, config.queries, EVAL_SEED))
    if "single" in config.tests:
        out.rows = single_queries(bank, split, config.protocol)
        out.singles = retriever.notes(bank, out.rows, config.protocol)
    return out


def rank_test(embedded: Embedded, bank: NoteBank, config, *, metric: str | None = None) -> dict[str, pd.DataFrame]:
    """Return the ranks of each test, {"mixture": ..., "single": ...}, by `metric`, else by the metric of `config`."""
    tables, items, metric = {}, embedded.items, metric or config.metric
    if embedded.mixtures is not None:
        inside = items.family.isin(config.families).to_numpy()
        options = {"gallery": embedded.gallery[inside], "items": items[inside], "metric": metric, "heads": embedded.heads}
        tables["mixture"] = mixture_ranks(embedded.mixtures, embedded.truth, **options)
    if embedded.singles is not None:
        singles, gallery = (select_head(vectors, SINGLE, embedded.heads) for vectors in (embedded.singles, embedded.gallery))
        tables["single"] = single_ranks(singles, embedded.rows, bank=bank, gallery=gallery, items=items, metric=metric)
    return tables


def metrics(test: str, table: pd.DataFrame, items: pd.DataFrame) -> dict:
    """Return the summary of one test: all, chance, gallery sizes, and slices by family, source and (single) distance in pitch.

    Mixtures: `without_reference` is the summary, and share, of the rankings whose own reference note is not among the notes of the mixture.
    """
    if test == "mixture":
        by, sizes = "family", items[items.family.isin(table.family.unique())].family.value_counts().to_dict()
        slices = {"family": table.family, "source": table.source, "source and family": table.source + ", " + table.family}
    else:
        by, sizes = None, {"all": len(items)}
        slices = {"family": table.family.fillna("(none)"), "source": table.source, "distance": table.distance}
    parts = {
        f"by_{name}": {value: summary(table, by=by, mask=labels == value) for value in sorted(labels.unique())}
        for name, labels in slices.items()
    }
    if "with_reference" in table:
        without = ~table.with_reference.to_numpy(bool)
        parts["without_reference"] = {"share": float(without.mean()), **(summary(table, by=by, mask=without) if without.any() else {})}
    return {"chance": {f"top{k}": chance(sizes, k) for k in TOP_K}, "gallery": sizes, **summary(table, by=by), **parts}


def score(embedded: Embedded, bank: NoteBank, config, *, distances: dict[str, str] | None = None) -> tuple[dict[str, pd.DataFrame], dict]:
    """Return the ranks and metrics of each test by its distance, with top-1 and top-5 by every distance under `distances`.

    `distances`: distance of each test; default: that of the loss.
    """
    tables = {metric: rank_test(embedded, bank, config, metric=metric) for metric in METRICS}
    ranked, result = {}, {}
    for test in tables[config.metric]:
        metric = (distances or {}).get(test, config.metric)
        table = ranked[test] = tables[metric][test]
        accuracy = {name: {f"top{k}": top_k(by_test[test]["rank"], k) for k in (1, 5)} for name, by_test in tables.items()}
        result[test] = {"metric": metric, **metrics(test, table, embedded.items), "distances": accuracy}
    return ranked, result


def self_match(embedded: Embedded, metric: str) -> float:
    """Return and print the share of reference notes that retrieve themselves first; warn below SELF_MATCH."""
    gallery = select_head(embedded.gallery, SINGLE, embedded.heads)
    share = top_k(ranks(gallery, gallery, np.arange(len(gallery)), metric=metric), 1)
    print(f"reference notes that retrieve themselves first: {100 * share:.1f} %")
    if share < SELF_MATCH:
        print("WARNING: it should be nearly all of them: the embeddings collapsed, or the bank holds copies of sounds")
    return share


def write_results(folder: Path, embedded: Embedded, tables: dict[str, pd.DataFrame], result: dict) -> dict:
    """Write embeddings.npz, <test>_ranks.parquet and, last, metrics.json; delete the ranks of other tests; return `result`."""
    arrays = {"gallery": embedded.gallery, "items": embedded.items.index.to_numpy(str), "heads": np.array(embedded.heads, str)}
    if embedded.mixtures is not None:
        arrays["mixtures"] = embedded.mixtures[:STORED_MIXTURES]
    if embedded.singles is not None:
        arrays |= {"singles": embedded.singles, "rows": embedded.rows}

    def save(path: Path) -> None:
        with open(path, "wb") as file:  # np.savez would add .npz to a name
            np.savez(file, **arrays)

    write_atomic(folder / "embeddings.npz", save)
    for test in TESTS:
        path = folder / f"{test}_ranks.parquet"
        if test in tables:
            write_atomic(path, tables[test].to_parquet)
        else:
            path.unlink(missing_ok=True)
    write_json(folder / "metrics.json", result)
    return result
