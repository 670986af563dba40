"""Settings: values are converted or refused with a clear message; params files and parameters of notebooks are checked."""

import dataclasses

import pytest
import yaml

from cirlib.common.settings import check_parameters, choose, from_dict, read_params, to_dict


@dataclasses.dataclass
class Config:
    """One field of each kind that configurations have."""

    steps: int = 10
    rate: float = 0.5
    name: str = "a"
    shares: tuple[float, ...] = ()
    limit: int | None = None
    flag: bool = False
    extra: dict = dataclasses.field(default_factory=dict)


GOOD = {"steps": 3, "rate": 0.1, "name": "b", "shares": (0.5, 1.0), "limit": 4, "flag": True, "extra": {"x": 1}}


def test_dict_and_dataclass_round_trip():
    assert from_dict(Config, GOOD) == Config(**GOOD) and from_dict(Config, {}) == Config()
    assert to_dict(Config(**GOOD))["shares"] == [0.5, 1.0]
    assert from_dict(Config, to_dict(Config(**GOOD))) == Config(**GOOD)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("rate", "1", 1.0),
        ("rate", "1e-4", 1e-4),  # text in YAML 1.1
        ("rate", "-2E3", -2000.0),
        ("rate", "1.5e+1", 15.0),
        ("rate", ".5e0", 0.5),
        ("steps", "2e4", 20000),
        ("name", "off", "off"),  # False in YAML 1.1
        ("flag", "off", False),
        ("shares", "[1, 1e-4]", (1.0, 1e-4)),
        ("limit", "", None),
    ],
)
def test_yaml_values_are_converted(key, text, value):
    got = getattr(from_dict(Config, {key: yaml.safe_load(text)}), key)
    assert got == value and type(got) is type(value)
    if key == "shares":
        assert all(type(share) is float for share in got)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", "3", r"Config.steps must be int, not str \('3'\)"),
        ("steps", "1e-4", r"Config.steps must be int, not str \('1e-4'\)"),
        ("steps", 3.0, r"Config.steps must be int, not float \(3.0\)"),
        ("steps", True, r"Config.steps must be int, not bool \(True\)"),
        ("steps", None, r"Config.steps must be int, not NoneType \(None\)"),
        ("rate", "fast", r"Config.rate must be float, not str \('fast'\)"),
        ("rate", True, r"Config.rate must be float, not bool \(True\)"),
        ("rate", "1e", r"Config.rate must be float, not str \('1e'\)"),
        ("name", True, r"Config.name must be str, not bool \(True\)"),
        ("name", 1, r"Config.name must be str, not int \(1\)"),
        ("shares", 0.5, r"Config.shares must be list, not float \(0.5\)"),
        ("shares", [0.5, "x"], r"Config.shares must be float, not str \('x'\)"),
        ("limit", "x", r"Config.limit must be int, not str \('x'\)"),
        ("flag", 1, r"Config.flag must be True or False, not int \(1\)"),
        ("extra", [1], r"Config.extra must be dict, not list \(\[1\]\)"),
        ("step", 3, r"unknown Config parameter 'step' \(did you mean 'steps'\?\); valid: steps, .*, extra"),
        ("zzz", 3, r"unknown Config parameter 'zzz'; valid: steps, rate, .*, extra"),
    ],
)
def test_wrong_key_or_type_is_refused(key, value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        from_dict(Config, {key: value})


def test_choose_suggests_the_nearest_name():
    assert choose("colour", "red", ["red", "green"]) == "red"
    with pytest.raises(ValueError, match=r"^unknown colour 'gren' \(did you mean 'green'\?\); valid: red, green$"):
        choose("colour", "gren", ["red", "green"])


def params(folder, **texts):
    """Params files of a preset: name -> text; returns its folder."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_params_file_is_read(tmp_path):
    folder = params(tmp_path, a="loss: triplet\nsteps: 3\n", empty="# nothing yet\n")
    assert read_params(folder / "a.yaml") == {"loss": "triplet", "steps": 3}
    assert read_params(str(folder / "empty.yaml")) == {}


def test_included_params_are_overridden(tmp_path):
    demo = params(tmp_path / "demo", base="steps: 3\nrate: 0.5\n", row="include: base.yaml\nsteps: 4\n")
    more = params(tmp_path / "more", base="include: ../demo/base.yaml\nrate: 1\nname: b\n", row="{include: base.yaml, name: c}")
    assert read_params(demo / "row.yaml") == {"steps": 4, "rate": 0.5}
    assert read_params(more / "row.yaml") == {"steps": 3, "rate": 1, "name": "c"}


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("row.yaml", r"row\.yaml includes itself"),
        ("cycle.yaml", r"row\.yaml includes itself"),
        ("../../secret.yaml", r"row\.yaml: include must stay in params/, got '../../secret.yaml'"),
        ("/etc/secret.yaml", r"row\.yaml: include must stay in params/"),
        ("link.yaml", r"row\.yaml: include must stay in params/"),
        ("[a.yaml, b.yaml]", r"row\.yaml: include must name one params file, got \['a.yaml', 'b.yaml'\]"),
        ("base", r"row\.yaml: include must name one params file, got 'base'"),
        ("none.yaml", r"no params file .*none\.yaml; there are: cycle, link, row"),
    ],
)
def test_wrong_include_is_refused(tmp_path, include, message):
    folder = params(tmp_path / "params", x="").joinpath("demo")
    params(folder, row=f"include: {include}", cycle="include: row.yaml")
    (tmp_path / "secret.yaml").write_text("a: 1")
    (folder / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_params(folder / "row.yaml")


def test_missing_params_file_lists_its_siblings(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no params file .*c\.yaml; there are: none"):
        read_params(tmp_path / "c.yaml")
    (tmp_path / ".hidden.yaml").touch()
    with pytest.raises(FileNotFoundError, match=r"no params file .*c\.yaml; there are: a, b$"):
        read_params(params(tmp_path, b="", a="") / "c.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"loss: [triplet", "is not valid YAML"),
        (b"- triplet\n", "must hold 'name: value' lines"),
        (b"triplet", "must hold 'name: value' lines"),
        (b"loss: \xff\xfe", "is not valid YAML"),
    ],
    ids=["unclosed", "a list", "a word", "not text"],
)
def test_malformed_params_file_is_refused(tmp_path, text, message):
    (tmp_path / "a.yaml").write_bytes(text)
    with pytest.raises(ValueError, match=rf"a\.yaml {message}"):
        read_params(tmp_path / "a.yaml")


DECLARED = """steps: int = 3  # of the optimiser
rate = 0.5
loss = 'triplet'
mix = True
windows: str = ''
families = ['Bass', 'Organ']
path: list[str] = []
seeds: list[int] = [0]
ideas = []
options = {}
made = len([])
"""


def injected(**values) -> dict:
    """Global names of a notebook after papermill injected its cell behind the parameters cell."""
    cell = "# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in values.items())
    names = {"In": ["", "import numpy", DECLARED, cell, "other = 1"]}
    exec(DECLARED + cell, names)
    return names


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("steps", 4, 4),
        ("rate", "1e-4", 1e-4),
        ("rate", 1, 1.0),
        ("mix", False, False),
        ("families", "Bass", ["Bass"]),
        ("families", ["Organ"], ["Organ"]),
        ("seeds", 3, [3]),
        ("path", "a.sf2", ["a.sf2"]),
        ("path", None, []),
        # text that papermill or YAML took for something else
        ("path", 808, ["808"]),
        ("path", [808, "a"], ["808", "a"]),
        ("path", True, ["true"]),
        ("families", 3, ["3"]),
        ("loss", 5, "5"),
        ("loss", 2.5, "2.5"),
        ("loss", True, "true"),
        ("loss", False, "off"),
        ("windows", None, ""),
        ("ideas", "masked patches", ["masked patches"]),
        ("ideas", [0.5, 1], [0.5, 1]),
        ("ideas", None, []),
        ("options", None, {}),
        ("options", {"seed": 1}, {"seed": 1}),
        ("made", "any", "any"),  # computed: any type
    ],
)
def test_parameters_are_converted(name, value, expected):
    names = injected(**{name: value})
    check_parameters(names)
    assert names[name] == expected and type(names[name]) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stepps", 4, r"unknown parameter 'stepps' \(did you mean 'steps'\?\); valid: .*"),
        ("include", "base.yaml", "unknown parameter 'include'; valid: .*"),
        ("steps", 4.0, r"steps must be int, not float \(4.0\)"),
        ("steps", None, r"steps must be int, not NoneType \(None\)"),
        ("rate", "half", r"rate must be float, not str \('half'\)"),
        ("loss", {}, r"loss must be str, not dict \({}\)"),
        ("loss", [5], r"loss must be str, not list \(\['5'\]\)"),
        ("loss", None, r"loss must be str, not NoneType \(None\)"),
        ("mix", "no", r"mix must be True or False, not str \('no'\)"),
        ("mix", 0, r"mix must be True or False, not int \(0\)"),
        ("families", {}, r"families must be list, not dict \({}\)"),
        ("families", ["Bass", [3]], r"families must be str, not list \(\[3\]\)"),
        ("seeds", "one", r"seeds must be list, not str \('one'\)"),
        ("ideas", 3, r"ideas must be list, not int \(3\)"),
        ("options", ["seed"], r"options must be dict, not list \(\['seed'\]\)"),
    ],
)
def test_wrong_parameters_are_refused(name, value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_parameters(injected(**{name: value}))


def test_included_values_are_parameters(tmp_path, monkeypatch):
    """As after `papermill -f params/p/row.yaml`; values of the row override them, unknown names are refused."""
    monkeypatch.setattr("cirlib.common.settings.PARAMS", tmp_path)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "base.yaml").write_text("{steps: 7, rate: 1}")
    names = {"In": ['preset: str = ""\nsteps: int = 1\nrate: float = 0.5', '# Parameters\npreset = "p"\ninclude = "base.yaml"\nsteps = 9']}
    names |= {"preset": "p", "include": "base.yaml", "steps": 9, "rate": 0.5}
    check_parameters(names)
    assert (names["steps"], names["rate"]) == (9, 1.0)
    (tmp_path / "p" / "base.yaml").write_text("stepps: 7")
    with pytest.raises(ValueError, match="unknown parameter 'stepps'"):
        check_parameters(names)
    with pytest.raises(ValueError, match=r"include must stay in params/"):
        check_parameters(names | {"include": "../../secret.yaml"})


def test_other_cells_may_assign_any_name():
    check_parameters({"In": ["", DECLARED, "other = 1"]})


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("rate", -0.5), ("rate", float("inf"))])
def test_parameters_must_be_above_zero(name, value):
    check_parameters(injected(steps=1), "steps", "rate")
    with pytest.raises(ValueError, match=f"^{name} must be above 0, got {value}$"):
        check_parameters(injected(steps=1) | {name: value}, "steps", "rate")
