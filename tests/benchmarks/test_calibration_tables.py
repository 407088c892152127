import pytest

from benchmarks.calibration import FAMILIES, check
from benchmarks.calibration_tables import PARTS
from tests.benchmarks.records import failed, task

pytestmark = pytest.mark.fast


def made_up_calibration(tasks):
    return {
        "fitted_on": "made up",
        "num_folds": 5,
        "families": {family: check(tasks, family=family) for family in FAMILIES},
    }


def test_the_part_shows_both_families():
    part = PARTS["calibration"](made_up_calibration([*(task(f"{number:08x}") for number in range(40)), failed()]))
    assert "Fitted on made up; 5 folds." in part
    assert part.count("expected calibration error") == 2
    assert "| confidence | attempts | mean confidence | right |" in part
