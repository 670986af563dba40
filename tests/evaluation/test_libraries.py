"""Retrieval across libraries: programs differ in frequency, which both libraries share."""

import numpy as np
import pytest
from conftest import RATE
from source_files import PROGRAMS
from source_files import general_midi_bank as library

from cirlib.data.trained_on import describe
from cirlib.evaluation.libraries import LibraryTest, programs


class Spectra:
    """A retriever whose embeddings are magnitude spectra."""

    heads = ()

    def mixtures(self, waveforms):
        return np.abs(np.fft.rfft(waveforms))[:, :2000].astype(np.float32)

    def notes(self, bank, rows, protocol="strict"):
        return self.mixtures(np.stack([np.pad(bank.audio(i), (0, RATE))[:RATE] for i in rows]))


def test_each_program_is_first(tmp_path):
    """In notes, and in mixtures, where the other programs of the mixture are skipped."""
    test = LibraryTest(library(tmp_path, "gallery", banks=(0, 8)), library(tmp_path, "queries"), seconds=1.0, mixtures=20)
    single, mixture = test.single(Spectra()), test.mixture(Spectra())
    assert (single["rank"] == 0).all() and single.family_first.all() and len(single) == 3 * len(PROGRAMS)
    assert (mixture["rank"] == 0).all() and (mixture.rank_in_family == 0).all() and len(mixture) == 3 * 20
    assert mixture.groupby("query").family.nunique().eq(3).all()


def test_wrong_program_is_not_first(tmp_path):
    """Programs 0 and 4, of one family, have each other's frequency; 4 and 33 would be of different families."""
    within = LibraryTest(library(tmp_path, "a", swapped=(0, 4)), library(tmp_path, "b"), seconds=1.0, mixtures=20)
    single, mixture = within.single(Spectra()), within.mixture(Spectra())
    wrong = single.instrument.str.contains("-000 |-004 ")
    assert (single["rank"] > 0).equals(wrong) and single.family_first.all()
    assert (mixture.rank_in_family > 0).equals(mixture.family == "Piano")
    across = LibraryTest(library(tmp_path, "c", swapped=(4, 33)), library(tmp_path, "b2"), seconds=1.0, mixtures=20).single(Spectra())
    assert across.family_first.equals(~across.instrument.str.contains("-004 |-033 "))


def test_chosen_and_missing_programs(tmp_path):
    gallery = library(tmp_path, "gallery", skipped=(16,))
    test = LibraryTest(gallery, library(tmp_path, "queries"), chosen=(0, 16, 33, 40), seconds=1.0, mixtures=5)
    assert set(test.single(Spectra()).instrument.str[-2:].str.strip()) == {"0", "33", "40"}  # the gallery has no 16
    with pytest.raises(ValueError, match="the two libraries share none of the chosen programs"):
        LibraryTest(gallery, library(tmp_path, "others"), chosen=(16,))


@pytest.mark.parametrize("trained", ["queries", "gallery"])
def test_libraries_of_the_training_are_refused(tmp_path, trained):
    banks = {name: library(tmp_path, name) for name in ("queries", "gallery")}
    test, retriever = LibraryTest(banks["gallery"], banks["queries"], seconds=1.0, mixtures=5), Spectra()
    retriever.trained_on = describe(library(tmp_path / "training", trained))
    for act in (test.single, test.mixture):
        with pytest.raises(ValueError, match=rf"^this encoder was trained on 6 of the 12 test instruments, such as soundfont/{trained}/"):
            act(retriever)


def test_bank_without_programs(tone_bank):
    with pytest.raises(ValueError, match="holds no General MIDI presets: make it from a SoundFont"):
        programs(tone_bank)
