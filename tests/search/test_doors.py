"""A sound file at every door: bank, library, query, embedding and notebook refuse it with the same sentence, or none does."""

import numpy as np
import pytest
import torch
from conftest import tone
from doors import CUTS, refusals, write_cuts
from sound_files import FORMATS
from tones import write

from cirlib.data.sources import sfz
from cirlib.data.sources.folder import FolderConfig, build
from cirlib.models.encoder import AudioEncoder
from cirlib.search.library import Library


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    torch.manual_seed(0)
    return AudioEncoder.create("cnn", seconds=0.25, width=2, dim=8).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_cuts(tmp_path_factory.mktemp("doors") / "sounds")


@pytest.fixture(scope="module")
def refused(folder, encoder) -> dict[str, dict[str, str]]:
    return refusals(folder, encoder)


@pytest.mark.parametrize("door", ["bank", "library", "query", "embed", "notebook"])
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
