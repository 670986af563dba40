"""Hostile or damaged files are refused: YAML and JSON beyond their limits, paths that lead outside, archives that expand."""

import os
import zipfile

import pytest

from cirlib.common import untrusted
from cirlib.common.untrusted import as_text, check_uncompressed, inside, is_text, leads_outside, read_json, read_yaml


@pytest.mark.parametrize("text", ["a: [1, b, null]", "- 1.5", "a: {b: c}"])
def test_plain_yaml_is_read(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    assert read_yaml(tmp_path / "a.yaml") in ({"a": [1, "b", None]}, [1.5], {"a": {"b": "c"}})


@pytest.mark.parametrize("text", ["a: &x [1]\nb: *x", "!!python/object/apply:os.getcwd []", "a: [1", "#" * (untrusted.MAX_YAML + 1)])
def test_unsafe_yaml_is_refused(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(Exception, match=r"aliases|constructor|expected|too many"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[NaN]", "NaN is not valid JSON"),
        ("[-Infinity]", "-Infinity is not valid JSON"),
        ("[" * 100_000, "nests too deeply"),
        ("{", "Expecting"),
        (" " * 101, "101 bytes are too many"),
    ],
    ids=["nan", "infinite", "deep", "unclosed", "large"],
)
def test_unsafe_json_is_refused(tmp_path, text, message, monkeypatch):
    if text.isspace():
        monkeypatch.setattr(untrusted, "MAX_JSON", 100)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"a": 1.5}')
    assert read_json(tmp_path / "a.json", parse_float=str) == {"a": "1.5"}


def test_paths_that_lead_outside_are_refused(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "x").touch()
    (folder / "link").symlink_to(tmp_path)
    (folder / "within").symlink_to(folder / "sub")
    for path in ("a", "sub/../a", "within/a", folder / "sub"):
        assert inside(folder, path) == folder / path and not leads_outside(folder, folder / path)
    for path in ("../x", "link/x", tmp_path / "x", "sub/../../in2/x"):
        with pytest.raises(ValueError, match=r"leads outside of .*in$"):
            inside(folder, path)
    assert leads_outside(folder, folder / "link" / "x")


def test_names_that_are_not_utf8_get_question_marks():
    name = os.fsdecode(b"a\xff.wav")
    assert not is_text(name) and as_text(name) == "a?.wav"
    assert is_text("é.wav") and as_text("é.wav") == "é.wav"


def test_compressed_archives_are_refused(tmp_path):
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / f"{kind}.zip", "w", kind) as archive:
            archive.writestr("a", b"0" * 1000)
    check_uncompressed(tmp_path / f"{zipfile.ZIP_STORED}.zip")
    with pytest.raises(ValueError, match="would become larger"):
        check_uncompressed(tmp_path / f"{zipfile.ZIP_DEFLATED}.zip")
