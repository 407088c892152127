import json

import pytest

from benchmarks import pipeline
from benchmarks.pipeline import measure_round
from benchmarks.pipeline_plan import Plan
from benchmarks.pipeline_record import Timed, kept, right_tasks
from benchmarks.pipeline_summary import COLD, SCRIPTS, TOGETHER, TUNED, WARM
from tests.benchmarks.pipeline_records import measured_round

pytestmark = pytest.mark.fast

PAIR = {"input": [[1]], "output": [[2]]}
TASKS = {
    "one": {"train": [PAIR], "test": [PAIR]},
    "two": {"train": [PAIR], "test": [PAIR, {"input": [[3]], "output": [[4]]}]},
}


def attempts(first, second):
    return {"attempt_1": [[first]], "attempt_2": [[second]]}


def test_a_task_is_right_when_every_test_input_is():
    submission = {"one": [attempts(0, 2)], "two": [attempts(2, 0), attempts(4, 4)]}
    assert right_tasks(submission, TASKS) == ["one", "two"]
    assert right_tasks({**submission, "two": [attempts(2, 0), attempts(2, 0)]}, TASKS) == ["one"]


def test_a_submission_that_lacks_a_task_or_an_input_is_an_error():
    with pytest.raises(KeyError):
        right_tasks({"one": [attempts(2, 2)]}, TASKS)
    with pytest.raises(ValueError, match="shorter"):
        right_tasks({"one": [attempts(2, 2)], "two": [attempts(2, 2)]}, TASKS)


def test_what_follows_is_added():
    timed = Timed(1.0, {"load": 1.0}, counts={"steps": 2}, last_losses={"a": 0.5})
    timed.add(Timed(3.0, {"load": 0.5, "merge": 2.5}, counts={"steps": 2, "completions": 4}, last_losses={"b": 0.25}))
    assert timed.record(right=["a"]) == {
        "seconds": 4.0,
        "stages": {"load": 1.5, "merge": 2.5},
        "work": {},
        "counts": {"steps": 4, "completions": 4},
        "last_losses": {"a": 0.5, "b": 0.25},
        "right": ["a"],
    }


def test_what_was_measured_is_not_measured_again(tmp_path):
    file = tmp_path / "round" / "scripts.json"

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(file, interrupted)
    assert kept(file, lambda: {"seconds": 1.0}) == {"seconds": 1.0}
    assert kept(file, interrupted) == {"seconds": 1.0}


def test_a_round_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    made_up = measured_round()
    (tmp_path / "scripts.json").write_text(json.dumps(made_up[SCRIPTS]))
    (tmp_path / "tuned.json").write_text(json.dumps(made_up[TUNED]))
    (tmp_path / "service.json").write_text(json.dumps({way: made_up[way] for way in (COLD, WARM)}))
    plan = Plan("m", tmp_path, ("one",), steps=1, num_views=1, max_new_tokens=None, num_workers=1, seed=0)
    measured = []

    def together(tasks, *, plan, folder):
        measured.append(folder)
        return made_up[TOGETHER]

    monkeypatch.setattr(pipeline, "_together", together)
    for _ in range(2):
        assert measure_round(TASKS, plan=plan, folder=tmp_path) == made_up
    assert measured == [tmp_path / "together"]


def test_plans_that_mean_something_else_have_another_name(tmp_path):
    plan = {"base_model": "m", "base": tmp_path, "steps": 1, "num_views": 1, "max_new_tokens": None, "seed": 0}
    names = {
        Plan(**plan, task_ids=task_ids, num_workers=num_workers).digest()
        for task_ids in (("one",), ("one", "two"))
        for num_workers in (1, 2)
    }
    assert len(names) == 4
