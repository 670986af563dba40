"""Drum kits of Hydrogen: instruments and velocity layers from drumkit.xml, families of pieces, damaged kits."""

import pytest
from conftest import tone
from tones import rows, write

from cirlib.data.sources.folder import FolderConfig, build
from cirlib.data.sources.hydrogen import kit_pieces, piece_family
from cirlib.search.catalog import open_catalog

NAMESPACE = 'xmlns="http://www.hydrogen-music.org/drumkit"'
INSTRUMENTS = {  # name -> (file, lowest, highest velocity) of its layers
    "Bass Drum": [("BD_02.wav", 0.5, 1.0), ("BD_01.wav", 0.0, 0.5)],
    "Crash/Ride Bell": [("C3 060.wav", 0.0, 1.0)],
    "Conga": [("loop_90.wav", 0.0, 0.25), ("gone.wav", 0.25, 0.5), ("c.wav", 0.5, 1.0)],
    "Conga Bass": [("c.wav", 0.0, 0.5), ("d.wav", 0.5, 1.0)],  # shares a sound with the one before
    "": [("unnamed.wav", 0.0, 1.0)],
    "19": [],
}
PIECES = {
    "BD_01.wav": ("Bass Drum", 64, "Drum Kit"),
    "BD_02.wav": ("Bass Drum", 127, "Drum Kit"),
    "C3 060.wav": ("Crash-Ride Bell", None, "Drum Kit"),
    "loop_90.wav": ("Conga", 32, "Percussion"),
    "c.wav": ("Conga", 127, "Percussion"),
    "d.wav": ("Conga Bass", None, "Percussion"),
    "unnamed.wav": ("unnamed.wav", None, "Drum Kit"),
}


def layered(name, layers):
    layers = "".join(f"<layer><filename>{file}</filename><min>{low}</min><max>{high}</max></layer>" for file, low, high in layers)
    return f"<instrument><id>1</id><name>{name}</name><gain>1</gain>{layers}</instrument>"


def component(name, layers):
    return layered(name, layers).replace("<layer>", "<instrumentComponent><layer>").replace("</layer>", "</layer></instrumentComponent>")


def plain(name, layers):
    """Return an instrument as before version 0.9.4."""
    return f"<instrument><name>{name}</name>" + "".join(f"<filename>{file}</filename>" for file, *_ in layers[:1]) + "</instrument>"


def write_kit(folder, instruments=INSTRUMENTS, *, instrument=layered, root="drumkit_info"):
    """Write a kit and the sounds that exist of it."""
    for name in (file for layers in INSTRUMENTS.values() for file, *_ in layers if file != "gone.wav"):
        write(folder / name, tone(60, 0.1))
    parts = "".join(instrument(name, layers) for name, layers in instruments.items())
    (folder / "drumkit.xml").write_text(f"<{root}><name>Kit</name><instrumentList>{parts}</instrumentList></{root.split()[0]}>")
    return folder


@pytest.mark.parametrize("instrument", [layered, component])
@pytest.mark.parametrize("root", ["drumkit_info", f"drumkit_info {NAMESPACE}"])
def test_layers_of_a_kit(tmp_path, instrument, root):
    kit = write_kit(tmp_path / "kit", instrument=instrument, root=root)
    found = kit_pieces(kit.glob("*.wav"))
    assert {file.name: (*piece, piece_family(piece[0])) for file, piece in found.items()} == PIECES


def test_kits_without_layers(tmp_path):
    found = kit_pieces(write_kit(tmp_path / "kit", instrument=plain).glob("*.wav"))
    assert {file.name: piece for file, piece in found.items()}["BD_02.wav"] == ("Bass Drum", None)


def test_instruments_of_one_name(tmp_path):
    kit = write_kit(tmp_path / "kit")
    (kit / "drumkit.xml").write_text(f"<a>{layered('Clap', [('c.wav', 0, 1)])}{layered('Clap', [('d.wav', 0, 1)])}</a>")
    assert {file.name: name for file, (name, _) in kit_pieces(kit.glob("*.wav")).items()} == {"c.wav": "Clap", "d.wav": "Clap'"}


BOMB = '<!DOCTYPE a [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><a>&b;</a>'


@pytest.mark.parametrize("text", ["", "no xml", "<a><instrument>", BOMB, layered("../../x", [("../../secret.wav", 0, 1)]), "\udcff"])
def test_damaged_kits_name_nothing(tmp_path, text):
    """Their sounds are read as those of any folder."""
    kit = write_kit(tmp_path / "kit")
    (kit / "drumkit.xml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert kit_pieces(kit.glob("*.wav")) == {}
    assert len(open_catalog(tmp_path).entries) == len(PIECES)


def test_kits_in_banks_and_libraries(tmp_path):
    """Beside other sounds; no piece has a pitch."""
    write_kit(tmp_path / "sounds" / "kit")
    write(tmp_path / "sounds" / "Piano C3.wav", tone(48, 0.1))
    write(tmp_path / "sounds" / "kit" / "extra snare.wav", tone(60, 0.1))
    bank = build(tmp_path / "bank", FolderConfig(path=str(tmp_path / "sounds"), valid=0.0, test=0.0), n_jobs=1)
    expected = sorted((f"folder/sounds/kit/{name}", family, velocity) for name, velocity, family in PIECES.values() if velocity)
    found = [row for row in rows(bank, "instrument", "family", "velocity", "pitch") if "kit/" in row[0]]
    assert sorted(row[:3] for row in found if row[2]) == expected
    assert {row[3] for row in found if "extra" not in row[0]} == {None}
    entries = open_catalog(tmp_path / "sounds").entries
    assert set(entries.instrument) == set(bank.notes.instrument)
    assert dict(zip(entries.path, entries.family, strict=True))["kit/C3 060.wav"] == "Drum Kit"
