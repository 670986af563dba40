"""Libraries: exact search, incremental updates, interruptions and several processes, damaged files, the command line."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from conftest import RATE, build_bank, sound, tone
from tones import note, write

from cirlib.audio.io import repeat_sound
from cirlib.common import paths
from cirlib.data.sources.folder import FolderConfig, build
from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.evaluation.open_mixtures import Presence
from cirlib.evaluation.ranking import distances
from cirlib.models import pretrained
from cirlib.models.encoder import AudioEncoder, digest
from cirlib.search import catalog, clips, library, update
from cirlib.search.__main__ import main
from cirlib.search.gallery import Gallery
from cirlib.search.library import Library

SECONDS = 0.5  # clip length of the encoder
SAMPLES = round(SECONDS * RATE)
NAMES = ("bass one.wav", "bass two.flac", "deep/Lead C4.wav", "deep/Lead D4.wav", "deep/Lead E4.wav", "noise.wav")


@pytest.fixture
def folder(tmp_path):
    """Two single files, an instrument of three notes, and noise."""
    for i, name in enumerate(NAMES[:-1]):
        write(tmp_path / "sounds" / name, note(40 + 5 * i))
    write(tmp_path / "sounds" / NAMES[-1], 0.5 * np.random.default_rng(0).uniform(-1, 1, 8000))
    return tmp_path / "sounds"


@pytest.fixture
def built(folder, encoder, tmp_path) -> Library:
    return Library.build(folder, tmp_path / "lib", encoder)


def stored(lib: Library) -> pd.DataFrame:
    """Rows of the table by path."""
    return Library.open(lib.path)._table.read().to_pandas().set_index("path").sort_index()


def counts(changes) -> tuple[int, int, int, int]:
    return changes.new, changes.changed, changes.removed, changes.unchanged


# Search


def test_build_lists_files_with_labels(built, folder):
    rows, content = stored(built), built.describe()
    assert list(rows.index) == sorted(NAMES) and set(rows.origin) == {str(folder)} and set(rows.source) == {"folder"}
    assert content["families"] == {"Synth Lead": 3, "Bass": 2, "no family": 1} and content["instruments"] == 4
    assert (rows.seconds[:5] == 0.3).all() and counts(built.changes) == (6, 0, 0, 0)


@pytest.mark.parametrize("mix", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_file_retrieves_itself(built, folder, encoder, name, mix):
    if mix:  # repeated to fill the clip, which single sounds of a library are not
        write(folder / name, note(60, SECONDS))
        built.add(folder)
    first = built.search(folder / name, mix=mix).iloc[0]
    assert first.path == str(folder / name) and first.distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("metric", library.METRICS)
@pytest.mark.parametrize("family", [None, "Bass", "Synth Lead"])
def test_matches_equal_brute_force(folder, encoder, tmp_path, metric, family):
    """Each instrument once, by its nearest sound."""
    lib = Library.build(folder, tmp_path / metric, encoder, metric=metric)
    rows = stored(lib)
    for query in np.random.default_rng(1).standard_normal((20, 16)):
        ranked = rows.assign(distance=distances(query[None], np.stack(rows.vector), metric)[0]).sort_values("distance")
        expected = ranked[(ranked.family == family) | (family is None)].drop_duplicates("instrument")[:3]
        found = lib.nearest(query, family, k=3)
        assert list(found.instrument) == list(expected.instrument) and list(found.path) == [f"{folder}/{p}" for p in expected.index]
        np.testing.assert_allclose(found.distance, expected.distance, atol=1e-6)


@pytest.mark.parametrize("metric", library.METRICS)
def test_search_is_exact_below_float32_rounding(metric):
    rng = np.random.default_rng(3)
    vectors = (rng.standard_normal(16) + rng.normal(0, 3e-7, (300, 16))).astype(np.float32)
    names = [f"{k:03d}" for k in range(300)]
    rows = {name: ["x"] * 300 for name in ("id", "stamp", "family", "source", "origin")} | {"instrument": names, "path": names}
    rows |= {
        "kind": ["note"] * 300,
        "predicted": [None] * 300,
        "pitch": np.zeros(300),
        "start": np.zeros(300),
        "seconds": np.ones(300),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 16),
    }
    query = rng.standard_normal(16)
    exact = distances(query[None], vectors, metric)[0]
    found = Gallery(pa.table(rows), metric=metric).nearest(query, k=20)
    np.testing.assert_allclose(np.sort(exact)[:20], exact[found.instrument.astype(int)], rtol=0, atol=1e-14)


@pytest.fixture
def with_heads(tone_bank, tmp_path) -> Library:
    torch.manual_seed(0)
    encoder = AudioEncoder.create("cnn", seconds=SECONDS, heads=MIXTURE_FAMILIES[:2]).eval()
    return Library.build(tone_bank.paths[0], tmp_path / "lib", encoder)


@pytest.mark.parametrize("place, mix, head", [(None, False, 0), (None, True, 1), (0, False, 2), (1, True, 3), (2, False, 0), (2, True, 1)])
def test_search_compares_the_head_of_the_family(with_heads, place, mix, head):
    """A family without a head, or none: head `single` or `mix`."""
    rows, query, family = stored(with_heads), note(45, SECONDS), None if place is None else MIXTURE_FAMILIES[place]
    vector, heads = with_heads.embed(query, mix=mix)[2], np.stack(rows.vector).reshape(len(rows), 4, -1)
    expected = pd.Series(distances(vector.reshape(4, -1)[head][None], heads[:, head])[0], rows.instrument)
    expected = expected if family is None else expected[(rows.family == family).to_numpy()]
    found = Library.open(with_heads.path).search(query, family, k=4, mix=mix).set_index("instrument").distance
    np.testing.assert_allclose(found, expected.nsmallest(4), atol=1e-6)
    np.testing.assert_allclose(found, expected[found.index], atol=1e-6)


def test_families_and_presence_with_heads(with_heads):
    query = note(45, SECONDS)
    vector = with_heads.embed(query)[2]
    mix = vector.reshape(4, -1)[1]
    model = Presence([MIXTURE_FAMILIES[0]], 3 * mix[None] / np.linalg.norm(mix), np.zeros(1))
    model.save(with_heads.path / "presence.json", with_heads.info.digest)
    found = with_heads.families(query, k=1).set_index("family")
    for family in MIXTURE_FAMILIES:
        assert found.distance[family] == pytest.approx(with_heads.nearest(vector, family, k=1).distance[0])
    assert found.presence.iloc[0] == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)


def test_bank_is_searched_by_reference_notes(tone_bank, encoder, tmp_path):
    lib, items = Library.build(tone_bank.paths[0], tmp_path / "lib", encoder), tone_bank.gallery()
    assert set(stored(lib).instrument) == set(items.index)
    for name in items.index[::9]:
        found = lib.search(tone_bank.audio(items.reference[name]), k=3, mix=False)
        reference = items.reference[found.instrument[0]]
        audio, rate = lib.preview(found.iloc[0])
        np.testing.assert_array_equal(audio, tone_bank.audio(reference)[: len(audio)])
        assert found.distance[0] < 0.01 and rate == RATE and len(audio) == min(SAMPLES, tone_bank.lengths[reference])


def test_leading_silence_is_skipped(encoder, tmp_path):
    write(tmp_path / "in" / "late.wav", np.concatenate([np.zeros(round(1.25 * RATE)), tone(60)]))
    lib = Library.build(tmp_path / "in", tmp_path / "lib", encoder)
    assert lib.search(tmp_path / "in" / "late.wav", mix=False).distance[0] == pytest.approx(0, abs=1e-6)
    match = lib.search(tone(60), mix=False).iloc[0]
    assert match.start == pytest.approx(1.25, abs=1e-3) and match.distance < 1e-4
    audio, rate = lib.preview(match)
    np.testing.assert_allclose(audio, tone(60), atol=1e-3)
    assert rate == RATE


def test_long_sound_is_embedded_by_its_beginning(encoder, tmp_path):
    """Normalised by the peak of the beginning, not of what follows."""
    quiet, loud = note(60, SECONDS), note(50, 3 * SECONDS)
    write(tmp_path / "in" / "x.wav", np.concatenate([0.05 * quiet, loud]))
    lib = Library.build(tmp_path / "in", tmp_path / "lib", encoder)
    assert lib.search(quiet).distance[0] < 1e-4 < lib.search(loud).distance[0] and lib.search(quiet).seconds[0] == SECONDS


def test_long_query_is_searched_as_a_whole_and_by_section(built, encoder):
    parts = {0: note(40, SECONDS), 1: note(45, SECONDS), 1.5: note(50, SECONDS / 2)}
    query = np.concatenate([parts[0], np.zeros(SAMPLES), parts[1], parts[1.5]])
    found = built.search(query, k=4, mix=False, sections=True)
    assert list(built.embed(note(40, SECONDS + 0.01))[0]) == [0], "a remainder too short for a sound is no clip"
    vectors = encoder.embed([clips.normalise(part) for part in parts.values()])
    keys = [tuple(built.nearest(vector, k=3).path) for vector in vectors]
    first = [i for i in range(3) if not i or keys[i] != keys[i - 1]]  # neighbours with the same matches are one section
    assert len(first) > 1
    spans = [(0, 3), *zip(first, [*first[1:], 3], strict=True)]
    starts, ends = [0, 1, 1.5], [0.5, 1.5, 1.75]  # the silent clip is skipped
    assert found.groupby("section").size().to_list() == [4, *[3] * len(first)], "fewer matches of a section"
    for (section, part), (a, b) in zip(found.groupby("section"), spans, strict=True):
        together = encoder.embed([clips.normalise(np.concatenate(list(map(clips.normalise, parts.values()))))])[0]
        pooled = np.average(vectors[a:b], axis=0, weights=[2, 2, 1][a:b]) if section else together
        np.testing.assert_allclose(part.distance[:3], built.nearest(pooled, k=3, mix=False).distance, atol=1e-4)
        assert set(part.begin) == {starts[a]} and set(part.end) == {ends[b - 1]}, section
    pd.testing.assert_frame_equal(built.search(query, k=4, mix=False), found[:4].drop(columns=["section", "begin", "end"]))


def test_short_mix_is_repeated(built, encoder):
    whole, short, silence = note(40, SECONDS), note(50, SECONDS / 3), np.zeros(1000, np.float32)
    np.testing.assert_array_equal(repeat_sound(short, SAMPLES), np.concatenate([short, short, short])[:SAMPLES])
    late = np.concatenate([silence, short])  # silence before the sound is repeated too, silence after it is not
    np.testing.assert_array_equal(repeat_sound(np.concatenate([late, silence]), SAMPLES), np.resize(late, SAMPLES))
    np.testing.assert_array_equal(repeat_sound(whole, SAMPLES), whole)
    np.testing.assert_array_equal(repeat_sound(silence, SAMPLES), np.zeros(SAMPLES))
    alone = clips.normalise(short)
    for mix, vector in enumerate(encoder.embed([alone, repeat_sound(alone, SAMPLES)])):
        _, vectors, pooled = built.embed(np.concatenate([whole, short]), mix=bool(mix))
        np.testing.assert_allclose(vectors[1], vector, atol=1e-5)
        np.testing.assert_allclose(pooled, encoder.embed([np.concatenate([clips.normalise(whole), alone])])[0], atol=1e-4)
        assert built.search(short, mix=bool(mix)).distance[0] == pytest.approx(built.nearest(vector).distance[0], abs=1e-4)


def test_families_are_ordered_by_presence_or_distance(built, folder, encoder, tmp_path):
    query = folder / NAMES[2]
    plain = built.families(query, k=1)
    first, second = plain.family
    assert {first, second} == {"Synth Lead", "Bass"} and plain.presence.isna().all() and plain.distance.is_monotonic_increasing
    checkpoint, vector = encoder.save(tmp_path / "best.pt"), built.embed(query)[2].astype(float)
    model = Presence([second, first], 9 * np.stack([vector, -vector]) / np.linalg.norm(vector), np.zeros(2))
    model.save(tmp_path / "presence.json", digest(encoder))
    found = Library.build(folder, tmp_path / "other", str(checkpoint)).families(query, k=1)
    assert found.family.to_list() == [second, first] and found.distance.to_list() == plain.distance.to_list()[::-1]
    np.testing.assert_allclose(found.presence, 1 / (1 + np.exp([-9, 9])), atol=1e-6)
    write(tmp_path / "plain" / "x.wav", tone(60))
    with pytest.raises(ValueError, match="no sound of this library has a family"):
        Library.build(tmp_path / "plain", tmp_path / "no families", encoder).families(query)


# Unusual queries


def query_file(folder: Path, kind: str) -> Path:
    """Return a file of this kind: `bass one` in another format, or no sound."""
    path, audio = folder / f"{kind}.wav", note(40)
    if kind in ("text", "empty"):
        path.write_text("no sound\n" * (kind == "text"))
    elif kind != "missing":
        changed = {
            "stereo": np.stack([audio, audio], axis=1), "0.05 s": audio[:800], "silence": np.zeros(4800),
            "20 minutes": np.tile(audio, 4000),
            "clipped": np.clip(9 * audio, -1, 1), "offset": audio * 0.5 + 0.4, "constant": audio * 0 + 0.5,
            "96 kHz": np.interp(np.arange(28800) / 6, np.arange(4800), audio),
        }  # fmt: skip
        path = folder / "query.mp3" if kind == "mp3" else path
        options = {"96 kHz": {"rate": 96000}, "mp3": {}}.get(kind, {"subtype": "PCM_U8" if kind == "8-bit" else "PCM_16"})
        write(path, changed.get(kind, audio), **options)
    return path


@pytest.mark.parametrize("kind", ["stereo", "96 kHz", "8-bit", "0.05 s", "20 minutes", "clipped", "offset", "mp3"])
def test_query_in_any_format(built, tmp_path, kind):
    found = built.search(query_file(tmp_path, kind), mix=False)
    assert len(found) == 4 and np.isfinite(found.distance).all()
    assert found.instrument[0].endswith("bass one.wav") or kind in ("0.05 s", "20 minutes", "clipped")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("silence", "cannot be searched: silent"),
        ("constant", "cannot be searched: silent except for a constant offset"),
        ("text", "cannot be searched: not readable as sound"),
        ("empty", "cannot be searched: an empty file"),
        ("missing", "no file .*missing.wav: name the sound to search with"),
    ],
)
def test_unusable_query_file_is_refused(built, tmp_path, kind, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        built.search(query_file(tmp_path, kind))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("audio", "words"),
    [(np.zeros((100, 2)), r"one channel, got shape \(100, 2\)"), (np.full(1000, np.nan), "not finite"), (np.ones(10), "shorter than")],
)
def test_unusable_waveform_is_refused(built, audio, words):
    with pytest.raises(ValueError, match=f"^the query cannot be searched: .*{words}"):
        built.search(audio)


def test_wrong_options_are_refused(built):
    query = tone(60)
    for options, words in (
        ({"family": "Bas"}, r"unknown family 'Bas' \(did you mean 'Bass'\?\)"),
        ({"family": "Piano"}, r"no sound of family 'Piano'; its families: Bass \(2\), Synth Lead \(1\)"),
        ({"k": 0}, "k must be 1 or more, got 0"),
        ({"sample_rate": 0}, "a sample rate must be a whole number of Hz from 1000 to 768000, got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            built.search(query, **options)
    with pytest.raises(ValueError, match=r"shape \(16,\), got \(17,\)"):
        built.nearest(np.zeros(17))
    assert len(built.search(query, k=99)) == 4


# Updates


def test_update_embeds_only_new_and_changed_sounds(built, folder, monkeypatch):
    embedded = []

    def embed(self, sounds, **_):
        embedded.append(len(sounds))
        return np.ones((len(sounds), 16), np.float32)

    monkeypatch.setattr(AudioEncoder, "embed", embed)
    before, size = stored(built).vector, (folder / NAMES[0]).stat().st_size
    assert counts(built.add(folder)) == (0, 0, 0, 6) and not embedded
    write(folder / "new.wav", tone(70))
    write(folder / NAMES[0], note(71))
    assert (folder / NAMES[0]).stat().st_size == size, "a change of the content alone"
    (folder / NAMES[1]).unlink()
    assert counts(built.add(folder)) == (1, 1, 1, 4) and sum(embedded) == 2
    after = stored(built).vector
    assert set(after.index) == {*NAMES, "new.wav"} - {NAMES[1]} and (after["new.wav"] == 1).all() and (after[NAMES[0]] == 1).all()
    assert all((after[name] == before[name]).all() for name in NAMES[2:])


def test_labels_change_with_neighbouring_names(built, folder):
    """A second instrument in a folder: each is then named by what its files share."""
    assert set(stored(built).instrument[2:5]) == {"folder/sounds/deep"}
    write(folder / "deep" / "Flute C4.wav", tone(60))
    assert counts(built.add(folder)) == (1, 3, 0, 3)
    rows = stored(built)
    assert rows.instrument["deep/Lead C4.wav"] == "folder/sounds/deep/Lead" and rows.family["deep/Flute C4.wav"] == "Pipe"
    assert len(rows) == 7


def test_unusable_files_are_skipped_and_removed(built, folder):
    (folder / "text.wav").write_text("no sound")
    (folder / NAMES[0]).write_bytes(b"")
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "again").symlink_to(folder)
    write(folder / "constant.wav", np.full(4000, 0.5))
    open(os.fsencode(folder) + b"/caf\xe9.wav", "wb").close()
    changes = built.add(folder)
    assert counts(changes) == (0, 0, 1, 5) and NAMES[0] not in stored(built).index
    assert changes.skipped == {
        "text.wav": "not readable as sound (Format not recognised)", NAMES[0]: "an empty file",
        "gone.wav": "a link to a missing file", "again": "a link to a folder, not followed unless the option links is set",
        "constant.wav": "silent except for a constant offset", "caf?.wav": "its name is not UTF-8",
    }  # fmt: skip


def test_origins_are_independent(built, folder, tmp_path):
    other = tmp_path / "other" / "sounds"  # same name, same files
    for name in NAMES[2:5]:
        write(other / name, tone(50))
    assert len(built.search(tone(50), "Synth Lead", k=9)) == 1
    assert counts(built.add(other)) == (3, 0, 0, 0)
    assert sorted(built.describe()["origins"].values()) == [3, 6] and built.describe()["instruments"] == 5
    found = built.search(tone(50), "Synth Lead", k=9, mix=False)
    assert found.path.str.startswith(str(other)).to_list() == [True, False], "two instruments of the same name"
    for name in NAMES[2:5]:
        (other / name).unlink()
    with pytest.raises(FileNotFoundError, match="no sound file"):
        built.add(other)
    with pytest.raises(FileNotFoundError, match=r"no folder of sounds and no note bank at .*gone"):
        built.add(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="the path is empty"):  # not the working directory
        built.add("")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is no folder: choose another path for the library"):
        Library.build(folder, tmp_path / "file")
    assert len(stored(built)) == 9


def test_rebuilt_bank_updates_changed_instruments(encoder, tmp_path):
    def bank(*pitches):
        build_bank(tmp_path / "bank", [sound(f"u{i}", tone(p), pitch=float(p)) for i, p in enumerate(pitches)])

    bank(40, 41, 42)
    lib = Library.build(tmp_path / "bank", tmp_path / "lib", encoder)
    (tmp_path / "bank").rename(tmp_path / "old")
    bank(40, 50, 42, 43)
    assert counts(lib.add(tmp_path / "bank")) == (1, 1, 0, 2)


@pytest.mark.parametrize("name", ['it\'s a "kick"; DROP--.wav', "täglich 音.wav", "a%20b #1.wav", "new\nline.wav"])
def test_unusual_file_names(encoder, tmp_path, name, monkeypatch):
    monkeypatch.setattr("cirlib.search.table.MAX_IDS", 1)  # deletes in several conditions
    for other in ("plain.wav", "gone.wav", name):
        write(tmp_path / "in" / other, tone(70 - len(other)))
    lib = Library.build(tmp_path / "in", tmp_path / "lib", encoder)
    assert lib.search(tmp_path / "in" / name, mix=False).path[0] == str(tmp_path / "in" / name)
    for other in ("gone.wav", name):
        (tmp_path / "in" / other).unlink()
    assert counts(lib.add(tmp_path / "in")) == (0, 0, 2, 1)


def test_bank_with_an_instrument_without_family(encoder, tmp_path):
    build_bank(tmp_path / "bank", [sound("a", tone(40)), sound("b", tone(60), family=None)])
    lib = Library.build(tmp_path / "bank", tmp_path / "lib", encoder)
    assert lib.describe()["families"] == {"Bass": 1, "no family": 1} and lib.search(tone(60), k=1, mix=False).instrument[0] == "b"


def test_folder_with_a_foreign_bank_json(built, folder):
    (folder / "bank.json").write_text("{}")
    assert counts(built.add(folder)) == (0, 0, 0, 6)


def test_library_without_usable_sounds_is_empty(encoder, tmp_path):
    write(tmp_path / "in" / "silent.wav", np.zeros(4000))
    with pytest.raises(ValueError, match="this library holds no sounds: add a folder or a bank"):
        Library.build(tmp_path / "in", tmp_path / "lib", encoder).search(tone(60))


def test_origins_can_be_removed_but_not_nested(built, folder, tmp_path):
    write(tmp_path / "other" / "x.wav", tone(50))
    built.add(tmp_path / "other")
    for nested in (folder / "deep", tmp_path):
        with pytest.raises(ValueError, match=r"lie one inside the other: .*; remove .* from the library first, or add .* again"):
            built.add(nested)
    with pytest.raises(ValueError, match=r"has no sounds of .*deep, only of: "):
        built.remove(folder / "deep")
    match = built.search(folder / NAMES[0], k=1, mix=False).iloc[0]
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=r"bass one.wav is no longer at .*: add its folder or bank again, or remove it"):
        built.preview(match)
    assert counts(built.remove(folder)) == (0, 0, 6, 0) and list(stored(built).index) == ["x.wav"]
    assert counts(built.add(tmp_path / "moved")) == (6, 0, 0, 0)


# Several processes, interruptions


def test_interrupted_build_resumes(folder, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(update, "BLOCK", 2)
    read, calls = catalog.read_long, []

    def stopping(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return read(*arguments, **options)

    monkeypatch.setattr(catalog, "read_long", stopping)
    with pytest.raises(KeyboardInterrupt):
        Library.build(folder, tmp_path / "lib", encoder)
    assert len(stored(Library.open(tmp_path / "lib"))) == 4
    lib = Library.build(folder, tmp_path / "lib", encoder)
    assert counts(lib.changes) == (2, 0, 0, 4) and len(calls) == 7
    np.testing.assert_array_equal(np.stack(stored(lib).vector), np.stack(stored(Library.build(folder, tmp_path / "whole", encoder)).vector))


WRITER = """
import sys
from cirlib.search import catalog, update
from cirlib.search.library import Library
update.BLOCK = 2
read, calls = catalog.read_long, []
def slow(*arguments, **options):
    calls.append(arguments)
    if len(calls) == int(sys.argv[3]):
        print("writing", flush=True)
        sys.stdin.readline()
    return read(*arguments, **options)
catalog.read_long = slow
print(Library.open(sys.argv[1]).add(sys.argv[2]).new)
"""


def writer(lib: Library, folder: Path, pause: int) -> subprocess.Popen:
    """Start a process that adds a folder and, at its sound number `pause`, waits for a line of input."""
    command = [sys.executable, "-c", WRITER, str(lib.path), str(folder), str(pause)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_writers_take_turns_and_killed_ones_lose_nothing(built, tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    for i, other in enumerate(folders):
        for k in range(5):
            write(other / f"sound {k} x.wav", tone(50 + 7 * i + k))
    with writer(built, folders[0], 4) as killed:
        assert killed.stdout.readline() == "writing\n"
        assert len(built.search(tone(60), k=99)) == 6, "readers see the first block meanwhile"
        killed.kill()
    with writer(built, folders[0], 2) as first:
        assert first.stdout.readline() == "writing\n"
        with writer(built, folders[1], 9) as second:
            assert second.stdout.readline().endswith("is being written by another process: waiting for it\n")
            assert first.communicate("go\n")[0] == "3\n" and second.communicate()[0] == "5\n"
    rows = stored(built)
    assert len(rows) == 16 and rows.id.is_unique
    assert counts(built.add(folders[0])) == counts(built.add(folders[1])) == (0, 0, 0, 5)


# Encoders, versions, damage


def test_another_encoder_or_metric_is_refused(built, folder, encoder, tmp_path):
    other = AudioEncoder.create("cnn", seconds=SECONDS, width=4, dim=16).eval()
    for wrong, metric, words in (
        (other, "", r"lib was built with an encoder \(cosine\), which is not the same as an encoder \(cosine\) now: their vectors"),
        (encoder, "l2", r"\(cosine\), which is not the same as an encoder \(l2\) now"),
        (None, "l2", r"\(cosine\), which is not the same as an encoder \(l2\) now"),
        (encoder, "L2", "unknown metric 'L2'"),
        ("cnn", "", "cnn has random weights: name a trained encoder"),
    ):
        with pytest.raises(ValueError, match=words):
            Library.build(folder, built.path, wrong, metric=metric)
    assert counts(Library.build(folder, built.path).changes) == (0, 0, 0, 6), "the encoder of the library by default"
    other.save(built.path / "encoder.pt")
    for _ in ("another encoder", "no encoder"):
        with pytest.raises(ValueError, match=r"encoder\.pt is missing or not the encoder of this library: delete .*lib and build it again"):
            Library.open(built.path).search(tone(60))
        (built.path / "encoder.pt").unlink(missing_ok=True)


def test_damaged_library_is_refused(built, tmp_path):
    content = json.loads((built.path / "library.json").read_text())
    for text, words in (
        ("{", "cannot be read"), ("[]", "cannot be read"), ("{}", "cannot be read"),
        ('{"format": 99}', "it has format 99, this version reads 3"),
        (json.dumps({**content, "metric": "dot"}), "unknown metric"), (json.dumps({**content, "heads": [1]}), "heads must be str"),
    ):  # fmt: skip
        (built.path / "library.json").write_text(text)
        with pytest.raises(ValueError, match=f"{words}.*: delete it and build it again"):
            Library.open(built.path)
    with pytest.raises(FileNotFoundError, match=r"no library at .*/none: build one first; libraries in lib: none"):
        Library.open(tmp_path / "none")


def test_damaged_table_is_refused(built):
    for file in (built.path / "sounds.lance" / "data").iterdir():
        file.write_bytes(b"no data")
    with pytest.raises(OSError, match=r"^the table of library .*lib cannot be read or written \("):
        Library.open(built.path).search(tone(60))


# The command line


def test_commands(folder, encoder, tmp_path, capsys):
    checkpoint, lib, query = str(encoder.save(tmp_path / "best.pt")), str(tmp_path / "lib"), str(folder / NAMES[0])
    (folder / "text.wav").write_text("no sound")

    def output(*arguments) -> str:
        main(list(arguments))
        return capsys.readouterr().out

    def result(*arguments):
        return json.loads(output(*arguments, "--json"))

    changes = {"new": 6, "changed": 0, "removed": 0, "unchanged": 0, "noted": {}}
    assert result("build", lib, str(folder), "--encoder", checkpoint) | {"skipped": 1} == {**changes, "skipped": 1}
    assert result("build", lib, str(folder))["unchanged"] == result("add", lib, str(folder))["unchanged"] == 6
    content = result("info", lib)
    assert (content["sounds"], content["encoder"], content["origins"]) == (6, checkpoint, {str(folder): 6})
    matches = result("search", lib, query, "--family", "Bass", "-k", "1", "--no-mix")["matches"]
    assert [(m["path"], m["family"]) for m in matches] == [(query, "Bass")]
    assert [m["family"] for m in result("search", lib, str(folder / NAMES[-1]), "-k", "1", "--no-mix")["matches"]] == [None]
    assert "bass one.wav" in output("search", lib, query)
    assert [m["presence"] for m in result("search", lib, query, "--families")["matches"]] == [None] * 3
    assert output("search", lib, query, "--families").startswith("no probabilities: run notebooks/09_open_mixtures.ipynb for this encoder")
    assert "families: Synth Lead (3), Bass (2), no family (1)" in output("info", lib)
    assert "0 new, 0 changed, 0 removed, 6 unchanged, 1 skipped:\n  text.wav: not readable" in output("add", lib, str(folder))
    assert result("remove", lib, str(folder))["removed"] == 6


def test_links_are_followed_if_wanted(folder, encoder, tmp_path, capsys):
    """As in a bank of the folder; links that lead back, around or to themselves end, and a linked folder can be excluded."""
    root = tmp_path / "mine"
    write(root / "own.wav", note(45, SECONDS))
    for name, target in {"linked": folder, "back": tmp_path, "own": root, "twice": folder, "self": "self", "x.wav": "x.wav"}.items():
        (root / name).symlink_to(target)
    (tmp_path / "around").symlink_to(root)
    library = Library.build(root, tmp_path / "lib", encoder)
    assert (library.changes.new, library.changes.skipped["linked"]) == (
        1,
        "a link to a folder, not followed unless the option links is set",
    )
    main(["build", str(library.path), str(root), "--links", "--json"])
    changes = json.loads(capsys.readouterr().out)
    bank = build(tmp_path / "bank", FolderConfig(str(root), links=True, estimate=False), n_jobs=1)
    assert changes["new"] == len(bank) - 1 == len(NAMES) and changes["skipped"] == bank.infos[0]["skipped"]
    assert set(library.search(note(45, SECONDS), exclude=str(root / "linked")).path) == {str(root / "own.wav")}
    assert library.add(root, links=True).unchanged == len(bank) and library.add(root).removed == len(NAMES)


@pytest.mark.parametrize("options", [[], ["--no-mix"], ["--kind", "note"]])
def test_search_command_equals_the_function(with_heads, tmp_path, capsys, options):
    write(tmp_path / "query.wav", note(45, 1.2 * SECONDS))
    main(["search", str(with_heads.path), str(tmp_path / "query.wav"), "--json", *options])
    printed = [match["distance"] for match in json.loads(capsys.readouterr().out)["matches"]]
    expected = with_heads.search(tmp_path / "query.wav", mix="--no-mix" not in options, kind="note" if "--kind" in options else None)
    np.testing.assert_allclose(printed, expected.distance)


def test_build_needs_no_encoder(folder, encoder, tmp_path, monkeypatch, capsys):
    """The one that comes with cirlib is the default, with its metric; --encoder takes another one."""
    encoder = copy.deepcopy(encoder)
    encoder.config.metric = "l2"
    monkeypatch.setattr(pretrained, "PLACE", encoder.save_folder(tmp_path / "small"))
    lib = str(tmp_path / "lib")
    main(["build", lib, str(folder)])
    main(["search", lib, str(folder / NAMES[0]), "--no-mix", "-k", "1"])
    assert NAMES[0] in capsys.readouterr().out
    library = Library.open(lib)
    assert (library.info.encoder, library.metric) == ("cirlib-small", "l2")
    presence = Presence(["Bass"], np.ones((1, encoder.dim)), np.zeros(1))
    presence.save(tmp_path / "small" / "presence.json", library.info.digest)
    assert library.families(folder / NAMES[0], k=1).set_index("family").presence["Bass"] > 0
    with pytest.raises(SystemExit, match=r"was built with cirlib-small \(l2\)"):
        main(["build", lib, str(folder), "--encoder", str(encoder.save(tmp_path / "other.pt"))])


def test_encoder_path_is_relative_to_working_folder_or_home(folder, encoder, tmp_path, monkeypatch):
    for place, name in (("elsewhere", "one.pt"), ("home/runs/p/row/seed0", "best.pt")):
        (tmp_path / place).mkdir(parents=True)
        encoder.save(tmp_path / place / name)
    monkeypatch.setattr(paths, "HOME", tmp_path / "home")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for k, name in enumerate(("one.pt", "runs/p/row/seed0/best.pt", "../home/runs/p/row/seed0/best.pt")):
        main(["build", str(tmp_path / f"lib{k}"), str(folder), "--encoder", name])
    names = [Library.open(tmp_path / f"lib{k}").info.encoder for k in range(3)]
    assert names == [str(tmp_path / "elsewhere" / "one.pt"), *["runs/p/row/seed0/best.pt"] * 2]


@pytest.mark.parametrize(("command", "words"), [("build", "stopped; sounds embedded so far are stored"), ("search", "stopped\n")])
def test_interrupted_command_says_what_is_stored(built, folder, monkeypatch, capsys, command, words):
    monkeypatch.setattr(Library, "open", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit) as end:
        main([command, str(built.path), str(folder / NAMES[0]) if command == "search" else str(folder)])
    assert end.value.code == 130 and capsys.readouterr().err.startswith(words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "none", "FOLDER"], "error: this copy of cirlib comes without the weights of cirlib-small .* name another encoder"),
        (["build", "none", "FOLDER", "--encoder", "nothing.pt"], "error: no checkpoint .*nothing.pt"),
        (["add", "none", "FOLDER"], "error: no library at lib/none: build one first"),
        (["search", "none", "x.wav"], "error: no library at lib/none"),
        (["search", "none", "x.wav", "--families", "--no-mix"], "error: --families .* omit --family and --no-mix"),
    ],
)
def test_wrong_command_prints_one_sentence(folder, arguments, words, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "PLACE", tmp_path / "none")
    with pytest.raises(SystemExit, match=words) as caught:
        main([str(folder) if a == "FOLDER" else a for a in arguments])
    assert "\n" not in str(caught.value)
