"""Every source that reads or renders files builds the same bank with any number of workers, after an interruption, and only once."""

import numpy as np
import pytest
from source_files import NSYNTH, SURGE, tones, write_font, write_preset, write_release, write_set, write_sfz
from tones import at_rate, contents, write

from cirlib.data import builder
from cirlib.data.sources import cir, folder, nsynth, sfz, soundfont, surge

SHORT = {"notes": 2, "valid": 0.0, "test": 0.0}
TEXT = "<region> sample=samples/a4.wav pitch_keycenter=69 lokey=40 hikey=90"


def nsynth_bank(root):
    notes = tones(*(f"bass_acoustic_00{i}-0{40 + k}-100" for i in range(4) for k in range(2)))
    return nsynth, "read_instrument", nsynth.NSynthConfig(str(write_release(root / "nsynth", train=notes)))


def cir_bank(root):
    write_set(root / "nsynth_v1.0", NSYNTH)
    write_set(root / "surge_v1.1", SURGE)
    return cir, "read_instrument", cir.CirConfig(str(root))


def folder_bank(root):
    for i in range(4):
        write(root / "sounds" / f"{i}.wav", at_rate(60 + i, 44100, 0.1), 44100)
    write(root / "sounds" / "silent.wav", np.zeros(8000))
    return folder, "read_instrument", folder.FolderConfig(str(root / "sounds"), estimate=False)


def sfz_bank(root):
    library = write_sfz(root / "library", dict.fromkeys("abcd", TEXT))
    return sfz, "render_instrument", sfz.SfzConfig(str(library), hold_s=0.1, tail_s=0.1, **SHORT)


def soundfont_bank(root):
    try:
        soundfont.fluidsynth()
    except ValueError as problem:
        pytest.skip(str(problem))
    return soundfont, "render_preset", soundfont.SoundFontConfig((str(write_font(root / "a.sf2")),), hold_s=0.1, tail_s=0.1, **SHORT)


def surge_bank(root):
    for i in range(4):
        write_preset(root / "presets" / "Basses" / f"{i}.fxp", level=0.1 + 0.02 * i, fx={0: "Delay"}, tail=0.05)
    return surge, "render_preset", surge.SurgeConfig((str(root / "presets"),), longest_s=0.2, tail_s=0.1, **SHORT)


@pytest.fixture(scope="module", params=[nsynth_bank, cir_bank, folder_bank, sfz_bank, soundfont_bank, surge_bank])
def case(request, surgepy, tmp_path_factory):
    """The module of a source, the name of its job, a configuration, and the bank of a build in one process."""
    if request.param is sfz_bank:
        pytest.importorskip("pysfizz")
    root = tmp_path_factory.mktemp("source")
    module, job, config = request.param(root)
    return module, job, config, module.build(root / "bank", config, n_jobs=1)


def test_workers_do_not_change_the_bank(case, tmp_path):
    module, _, config, bank = case
    assert contents(module.build(tmp_path / "bank", config, n_jobs=2).paths[0]) == contents(bank.paths[0])


def test_existing_bank_is_opened_unchanged(case, monkeypatch):
    module, _, config, bank = case
    before = {file: file.stat().st_mtime_ns for file in bank.paths[0].iterdir()}
    monkeypatch.setattr(builder, "BankBuilder", None)  # a call would fail
    assert len(module.build(bank.paths[0], config, n_jobs=1)) == len(bank)
    assert {file: file.stat().st_mtime_ns for file in bank.paths[0].iterdir()} == before


def test_interrupted_build_resumes(case, monkeypatch, tmp_path):
    """Ctrl-C within the third job: the next build starts with that job."""
    module, job, config, bank = case
    make, made = getattr(module, job), []

    def interrupted(**arguments):
        made.append(arguments.get("uid", arguments.get("instrument")))
        for item in make(**arguments):
            yield item
            if len(made) == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(module, job, interrupted)
    with pytest.raises(KeyboardInterrupt):
        module.build(tmp_path / "bank", config, n_jobs=1)
    assert not (tmp_path / "bank").exists()
    again = module.build(tmp_path / "bank", config, n_jobs=1)
    assert made[3] == made[2] and len(set(made)) == len(made) - 1
    assert contents(again.paths[0]) == contents(bank.paths[0])
    assert not (tmp_path / "bank.building").exists()
