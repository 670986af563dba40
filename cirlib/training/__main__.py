"""Train one row from a shell: python -m cirlib.training PARAMS.yaml [name=value ...]"""

import dataclasses
import json
from pathlib import Path

import yaml

from ..common import paths
from ..common.command_line import arguments, clean_exit
from ..common.settings import read_params
from ..data.sources import ensure_banks
from ..models import distributed
from .config import row_config
from .loop import fit
from .runs import TrainingError


def main() -> None:
    """python -m cirlib.training params/demo/triplet-24.yaml [name=value ...]

    On several GPUs or machines: accelerate launch -m cirlib.training ... or torchrun --nproc-per-node 4 -m cirlib.training ...
    """
    file, *pairs = arguments(main.__doc__, 1)
    with clean_exit(TrainingError, yaml.YAMLError, stopped=""):  # fit says from where it resumes
        values = read_params(Path(file))
        values |= {name: yaml.safe_load(value) for name, _, value in (a.partition("=") for a in pairs)}
        config = row_config(values)  # checks the settings before banks are built, which may take long
        bank = ensure_banks(config.preset)
        run = fit(config if "bank" in values else dataclasses.replace(config, bank=tuple(paths.short(p) for p in bank.paths)))
    if distributed.rank() == 0:
        print(json.dumps({"run": paths.short(run.folder), **run.metrics}, indent=1))
    distributed.end()


if __name__ == "__main__":
    main()
