"""Configuration that fails loudly: dataclasses whose unknown or mistyped keys are named with the nearest valid one."""

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

import yaml

from .files import one_line
from .paths import short

MOST_YAML = 1 << 20  # bytes of a file of settings
SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def choose(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return `name` if it is one of `valid`; otherwise raise a ValueError that names the valid ones."""
    valid = list(valid)
    if name in valid:
        return name
    near = difflib.get_close_matches(str(name), valid, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"unknown {kind} {name!r:.100}{hint}; valid: {', '.join(valid)}")


def from_dict(cls, values: dict):
    """Build the dataclass `cls` from plain values; a wrong key or a value of the wrong type is one clear ValueError."""
    if not isinstance(values, dict):
        raise ValueError(f"{cls.__name__} must be `name: value` pairs, got {values!r:.100}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in values:
        choose(f"{cls.__name__} parameter", key, fields)
    return cls(**{key: _typed(f"{cls.__name__}.{key}", value, hints[key]) for key, value in values.items()})


def _typed(name: str, value, hint):
    """`value` as `hint`, or a ValueError. Allowed: int to float, list to tuple, and what YAML makes of `1e-4` (a word) and `off` (no)."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _typed(name, value, next(a for a in args if a is not type(None)))
    if origin is tuple and args[0] is str and isinstance(value, str):
        return (value,)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_typed(name, v, args[0]) for v in value)
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


def check_above_zero(config, *names: str) -> None:
    """ValueError that names the first of these fields that is not above 0 and finite."""
    for name in names:
        value = getattr(config, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0, got {value}")


def to_dict(config) -> dict:
    """Plain values of a dataclass, as YAML and JSON hold them (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def preset_folder(preset: str, params: Path) -> Path:
    """Folder of a preset among the params; ValueError for one without a data file."""
    try:
        return params / choose("preset", preset, sorted({p.parent.name for p in params.glob("*/data*.yaml")}))
    except ValueError as error:
        raise ValueError(f"{error}; a new one is a folder in params/ with a data.yaml that says where its sounds come from") from None


def read_params(path: Path) -> dict:
    """Values of a params file (YAML); an absent or malformed file is one clear error."""
    path = Path(path)
    if not path.is_file():
        siblings = sorted(p.stem for p in path.parent.glob("[!.]*.yaml"))
        raise FileNotFoundError(f"no params file {short(path)}; there are: {', '.join(siblings) or 'none'}")
    try:
        values = _read_yaml(path) or {}
    except Exception as error:  # PyYAML raises whatever the text leads to
        raise ValueError(f"{short(path)} is not valid YAML: {one_line(error)}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{short(path)} must hold 'name: value' lines")
    return values


def _read_yaml(path: Path) -> Any:
    if (size := path.stat().st_size) > MOST_YAML:
        raise ValueError(f"{size} bytes are too many")
    return yaml.load(path.read_text(), _Plain)


class _Plain(yaml.SafeLoader):
    """Plain values, no objects; and no aliases, with which a few lines would become gigabytes where they are written out."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases (*name) are not read: write the value again")
        return super().compose_node(parent, index)


def check_parameters(names: dict[str, Any], *above_zero: str) -> None:
    """Refuse a parameter that the notebook does not declare, which papermill only warns of, of another type than its default, or not
    above 0 where it must be.

    `names` is the notebook's globals(). papermill's injected cell begins with "# Parameters"; what cells before it assign is declared.
    Values are converted as from_dict does; a type that its default does not tell is written beside the name and not checked here.
    """
    defaults: dict[str, Any] = {}
    for source in names["In"]:
        if source.startswith("# Parameters\n"):
            for name in _assigned(source):
                choose("parameter", name, defaults)
                names[name] = _like(defaults[name], name, names[name])
        else:
            defaults |= _assigned(source)
    check_above_zero(types.SimpleNamespace(**{name: names[name] for name in above_zero}), *above_zero)


def _assigned(source: str) -> dict[str, Any]:
    """Simple names that a cell assigns at its top level, with their plain values, else `...`; none if it is not plain Python."""
    try:
        nodes = ast.parse(source).body
    except SyntaxError:
        return {}
    plain = [(t, node.value) for node in nodes if isinstance(node, ast.Assign) for t in node.targets]
    typed = [(node.target, None) for node in nodes if isinstance(node, ast.AnnAssign)]
    return {t.id: _plain(value) for t, value in plain + typed if isinstance(t, ast.Name)}


def _plain(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node) if node else ...
    except ValueError:
        return ...


def _like(default: Any, name: str, value: Any) -> Any:
    """`value` with the type of `default` (`...`: any), or a ValueError; nothing (YAML's `name:`) where the default is empty is that."""
    if default is ...:
        return value
    if value is None and default in ("", [], {}):
        return default
    if not isinstance(default, list):
        return _typed(name, value, type(default))
    kind = type(default[0]) if default else str if isinstance(value, str) else None
    values = _typed(name, value, tuple[kind, ...]) if kind else _typed(name, value, list)
    return list(values)
