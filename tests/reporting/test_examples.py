"""Examples of a run: the matches that its stored embeddings give, by one vector or by a head, as a page and a figure."""

import numpy as np
import pandas as pd
import pytest
from conftest import drawn

from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.evaluation.protocol import EVAL_SEED
from cirlib.evaluation.ranking import nearest
from cirlib.models.heads import head_names
from cirlib.reporting.examples import find_examples, matches_figure, write_examples
from cirlib.training.config import TrainConfig, write_config

QUERIES = 5


def run(folder, bank, heads=()) -> tuple[list, np.ndarray, np.ndarray]:
    """Write a run with random embeddings; query 0 is retrieved best. Return its mixtures, their embeddings and those of the gallery."""
    config = TrainConfig(preset="p", bank=(str(bank.paths[0]),), queries=QUERIES, seconds=1.0)
    folder.mkdir()
    write_config(folder, config, "key")
    rng, size = np.random.default_rng(0), (max(1, len(head_names(heads))), 4)
    vectors, gallery = (rng.normal(size=(n, *size)).astype(np.float32) for n in (QUERIES, len(bank.gallery())))
    np.savez(
        folder / "embeddings.npz",
        mixtures=vectors.reshape(QUERIES, -1),
        gallery=gallery.reshape(len(gallery), -1),
        heads=np.array(heads, str),
    )
    pd.DataFrame({"query": np.repeat(np.arange(QUERIES), 3), "rank": np.repeat(np.arange(QUERIES), 3)}).to_parquet(
        folder / "mixture_ranks.parquet"
    )
    return config.mixtures(bank, "test", QUERIES, EVAL_SEED), vectors, gallery


@pytest.mark.parametrize("heads, head, place", [((), "", 0), (MIXTURE_FAMILIES[:2], "", None), (MIXTURE_FAMILIES[:2], "mix", 1)])
def test_matches_are_the_nearest_notes_of_the_family(tone_bank, tmp_path, heads, head, place):
    """By default by the head of the family, or `mix` for a family without a head."""
    mixtures, vectors, gallery = run(tmp_path / "run", tone_bank, heads)
    examples, items = find_examples(tmp_path / "run", count=3, between=(0.0, 1.0), head=head), tone_bank.gallery()
    assert [example.title for example in examples] == ["Mixture 0", "Mixture 2", "Mixture 4"], "from best to worst"
    for query, example in zip((0, 2, 4), examples, strict=True):
        for (family, true, matches), uid in zip(example.rows, mixtures[query].instruments, strict=True):
            k = place if place is not None else head_names(heads).index(family) if family in heads else 1
            inside = np.flatnonzero(items.family == family)
            expected = items.index[inside[nearest(vectors[query, k][None], gallery[inside, k], 3)[0]]]
            assert true.name == uid and [match.name for match in matches] == list(expected)
            assert [match.right for match in matches] == [name == uid for name in expected]


def test_page_and_figure(tone_bank, tmp_path, figure_style):
    run(tmp_path / "run", tone_bank)
    page = write_examples(tmp_path / "run", tmp_path / "page.html", title="Title", intro="Intro", count=2)
    assert page.read_text().count("<section>") == 2
    example = find_examples(tmp_path / "run", count=1)[0]
    figure = matches_figure(example)
    drawn(figure)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert len(titles) == 1 + 9 and titles.count("query: a mix") == 1
    assert sum("correct" in title for title in titles) == sum(match.right for _, _, matches in example.rows for match in matches)
    framed = [axis.get_title(loc="left") for axis in figure.axes if axis.spines["top"].get_visible()]
    assert framed == [title for title in titles if "correct" in title] != []


def test_damaged_files_and_unknown_heads_are_refused(tone_bank, tmp_path):
    run(tmp_path / "run", tone_bank, MIXTURE_FAMILIES[:2])
    with pytest.raises(ValueError, match="unknown head 'Organ'"):
        find_examples(tmp_path / "run", head="Organ")
    (tmp_path / "run" / "embeddings.npz").write_bytes(b"no data")
    with pytest.raises(ValueError, match=r"is damaged .*: run 03_retrieve again"):
        find_examples(tmp_path / "run")
    (tmp_path / "run" / "embeddings.npz").unlink()
    with pytest.raises(FileNotFoundError):
        find_examples(tmp_path / "run")
