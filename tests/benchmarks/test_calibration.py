import pytest

from benchmarks.calibration import attempts, calibrate, check, folds
from benchmarks.sampling_plan import SAMPLERS
from tests.benchmarks.records import RIGHT, WRONG, failed, sampled, task

pytestmark = pytest.mark.fast


def test_a_task_is_in_one_fold_whatever_the_others_are():
    tasks = [task(f"{number:08x}") for number in range(40)]
    dealt = folds(tasks)
    assert sorted(one["task_id"] for fold in dealt for one in fold) == [one["task_id"] for one in tasks]
    assert all(dealt)
    assert folds(tasks[::-3])[0] == [one for one in tasks[::-3] if one in dealt[0]]


def test_a_confidence_is_not_fitted_to_the_task_it_is_about():
    tasks = [task(f"{number:08x}") for number in range(40)]
    (odd, *_), (other, *_), *_ = folds(tasks)
    odd["samplers"] = {
        name: sampled(attempts=[[*attempt[:4], not attempt[4], *attempt[5:]] for attempt in (RIGHT, WRONG)])
        for name in SAMPLERS
    }
    # Each is judged by the other, which says the opposite.
    bins = [one for one in check([odd, other], family="counting")["bins"] if one["count"]]
    assert bins[0]["share_right"] == 1
    assert bins[-1]["share_right"] == 0


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
    tasks = [
        task(f"{number:08x}", **{name: sampled(attempts=both_likely) for name in SAMPLERS}) for number in range(40)
    ]
    checked = check(tasks, family="counting")
    num_inputs = checked["num_forecasts"] / 2
    assert sum(one["count"] * one["mean_confidence"] for one in checked["bins"] if one["count"]) <= num_inputs


def test_one_attempt_is_one_forecast():
    tasks = [task(f"{number:08x}", **{name: sampled(attempts=[RIGHT]) for name in SAMPLERS}) for number in range(40)]
    assert check(tasks, family="counting")["num_forecasts"] == 2 * len(SAMPLERS) * len(tasks)
