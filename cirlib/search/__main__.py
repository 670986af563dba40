"""Command line of libraries: python -m cirlib.search build|add|remove|search|info NAME ..., or example"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from ..common import paths
from ..common.command_line import clean_exit
from . import example
from .library import Library
from .update import Changes

MAX_LINES = 10  # of skipped files; --json prints all


def main(arguments: list[str] | None = None) -> None:
    """Run one command. Errors are one sentence and exit status 1."""
    options = _parser().parse_args(arguments)
    writes = options.run in (_build, _add)
    with clean_exit(stopped="stopped; sounds embedded so far are stored, run the same command to resume" if writes else "stopped"):
        options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cirlib.search", description="Index folders of sounds, then search them with a mix.")
    commands = parser.add_subparsers(required=True, metavar="build|add|remove|search|info|example")

    def command(run, help: str, **arguments: str) -> argparse.ArgumentParser:
        added = commands.add_parser(run.__name__.strip("_"), help=help, description=help)
        for name, text in {"library": "name of a library in lib/, or a path", **arguments}.items():
            added.add_argument(name, help=text)
        added.add_argument("--json", action="store_true", help="print JSON")
        added.set_defaults(run=run)
        return added

    sounds = "folder of sounds, or note bank"
    build = command(_build, "create a library from a folder or note bank, or bring it up to date", sounds=sounds)
    build.add_argument("--encoder", help="trained encoder: checkpoint (.pt), hub id or folder (default: the one that comes with cirlib)")
    build.add_argument("--metric", default="", help="cosine or l2 (default: what the encoder was trained with)")
    command(_add, "add a folder or note bank, or bring its sounds up to date", sounds=sounds)
    command(_remove, "remove the sounds of a folder or note bank, which need not exist any more", sounds=sounds)
    search = command(_search, "list the instruments most similar to an audio file", query="audio file")
    search.add_argument("--family", help="search only this family, such as Bass")
    search.add_argument("-k", type=int, default=5, help="number of matches (default: 5)")
    help = "the file is a mix or a melody (default), or a single sound"
    search.add_argument("--mix", action=argparse.BooleanOptionalAction, default=True, help=help)
    search.add_argument("--windows", action="store_true", help="search each window of a long file separately")
    search.add_argument("--families", action="store_true", help="list the best match of each family, and the probability of the family")
    command(_info, "show what a library holds")
    commands.add_parser("example", help="search the bundled mix in a dozen bundled notes").set_defaults(run=_example)
    return parser


def _place(name: str) -> Path:
    """Return lib/<name> for a plain name, else the path."""
    return Path(name).expanduser() if "/" in name or name in (".", "..") else paths.LIB / name


def _build(options) -> None:
    encoder = options.encoder
    if encoder and Path(encoder).expanduser().exists():  # relative to the working directory; otherwise to the project's home
        encoder = str(Path(encoder).expanduser().resolve())
    library = Library.build(options.sounds, _place(options.library), encoder, metric=options.metric, show=not options.json)
    _print_changes(library.changes, options.json)


def _add(options) -> None:
    _print_changes(Library.open(_place(options.library)).add(options.sounds, show=not options.json), options.json)


def _remove(options) -> None:
    _print_changes(Library.open(_place(options.library)).remove(options.sounds), options.json)


def _print_changes(changes: Changes, as_json: bool) -> None:
    if as_json:
        return print(json.dumps(asdict(changes), indent=1))
    print(f"{changes.new} new, {changes.changed} changed, {changes.removed} removed, {changes.unchanged} unchanged", end="")
    print(f", {len(changes.skipped)} skipped:" if changes.skipped else "")
    for file, reason in list(changes.skipped.items())[:MAX_LINES]:
        print(f"  {file}: {reason}")
    if len(changes.skipped) > MAX_LINES:
        print(f"  and {len(changes.skipped) - MAX_LINES} more (--json lists all)")


def _search(options) -> None:
    if options.families and (options.family or options.windows):
        raise ValueError("--families searches every family with the whole file: omit --family and --windows")
    library, query = Library.open(_place(options.library)), Path(options.query)
    if options.families:
        matches = library.families(query)
    else:
        matches = library.search(query, options.family, k=options.k, mix=options.mix, windows=options.windows)
    if options.json:
        rows = matches.astype(object).where(matches.notna(), None).to_dict("records")
        return print(json.dumps({"query": options.query, "matches": rows}, indent=1))
    if options.families and matches.presence.isna().all():
        matches = matches.drop(columns="presence")
        print("no probabilities: run notebooks/09_open_mixtures.ipynb for this encoder first")
    matches = matches.assign(family=matches.family.fillna(""), path=matches.path.map(paths.short))
    print(matches.drop(columns=["source", "seconds"]).to_string(index=False, float_format="{:.3f}".format, na_rep=""))


def _example(options) -> None:
    with tempfile.TemporaryDirectory(prefix="cirlib-") as folder:
        Library.build(example.NOTES, folder)
        main(["search", folder, str(example.MIX), "--families"])


def _info(options) -> None:
    content = Library.open(_place(options.library)).describe()
    if options.json:
        return print(json.dumps(content, indent=1))
    for name, value in content.items():
        print(f"{name}: {', '.join(f'{k} ({n})' for k, n in value.items()) if isinstance(value, dict) else value}")


if __name__ == "__main__":
    main()
