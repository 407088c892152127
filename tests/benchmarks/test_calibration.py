import pytest

from arc_engine.selection.confidence import Coefficients
from benchmarks.calibration import attempts, calibrate, check, halves
from benchmarks.sampling_plan import SAMPLERS
from tests.benchmarks.records import RIGHT, WRONG, failed, sampled, task

pytestmark = pytest.mark.fast


def test_a_task_is_on_one_side_whatever_the_others_are():
    tasks = [task(f"{number:08x}") for number in range(40)]
    fitted_to, held_out = halves(tasks)
    assert sorted(one["task_id"] for one in fitted_to + held_out) == [one["task_id"] for one in tasks]
    assert fitted_to
    assert held_out
    assert halves(tasks[::-3])[0] == [one for one in tasks[::-3] if one in fitted_to]


def test_attempts_of_failed_tasks_and_samplers_are_no_rows():
    tasks = [task(greedy={"error": "task_too_long"}), failed()]
    rows = list(attempts(tasks, family="counting"))
    assert len(rows) == 2 * (len(SAMPLERS) - 1)
    assert [judged.right for judged in rows[0]] == [True, False]
    assert len(list(attempts([task()], family="rescoring"))) == 3 * len(SAMPLERS)


def test_what_is_fitted_tells_right_from_wrong():
    fitted = calibrate([task()], fitted_on="made up")
    [first, second], *_ = attempts([task()], family="counting")
    assert fitted.counting.probability(first.features) > 0.9
    assert fitted.counting.probability(second.features) < 0.1


def test_the_second_attempt_has_what_the_first_leaves():
    both_likely = [RIGHT, [1.0, *WRONG[1:]]]
    sure = Coefficients(intercept=0.0, share=2.0, log_probability=0.0, lead=0.0, first=0.0)
    tasks = [task(**{name: sampled(attempts=both_likely) for name in SAMPLERS})]
    bins = [one for one in check(tasks, family="counting", coefficients=sure)["bins"] if one["count"]]
    assert [one["share_right"] for one in bins] == [0.0, 1.0]
    assert sum(one["mean_confidence"] for one in bins) == pytest.approx(1)


def test_one_attempt_is_one_forecast():
    tasks = [task(**{name: sampled(attempts=[RIGHT]) for name in SAMPLERS})]
    checked = check(tasks, family="counting", coefficients=calibrate([task()], fitted_on="made up").counting)
    assert checked["num_forecasts"] == 2 * len(SAMPLERS)
