"""Settings with clear errors: dataclasses from plain values, params files (YAML), and the parameters of notebooks."""

import ast
import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .files import one_line
from .paths import PARAMS, plain_name, short
from .untrusted import inside, read_yaml

SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # YAML reads some of these as text


def choose(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return `name` if it is one of `valid`; otherwise raise a ValueError that lists the valid names."""
    valid = list(valid)
    if name in valid:
        return name
    near = difflib.get_close_matches(str(name), valid, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"unknown {kind} {name!r:.100}{hint}; valid: {', '.join(valid)}")


def from_dict(cls, values: dict):
    """Build the dataclass `cls` from plain values. Raises ValueError for an unknown key or a value of the wrong type."""
    if not isinstance(values, dict):
        raise ValueError(f"{cls.__name__} must be `name: value` pairs, got {values!r:.100}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in values:
        choose(f"{cls.__name__} parameter", key, fields)
    return cls(**{key: _converted(f"{cls.__name__}.{key}", value, hints[key]) for key, value in values.items()})


def _converted(name: str, value, hint):
    """Return `value` as the type `hint`: int as float, list as tuple, "1e-4" as a number, `off` (False in YAML) as text."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _converted(name, value, next(a for a in args if a is not type(None)))
    if origin is tuple and args[0] is str and isinstance(value, str):
        return (value,)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_converted(name, v, args[0]) for v in value)
    if origin is dict and isinstance(value, dict):
        return value
    if hint in (int, float) and isinstance(value, str) and SCIENTIFIC.fullmatch(value) and (hint is float or float(value).is_integer()):
        return hint(float(value))
    if hint is str and value is False:
        return "off"
    if hint is float and type(value) is int and abs(value) < 1e300:
        return float(value)
    if type(value) is hint:
        return value
    kind = {bool: "True or False", tuple: "list"}.get(origin or hint, getattr(hint, "__name__", hint))
    raise ValueError(f"{name} must be {kind}, not {type(value).__name__} ({value!r:.100})")


def to_dict(config) -> dict:
    """Return the fields of a dataclass as plain values for YAML and JSON (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def check_above_zero(config, *names: str) -> None:
    """Raise ValueError for the first of these fields that is not above 0 and finite."""
    for name in names:
        value = getattr(config, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0, got {value}")


def preset_folder(preset: str, params: Path) -> Path:
    """Return the folder of a preset in `params`. Raises ValueError if there is none with a data file."""
    if not params.is_dir():
        raise ValueError("presets are in the repository, not in the installed package: clone it and run this there")
    try:
        return params / choose("preset", preset, sorted({p.parent.name for p in params.glob("*/data*.yaml")}))
    except ValueError as error:
        raise ValueError(f"{error}; a new preset is a folder in params/ with a data.yaml that says where its sounds come from") from None


def read_params(path: Path) -> dict:
    """Return the values of a params file (YAML).

    `include: base.yaml` or `include: ../demo/base.yaml` takes the values of another params file; those of the file itself override them.
    Raises FileNotFoundError or ValueError if a file is absent or malformed, or if files include each other.
    """
    return _read_params(Path(path), ())


def _read_params(path: Path, parents: tuple[Path, ...]) -> dict:
    if not path.is_file():
        siblings = sorted(p.stem for p in path.parent.glob("[!.]*.yaml"))
        raise FileNotFoundError(f"no params file {short(path)}; there are: {', '.join(siblings) or 'none'}")
    if (place := path.resolve()) in parents:
        raise ValueError(f"{short(path)} includes itself, directly or through other files: remove an include")
    try:
        values = read_yaml(path) or {}
    except Exception as error:  # PyYAML raises whatever the text leads to
        raise ValueError(f"{short(path)} is not valid YAML: {one_line(error)}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{short(path)} must hold 'name: value' lines")
    if (name := values.pop("include", None)) is None:
        return values
    return {**_read_params(_included(path, name), (*parents, place)), **values}


def _included(path: Path, name: Any) -> Path:
    """Return the file that the params file `path` includes under this name."""
    if not isinstance(name, str) or not name.endswith(".yaml"):
        raise ValueError(f"{short(path)}: include must name one params file, got {name!r:.100}")
    try:
        return inside(path.parent.parent, Path(path.parent.name, name))
    except ValueError:
        raise ValueError(f"{short(path)}: include must stay in params/, got {name!r:.100}") from None


def check_parameters(names: dict[str, Any], *above_zero: str) -> None:
    """Check the parameters that papermill injected into a notebook and convert them as from_dict does.

    `names` is the notebook's globals(). Raises ValueError for a parameter that no earlier cell declares (papermill only warns), of
    another type than its default (unless it is annotated as `A | B`, or computed), or not above 0 if it is one of `above_zero`.
    Text that papermill took for a number or a truth value (`-p path 808`) is text again.

    `papermill -f params/<preset>/<row>.yaml` injects an `include` as it is; the values of that file are taken from params/<preset>.
    """
    defaults: dict[str, tuple[Any, str]] = {}
    for source in names["In"]:
        if source.startswith("# Parameters\n"):  # the cell that papermill injects
            for name, value in _injected(source, names).items():
                choose("parameter", name, defaults)
                names[name] = _like(*defaults[name], name=name, value=value)
        else:
            defaults |= _assigned(source)
    check_above_zero(types.SimpleNamespace(**{name: names[name] for name in above_zero}), *above_zero)


def _injected(source: str, names: dict[str, Any]) -> dict[str, Any]:
    """Return the values that papermill injected, with those of the params file that they include."""
    values = {name: names[name] for name in _assigned(source)}
    if not {"include", "preset"} <= values.keys():
        return values
    row = PARAMS / plain_name("preset", values["preset"]) / "row.yaml"
    return {**read_params(_included(row, values.pop("include"))), **values}


def _assigned(source: str) -> dict[str, tuple[Any, str]]:
    """Return the names that a cell assigns at its top level: value and annotation; {} if it is not plain Python.

    The value is `...` if it is not a literal, or if the annotation `A | B` allows more types than that of the value.
    """
    try:
        nodes = ast.parse(source).body
    except SyntaxError:
        return {}
    found = [(target, node.value, "") for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    for node in nodes:
        if isinstance(node, ast.AnnAssign):
            several = isinstance(node.annotation, ast.BinOp)
            found.append((node.target, None if several else node.value, ast.unparse(node.annotation)))
    return {target.id: (_literal(value), annotation) for target, value, annotation in found if isinstance(target, ast.Name)}


def _literal(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node) if node else ...
    except ValueError:
        return ...


def _like(default: Any, annotation: str, *, name: str, value: Any) -> Any:
    """Return `value` as the type of `default` (`...`: any type). None, YAML's empty value, becomes an empty default."""
    text = annotation == "list[str]" or (isinstance(default, list) and default and isinstance(default[0], str))
    if isinstance(default, str) or text:
        value = _as_text(name, value)
    if default is ...:
        return value
    if value is None and default in ("", [], {}):
        return default
    if not isinstance(default, list):
        return _converted(name, value, type(default))
    kind = str if text else type(default[0]) if default else str if isinstance(value, str) else None
    if kind and type(value) is kind:
        value = [value]
    return list(_converted(name, value, tuple[kind, ...])) if kind else _converted(name, value, list)


def _as_text(name: str, value: Any) -> Any:
    """Return a number, True or None for a text, or a list of these, as the command line of papermill has it, else as YAML writes it."""
    values = value if isinstance(value, list) else [value]
    if all(isinstance(v, str) for v in values):
        return value
    if name in (given := _command_line()):
        return given[name]
    plain = [json.dumps(v) if v is True or type(v) in (int, float) else v for v in values]
    return plain if isinstance(value, list) else plain[0]


def _command_line() -> dict[str, str]:
    """Return the parameters `-p name text` of the papermill process that started this kernel; {} if none did."""
    try:
        import psutil
        from papermill.cli import papermill

        words = psutil.Process().parent().cmdline()
        first = [Path(word).stem for word in words].index("papermill") + 1
        return dict(papermill.make_context("papermill", words[first:], resilient_parsing=True).params["parameters"])
    except Exception:  # no papermill, one with other options, or a process that may not be read
        return {}
