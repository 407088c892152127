"""What an installed package brings: every file of the source tree that the code reads at run time."""

import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("package", ["arc_engine"])
def test_every_data_file_is_packaged(package: str):
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packaged = {path for pattern in data[package] for path in (ROOT / package).glob(pattern)}
    beside_code = {
        path
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert ROOT / "arc_engine/pretraining/model_card.md" in beside_code
    assert beside_code - packaged == set()
