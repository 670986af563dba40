"""Golden values do not change; tests/golden/make.py wrote them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent / "golden"
spec = importlib.util.spec_from_file_location("golden_make", FOLDER / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)
GOLDEN = json.loads((FOLDER / "golden.json").read_text())


@pytest.fixture(scope="module")
def values(tone_bank) -> dict[str, list[float]]:
    return make.golden(tone_bank)


def test_golden_file_holds_every_value(values):
    assert list(values) == list(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_value_is_unchanged(values, name):
    # bands of a log-mel with little power depend on the rounding of the others
    np.testing.assert_allclose(values[name], GOLDEN[name], rtol=1e-4, atol=5e-4 if name.startswith("log-mel") else 1e-5)
