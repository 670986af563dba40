"""The distance of each test, chosen on validation instruments."""

from dataclasses import replace

from ..data.bank import NoteBank
from .protocol import Retriever, embed_test, rank_test
from .ranking import METRICS


def best_distances(retriever: Retriever, bank: NoteBank, config) -> dict[str, str]:
    """Return the distance of each test: that of the highest MRR on validation instruments, under `paper` that of the loss."""
    own = dict.fromkeys(config.tests, config.metric)
    if config.protocol == "paper" or not (bank.instruments.split == "valid").any():
        return own
    embedded = embed_test(retriever, bank, replace(config, queries=config.valid_size), split="valid")
    names = list(dict.fromkeys((config.metric, *METRICS)))  # that of the loss first: it wins ties
    ranked = {metric: rank_test(embedded, bank, config, metric=metric) for metric in names}
    return {test: max(names, key=lambda metric: (1 / (1 + ranked[metric][test]["rank"])).mean()) for test in own}
