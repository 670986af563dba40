"""Command line of libraries: python -m cirlib.search build|add|remove|search|map|info NAME ..., or example"""

import argparse
import json
import tempfile
import webbrowser
from dataclasses import asdict
from pathlib import Path

from ..common import paths
from ..common.command_line import clean_exit
from ..data.taxonomy import KINDS
from . import example, results
from .library import Library
from .update import Changes

MAX_LINES = 10  # of skipped files, and of remarks; --json prints all


def main(arguments: list[str] | None = None) -> None:
    """Run one command. Errors are one sentence and exit status 1."""
    options = _parser().parse_args(arguments)
    writes = options.run in (_build, _add)
    with clean_exit(stopped="stopped; sounds embedded so far are stored, run the same command to resume" if writes else "stopped"):
        options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cirlib.search", description="Index folders of sounds, then search them with a mix.")
    commands = parser.add_subparsers(required=True, metavar="build|add|remove|search|map|info|example")

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
    add = command(_add, "add a folder or note bank, or bring its sounds up to date", sounds=sounds)
    for writes in (build, add):
        writes.add_argument("--links", action="store_true", help="follow links out of the folder, and links to folders")
    command(_remove, "remove the sounds of a folder or note bank, which need not exist any more", sounds=sounds)
    query = "audio file; or the number of a result of the last search, to find more like it"
    _search_options(command(_search, "list the instruments most similar to a mix or a sound", query=query))
    show = command(_map, "draw all instruments as a map to browse and listen to, and open it in the browser")
    show.add_argument("--no-open", action="store_true", help="write the page only")
    command(_info, "show what a library holds")
    commands.add_parser("example", help="search the bundled mix in a dozen bundled notes").set_defaults(run=_example)
    return parser


def _search_options(search: argparse.ArgumentParser) -> None:
    what = search.add_argument_group("what is searched")
    what.add_argument("--families", action="store_true", help="list which families play, with probability, and the best matches of each")
    what.add_argument("--no-mix", dest="mix", action="store_false", help="the file is a single sound, not a mix or a melody")
    what.add_argument("--no-sections", dest="sections", action="store_false", help="search a long mix only as a whole")
    what.add_argument("--family", help="only this family, such as Bass")
    what.add_argument("--kind", help=f"only this kind of sound: note, {', '.join(KINDS)}")
    what.add_argument(
        "--not",
        dest="exclude",
        action="append",
        default=[],
        metavar="NAME",
        help="without this instrument, folder or word; can be repeated",
    )
    what.add_argument("-k", type=int, help="number of matches (default: 5, with --families 3 of each)")
    results = search.add_argument_group("what is made of the matches")
    results.add_argument("--copy-to", metavar="FOLDER", help="copy the sounds to a new folder, numbered, with matches.csv")
    results.add_argument("--playlist", metavar="FILE", help="write a playlist (.m3u8)")
    results.add_argument("--page", metavar="FILE", help="write a page to listen to (.html)")


def _place(name: str) -> Path:
    """Return lib/<name> for a plain name, else the path."""
    return Path(name).expanduser() if "/" in name or name in (".", "..") else paths.LIB / name


def _build(options) -> None:
    encoder = options.encoder
    if encoder and Path(encoder).expanduser().exists():  # relative to the working directory; otherwise to the project's home
        encoder = str(Path(encoder).expanduser().resolve())
    how = {"metric": options.metric, "links": options.links, "show": not options.json}
    _print_changes(Library.build(options.sounds, _place(options.library), encoder, **how).changes, options.json)


def _add(options) -> None:
    _print_changes(Library.open(_place(options.library)).add(options.sounds, links=options.links, show=not options.json), options.json)


def _remove(options) -> None:
    _print_changes(Library.open(_place(options.library)).remove(options.sounds), options.json)


def _print_changes(changes: Changes, as_json: bool) -> None:
    if as_json:
        return print(json.dumps(asdict(changes), indent=1))
    print(f"{changes.new} new, {changes.changed} changed, {changes.removed} removed, {changes.unchanged} unchanged", end="")
    print(f", {len(changes.skipped)} skipped:" if changes.skipped else "")
    for entries, title in ((changes.skipped, ""), (changes.noted, f"{len(changes.noted)} with a remark:\n")):
        print(end=title if entries else "")
        for file, reason in list(entries.items())[:MAX_LINES]:
            print(f"  {file}: {reason}")
        if len(entries) > MAX_LINES:
            print(f"  and {len(entries) - MAX_LINES} more (--json lists all)")


def _search(options) -> None:
    is_number = options.query.isdecimal() and not Path(options.query).exists()
    if options.families and (options.family or is_number or not options.mix):
        raise ValueError("--families searches every family with a mix: name an audio file, and omit --family and --no-mix")
    for place, suffixes in ((options.playlist, results.PLAYLISTS), (options.page, results.PAGES)):  # before anything is written
        if place:
            results.check_suffix(place, *suffixes)
    library = Library.open(_place(options.library))
    query = results.recall(library, int(options.query)) if is_number else Path(options.query)
    how = {"k": options.k if options.k is not None else 3 if options.families else 5, "kind": options.kind, "exclude": options.exclude}
    how["sections"] = options.sections and options.mix and not is_number
    how |= {} if options.families else {"family": options.family, "mix": options.mix}
    find = library.families if options.families else library.search
    matches = find(query, **how)
    results.remember(library, matches)
    if options.copy_to:
        matches = results.copy_matches(library, matches, options.copy_to)
    if options.playlist:
        results.write_playlist(matches, options.playlist)
    if options.page:
        from . import pages

        asked = ", ".join(f"{name}={value!r}" for name, value in how.items() if value not in (None, []))
        call = f"found = library.{find.__name__}({'match' if is_number else repr(options.query)}, {asked})"
        pages.search_page(library, query, matches, options.page, call=call)
    if options.json:
        return print(json.dumps({"query": options.query, **results.plain(matches)}, indent=1))
    if options.families and matches.presence.isna().all():
        print("no probabilities: run notebooks/09_open_mixtures.ipynb for this encoder first")
    print(results.text(matches))


def _map(options) -> None:
    from . import pages

    library = Library.open(_place(options.library))
    page = pages.library_map(library, library.path.with_name(f"{library.path.name}.search") / "map.html")
    print(json.dumps({"page": str(page)}) if options.json else page)
    if not options.no_open:
        webbrowser.open(page.as_uri())


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
