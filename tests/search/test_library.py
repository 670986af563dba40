"""Libraries: what is found is what is nearest; updates embed only what changed; nothing is lost, whoever stops or writes."""

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
from tones import write

from cirlib.audio.io import repeat_sound
from cirlib.common import paths
from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.evaluation.open_mixtures import Presence
from cirlib.evaluation.ranking import distances
from cirlib.models.encoder import AudioEncoder, digest
from cirlib.search import library, main
from cirlib.search.catalog import heard
from cirlib.search.gallery import Gallery
from cirlib.search.library import Library

SECONDS = 0.5  # clip length of the encoder
NAMES = ("bass one.wav", "bass two.flac", "deep/Lead C4.wav", "deep/Lead D4.wav", "deep/Lead E4.wav", "noise.wav")
FAMILIES = {"bass one": "Bass", "bass two": "Bass", "deep": "Synth Lead", "noise": None}


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    """A small one with fixed weights."""
    torch.manual_seed(0)
    return AudioEncoder.create("cnn", SECONDS, width=4, dim=16).eval()


def note(pitch: float, seconds: float = 0.3) -> np.ndarray:
    """A tone that is not silent between its partials, as no sound is: an untrained encoder hears the least noise in digital silence."""
    return tone(pitch, seconds, 0.5) + np.random.default_rng(1).normal(0, 0.02, round(seconds * RATE))


@pytest.fixture
def folder(tmp_path):
    """Two lone files, one instrument of three notes, and noise."""
    root = tmp_path / "sounds"
    for i, name in enumerate(NAMES[:-1]):
        write(root / name, note(40 + 5 * i))
    write(root / NAMES[-1], 0.5 * np.random.default_rng(0).uniform(-1, 1, 8000))
    return root


@pytest.fixture
def built(folder, encoder, tmp_path) -> Library:
    return Library.build(folder, encoder, tmp_path / "lib")


def stored(lib: Library):
    """Rows of the table by path."""
    return Library.open(lib.path)._table.whole().to_pandas().set_index("path").sort_index()


def counts(changes) -> tuple[int, int, int, int]:
    return changes.new, changes.changed, changes.removed, changes.unchanged


# Search


def test_every_file_is_listed_with_what_its_name_tells(built, folder):
    rows = stored(built)
    assert list(rows.index) == sorted(NAMES) and set(rows.origin) == {str(folder)} and set(rows.source) == {"folder"}
    assert built.describe()["families"] == {"Synth Lead": 3, "Bass": 2, "none told": 1}
    assert built.describe()["instruments"] == 4 and (rows.seconds[:5] == 0.3).all()
    assert counts(built.changes) == (6, 0, 0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_finds_itself_first(built, folder, name):
    first = built.search(folder / name).iloc[0]
    assert first.path == str(folder / name) and first.distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("metric", library.METRICS)
@pytest.mark.parametrize("family", [None, "Bass", "Synth Lead"])
def test_what_is_found_is_what_brute_force_finds(folder, encoder, tmp_path, metric, family):
    """Each instrument once, by its nearest sound."""
    lib = Library.build(folder, encoder, tmp_path / metric, metric=metric)
    rows = stored(lib)
    rows["distance"] = 0.0
    for query in np.random.default_rng(1).standard_normal((20, 16)):
        rows["distance"] = distances(query[None], np.stack(rows.vector), metric)[0]
        inside = rows if family is None else rows[rows.family == family]
        expected = inside.sort_values("distance").drop_duplicates("uid")
        found = lib.nearest(query, family, 3)
        assert list(found.uid) == list(expected.uid[:3])
        assert [p.removeprefix(rows.origin.iloc[0] + "/") for p in found.path] == list(expected.index[:3])
        np.testing.assert_allclose(found.distance, expected.distance[:3], atol=1e-6)


@pytest.mark.parametrize("metric", library.METRICS)
def test_the_nearest_of_sounds_that_hardly_differ(metric):
    """Differences under the rounding of single precision: found as in double precision."""
    rng = np.random.default_rng(3)
    vectors = (rng.standard_normal(16) + rng.normal(0, 3e-7, (300, 16))).astype(np.float32)
    names = [f"{k:03d}" for k in range(300)]
    rows = {name: ["x"] * 300 for name in ("id", "stamp", "family", "source", "origin")} | {"uid": names, "path": names}
    rows |= {"start": np.zeros(300), "seconds": np.ones(300), "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 16)}
    gallery, query = Gallery(pa.table(rows), metric, 0), rng.standard_normal(16)
    exact = distances(query[None], vectors, metric)[0]
    found = gallery.nearest(query, k=20)
    np.testing.assert_allclose(np.sort(exact)[:20], exact[found.uid.astype(int)], rtol=0, atol=1e-14)


def test_of_an_embedding_in_parts_that_of_the_family_is_compared(tone_bank, tmp_path, capsys):
    """Asked for a family that has a part: by that part; for another family, or for any: by that for single sounds, or for mixes."""
    torch.manual_seed(0)
    encoder, families = AudioEncoder.create("cnn", SECONDS, parts=MIXTURE_FAMILIES[:2]).eval(), MIXTURE_FAMILIES
    lib = Library.build(tone_bank.paths[0], encoder, tmp_path / "lib")
    rows, query = stored(lib), note(45, SECONDS)
    vector, parts = lib.embed(query, mix=True)[2], np.stack(rows.vector).reshape(len(rows), 4, -1)
    assert np.array_equal(vector, lib.embed(query)[2])  # it fills the clip
    asked = [
        (None, False, 0),
        (None, True, 1),
        (families[0], False, 2),
        (families[1], True, 3),
        (families[2], False, 0),
        (families[2], True, 1),
    ]
    for family, mix, place in asked:
        expected = pd.Series(distances(vector.reshape(4, -1)[place][None], parts[:, place])[0], rows.uid)
        expected = expected if family is None else expected[(rows.family == family).to_numpy()]
        found = Library.open(tmp_path / "lib").search(query, family, k=4, mix=mix).set_index("uid").distance
        np.testing.assert_allclose(found, expected.nsmallest(4), atol=1e-6)
        np.testing.assert_allclose(found, expected[found.index], atol=1e-6)
    by_family = lib.families(query).set_index("family").distance
    for family in families:
        assert by_family[family] == pytest.approx(lib.nearest(vector, family, 1, mix=True).distance[0])
    mix = vector.reshape(4, -1)[1]
    Presence([families[0]], 3 * mix[None] / np.linalg.norm(mix), np.zeros(1)).save(tmp_path / "lib" / "presence.json", lib.info["digest"])
    assert lib.families(query).presence[0] == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)
    write(tmp_path / "query.wav", query)
    asked = ["search", str(tmp_path / "lib"), str(tmp_path / "query.wav"), "--json"]
    distances_of = {}
    for mix in (False, True):
        for windows in (False, True):
            main([*asked, *["--mix"] * mix, *["--windows"] * windows])
            got = [found["distance"] for found in json.loads(capsys.readouterr().out)["found"]]
            np.testing.assert_allclose(got, lib.search(tmp_path / "query.wav", windows=windows, mix=mix).distance)
            distances_of[mix, windows] = got
    for windows in (False, True):
        assert not np.allclose(distances_of[False, windows], distances_of[True, windows])


def test_a_bank_gives_its_gallery(tone_bank, encoder, tmp_path):
    lib = Library.build(tone_bank.paths[0], encoder, tmp_path / "lib")
    items = tone_bank.gallery()
    assert set(stored(lib).uid) == set(items.index)
    for uid in items.index[::9]:
        found = lib.search(tone_bank.audio(items.reference[uid]), k=3)
        assert found.distance[0] < 1e-4 and tone_bank.sample_rate == RATE
        audio, rate = lib.preview(found.iloc[0])
        np.testing.assert_array_equal(audio, tone_bank.audio(items.reference[found.uid[0]])[: len(audio)])
        assert rate == RATE and len(audio) == min(round(SECONDS * RATE), tone_bank.lengths[items.reference[found.uid[0]]])


def test_silence_before_a_sound_is_skipped_and_its_preview_begins_with_the_sound(encoder, tmp_path):
    late, plain = np.concatenate([np.zeros(round(1.25 * RATE)), tone(60)]), tone(60)
    write(tmp_path / "in" / "late.wav", late)
    lib = Library.build(tmp_path / "in", encoder, tmp_path / "lib")
    assert lib.search(tmp_path / "in" / "late.wav").distance[0] == pytest.approx(0, abs=1e-6)
    (item,) = (row for _, row in lib.search(plain).iterrows())
    assert item.start == pytest.approx(1.25, abs=1e-3) and item.distance < 1e-4
    audio, rate = lib.preview(item)
    np.testing.assert_allclose(audio, tone(60)[: len(audio)], atol=1e-3)
    assert (rate, len(audio)) == (RATE, len(plain))


def test_a_long_sound_is_heard_by_its_beginning(encoder, tmp_path):
    """At the level of what is heard of it, not of what follows."""
    quiet, loud = note(60, SECONDS), note(50, 3 * SECONDS)
    write(tmp_path / "in" / "x.wav", np.concatenate([0.05 * quiet, loud]))
    lib = Library.build(tmp_path / "in", encoder, tmp_path / "lib")
    assert lib.search(quiet).distance[0] < 1e-4 < lib.search(loud).distance[0] and lib.search(quiet).seconds[0] == SECONDS


def test_long_queries_are_pooled_by_duration_or_searched_window_by_window(built, folder, encoder):
    parts = [note(40, SECONDS), np.zeros(round(SECONDS * RATE)), note(45, SECONDS), note(50, SECONDS / 2)]
    query = np.concatenate(parts)
    one_by_one = built.search(query, k=2, windows=True)
    assert list(one_by_one.window) == [0, 0, 1, 1, 1.5, 1.5], "the silent window is left out"
    assert list(built.embed(note(40, SECONDS + 0.01))[0]) == [0], "a rest too short to be a sound is no window"
    for start, part in zip((0, 1, 1.5), (parts[0], parts[2], parts[3]), strict=True):
        assert one_by_one[one_by_one.window == start].uid.to_list() == built.search(part, k=2).uid.to_list()
    pooled = encoder.embed([heard(part) for part in (parts[0], parts[2], parts[3])])
    expected = built.nearest(np.average(pooled, axis=0, weights=[2, 2, 1]))
    np.testing.assert_allclose(built.search(query).distance, expected.distance, atol=1e-4)


def test_a_mix_that_is_shorter_than_the_clip_is_repeated(built, encoder):
    samples, whole, short = round(SECONDS * RATE), note(40, SECONDS), note(50, SECONDS / 3)
    np.testing.assert_array_equal(repeat_sound(short, samples), np.concatenate([short, short, short])[:samples])
    silence = np.zeros(1000, np.float32)
    played = np.concatenate([silence, short])  # a rest before it stays, one after it goes
    np.testing.assert_array_equal(repeat_sound(np.concatenate([played, silence]), samples), np.resize(played, samples))
    np.testing.assert_array_equal(repeat_sound(whole, samples), whole)
    assert not repeat_sound(silence, samples).any() and len(repeat_sound(silence, samples)) == samples
    alone = encoder.embed([heard(short)]), encoder.embed([repeat_sound(heard(short), samples)])
    for mix in (False, True):
        _, vectors, pooled = built.embed(np.concatenate([whole, short]), mix=mix)
        np.testing.assert_allclose(vectors[1], alone[mix][0], atol=1e-5)
        np.testing.assert_allclose(pooled, np.average(vectors, axis=0, weights=[3, 1]), atol=1e-4)  # by what is there of each
        assert built.search(short, mix=mix).distance[0] == pytest.approx(built.nearest(alone[mix][0]).distance[0], abs=1e-4)


def test_families_tell_the_nearest_of_each_and_how_sure_it_is_that_it_plays(built, folder, encoder, tmp_path):
    query = folder / NAMES[2]
    plain = built.families(query)
    first, second = plain.family
    assert {first, second} == {"Synth Lead", "Bass"} and plain.presence.isna().all() and plain.distance.is_monotonic_increasing
    checkpoint = encoder.save(tmp_path / "best.pt")
    vector = built.embed(query, mix=True)[2]
    told = np.stack([vector, -vector]).astype(float)
    Presence([second, first], 9 * told / np.linalg.norm(vector), np.zeros(2)).save(tmp_path / "presence.json", digest(encoder))
    found = Library.build(folder, str(checkpoint), tmp_path / "told").families(query)
    assert found.family.to_list() == [second, first]
    np.testing.assert_allclose(found.presence, 1 / (1 + np.exp([-9, 9])), atol=1e-6)
    assert found.distance.to_list() == plain.distance.to_list()[::-1]
    write(tmp_path / "plain" / "x.wav", tone(60))
    with pytest.raises(ValueError, match="no sound of this library has a family"):
        Library.build(tmp_path / "plain", encoder, tmp_path / "other").families(query)


# Odd queries


def query_file(folder, kind):
    """One odd query of each kind: `bass one`, or no sound."""
    path, audio = folder / f"{kind}.wav", note(40)
    if kind == "mp3":
        return write(folder / "query.mp3", audio)
    if kind == "96 kHz":
        return write(path, np.interp(np.arange(28800) / 6, np.arange(4800), audio), 96000)
    if kind in ("text", "empty"):
        path.write_text("no sound\n" * (kind == "text"))
    elif kind != "missing":
        changed = {
            "stereo": np.stack([audio, audio], axis=1), "8-bit": audio, "0.05 s": audio[:800], "silence": np.zeros(4800),
            "20 minutes": np.tile(audio, 4000), "clipped": np.clip(9 * audio, -1, 1), "offset": audio * 0.5 + 0.4,
            "constant": audio * 0 + 0.5,
        }  # fmt: skip
        write(path, changed[kind], subtype="PCM_U8" if kind == "8-bit" else "PCM_16")
    return path


@pytest.mark.parametrize("kind", ["stereo", "96 kHz", "8-bit", "0.05 s", "20 minutes", "clipped", "offset", "mp3"])
def test_an_odd_query_finds_a_sensible_result(built, tmp_path, kind):
    """The query is a version of `bass one`, whatever its format."""
    found = built.search(query_file(tmp_path, kind))
    assert len(found) == 4 and np.isfinite(found.distance).all()
    if kind in ("stereo", "96 kHz", "8-bit", "offset", "mp3"):
        assert found.uid[0].endswith("bass one.wav")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("silence", "cannot be searched: silent"),
        ("constant", "cannot be searched: silent but for an offset"),
        ("text", "cannot be searched: not readable as sound"),
        ("empty", "cannot be searched: an empty file"),
        ("missing", "no file .*missing.wav: name the sound to search with"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(built, tmp_path, kind, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        built.search(query_file(tmp_path, kind))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        (np.zeros((100, 2)), r"one channel, got shape \(100, 2\)"),
        (np.full(1000, np.nan), "not finite"),
        (np.ones(10), "shorter than"),
        (np.zeros(0), "shorter than"),
    ],
)
def test_waveforms_that_cannot_be_searched(built, audio, words):
    with pytest.raises(ValueError, match=f"^the query cannot be searched: .*{words}"):
        built.search(audio)


def test_wrong_families_and_numbers_are_told(built):
    query = tone(60)
    with pytest.raises(ValueError, match=r"unknown family 'Bas' \(did you mean 'Bass'\?\)"):
        built.search(query, family="Bas")
    with pytest.raises(ValueError, match=r"no sound of family 'Piano'; its families: Bass \(2\), Synth Lead \(1\)"):
        built.search(query, family="Piano")
    with pytest.raises(ValueError, match="k must be 1 or more, got 0"):
        built.search(query, k=0)
    with pytest.raises(ValueError, match=r"shape \(16,\), got \(17,\)"):
        built.nearest(np.zeros(17))
    assert len(built.search(query, k=99)) == 4


# Updates


def test_only_what_is_new_or_changed_is_embedded_and_what_is_gone_disappears(built, folder, monkeypatch):
    embedded = []
    monkeypatch.setattr(
        library.AudioEncoder, "embed", lambda self, sounds, **_: embedded.append(len(sounds)) or np.ones((len(sounds), 16), "f4")
    )
    before = stored(built).vector
    assert counts(built.add(folder)) == (0, 0, 0, 6) and not embedded
    write(folder / "new.wav", tone(70))
    size = (folder / NAMES[0]).stat().st_size
    write(folder / NAMES[0], note(71))
    assert (folder / NAMES[0]).stat().st_size == size, "what changed is not told by its size"
    (folder / NAMES[1]).unlink()
    assert counts(built.add(folder)) == (1, 1, 1, 4) and sum(embedded) == 2
    after = stored(built).vector
    assert set(after.index) == {*NAMES, "new.wav"} - {NAMES[1]} and (after["new.wav"] == 1).all() and (after[NAMES[0]] == 1).all()
    assert all((after[name] == before[name]).all() for name in NAMES[2:])


def test_a_name_that_tells_something_else_needs_no_embedding(built, folder):
    """A second instrument among the notes of a folder: then each is named by what its files share."""
    assert set(stored(built).uid[2:5]) == {"folder/sounds/deep"}
    write(folder / "deep" / "Flute C4.wav", tone(60))
    assert counts(built.add(folder)) == (1, 0, 0, 6)
    rows = stored(built)
    assert rows.uid["deep/Lead C4.wav"] == "folder/sounds/deep/Lead" and rows.family["deep/Flute C4.wav"] == "Pipe"
    assert len(rows) == 7


def test_files_that_are_no_sound_are_told_and_forgotten(built, folder):
    (folder / "text.wav").write_text("no sound")
    (folder / NAMES[0]).write_bytes(b"")
    changes = built.add(folder)
    assert counts(changes) == (0, 0, 1, 5)
    assert changes.left_out == {"text.wav": "not readable as sound (Format not recognised)", NAMES[0]: "an empty file"}
    assert NAMES[0] not in stored(built).index


def test_origins_do_not_touch_each_other_and_an_empty_one_removes_nothing(built, folder, tmp_path):
    other = tmp_path / "other" / "sounds"  # same name, same files
    for name in NAMES[2:5]:
        write(other / name, tone(50))
    assert len(built.search(tone(50), "Synth Lead", k=9)) == 1
    assert counts(built.add(other)) == (3, 0, 0, 0)
    assert sorted(built.describe()["origins"].values()) == [3, 6] and built.describe()["instruments"] == 5
    found = built.search(tone(50), "Synth Lead", k=9)
    assert found.path.str.startswith(str(other)).to_list() == [True, False], "two instruments of the same name, each once"
    for name in NAMES[2:5]:
        (other / name).unlink()
    with pytest.raises(FileNotFoundError, match="no sound file"):
        built.add(other)
    with pytest.raises(FileNotFoundError, match=r"no folder of sounds and no note bank at .*gone"):
        built.add(tmp_path / "gone")
    assert len(stored(built)) == 9


def test_a_bank_that_was_built_again_gives_what_changed(encoder, tmp_path):
    def bank(name, *pitches):
        return build_bank(tmp_path / name, [sound(f"u{i}", tone(p), pitch=float(p)) for i, p in enumerate(pitches)])

    bank("bank", 40, 41, 42)
    lib = Library.build(tmp_path / "bank", encoder, tmp_path / "lib")
    (tmp_path / "bank").rename(tmp_path / "old")
    bank("bank", 40, 50, 42, 43)
    assert counts(lib.add(tmp_path / "bank")) == (1, 1, 0, 2)


@pytest.mark.parametrize("name", ['it\'s a "kick"; DROP--.wav', "täglich 音.wav", "a%20b #1.wav", "new\nline.wav"])
def test_names_of_strangers(encoder, tmp_path, name):
    write(tmp_path / "in" / name, tone(60))
    write(tmp_path / "in" / "plain.wav", tone(70))
    lib = Library.build(tmp_path / "in", encoder, tmp_path / "lib")
    assert lib.search(tmp_path / "in" / name).path[0] == str(tmp_path / "in" / name)
    (tmp_path / "in" / name).unlink()
    assert counts(lib.add(tmp_path / "in")) == (0, 0, 1, 1)


def test_a_bank_with_an_instrument_of_no_family(encoder, tmp_path):
    build_bank(tmp_path / "bank", [sound("a", tone(40)), sound("b", tone(60), family=None)])
    lib = Library.build(tmp_path / "bank", encoder, tmp_path / "lib")
    assert lib.describe()["families"] == {"Bass": 1, "none told": 1} and lib.search(tone(60), k=1).uid[0] == "b"


def test_a_folder_with_a_foreign_bank_json_is_a_folder(built, folder):
    (folder / "bank.json").write_text("{}")
    assert counts(built.add(folder)) == (0, 0, 0, 6)


def test_what_lies_below_a_folder_that_cannot_be_read_is_kept(built, folder, monkeypatch):
    """A permission that is lost for a while is no reason to forget."""
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", denied)
        changes = built.add(folder)
    assert counts(changes) == (0, 0, 0, 3) and changes.left_out == {"deep": "a folder that cannot be read (Permission denied)"}
    assert len(stored(built)) == 6 and counts(built.add(folder)) == (0, 0, 0, 6)


def test_odd_entries_of_a_folder_are_told(built, folder):
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "again").symlink_to(folder)
    write(folder / "constant.wav", np.full(4000, 0.5))
    open(os.fsencode(folder) + b"/caf\xe9.wav", "wb").close()
    changes = built.add(folder)
    assert counts(changes) == (0, 0, 0, 6)
    assert changes.left_out == {
        "gone.wav": "not readable (No such file or directory)", "again": "a link to a folder, not followed",
        "constant.wav": "silent but for an offset", "caf?.wav": "its name is not UTF-8",
    }  # fmt: skip


def test_a_library_whose_sounds_are_all_unusable_is_empty(encoder, tmp_path):
    write(tmp_path / "in" / "silent.wav", np.zeros(4000))
    lib = Library.build(tmp_path / "in", encoder, tmp_path / "lib")
    with pytest.raises(ValueError, match="this library holds no sounds: add a folder or a bank"):
        lib.search(tone(60))


def test_origins_are_removed_and_never_nested(built, folder, tmp_path):
    write(tmp_path / "other" / "x.wav", tone(50))
    built.add(tmp_path / "other")
    for nested in (folder / "deep", tmp_path):
        with pytest.raises(ValueError, match=r"lie one inside the other, .*: remove .* from the library first, or add"):
            built.add(nested)
    with pytest.raises(ValueError, match=r"has no sounds of .*deep; it has those of"):
        built.remove(folder / "deep")
    item = built.search(folder / NAMES[0], k=1).iloc[0]
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=r"bass one.wav is no longer at .*: add its folder or bank again, or remove it"):
        built.preview(item)
    assert counts(built.remove(folder)) == (0, 0, 6, 0) and list(stored(built).index) == ["x.wav"]
    assert counts(built.add(tmp_path / "moved")) == (6, 0, 0, 0)


def test_many_changes_at_once(built, folder, monkeypatch):
    """More ids than one condition takes."""
    monkeypatch.setattr("cirlib.search.table.LONGEST_LIST", 2)
    for name in NAMES[:5]:
        (folder / name).unlink()
    assert counts(built.add(folder)) == (0, 0, 5, 1)


def test_a_damaged_table_is_one_sentence(built):
    for file in (built.path / "sounds.lance" / "data").iterdir():
        file.write_bytes(b"no data")
    with pytest.raises(OSError, match=r"^the table of library .*lib cannot be read or written \("):
        Library.open(built.path).search(tone(60))


# Several processes, interruptions


def test_an_interrupted_update_goes_on(folder, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "BLOCK", 2)
    sound, heard = library.Catalog.__subclasses__()[1].sound, []

    def stopping(self, id, seconds):
        heard.append(id)
        if len(heard) == 5:
            raise KeyboardInterrupt
        return sound(self, id, seconds)

    monkeypatch.setattr("cirlib.search.catalog.FolderCatalog.sound", stopping)
    with pytest.raises(KeyboardInterrupt):
        Library.build(folder, encoder, tmp_path / "lib")
    assert len(stored(Library.open(tmp_path / "lib"))) == 4
    lib = Library.build(folder, encoder, tmp_path / "lib")
    assert counts(lib.changes) == (2, 0, 0, 4) and len(heard) == 7
    np.testing.assert_array_equal(np.stack(stored(lib).vector), np.stack(stored(Library.build(folder, encoder, tmp_path / "whole")).vector))


WRITER = """
import sys, time
from cirlib.search import catalog
from cirlib.search import library
library.BLOCK = 2
sound, heard = catalog.FolderCatalog.sound, []
def slow(self, id, seconds):
    heard.append(id)
    if len(heard) == int(sys.argv[3]):
        print("writing", flush=True)
        sys.stdin.readline()
    return sound(self, id, seconds)
catalog.FolderCatalog.sound = slow
print(library.Library.open(sys.argv[1]).add(sys.argv[2]).new)
"""


def writer(lib: Library, folder, pause: int) -> subprocess.Popen:
    """A process that adds a folder and, at its sound number `pause`, waits for a line."""
    command = [sys.executable, "-c", WRITER, str(lib.path), str(folder), str(pause)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_killed_writer_loses_nothing_and_two_take_turns(built, tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    for i, other in enumerate(folders):
        for k in range(5):
            write(other / f"sound {k} x.wav", tone(50 + 7 * i + k))
    with writer(built, folders[0], 4) as killed:
        assert killed.stdout.readline() == "writing\n"
        assert len(built.search(tone(60), k=99)) == 6, "others read while it writes: two of its blocks are there"
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
    other = AudioEncoder.create("cnn", SECONDS, width=4, dim=16).eval()
    with pytest.raises(ValueError, match=r"lib was made with an encoder \(cosine\), and an encoder \(cosine\) is another, whose vectors"):
        Library.build(folder, other, built.path)
    with pytest.raises(ValueError, match=r"\(cosine\), and an encoder \(l2\) is another, whose vectors"):
        Library.build(folder, encoder, built.path, metric="l2")
    with pytest.raises(ValueError, match="unknown metric 'L2'"):
        Library.build(folder, encoder, built.path, metric="L2")
    with pytest.raises(ValueError, match="cnn has random weights: name a trained encoder"):
        Library.build(folder, "cnn", built.path)
    again = Library.build(folder, str(encoder.save(tmp_path / "best.pt")), tmp_path / "again")
    other.save(tmp_path / "best.pt")
    with pytest.raises(ValueError, match=r"best\.pt was trained again since: its vectors"):
        Library.build(folder, str(tmp_path / "best.pt"), again.path)
    other.save(built.path / "encoder.pt")
    for _ in ("another one", "none at all"):
        with pytest.raises(ValueError, match=r"encoder\.pt is gone, or not the encoder of this library: delete that"):
            Library.open(built.path).search(tone(60))
        (built.path / "encoder.pt").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ('{"format": 99}', "it has format 99, this version reads 1"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
    ],
)
def test_damaged_libraries_are_told(built, text, words):
    (built.path / "library.json").write_text(text)
    with pytest.raises(ValueError, match=f"{words}.*: delete it and build it again"):
        Library.open(built.path)


def test_a_library_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no library at .*/none: build one first; in lib there are: none"):
        Library.open(tmp_path / "none")


# The shell


def test_commands(folder, encoder, tmp_path, capsys):
    checkpoint, lib = str(encoder.save(tmp_path / "best.pt")), str(tmp_path / "lib")
    (folder / "text.wav").write_text("no sound")

    def told(*arguments):
        main([*arguments, "--json"])
        return json.loads(capsys.readouterr().out)

    assert told("build", lib, str(folder), "--encoder", checkpoint) | {"left_out": 1} == {
        "new": 6, "changed": 0, "removed": 0, "unchanged": 0, "left_out": 1,
    }  # fmt: skip
    assert told("build", lib, str(folder))["unchanged"] == told("add", lib, str(folder))["unchanged"] == 6
    held = told("info", lib)
    assert held["sounds"] == 6 and held["encoder"] == checkpoint and held["origins"] == {str(folder): 6}
    found = told("search", lib, str(folder / NAMES[0]), "--family", "Bass", "-k", "1")["found"]
    assert [f["path"] for f in found] == [str(folder / NAMES[0])] and found[0]["family"] == "Bass"
    assert [f["family"] for f in told("search", lib, str(folder / NAMES[-1]), "-k", "1")["found"]] == [None]
    main(["search", lib, str(folder / NAMES[0]), "--windows"])
    assert "bass one.wav" in capsys.readouterr().out
    assert [f["presence"] for f in told("search", lib, str(folder / NAMES[0]), "--families")["found"]] == [None, None]
    main(["search", lib, str(folder / NAMES[0]), "--families"])
    assert capsys.readouterr().out.startswith("whether a family plays at all is not told: run notebooks/09_open_mixtures.ipynb")
    main(["info", lib])
    assert "families: Synth Lead (3), Bass (2), none told (1)" in capsys.readouterr().out
    for wrong, words in (
        (["build", lib, str(folder), "--metric", "l2"], "has cosine distance: build another library for l2"),
        (["search", lib, "x.wav", "--families", "--windows"], "leave out --family and --windows"),
    ):
        with pytest.raises(SystemExit, match=words):
            main(wrong)
    main(["add", lib, str(folder)])
    assert "0 new, 0 changed, 0 removed, 6 unchanged, 1 left out:\n  text.wav: not readable" in capsys.readouterr().out
    assert told("remove", lib, str(folder))["removed"] == 6


def test_an_encoder_is_found_from_where_one_is_or_from_the_project(folder, encoder, tmp_path, monkeypatch):
    """As sounds and banks are; the library knows the run that it is of wherever it was built."""
    for place, name in (("elsewhere", "one.pt"), ("home/runs/p/row/seed0", "runs/p/row/seed0/best.pt")):
        (tmp_path / place).mkdir(parents=True)
        encoder.save(tmp_path / place / Path(name).name)
    monkeypatch.setattr(paths, "HOME", tmp_path / "home")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for k, name in enumerate(("one.pt", "runs/p/row/seed0/best.pt", "../home/runs/p/row/seed0/best.pt")):
        main(["build", str(tmp_path / f"lib{k}"), str(folder), "--encoder", name])
    named = [Library.open(tmp_path / f"lib{k}").info["encoder"] for k in range(3)]
    assert named == [str(tmp_path / "elsewhere" / "one.pt"), *["runs/p/row/seed0/best.pt"] * 2]


def test_families_tell_the_command_that_presence_needs(folder, encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "HOME", tmp_path)
    encoder.save(tmp_path / "runs" / "p" / "row" / "seed3" / "best.pt")
    main(["build", str(tmp_path / "lib"), str(folder), "--encoder", "runs/p/row/seed3/best.pt"])
    main(["search", str(tmp_path / "lib"), str(folder / NAMES[0]), "--families"])
    command = "`papermill 09_open_mixtures.ipynb out.ipynb -p preset p -p experiment row -p seed 3` in notebooks/"
    assert f"whether a family plays at all is not told: run {command} first\n" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "said"), [("build", "stopped; what was embedded is kept"), ("search", "stopped\n")])
def test_interrupted_commands_say_what_is_kept(folder, encoder, tmp_path, monkeypatch, capsys, command, said):
    checkpoint = str(encoder.save(tmp_path / "best.pt"))
    main(["build", str(tmp_path / "lib"), str(folder), "--encoder", checkpoint])
    monkeypatch.setattr(Library, "open", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit) as end:
        main([command, str(tmp_path / "lib"), str(folder / NAMES[0])])
    assert end.value.code == 130 and capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "none", "FOLDER"], "error: a new library needs --encoder"),
        (["build", "none", "FOLDER", "--encoder", "nothing.pt"], "error: no checkpoint .*nothing.pt"),
        (["add", "none", "FOLDER"], "error: no library at lib/none: build one first"),
        (["search", "none", "x.wav"], "error: no library at lib/none"),
    ],
)
def test_commands_that_cannot_be_done_are_one_sentence(folder, arguments, words):
    with pytest.raises(SystemExit, match=words) as caught:
        main([str(folder) if a == "FOLDER" else a for a in arguments])
    assert "\n" not in str(caught.value)
