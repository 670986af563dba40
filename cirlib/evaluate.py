"""Evaluation: embed the gallery and the queries of both tasks once, rank, and hand out tables.

Mixture task: queries are mixtures of test instruments, the ranking of a family holds its gallery items only.
Single task: queries are all sounds of test instruments, the gallery holds every instrument (paper section 4).
`protocol="paper"` counts the reference notes themselves among the single queries; `strict` leaves them out.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from . import retrieval
from .bank import NoteBank
from .encoder import AudioEncoder
from .frontend import RATE
from .mixing import MixtureDataset, clip
from .paths import at_home

EVAL_SEED = 12345  # of the mixtures that are ranked; the same for every row
BLOCK = 64  # clips embedded at once


def open_banks(names: Iterable[str]) -> NoteBank:
    """The banks of a run as one; relative paths are relative to the project's home. ValueError if they are not at 16 kHz."""
    bank = NoteBank.open([at_home(name) for name in names])
    if bank.sample_rate != RATE:
        raise ValueError(f"encoders hear sound at {RATE} Hz, this bank is at {bank.sample_rate} Hz: build it again at {RATE}")
    return bank


def progress(items, title: str, show: bool = True):
    """A text progress bar that looks the same in a notebook, a terminal and a log; at most one update in five seconds."""
    from tqdm import tqdm

    return tqdm(items, desc=title, mininterval=5, disable=not show)


def embed_rows(encoder: AudioEncoder, bank: NoteBank, rows: Sequence[int], protocol: str = "strict") -> np.ndarray:
    """Embeddings (N, D) of single sounds of a bank, cut or padded to the encoder's clip length."""
    samples = round(encoder.config.seconds * bank.sample_rate)
    blocks = [rows[i : i + BLOCK] for i in range(0, len(rows), BLOCK)]
    return np.concatenate([encoder.embed(np.stack([clip(bank, r, samples, protocol) for r in b])) for b in blocks])


def embed_mixtures(encoder: AudioEncoder, dataset: MixtureDataset) -> tuple[np.ndarray, pd.DataFrame]:
    """Embeddings (N, D) of the mixtures of a dataset, and one row per stem: query, family, instrument."""
    vectors, rows = [], []
    for start in range(0, len(dataset), BLOCK):
        items = [dataset[i] for i in range(start, min(start + BLOCK, len(dataset)))]
        vectors.append(encoder.embed(np.stack([m.mixture for m in items])))
        for i, m in enumerate(items, start):
            rows += [{"query": i, "family": f, "instrument": u} for f, u in zip(m.families, m.instruments, strict=True)]
    return np.concatenate(vectors), pd.DataFrame(rows)


def mixture_ranks(queries, truth: pd.DataFrame, gallery, items: pd.DataFrame, metric: str) -> pd.DataFrame:
    """`truth` (query, family, instrument) with the rank of each instrument among the gallery items of its family."""
    place = pd.Series(np.arange(len(items)), index=items.index)
    position = place[truth.instrument].to_numpy()
    rank = retrieval.ranks(queries[truth["query"].to_numpy()], gallery, position, items.family.to_numpy(), metric)
    return truth.assign(source=items.source.to_numpy()[position], rank=rank)


def single_ranks(queries, rows, bank: NoteBank, gallery, items: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rank of the instrument of each sound (bank rows) among the whole gallery."""
    notes = bank.notes.loc[rows, ["instrument", "family", "source", "pitch", "velocity"]].reset_index(drop=True)
    position = pd.Series(np.arange(len(items)), index=items.index)[notes.instrument].to_numpy()
    return notes.assign(row=rows, rank=retrieval.ranks(queries, gallery, position, None, metric))


def single_queries(bank: NoteBank, split: str, protocol: str = "strict") -> np.ndarray:
    """Bank rows of all sounds of the instruments of a split; without reference notes under `strict`."""
    keep = (bank.notes.split == split) & bank.notes.augments.isna()
    if protocol == "strict":
        keep &= ~bank.notes.index.isin(bank.gallery().reference)
    return np.flatnonzero(keep)


class Validation:
    """Retrieval among the validation instruments only, on sounds that never change: {"mrr", "top1", "top5"}."""

    def __init__(self, bank: NoteBank, config):
        self.bank, self.config = bank, config
        items = bank.gallery(config.families if config.task == "mixture" else None)
        self.items = items[items.split == "valid"]
        if self.items.empty:
            raise ValueError("the bank has no validation instruments; training validates by retrieving them")
        if config.task == "mixture":
            self.dataset = config.mixtures(bank, "valid", config.valid_size, EVAL_SEED)
        else:
            rows = single_queries(bank, "valid", config.protocol)
            self.rows = np.random.default_rng(EVAL_SEED).permutation(rows)[: config.valid_size]

    def __call__(self, encoder: AudioEncoder) -> dict[str, float]:
        gallery = embed_rows(encoder, self.bank, self.items.reference.to_numpy(), self.config.protocol)
        if self.config.task == "mixture":
            table = mixture_ranks(*embed_mixtures(encoder, self.dataset), gallery, self.items, self.config.metric)
        else:
            queries = embed_rows(encoder, self.bank, self.rows, self.config.protocol)
            table = single_ranks(queries, self.rows, self.bank, gallery, self.items, self.config.metric)
        rank = table["rank"].to_numpy()
        return {"mrr": float((1 / (1 + rank)).mean()), "top1": retrieval.top_k(rank, 1), "top5": retrieval.top_k(rank, 5)}
