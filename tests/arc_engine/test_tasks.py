"""Tasks: validation that names the place, and test outputs kept apart from what is trained on."""

import copy
import pickle

import pytest
from hypothesis import given

from arc_engine.errors import InvalidTask
from arc_engine.tasks import MAX_TEST_INPUTS, MAX_TRAIN_PAIRS, Solution, escape_pointer, parse_task
from tests.fixtures.grid_strategies import tasks

pytestmark = pytest.mark.fast

PAIR = {"input": [[1, 2]], "output": [[2, 1]]}
VALID = {"train": [PAIR, copy.deepcopy(PAIR)], "test": [{"input": [[3]], "output": [[4]]}, {"input": [[5]]}]}


def changed(path, value):
    """`VALID` with the value at `path` replaced; a value of None removes it."""
    task = copy.deepcopy(VALID)
    place = task
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return task


@given(tasks)
def test_a_task_survives_json(task):
    assert parse_task(task.to_json()) == (task, Solution((None,) * len(task.test)))


def test_test_outputs_go_to_the_solution_only():
    task, solution = parse_task(VALID)
    assert task.test == (((3,),), ((5,),))
    assert solution.outputs == (((4,),), None)
    assert not solution.known
    assert "output" not in str(task.to_json()["test"])
    assert solution.to_json() == [[[4]], None]


def test_a_solution_is_known_when_every_output_is():
    _, solution = parse_task(changed(["test", 1, "output"], [[6]]))
    assert solution.known


def test_an_output_of_null_is_an_output_that_is_not_there():
    task = copy.deepcopy(VALID)
    task["test"][0]["output"] = None
    assert parse_task(task)[1].outputs == (None, None)


def test_arckits_own_form_with_a_name_is_a_task():
    assert parse_task({**VALID, "name": "007bbfb7"}) == parse_task(VALID)


INVALID = [
    (["train", 0, "input"], [[1, 2, 0], [0, 1, 2], [0, 0, 0], [0, 0, 12]], "/train/0/input/3/2: 12 is not in 0..9"),
    (["train", 1, "output"], [[1], [1, 2]], "/train/1/output/1: row has 2 cells, the first row has 1"),
    (["train", 1, "output"], None, "/train/1/output: is missing"),
    (["train", 1, "input"], None, "/train/1/input: is missing"),
    (["train", 1, "comment"], "hello", "/train/1/comment: is not a field of an ARC task"),
    (["train", 1], [[1]], "/train/1: expected an object with input, output"),
    (["train"], [], "/train: a task has 1 to 30 demonstration pairs, this one has 0"),
    (["train"], [PAIR] * (MAX_TRAIN_PAIRS + 1), "/train: a task has 1 to 30 demonstration pairs, this one has 31"),
    (["train"], {"0": PAIR}, "/train: expected a list of demonstration pairs"),
    (["train"], None, "/train: is missing"),
    (["test"], None, "/test: is missing"),
    (["test"], [], "/test: a task has 1 to 10 test inputs, this one has 0"),
    (["test"], [{"input": [[1]]}] * (MAX_TEST_INPUTS + 1), "/test: a task has 1 to 10 test inputs, this one has 11"),
    (["test", 0, "input"], None, "/test/0/input: is missing"),
    (["test", 0, "output"], [[True]], "/test/0/output/0/0: True is not an integer"),
    (["test", 1, "input"], "", "/test/1/input: a grid is a list of rows"),
    (["solution"], [[1]], "/solution: is not a field of an ARC task"),
    (["a/b~c"], 1, "/a~1b~0c: is not a field of an ARC task"),
]


@pytest.mark.parametrize(("path", "value", "message"), INVALID, ids=[message for _, _, message in INVALID])
def test_a_fault_is_refused_with_its_place(path, value, message):
    with pytest.raises(InvalidTask) as refused:
        parse_task(changed(path, value))
    assert str(refused.value) == message


@pytest.mark.parametrize("value", [None, [], "task", 1, True])
def test_what_is_not_an_object_is_no_task(value):
    with pytest.raises(InvalidTask, match="expected an object with train, test"):
        parse_task(value, pointer="/tasks/abc")


def test_the_pointer_starts_where_the_caller_says():
    with pytest.raises(InvalidTask) as refused:
        parse_task(changed(["train", 0, "input"], [[99]]), pointer="/tasks/abc")
    assert refused.value.pointer == "/tasks/abc/train/0/input/0/0"


def test_a_pointer_can_always_be_sent():
    assert escape_pointer("a/b~c") == "a~1b~0c"
    assert escape_pointer("\ud800x").encode() == b"\\ud800x"


def test_the_error_survives_a_process_border():
    error = InvalidTask("/train/0", "is wrong")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (again.pointer, again.message, str(again)) == (error.pointer, error.message, str(error))
