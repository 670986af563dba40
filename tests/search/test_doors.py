"""A sound file at every door: bank build, library build, query and embedding refuse it with the same sentence, or none does."""

import numpy as np
import pytest
import torch
from conftest import tone
from sound_files import FORMATS, encode
from tones import write

from cirlib.data.sources import sfz
from cirlib.data.sources.folder import FolderConfig, build
from cirlib.models.encoder import AudioEncoder
from cirlib.search.library import Library

CUTS = 20


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    torch.manual_seed(0)
    return AudioEncoder.create("cnn", seconds=0.25, width=2, dim=8).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a valid file of each format and 20 cut ones."""
    root = tmp_path_factory.mktemp("doors") / "sounds"
    write(root / "good.wav", tone(60, 0.3))
    for kind in FORMATS:
        whole, suffix = encode(kind, np.tile(tone(60, 0.25), (2, 1)).T), kind.split()[0]
        place = root / kind.replace(" ", "_")
        place.mkdir()
        (place / f"whole.{suffix}").write_bytes(whole)
        for k in range(CUTS):
            (place / f"cut {k}.{suffix}").write_bytes(whole[: len(whole) * (k + 1) // (CUTS + 1)])
    return root


@pytest.fixture(scope="module")
def refused(folder, encoder) -> dict[str, dict[str, str]]:
    """Return door -> path -> reason of what it refused."""
    bank = build(folder.parent / "bank", FolderConfig(str(folder), estimate=False, seconds=0.2), n_jobs=1)
    library = Library.build(folder, folder.parent / "library", encoder)
    doors = {"bank": bank.infos[0]["skipped"], "library": library.changes.skipped, "query": {}, "embed": {}}
    for file in sorted(folder.rglob("*.*")):
        name = file.relative_to(folder).as_posix()
        for door, act in (("query", library.search), ("embed", lambda file: encoder.embed([file]))):
            try:
                act(file)
            except ValueError as error:
                doors[door][name] = str(error).partition(" cannot be searched: " if door == "query" else " cannot be embedded: ")[2]
    return doors


@pytest.mark.parametrize("door", ["bank", "library", "query", "embed"])
def test_cut_files_are_refused_at_every_door(folder, refused, door):
    """None is accepted, no valid file is refused, and the reason is that of the other doors, in one sentence."""
    cut = {file.relative_to(folder).as_posix() for file in folder.rglob("cut *")}
    assert len(cut) == CUTS * len(FORMATS) and refused[door].keys() == cut
    assert all(why.startswith("truncated: ") and "\n" not in why for why in refused[door].values())
    assert refused[door] == refused["bank"]


def test_channels_that_cancel_are_reported(tmp_path, encoder):
    """In the cards of banks, by libraries and by warnings; such a sound is found like the one of its channel."""
    root, sound = tmp_path / "sounds", tone(60, 0.25)
    write(root / "wide.wav", np.stack([sound, -sound], axis=1))
    bank = build(tmp_path / "bank", FolderConfig(str(root), estimate=False), n_jobs=1)
    reason = "its channels cancel each other: only channel 1 is read"
    assert len(bank) == 1 and bank.infos[0]["noted"]["wide.wav"] == reason
    library = Library.build(root, tmp_path / "library", encoder)
    assert library.changes.noted == {"wide.wav": reason} and library.add(root).noted == {}
    with pytest.warns(UserWarning, match=f"wide.wav: {reason}"):
        encoder.embed([root / "wide.wav"])
    (root / "wide.sfz").write_text("<region> sample=wide.wav key=60\n")
    bank = sfz.build(tmp_path / "instruments", sfz.SfzConfig(str(root), notes=1, hold_s=0.1, tail_s=0.05), n_jobs=1)
    assert len(bank) == 1 and set(bank.infos[0]["noted"].values()) == {reason}
    with pytest.warns(UserWarning, match=f"wide.wav: {reason}"):
        assert library.search(root / "wide.wav", mix=False).distance[0] == pytest.approx(0, abs=1e-3)
    assert library.search(sound, mix=False).distance[0] == pytest.approx(0, abs=1e-3)
