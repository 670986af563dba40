"""Configuration fails loudly: what is wrong is named, with the nearest valid name."""

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


def test_values_are_taken():
    assert from_dict(Config, GOOD) == Config(**GOOD)
    assert from_dict(Config, {}) == Config()


def test_what_yaml_cannot_tell_apart_is_converted():
    """Integers for floats, lists for tuples."""
    config = from_dict(Config, {"rate": 1, "shares": [1, 0.5], "limit": None})
    assert config == Config(rate=1.0, shares=(1.0, 0.5))
    assert isinstance(config.rate, float)
    assert all(isinstance(s, float) for s in config.shares)


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("-2E3", -2000.0), ("1.5e+1", 15.0), (".5e0", 0.5)])
def test_numbers_in_scientific_notation(text, value):
    """YAML 1.1 takes those without a dot or a sign for words."""
    config = from_dict(Config, {"rate": text, "shares": [text]})
    assert (config.rate, config.shares) == (value, (value,))
    assert type(config.rate) is float


def test_whole_numbers_in_scientific_notation():
    steps = from_dict(Config, {"steps": "2e4"}).steps
    assert steps == 20000 and type(steps) is int
    with pytest.raises(ValueError, match=r"^Config.steps must be int, not str \('1e-4'\)$"):
        from_dict(Config, {"steps": "1e-4"})


def test_off_is_a_word_where_a_word_is_wanted():
    """YAML 1.1 takes it for no."""
    assert from_dict(Config, {"name": yaml.safe_load("off"), "flag": yaml.safe_load("off")}) == Config(name="off", flag=False)


def test_plain_values_and_back():
    config = Config(**GOOD)
    assert to_dict(config)["shares"] == [0.5, 1.0]
    assert from_dict(Config, to_dict(config)) == config


def test_unknown_key_names_the_nearest_valid_one():
    with pytest.raises(ValueError, match=r"unknown Config parameter 'step' \(did you mean 'steps'\?\); valid: steps, rate"):
        from_dict(Config, {"step": 3})


def test_unknown_key_that_is_near_nothing_names_all():
    with pytest.raises(ValueError, match=r"unknown Config parameter 'zzz'; valid: steps, .*, extra$"):
        from_dict(Config, {"zzz": 3})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", "3", r"Config.steps must be int, not str \('3'\)"),
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
    ],
)
def test_wrong_type(key, value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        from_dict(Config, {key: value})


def test_choose():
    assert choose("colour", "red", ["red", "green"]) == "red"
    with pytest.raises(ValueError, match=r"^unknown colour 'gren' \(did you mean 'green'\?\); valid: red, green$"):
        choose("colour", "gren", ["red", "green"])


def test_read_params(tmp_path):
    (tmp_path / "a.yaml").write_text("loss: triplet\nsteps: 3\n")
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert read_params(tmp_path / "a.yaml") == {"loss": "triplet", "steps": 3}
    assert read_params(str(tmp_path / "empty.yaml")) == {}


def test_missing_params_name_what_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no params file .*c\.yaml; there are: none"):
        read_params(tmp_path / "c.yaml")
    for name in ("b", "a", ".hidden"):
        (tmp_path / f"{name}.yaml").touch()
    with pytest.raises(FileNotFoundError, match=r"no params file .*c\.yaml; there are: a, b$"):
        read_params(tmp_path / "c.yaml")


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
def test_malformed_params(tmp_path, text, message):
    (tmp_path / "a.yaml").write_bytes(text)
    with pytest.raises(ValueError, match=rf"a\.yaml {message}"):
        read_params(tmp_path / "a.yaml")


DECLARED = """steps = 3  # of the optimiser
rate = 0.5
loss = 'triplet'
mix = True
windows: str | list = ''
families = ['Bass', 'Organ']
ideas = []
options = {}
made = len([])
"""


def injected(**values) -> dict:
    """Names of a notebook after papermill injected its cell behind the parameters cell."""
    cell = "# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in values.items())
    names = {"In": ["", "import numpy", DECLARED, cell, "other = 1"]}
    exec(DECLARED + cell, names)
    return names


def test_parameter_that_the_notebook_does_not_declare_is_refused():
    """papermill injects its cell after the parameters cell; other cells may assign what they like."""
    check_parameters(injected(steps=4, made=7))
    with pytest.raises(ValueError, match=r"^unknown parameter 'stepps' \(did you mean 'steps'\?\)"):
        check_parameters(injected(stepps=4))
    check_parameters({"In": ["", DECLARED, "other = 1"]})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 4.0, r"steps must be int, not float \(4.0\)"),
        ("steps", None, r"steps must be int, not NoneType \(None\)"),
        ("rate", "half", r"rate must be float, not str \('half'\)"),
        ("loss", 5, r"loss must be str, not int \(5\)"),
        ("loss", None, r"loss must be str, not NoneType \(None\)"),
        ("mix", "no", r"mix must be True or False, not str \('no'\)"),
        ("mix", 0, r"mix must be True or False, not int \(0\)"),
        ("families", 3, r"families must be list, not int \(3\)"),
        ("families", ["Bass", 3], r"families must be str, not int \(3\)"),
        ("ideas", 3, r"ideas must be list, not int \(3\)"),
        ("options", ["seed"], r"options must be dict, not list \(\['seed'\]\)"),
    ],
)
def test_parameter_of_another_type_than_its_default_is_refused(name, value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_parameters(injected(**{name: value}))


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("rate", -0.5), ("rate", float("inf"))])
def test_parameters_that_must_be_above_zero(name, value):
    check_parameters(injected(steps=1), "steps", "rate")
    with pytest.raises(ValueError, match=f"^{name} must be above 0, got {value}$"):
        check_parameters(injected(steps=1) | {name: value}, "steps", "rate")


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("rate", "1e-4", 1e-4),
        ("rate", 1, 1.0),
        ("mix", False, False),
        ("families", "Bass", ["Bass"]),
        ("families", ["Organ"], ["Organ"]),
        ("ideas", "masked patches", ["masked patches"]),
        ("ideas", [0.5, 1], [0.5, 1]),
        ("ideas", None, []),
        ("options", None, {}),
        ("options", {"seed": 1}, {"seed": 1}),
        ("windows", ["a", "b"], ["a", "b"]),
        ("windows", 5, 5),
        ("made", "any", "any"),
    ],
)
def test_parameters_become_what_they_stand_for(name, value, meant):
    """As from_dict has it; what no plain default tells is left as it is."""
    names = injected(**{name: value})
    check_parameters(names)
    assert names[name] == meant and type(names[name]) is type(meant)
