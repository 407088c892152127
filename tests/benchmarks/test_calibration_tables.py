import pytest

from benchmarks.calibration import FAMILIES, calibrate, check
from benchmarks.calibration_tables import PARTS
from tests.benchmarks.records import failed, task

pytestmark = pytest.mark.fast


def made_up_calibration(tasks):
    coefficients = calibrate(tasks, fitted_on="made up")
    return {
        "fitted_on": "made up",
        "num_tasks_held_out": len(tasks),
        "families": {family: check(tasks, family=family, coefficients=coefficients.of(family)) for family in FAMILIES},
    }


def test_the_part_shows_both_families():
    part = PARTS["calibration"](made_up_calibration([task(), task(), failed()]))
    assert "Fitted on made up; held out: 3 tasks." in part
    assert part.count("expected calibration error") == 2
    assert "| confidence | attempts | mean confidence | right |" in part
