"""Libraries from a shell: python -m cirlib.search.library build|add|remove|search|info."""

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path

from ..common import paths
from ..common.command_line import clean_exit
from .library import Changes, Library

TOLD = 10  # files that are left out


def main(arguments: list[str] | None = None) -> None:
    """Run one command; errors are one sentence and exit status 1."""
    options = _parser().parse_args(arguments)
    with clean_exit(
        stopped="stopped; what was embedded is kept, the same command goes on" if options.run in (_build, _add) else "stopped"
    ):
        options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cirlib.search.library", description="Index sounds, search them with a sound or a mix.")
    commands = parser.add_subparsers(required=True, metavar="build|add|remove|search|info")

    def command(name: str, run, help: str, *arguments: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help)
        made.add_argument("library", help="name of a library in lib/, or a path")
        for argument in arguments:
            made.add_argument(argument, help={"sounds": "folder of sounds, or note bank", "query": "audio file"}[argument])
        made.add_argument("--json", action="store_true", help="print JSON")
        made.set_defaults(run=run)
        return made

    build = command("build", _build, "make a library of a folder or note bank, or bring it up to date", "sounds")
    build.add_argument("--encoder", default="", help="checkpoint (.pt), hub id or folder of a trained encoder; needed for a new library")
    build.add_argument("--metric", default="", help="cosine or l2; what the encoder was trained with unless told")
    command("add", _add, "embed what is new or changed in a folder or note bank, forget what is gone", "sounds")
    command("remove", _remove, "forget the sounds of a folder or note bank, also of one that is gone", "sounds")
    search = command("search", _search, "the instruments that sound like a file", "query")
    search.add_argument("--family", help="only instruments of this family")
    search.add_argument("-k", type=int, default=5, help="how many (5)")
    search.add_argument("--windows", action="store_true", help="search a long file window by window")
    search.add_argument("--mix", action="store_true", help="the query is a mix or a melody, no single sound: a short one is repeated")
    search.add_argument("--families", action="store_true", help="the nearest instrument of each family, and how sure it is that it plays")
    command("info", _info, "what a library holds")
    return parser


def _place(name: str) -> Path:
    """lib/<name> for a plain name, else the path."""
    return Path(name).expanduser() if "/" in name or name in (".", "..") else paths.LIB / name


def _build(options) -> None:
    place = _place(options.library)
    if not options.encoder and (place / "library.json").is_file():
        if options.metric not in ("", Library.open(place).metric):
            raise ValueError(f"{options.library} has {Library.open(place).metric} distance: build another library for {options.metric}")
        return _add(options)
    if not options.encoder:
        raise ValueError("a new library needs --encoder: a checkpoint such as runs/demo/family-infonce/seed0/best.pt, a hub id or a folder")
    encoder = Path(options.encoder).expanduser()  # relative to where one is, as all paths here, or else to the project
    encoder = str(encoder.resolve()) if encoder.exists() else options.encoder
    library = Library.build(options.sounds, encoder, place, options.metric, show=not options.json)
    _tell_changes(library.changes, options.json)


def _add(options) -> None:
    _tell_changes(Library.open(_place(options.library)).add(options.sounds, show=not options.json), options.json)


def _remove(options) -> None:
    _tell_changes(Library.open(_place(options.library)).remove(options.sounds), options.json)


def _tell_changes(changes: Changes, as_json: bool) -> None:
    if as_json:
        return print(json.dumps(asdict(changes), indent=1))
    print(f"{changes.new} new, {changes.changed} changed, {changes.removed} removed, {changes.unchanged} unchanged", end="")
    print(f", {len(changes.left_out)} left out:" if changes.left_out else "")
    for file, reason in list(changes.left_out.items())[:TOLD]:
        print(f"  {file}: {reason}")
    if len(changes.left_out) > TOLD:
        print(f"  and {len(changes.left_out) - TOLD} more (--json lists all)")


def _search(options) -> None:
    if options.families and (options.family or options.windows):
        raise ValueError("--families tells the best of every family for the whole query: leave out --family and --windows")
    library, query = Library.open(_place(options.library)), Path(options.query)
    if options.families:
        found = library.families(query)
    else:
        found = library.search(query, options.family, options.k, options.windows, mix=options.mix)
    if options.json:
        rows = found.astype(object).where(found.notna(), None).to_dict("records")
        return print(json.dumps({"query": options.query, "found": rows}, indent=1))
    if options.families and found.presence.isna().all():
        found = found.drop(columns="presence")
        print(f"whether a family plays at all is not told: run {_presence_command(library.info['encoder'])} first")
    found = found.assign(family=found.family.fillna(""), path=found.path.map(paths.short))
    print(found.drop(columns=["source", "seconds"]).to_string(index=False, float_format="{:.3f}".format, na_rep=""))


def _presence_command(encoder: str) -> str:
    """What writes presence.json beside an encoder."""
    found = re.fullmatch(r"runs/([^/]+)/([^/]+)/seed(\d+)/best\.pt", encoder)
    if not found:
        return "notebooks/09_open_mixtures.ipynb for the run of this encoder"
    preset, experiment, seed = found.groups()
    return f"`papermill 09_open_mixtures.ipynb out.ipynb -p preset {preset} -p experiment {experiment} -p seed {seed}` in notebooks/"


def _info(options) -> None:
    held = Library.open(_place(options.library)).describe()
    if options.json:
        return print(json.dumps(held, indent=1))
    for name, value in held.items():
        print(f"{name}: {', '.join(f'{k} ({n})' for k, n in value.items()) if isinstance(value, dict) else value}")


if __name__ == "__main__":
    main()
