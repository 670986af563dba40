"""Note statistics: counted from real MIDI files, read from the authors' format, drawn from, and used in mixtures."""

import json
import math
import subprocess
import sys

import numpy as np
import pretty_midi
import pytest
from conftest import hz
from tones import frequency

from cirlib.data import scores as score_module
from cirlib.data.mixtures import MixtureDataset
from cirlib.data.note_statistics import (
    DURATION_EDGES,
    NoteStatistics,
    count_notes,
    excerpts,
    load_statistics,
    midi_files,
    read_folder,
    read_midi,
)
from cirlib.data.taxonomy import FAMILIES, GROUPS

DRUMS = None  # program of a drum kit
AUTHORS = {  # a file in the authors' format, written by hand; the probabilities need not sum to 1
    "pitch": {
        "Bass": {"values": [36, 40, 43], "probabilities": [0.5, 0.25, 0.25]},
        "Synth Lead": {"values": [72.0], "probabilities": [3]},
        "Organ": {"values": [], "probabilities": []},
        "Reed": {"values": [60, 61], "probabilities": [0, 0]},
    },
    "velocity": {"Bass": {"values": [0, 100], "probabilities": [0.5, 0.5]}},
    "log_duration_s": {"Bass": {"bin_edges": [-1, -0.5, 0], "probabilities": [0.0, 1.0]}},
}


def write_midi(path, *parts):
    """A real MIDI file; a part is (program or DRUMS, (start, duration, pitch, velocity), ...)."""
    score = pretty_midi.PrettyMIDI()
    for program, *notes in parts:
        part = pretty_midi.Instrument(program or 0, is_drum=program is DRUMS)
        part.notes = [pretty_midi.Note(velocity, pitch, start, start + duration) for start, duration, pitch, velocity in notes]
        score.instruments.append(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    score.write(str(path))


@pytest.fixture
def scores(tmp_path):
    """Two files; durations of 0.3 and 0.75 s are whole numbers of ticks."""
    folder = tmp_path / "midi"
    write_midi(
        folder / "a.mid",
        (33, (0, 0.3, 36, 100), (3, 0.3, 43, 100)),
        (34, (0.75, 0.75, 36, 80)),
        (81, (0, 0.3, 72, 64)),
        (DRUMS, (0, 0.3, 38, 127), (1.5, 0.3, 38, 127)),
    )
    write_midi(folder / "below" / "b.MIDI", (38, (0, 0.3, 36, 100)), (DRUMS, (0, 0.75, 42, 127)))
    return folder


def statistics_of(folder):
    return count_notes(read_folder(folder, n_jobs=1)[0])


# Reading MIDI


def test_notes_of_a_file(scores):
    """By group, tracks of one group joined, sorted by start: start, duration, pitch, velocity."""
    notes = read_midi(scores / "a.mid")
    assert notes.keys() == {"Bass", "Synth Lead", "Drum Kit"}
    np.testing.assert_allclose(notes["Bass"], [(0, 0.3, 36, 100), (0.75, 0.75, 36, 80), (3, 0.3, 43, 100)], atol=1e-9)
    np.testing.assert_allclose(notes["Drum Kit"], [(0, 0.3, 38, 127), (1.5, 0.3, 38, 127)], atol=1e-9)


def test_slakh_is_not_counted_twice(tmp_path):
    """`all_src.mid` holds what the stems hold; it counts only where there are no stems."""
    track = tmp_path / "train" / "Track00001"
    bass, lead = (33, (0, 0.3, 36, 100)), (81, (0, 0.3, 72, 100), (1, 0.3, 74, 100))
    write_midi(track / "all_src.mid", bass, lead)
    assert midi_files(tmp_path) == [track / "all_src.mid"]
    write_midi(track / "MIDI" / "S00.mid", bass)
    write_midi(track / "MIDI" / "S01.mid", lead)
    write_midi(tmp_path / "train" / "Track00002" / "all_src.mid", bass)
    scores, bad = read_folder(tmp_path, n_jobs=1)
    assert [f.name for f in scores] == ["S00.mid", "S01.mid", "all_src.mid"]
    assert [{group: len(notes) for group, notes in score.items()} for score in scores.values()] == [
        {"Bass": 1},
        {"Synth Lead": 2},
        {"Bass": 1},
    ]
    assert bad == {}


def test_bad_files_are_listed(scores):
    """With the reason, each of those of one name too; the others are read."""
    whole = (scores / "a.mid").read_bytes()
    bad = {"empty.mid": b"", "text.mid": b"no music " * 20, "half.mid": whole[: len(whole) // 2], "head.mid": whole[:10]}
    for name, data in bad.items():
        (scores / name).write_bytes(data)
    (scores / "below" / "empty.mid").write_bytes(b"")
    (scores / "folder.mid").mkdir()
    found, reasons = read_folder(scores, n_jobs=1)
    assert sorted(f.name for f in found) == ["a.mid", "b.MIDI"]
    assert reasons.keys() == {*bad, "below/empty.mid"}
    assert all(reason.startswith("not readable as MIDI (") for reason in reasons.values())


def test_no_midi(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere: give one that has \.mid files"):
        midi_files(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no \.mid file in .* or below"):
        midi_files(tmp_path)
    (tmp_path / "a.mid").write_bytes(b"MThd")
    with pytest.raises(ValueError, match=r"no readable MIDI file in .*a\.mid"):
        read_folder(tmp_path, n_jobs=1)


# Counting


def test_counts_equal_those_by_hand(scores):
    tables = statistics_of(scores).tables
    assert tables["pitch"] == {
        "Bass": {"values": [36, 43], "probabilities": [0.75, 0.25]},
        "Synth Lead": {"values": [72], "probabilities": [1]},
        "Drum Kit": {"values": [38, 42], "probabilities": [2 / 3, 1 / 3]},
    }
    np.testing.assert_array_equal(statistics_of(scores).pitch("Bass")[[35, 36, 43]], [0, 0.75, 0.25])
    assert tables["velocity"] == {
        "Bass": {"values": [80, 100], "probabilities": [0.25, 0.75]},
        "Synth Lead": {"values": [64], "probabilities": [1]},
        "Drum Kit": {"values": [127], "probabilities": [1]},
    }
    shares = {"Bass": {0.3: 0.75, 0.75: 0.25}, "Synth Lead": {0.3: 1}, "Drum Kit": {0.3: 2 / 3, 0.75: 1 / 3}}
    assert tables["log_duration_s"].keys() == shares.keys()
    for group, expected in shares.items():
        edges, p = (tables["log_duration_s"][group][k] for k in ("bin_edges", "probabilities"))
        found = {(edges[k], edges[k + 1]): share for k, share in enumerate(p) if share}
        for ((low, high), share), (seconds, expected_share) in zip(found.items(), expected.items(), strict=True):
            assert low <= math.log10(seconds) < high <= low + 0.051
            assert share == pytest.approx(expected_share)


def test_very_short_and_very_long_notes(tmp_path):
    """Count in the first and the last bin."""
    write_midi(tmp_path / "a.mid", (0, (0, 0.005, 60, 100), (1, 25, 60, 100)))
    p = np.array(statistics_of(tmp_path).tables["log_duration_s"]["Piano"]["probabilities"])
    assert np.flatnonzero(p).tolist() == [0, len(p) - 1]
    assert p.sum() == 1


# Files


def test_saved_and_loaded(scores, tmp_path):
    statistics = statistics_of(scores)
    statistics.save(tmp_path / "new" / "statistics.json")
    assert NoteStatistics.load(tmp_path / "new" / "statistics.json").tables == statistics.tables
    assert load_statistics(tmp_path / "new" / "statistics.json").tables == statistics.tables
    assert load_statistics("").tables == {}


@pytest.fixture
def authors(tmp_path):
    file = tmp_path / "notes_distributions.json"
    file.write_text(json.dumps(AUTHORS))
    return NoteStatistics.load(file)


def test_authors_format(authors):
    assert authors.pitch("Bass")[[36, 40, 43]].tolist() == [0.5, 0.25, 0.25]
    assert authors.pitch("Synth Lead")[72] == 1
    assert authors.velocity("Bass")[[0, 100]].tolist() == [0.5, 0.5]
    edges, p = authors.duration("Bass")
    assert (edges.tolist(), p.tolist()) == ([-1, -0.5, 0], [0, 1])
    for group in ("Bass", "Synth Lead"):
        assert authors.pitch(group).sum() == pytest.approx(1)


def test_missing_groups_have_the_default(authors):
    """Groups that are missing, and groups without notes."""
    default = NoteStatistics()
    for group in ("Organ", "Reed", "Piano", "Percussion"):
        np.testing.assert_array_equal(authors.pitch(group), default.pitch(group))
    np.testing.assert_array_equal(authors.velocity("Synth Lead"), default.velocity("Synth Lead"))
    for got, expected in zip(authors.duration("Synth Lead"), default.duration("Synth Lead"), strict=True):
        np.testing.assert_array_equal(got, expected)


def _table(**changes):
    return json.dumps({"pitch": {"Bass": {**AUTHORS["pitch"]["Bass"], **changes}}})


@pytest.mark.parametrize(
    "text",  # attacks_sources.py has more
    [
        *("", "[]", '{"notes": {}}', '{"pitch": [1, 2]}', '{"pitch": {"Bass": 1}}', '{"velocity": {"Bass": {"values": [1]}}}'),
        '{"log_duration_s": {"Bass": {"values": [0], "probabilities": [1]}}}',
        '{"log_duration_s": {"Bass": {"bin_edges": [0, 1], "probabilities": [0.5, 0.5]}}}',
        '{"log_duration_s": {"Bass": {"bin_edges": [-Infinity, 0], "probabilities": [1]}}}',
        '{"log_duration_s": {"Bass": {"bin_edges": [0, 1, 0.5], "probabilities": [0.5, 0.5]}}}',
        _table(probabilities=[0.5, 0.5]),
        _table(probabilities=[0.5, -0.5, 1]),
        _table(probabilities=[0.5, 0.5, float("inf")]),
        _table(values=[36, 40, float("inf")]),
    ],
)
def test_wrong_file(tmp_path, text):
    """One sentence that names the file."""
    (tmp_path / "x.json").write_text(text, "latin-1")
    with pytest.raises(ValueError, match=r"x\.json is no file of note statistics \(.+\)"):
        NoteStatistics.load(tmp_path / "x.json")
    with pytest.raises(
        FileNotFoundError, match=r"no note statistics at .*y\.json: make them with `python -m cirlib\.data\.note_statistics"
    ):
        NoteStatistics.load(tmp_path / "y.json")


# Drawing


def test_draws_are_within_the_distributions(authors):
    """Different notes; velocity 0 would be a note off; fewer notes where there are no more."""
    notes = authors.draw("Bass", 100, np.random.default_rng(0))
    assert {(p, v) for p, v, _ in notes} == {(p, v) for p in (36, 40, 43) for v in (1, 100)}
    assert len(notes) == 6
    assert all(10**-0.5 <= seconds <= 1 for _, _, seconds in notes)
    assert all((type(p), type(v), type(s)) == (int, int, float) for p, v, s in notes)
    assert len(authors.draw("Bass", 2, np.random.default_rng(0))) == 2


def test_draws_follow_the_distributions(authors):
    """First notes of 2000 generators."""
    first = [authors.draw("Bass", 1, np.random.default_rng(seed))[0] for seed in range(2000)]
    pitch = np.bincount([p for p, _, _ in first], minlength=128) / len(first)
    np.testing.assert_allclose(pitch, authors.pitch("Bass"), atol=0.04)
    log = np.log10([s for _, _, s in first])
    assert np.histogram(log, 5, (-0.5, 0))[0] / len(first) == pytest.approx([0.2] * 5, abs=0.04)


@pytest.mark.parametrize("group", GROUPS)
def test_default_distributions(group):
    """As documented: bell curves that sum to 1, cut at the family's range; velocity 30 to 127; 0.05 to 4 s; bins of 1/20 decade."""
    np.testing.assert_allclose(DURATION_EDGES, [k / 20 - 2 for k in range(61)])
    low, middle, high = FAMILIES[group].pitch if group in FAMILIES else (36, 60, 84)
    pitch, velocity, (edges, duration) = (f(group) for f in (NoteStatistics().pitch, NoteStatistics().velocity, NoteStatistics().duration))
    assert [p.sum() for p in (pitch, velocity, duration)] == pytest.approx([1, 1, 1])
    assert np.flatnonzero(pitch).tolist() == list(range(low, high + 1))
    assert pitch.argmax() == middle
    assert pitch[[low, high]] / pitch[middle] == pytest.approx([np.exp(-(1.5**2) / 2)] * 2)
    assert np.flatnonzero(velocity).tolist() == list(range(30, 128))
    assert velocity.argmax() == 92
    assert velocity[[72, 112]] / velocity[92] == pytest.approx([np.exp(-0.5)] * 2)
    sounding = np.flatnonzero(duration)
    assert 10 ** edges[[sounding[0], sounding[-1] + 1]] == pytest.approx([0.05, 4], rel=0.01)
    assert 10 ** ((edges[:-1] + edges[1:]) @ duration / 2) == pytest.approx(0.4, rel=0.03)
    assert np.sqrt(((edges[:-1] + edges[1:]) / 2 - np.log10(0.4)) ** 2 @ duration) == pytest.approx(0.3, rel=0.05)
    notes = NoteStatistics().draw(group, 20, np.random.default_rng(0))
    assert len(notes) == 20
    assert all(low <= p <= high and 30 <= v <= 127 and 0.05 <= s <= 4 for p, v, s in notes)


# Excerpts of scores


def test_excerpts():
    """Windows with enough notes, from 0; what rings longer is cut at their end."""
    starts = [0.5, 1, 1.5, 3.9, 4.0, 5, 8, 9, 10, 11.5]
    notes = np.array([(start, 1.0, 60 + i, 100) for i, start in enumerate(starts)])
    first, last = excerpts(notes, 4.0)
    np.testing.assert_allclose(first, [(0.5, 1, 60, 100), (1, 1, 61, 100), (1.5, 1, 62, 100), (3.9, 0.1, 63, 100)])
    np.testing.assert_allclose(last, [(0, 1, 66, 100), (1, 1, 67, 100), (2, 1, 68, 100), (3.5, 0.5, 69, 100)])
    assert notes[3, 1] == 1  # the part itself is not changed


# Mixtures


@pytest.mark.parametrize("pitches", [{"Bass": 41, "Synth Lead": 65}, {"Bass": 46, "Synth Lead": 60}])
def test_mixtures_follow_the_statistics(tone_bank, monkeypatch, pitches):
    """All mass on one pitch: in a scale that has it, nothing else sounds; the default plays others too."""
    monkeypatch.setattr(score_module, "SCALES", {"chromatic": tuple(range(12))})
    tables = {group: {"values": [pitch], "probabilities": [1]} for group, pitch in pitches.items()}

    def played(statistics):
        dataset = MixtureDataset(tone_bank, families=tuple(pitches), size=12, seconds=3, statistics=statistics)
        return [{f: frequency(stem) for f, stem in zip(m.families, m.stems, strict=True)} for m in (dataset[i] for i in range(12))]

    expected = {group: hz(pitch) for group, pitch in pitches.items()}
    for frequencies in played(NoteStatistics({"pitch": tables})):
        assert frequencies == pytest.approx(expected, rel=0.02)  # a third of a semitone
    for group in pitches:
        assert len({round(12 * math.log2(frequencies[group])) for frequencies in played(None)}) > 3


# Command line


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "cirlib.data.note_statistics", *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("ci", ["", "true"])
def test_command_line(scores, tmp_path, monkeypatch, ci):
    """Counts a folder, with what was skipped; prints nothing else where the environment is that of a CI machine."""
    monkeypatch.setenv("CI", ci)
    (scores / "bad.mid").write_bytes(b"")
    done = run(scores, tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    first, *groups = done.stdout.splitlines()
    assert first.startswith("2 files, 1 skipped: bad.mid: not readable as MIDI")
    assert groups == ["  Bass: 2 pitches from 36 to 43", "  Synth Lead: 1 pitches from 72 to 72", "  Drum Kit: 2 pitches from 38 to 42"]
    assert NoteStatistics.load(tmp_path / "out.json").tables == statistics_of(scores).tables


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [([], "usage: python -m cirlib.data.note_statistics FOLDER OUT.json"), (["nowhere", "x"], "error: no folder")],
)
def test_command_line_errors(arguments, sentence):
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1
