"""Real libraries, where they are installed: most instruments, pitches and families are right, and what no name gives stays unknown."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "reliability"))

import real_libraries
from real_libraries import LIBRARIES, MARKS, Truth, compare, line, main

RIGHT = 0.95


@pytest.mark.parametrize("name", LIBRARIES)
def test_real_library(name):
    """Notes of a few presets only."""
    read, place = LIBRARIES[name]
    if not place or not place.exists():
        pytest.skip(f"{name} is not installed: {real_libraries.PACKAGES.get(name, 'it is given by hand')}")
    _, instruments, pitches, families, unknown = read(place, every=40)
    for right, count in (instruments, pitches, families, unknown):
        assert right >= RIGHT * count, line(name, read(place, every=40))


def test_comparison():
    """Split and merged instruments, missed and invented pitches, wrong and guessed families count."""
    truth = {"a1": Truth("a", 60, ("Bass",)), "a2": Truth("a", 61, ("Bass",)), "b": Truth("b"), "c": Truth("c", None, ("Reed", "Pipe"))}
    right = {"a1": ("A", 60, "Bass"), "a2": ("A", 61, "Bass"), "b": ("B", None, None), "c": ("C", None, "Pipe")}
    assert compare(truth, right, (4, 4)) == [(4, 4), (3, 3), (2, 2), (2, 2), (1, 1)]
    assert compare(truth, {**right, "a2": ("D", 61, "Bass")}, (0, 0))[1] == (2, 3)
    assert compare(truth, {**right, "b": ("C", None, None)}, (0, 0))[1] == (1, 3)
    assert compare(truth, {**right, "a2": ("A", None, "Bass"), "b": ("B", 60, None)}, (0, 0))[2] == (1, 3)
    assert compare(truth, {**right, "c": ("C", None, "Brass"), "b": ("B", None, "Bass")}, (0, 0))[3:] == [(1, 2), (0, 1)]


def test_series_may_be_one_instrument_or_several():
    truth = {name: Truth("tom", None, (), series=True) for name in ("tom1", "tom2", "tom3")}
    for found in ("AAA", "ABC"):
        assert compare(truth, {name: (uid, None, None) for name, uid in zip(truth, found, strict=True)}, (0, 0))[1] == (1, 1)
    assert compare(truth, {name: (uid, None, None) for name, uid in zip(truth, "AAB", strict=True)}, (0, 0))[1] == (0, 1)


def test_table_keeps_rows_of_missing_libraries(tmp_path, monkeypatch):
    rows = {
        "One": (lambda place: [(1, 2), (3, 3), (0, 0), (4, 5), (0, 0)], tmp_path),
        "Two": (None, tmp_path / "nowhere"),
        "New": (None, None),
    }
    monkeypatch.setattr(real_libraries, "LIBRARIES", rows)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{MARKS[0]}{real_libraries.HEAD}| Two | 7 of 7 |\n| Gone | 1 of 1 |\n{MARKS[1]}\nafter\n")
    main({}, readme)
    row = "| One | 1 of 2 | 3 of 3 |  | 4 of 5 |  |\n"
    assert readme.read_text() == f"before\n{MARKS[0]}{real_libraries.HEAD}{row}| Two | 7 of 7 |\n{MARKS[1]}\nafter\n"
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="must have the marks"):
        main({}, readme)
