"""Test mixtures of a run to listen to, each with its true instruments and the best matches of each family."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..common.files import one_line
from ..common.paths import short
from ..evaluation.protocol import EVAL_SEED, open_banks
from ..evaluation.ranking import nearest
from ..models.heads import select_family_head
from ..training.config import read_config
from .pages import Example, Sound, examples_page

MATCHES = 3  # of each family


def write_examples(folder: Path, path: Path, title: str, intro: str, count: int = 6, between: tuple[float, float] = (0.0, 0.9)) -> Path:
    """Write a page (pages.py) of `count` test mixtures of the run in a folder, from well to badly found: its path.

    `between`: shares of the mixtures, ordered by the mean rank of their instruments, that the first and the last stand at.
    Only mixtures are shown whose embeddings 03_retrieve kept.
    """
    config, _ = read_config(folder)
    bank = open_banks(config.bank)
    items = bank.gallery()
    try:
        with np.load(folder / "embeddings.npz", allow_pickle=False) as file:
            vectors, gallery, heads = file["mixtures"], file["gallery"], list(file["heads"])
        ranks = pd.read_parquet(folder / "mixture_ranks.parquet")
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever their bytes lead to
        raise ValueError(f"what 03_retrieve kept in {short(folder)} is damaged ({one_line(error)}): run it again") from None
    mean = ranks[ranks["query"] < len(vectors)].groupby("query")["rank"].mean().sort_values(kind="stable")
    chosen = mean.index[np.linspace(*(share * (len(mean) - 1) for share in between), min(count, len(mean))).astype(int)]
    dataset = config.mixtures(bank, "test", config.queries, EVAL_SEED)

    def sound(uid: str, note: str, right: bool = False) -> Sound:
        return Sound(bank.audio(items.reference[uid]), uid, note, right)

    examples = []
    for query in map(int, chosen):
        mixture, rows = dataset[query], []
        for place, (name, uid) in enumerate(zip(mixture.families, mixture.instruments, strict=True)):
            inside = np.flatnonzero(items.family == name)
            asked = vectors[query] if vectors.ndim == 2 else vectors[query, place]
            asked, notes = select_family_head(asked[None], [name], heads), select_family_head(gallery[inside], [name] * len(inside), heads)
            near = items.index[inside[nearest(asked, notes, MATCHES, metric=config.metric)[0]]]
            matches = [sound(found, f"match {i}", found == uid) for i, found in enumerate(near, 1)]
            rows.append((name, sound(uid, "the reference note of the instrument that plays"), matches))
        examples.append(Example(f"Mixture {query}", Sound(mixture.mixture, "the mixture"), rows))
    return examples_page(path, examples, title, intro, bank.sample_rate)
