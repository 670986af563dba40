"""What a producer does with a library: folds, excludes, searches long files and by section, copies, plays and browses results."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, build_bank, sound, tone
from page_reader import Reader
from tones import note, write

from cirlib.evaluation.open_mixtures import Presence
from cirlib.search import __main__ as command
from cirlib.search import results
from cirlib.search.library import Library
from cirlib.search.neighbours import NEIGHBOURS
from cirlib.search.pages import library_map, search_page
from cirlib.search.sections import MOST, find_sections

SECONDS = 0.5  # clip length of the encoder
NAMES = ("Bass C2.wav", "Bass E2.wav", "loops/drum loop.wav", "kit/kick.wav", "deep lead.wav", "Mellow Lead.wav")


@pytest.fixture(scope="module")
def built(encoder, tmp_path_factory) -> Library:
    """One library for the tests that only read it."""
    place = tmp_path_factory.mktemp("results")
    for i, name in enumerate(NAMES):
        write(place / "sounds" / name, note(36 + 4 * i))
    return Library.build(place / "sounds", place / "lib", encoder)


def file(lib: Library, name: str) -> Path:
    return Path(lib.gallery.rows.origin[0], name)


def names(found: pd.DataFrame) -> set[str]:
    return {Path(path).name for path in found.path}


# What is searched


def test_sounds_of_an_instrument_are_one_row_with_its_best_note(built):
    found = built.search(file(built, NAMES[1]), k=9, mix=False)
    assert len(found) == 5 and not found.instrument.duplicated().any()
    assert (found.note[0], found.sounds[0], found.path[0]) == ("E2", 2, str(file(built, NAMES[1])))
    assert built.search(file(built, NAMES[0]), k=9, mix=False).note[0] == "C2"
    assert set(found.sounds[1:]) == {1} and found.note[1:].isna().all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kind": "loop"}, {"drum loop.wav"}),
        ({"kind": "drum hit"}, {"kick.wav"}),
        ({"kind": "note"}, {"Bass C2.wav", "deep lead.wav", "Mellow Lead.wav"}),
        ({"exclude": ["lead"]}, {"Bass C2.wav", "drum loop.wav", "kick.wav"}),
        ({"exclude": "lead"}, {"Bass C2.wav", "drum loop.wav", "kick.wav"}),
        ({"exclude": ["LEADS", "loop"]}, {"Bass C2.wav", "kick.wav"}),
        ({"exclude": ["mellow lead"]}, {"Bass C2.wav", "drum loop.wav", "kick.wav", "deep lead.wav"}),
        ({"exclude": ["ead", "lead mellow"]}, {"Bass C2.wav", "drum loop.wav", "kick.wav", "deep lead.wav", "Mellow Lead.wav"}),
        ({"exclude": ["synth lead", "drum kit"]}, {"Bass C2.wav"}),
        ({"kind": "note", "exclude": ["bass"], "family": "Synth Lead"}, {"deep lead.wav", "Mellow Lead.wav"}),
    ],
)
def test_kind_family_and_exclusions_compose(built, options, expected):
    assert names(built.search(tone(36), k=9, **options)) == expected


def test_an_instrument_a_file_or_a_folder_is_excluded(built):
    """The other note of an instrument stays if a file is named."""
    every = built.search(tone(36), k=9)
    for text, gone in ((every.instrument[0], 1), (str(file(built, "loops")), 1), (str(file(built, "loop")), 0), (str(file(built, "")), 5)):
        if gone == 5:
            with pytest.raises(ValueError, match="no sound of this library is left to search"):
                built.search(tone(36), exclude=[text])
        else:
            assert len(built.search(tone(36), k=9, exclude=[text])) == 5 - gone
    found = built.search(file(built, NAMES[0]), k=9, mix=False, exclude=[str(file(built, NAMES[0]))])
    assert len(found) == 5 and names(found) >= {NAMES[1]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"exclude": ["..."]}, r"nothing can be excluded by '\.\.\.': name an instrument, a file, a folder or a word"),
        ({"kind": "lop"}, r"unknown kind 'lop' \(did you mean 'loop'\?\)"),
        ({"kind": "loop", "exclude": ["drum"]}, "no sound of this library is left"),
    ],
)
def test_wrong_choices_are_refused(built, options, words):
    with pytest.raises(ValueError, match=words) as caught:
        built.search(tone(36), **options)
    assert "\n" not in str(caught.value)


def test_more_like_a_match(built):
    """By its stored embedding: nearest to what the file itself finds, without its instrument."""
    match = built.search(file(built, NAMES[0]), k=1, mix=False).iloc[0]
    found, expected = built.search(match, k=9), built.search(file(built, NAMES[0]), k=9, mix=False)
    assert list(found.path) == list(expected.path[1:]) and match.instrument not in set(found.instrument)
    np.testing.assert_allclose(found.distance, expected.distance[1:], atol=1e-6)
    assert NAMES[5] not in names(built.search(match, k=9, exclude="mellow"))
    with pytest.raises(ValueError, match="is no longer in this library as it was found: search again"):
        built.search(match.replace({match.path: "/elsewhere.wav"}))


def test_long_file_is_found_at_its_position(encoder, tmp_path):
    """A file of 12 s without a pitch; a long note of a known pitch is searched by its beginning."""
    rng = np.random.default_rng(0)
    parts = [note(40 + k, SECONDS) if k % 2 else 0.3 * rng.normal(0, 0.1 + 0.01 * k, round(SECONDS * RATE)) for k in range(24)]
    for name in ("song.wav", "Lead C4.wav", "Lead D4.wav"):
        write(tmp_path / "in" / name, np.concatenate(parts))
    lib = Library.build(tmp_path / "in", tmp_path / "lib", encoder)
    content = lib.describe()
    assert (content["sounds"], content["instruments"], lib.changes.new, len(lib.gallery.rows)) == (3, 2, 3, 26)
    for k in (0, 7, 23):
        match = lib.search(parts[k], k=1, mix=False, exclude=["lead"]).iloc[0]
        assert match.start == pytest.approx(k * SECONDS, abs=0.01) and match.distance < 1e-3
        audio, _ = lib.preview(match)
        np.testing.assert_allclose(audio, parts[k], atol=0.01)
    write(tmp_path / "in" / "song.wav", np.concatenate(parts[:21]))  # its last clips go
    assert (lib.add(tmp_path / "in").changed, lib.changes.removed, len(lib.gallery.rows)) == (1, 0, 23)
    (tmp_path / "in" / "song.wav").unlink()
    assert (lib.add(tmp_path / "in").removed, len(lib.gallery.rows)) == (1, 2)


def test_families_without_a_name_are_predicted_by_neighbours(encoder, tmp_path):
    """Four of five neighbours agree; what lies between is left open; a new name changes the prediction."""
    for i in range(NEIGHBOURS):
        write(tmp_path / "in" / f"bass {'abcde'[i]}.wav", note(36 + 0.1 * i))
        write(tmp_path / "in" / f"flute {'abcde'[i]}.wav", 0.5 * np.random.default_rng(i).uniform(-1, 1, 4800))
    write(tmp_path / "in" / "one.wav", note(36.25))
    write(tmp_path / "in" / "two.wav", 0.5 * np.random.default_rng(9).uniform(-1, 1, 4800))
    lib = Library.build(tmp_path / "in", tmp_path / "lib", encoder)
    guessed = lib.gallery.rows[lib.gallery.rows.predicted].set_index("path").family.to_dict()
    assert guessed == {"one.wav": "Bass", "two.wav": "Pipe"}
    assert lib.describe()["families"] == {"Bass": 5, "Pipe": 5, "no family": 2} and lib.describe()["predicted"] == {"Bass": 1, "Pipe": 1}
    found = lib.search(note(36.25), "Bass", mix=False, k=9)
    assert len(found) == 6 and found.predicted.sum() == 1 and found.path[0].endswith("one.wav") and found.predicted[0]
    for i in range(2):
        (tmp_path / "in" / f"flute {'abcde'[i]}.wav").unlink()
        (tmp_path / "in" / f"bass {'abcde'[i]}.wav").unlink()
    lib.add(tmp_path / "in")
    assert not lib.gallery.rows.predicted.any(), "three of each are too few to agree"
    assert lib.remove(tmp_path / "in").removed == 8


# Sections


def test_sections_join_what_sounds_alike(encoder):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 8)) * 5
    owner = np.repeat([0, 1, 2, 0], [9, 4, 20, 7])
    vectors = centres[owner] + rng.normal(0, 0.05, (40, 8))
    starts, seconds = np.arange(40) * 2.0, np.full(40, 2.0)
    nearest = lambda vector: int(((centres - vector) ** 2).sum(axis=1).argmin())  # noqa: E731
    found = find_sections(starts, seconds, vectors, nearest)
    assert [(part.begin, part.end) for part in found] == [(0, 18), (18, 26), (26, 66), (66, 80)]
    for part, members in zip(found, (slice(0, 9), slice(9, 13), slice(13, 33), slice(33, 40)), strict=True):
        np.testing.assert_allclose(part.vector, vectors[members].mean(axis=0))
    assert len(find_sections(starts, seconds, vectors, lambda vector: float(vector[0]))) == MOST
    assert find_sections(starts, seconds, vectors, lambda vector: 0) == find_sections(starts[:1], seconds[:1], vectors[:1], nearest) == []


def test_families_say_what_plays_and_the_best_of_each(built, tmp_path):
    """As a whole, and in each section the best match of the likeliest families."""
    query = write(tmp_path / "mix.wav", np.concatenate([note(36, SECONDS), note(60, SECONDS)]))
    found = built.families(query, sections=True)
    whole = found[found.section == 0]
    assert whole.groupby("family").size().to_dict() == {"Bass": 1, "Drum Kit": 2, "Synth Lead": 2}
    assert whole.drop_duplicates("family").distance.is_monotonic_increasing and whole.presence.isna().all()
    vector = built.embed(query)[2]
    model = Presence(["Synth Lead", "Bass"], 3 * np.stack([vector, -vector]) / np.linalg.norm(vector), np.zeros(2))
    model.save(built.path / "presence.json", built.info.digest)
    try:
        found = built.families(query, k=2, kind="note", sections=True)
    finally:
        (built.path / "presence.json").unlink()
    assert list(found.family[:3]) == ["Synth Lead", "Synth Lead", "Bass"]
    np.testing.assert_allclose(found.presence[:3], 1 / (1 + np.exp([-3, -3, 3])), atol=1e-3)
    assert set(found.section) == {0, 1, 2} and (found[found.section > 0].groupby("section").size() == 2).all()
    text = results.text(found)
    assert "the whole, 0:00 to 0:01: Synth Lead 95 %, Bass 5 %" in text and "section 2, 0:00 to 0:01: " in text


# The command line


def run(capsys, *arguments) -> str:
    command.main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def test_copies_playlist_page_and_json_of_one_search(built, tmp_path, capsys):
    """Numbered copies that are the sounds, a table, absolute paths everywhere; then a result as the next query."""
    query, copies = file(built, NAMES[0]), tmp_path / "out" / "copies"
    outputs = ("--copy-to", copies, "--playlist", tmp_path / "found.m3u8", "--page", tmp_path / "found.html", "--json")
    printed = json.loads(run(capsys, "search", built.path, query, "-k", 3, "--not", "kick", *outputs))
    matches = printed["matches"]
    assert [match["number"] for match in matches] == [1, 2, 3] and printed["sections"] == []
    with open(copies / "matches.csv", newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert [row["path"] for row in rows] == [match["path"] for match in matches]
    assert sorted(p.name for p in copies.iterdir()) == sorted(["matches.csv", *(f"{m['number']} {Path(m['path']).name}" for m in matches)])
    for row in rows:
        assert Path(row["path"]).is_absolute() and Path(row["copy"]).read_bytes() == Path(row["path"]).read_bytes()
    lines = (tmp_path / "found.m3u8").read_text("utf-8").splitlines()
    assert lines[0] == "#EXTM3U" and [line for line in lines if line[0] == "/"] == [row["copy"] for row in rows]
    assert Reader((tmp_path / "found.html").read_text()).texts("h1") == ["What sounds like Bass C2.wav?"]
    more = json.loads(run(capsys, "search", built.path, "2", "--json"))["matches"]
    expected = built.search(pd.Series(matches[1]))
    assert [match["path"] for match in more] == list(expected.path)
    with pytest.raises(SystemExit, match="is not an empty folder: name a new one"):
        run(capsys, "search", built.path, query, "--copy-to", copies)


def test_copies_and_playlist_of_a_bank_and_of_long_files(encoder, tmp_path):
    """A note of a bank is written as a sound; a player starts a long file at the match."""
    build_bank(tmp_path / "bank", [sound("set/a b", tone(40, 0.8)), sound("set/c", tone(60))])
    lib = Library.build(tmp_path / "bank", tmp_path / "lib", encoder)
    found = lib.search(tone(40, 0.8), k=1, mix=False)
    with pytest.raises(ValueError, match=r"lies in a note bank, not in a file of its own: copy the matches too \(--copy-to\)"):
        results.write_playlist(found, tmp_path / "x.m3u8")
    copied = results.copy_matches(lib, found, tmp_path / "copies")
    audio, rate = soundfile.read(copied["copy"][0])
    assert Path(copied["copy"][0]).name == "1 a b.wav" and rate == RATE and len(audio) == round(0.8 * RATE), "the whole note"
    results.write_playlist(copied, tmp_path / "x.m3u8")
    results.write_playlist(found.assign(path="/a/new\nline.wav", start=62.5), tmp_path / "y.m3u8")
    assert (tmp_path / "y.m3u8").read_text().splitlines()[2:] == ["#EXTVLCOPT:start-time=62.50", "file:///a/new%0Aline.wav"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--playlist", "mix.wav"], r"mix.wav cannot be written: its name must end with \.m3u8 or \.m3u"),
        (["--page", "mix.wav"], r"mix.wav cannot be written: its name must end with \.html"),
        (["--copy-to", "SOUNDS/best"], "lies in .*sounds, which is searched: name a folder outside of it for the copies"),
        (["-k", "0"], "k must be 1 or more, got 0"),
        (["--families", "--family", "Bass"], "omit --family and --no-mix"),
        (["--kind", "hits"], "unknown kind 'hits'"),
    ],
)
def test_wrong_arguments_end_in_one_sentence_and_write_nothing(built, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    query = write(tmp_path / "mix.wav", note(40))
    before = query.read_bytes()
    arguments = [argument.replace("SOUNDS", str(file(built, ""))) for argument in arguments]
    with pytest.raises(SystemExit, match=f"error: .*{words}") as caught:
        run(capsys, "search", built.path, query, *arguments)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == [query] and query.read_bytes() == before


@pytest.mark.parametrize("content", [None, "{", "[]", '[{"path": 1}]', '[{"path": "a", "instrument": "b", "start": 0.0, "seconds": "x"}]'])
def test_number_without_a_last_search_is_refused(built, capsys, content):
    place = built.path / results.LAST
    place.unlink(missing_ok=True)
    if content is not None:
        place.write_text(content)
    with pytest.raises(SystemExit, match=r"error: no file and no result 1 of the last search of .*: search with a file first"):
        run(capsys, "search", built.path, "1")


def test_text_shows_position_note_and_predicted_family(built):
    found = built.search(file(built, NAMES[1]), k=2, mix=False).assign(start=[0.0, 75.2], predicted=[False, True])
    head, first, second = results.text(found).splitlines()
    assert head.split() == ["distance", "family", "kind", "note", "sounds", "at", "instrument", "file"]
    assert first.split()[:6] == ["1", "0.000", "Bass", "note", "E2", "2"] and str(file(built, NAMES[1])) in first
    assert "(predicted)" in second and " 1:15 " in second


def test_progress_is_shown_for_what_changed_only(encoder, tmp_path, capfd):
    for k in range(3):
        write(tmp_path / "in" / f"{'abc'[k]}.wav", note(40 + k))
    for expected in ("3/3", ""):
        Library.build(tmp_path / "in", tmp_path / "lib", encoder, show=True)
        shown = capfd.readouterr().err
        assert expected in shown and ("files/s" in shown) == bool(expected)


# Pages


def test_page_shows_results_first_and_folds_the_code(built, tmp_path):
    query = write(tmp_path / "mix.wav", np.concatenate([note(36, SECONDS), note(60, SECONDS)]))
    found = built.families(query, sections=True)
    call = "found = library.families('</code><script>', sections=True)"
    page = Reader(search_page(built, query, found, tmp_path / "x.html", call=call).read_text())
    order = [tag for tag, *_ in page.all("figure", "details", "footer")]
    assert order[0] == "figure" and order[-2:] == ["footer", "details"] and order.count("figure") == len(found) + 3
    assert page.texts("h2") == ["The whole query, 0:00 to 0:01", "Section 1, 0:00 to 0:00", "Section 2, 0:00 to 0:01"]
    assert page.texts("figcaption")[0].startswith("Query mix.wav") and set(page.texts("h3")) == {"Bass", "Drum Kit", "Synth Lead"}
    assert [a for _, a, _ in page.all("details")] == [{}], "folded"
    assert call in page.all("code")[0][2] and "$" not in page.texts("footer")[0] and len(page.all("math")) == 3


def test_page_of_more_like_this(built, tmp_path):
    match = built.search(tone(36), k=1).iloc[0]
    page = Reader(search_page(built, match, built.search(match, k=2), tmp_path / "x.html").read_text())
    assert page.texts("h1") == [f"What sounds like {match.instrument}?"] and not page.all("details") and len(page.all("figure")) == 3


def test_map_opens_from_the_command_line(built, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(command.webbrowser, "open", opened.append)
    page = Path(run(capsys, "map", built.path).strip())
    assert opened == [page.as_uri()] and page.name == "map.html"
    text = page.read_text("utf-8")
    assert all(f'"{name}"' in text for name in built.gallery.rows.instrument) and "UMAP of 5 of 5 instruments" in text
    run(capsys, "map", built.path, "--no-open", "--json")
    assert len(opened) == 1


def test_map_of_few_instruments(encoder, tmp_path):
    write(tmp_path / "in" / "one.wav", note(40))
    lib = Library.build(tmp_path / "in", tmp_path / "lib", encoder)
    assert library_map(lib, tmp_path / "map.html").is_file()
