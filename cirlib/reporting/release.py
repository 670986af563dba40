"""Make the folder of the encoder that comes with cirlib from a checkpoint of training.

config.json and model.safetensors (float16), model.onnx (runs without torch), presence.json if 09_open_mixtures wrote one beside the
checkpoint, and README.md, the model card, which `python -m cirlib.reporting.results` writes again when results change. In a clone, the
README at the root gets the output of `python -m cirlib.search example`.

python -m cirlib.reporting.release CHECKPOINT [FOLDER]
"""

import os
import subprocess
import sys
from pathlib import Path

from ..common.command_line import arguments, clean_exit
from ..common.files import write_atomic
from ..common.paths import FIGURES, ROOT, at_home, short
from ..common.untrusted import read_json
from ..data.trained_on import describe
from ..evaluation.open_mixtures import Presence
from ..evaluation.protocol import open_banks
from ..models.encoder import AudioEncoder, digest
from ..models.onnx import export_onnx
from ..models.pretrained import PLACE
from ..training.config import TrainConfig, read_config, shown_values
from .model_card import model_card
from .records import curve
from .results import with_block


def release(checkpoint: str, folder: Path = PLACE, figures: Path = FIGURES) -> Path:
    """Write the folder of an encoder whose checkpoint lies in the folder of its run. Returns `folder`.

    Raises FileNotFoundError without a run, or without its banks if the checkpoint does not describe them; ValueError for weights that
    float16 cannot hold.
    """
    place = Path(checkpoint) if Path(checkpoint).is_file() else at_home(checkpoint)
    trained, run = AudioEncoder.load(place), place.parent
    config, _ = read_config(run)
    trained.config.metric = config.metric
    trained.trained_on = trained.trained_on or describe(open_banks(config.bank))
    trained.save_folder(folder, training=_training(run, config))
    encoder = AudioEncoder.load(folder)
    export_onnx(encoder, folder / "model.onnx")
    (folder / "presence.json").unlink(missing_ok=True)
    if presence := Presence.load(run / "presence.json", digest(trained)):
        presence.save(folder / "presence.json", digest(encoder))
    write_atomic(folder / "README.md", lambda part: part.write_text(model_card(folder, figures)))
    return folder


def _training(run: Path, config: TrainConfig) -> dict:
    """Return how the encoder was trained, as plain data: command, settings, clips, minutes, machine, code and validation.

    Clips and minutes include those of the run that it continues.
    """
    made, runs = read_json(run / "provenance.json"), [run]
    while (start := read_config(runs[-1])[0].encoder).endswith(".pt"):
        runs.append(at_home(start).parent)
    validated, configs = [curve(one)[-1] for one in runs if curve(one)], [read_config(one)[0] for one in runs]
    return {
        "command": f"make reproduce PRESET={config.preset} ROWS={config.experiment} SEEDS={config.seed}", "settings": shown_values(config),
        "clips_seen": sum(c.steps * c.batch_size for c in configs), "minutes": sum(last["minutes"] for last in validated),
        "valid": read_json(run / "train.json")["valid"],
        **{name: made[name] for name in ("git", "code", "device", "versions")},
    }  # fmt: skip


def example_block() -> str:
    """Return the output of `python -m cirlib.search example` as a block of Markdown."""
    home = {**os.environ, "CIRLIB_HOME": str(ROOT)}  # so that paths are relative to it
    command = [sys.executable, "-m", "cirlib.search", "example"]
    done = subprocess.run(command, cwd=ROOT, env=home, stdout=subprocess.PIPE, text=True, check=True)
    return f"```text\n{done.stdout}```\n"


def main() -> None:
    """python -m cirlib.reporting.release CHECKPOINT [FOLDER]"""
    checkpoint, *folder = arguments(main.__doc__, 1, 2)
    with clean_exit():
        for file in sorted(release(checkpoint, *map(Path, folder)).iterdir()):
            print(f"{short(file)}: {file.stat().st_size / 1e6:.2f} MB")
        readme = ROOT / "README.md"
        if not folder and readme.is_file():
            text = with_block(readme.read_text(), example_block(), "example")
            write_atomic(readme, lambda part: part.write_text(text))


if __name__ == "__main__":
    main()
