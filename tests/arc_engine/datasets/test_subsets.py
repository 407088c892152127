from itertools import pairwise

import pytest

from arc_engine.datasets.sources import TaskJson
from arc_engine.datasets.subsets import Subset, prompt_length, take
from arc_engine.errors import InvalidTaskSource

pytestmark = pytest.mark.fast


def task(num_cells: int) -> TaskJson:
    return {"train": [{"input": [[1] * num_cells], "output": [[1]]}], "test": [{"input": [[1]]}]}


# The longer a name stands from the start of the alphabet, the shorter its task; "b" and "c" are equal.
TASKS = {"a": task(9), "d": task(1), "c": task(3), "b": task(3), "e": task(7)}


def test_everything_is_taken_without_rules():
    assert take(TASKS, Subset()) == TASKS
    assert list(take(TASKS, Subset())) == list(TASKS)


def test_the_first_tasks_are_taken():
    assert list(take(TASKS, Subset(limit=2))) == ["a", "d"]
    assert list(take(TASKS, Subset(limit=99))) == list(TASKS)


def test_the_shortest_tasks_are_taken_equal_ones_by_id():
    assert list(take(TASKS, Subset(limit=3, shortest=True))) == ["d", "b", "c"]


def test_named_tasks_are_taken():
    assert list(take(TASKS, Subset(ids=("e", "d")))) == ["d", "e"]
    assert list(take(TASKS, Subset(ids=("e", "d"), limit=1))) == ["d"]


def test_a_seed_draws_and_a_larger_limit_holds_the_smaller_draw():
    draws = [list(take(TASKS, Subset(limit=limit, seed=7))) for limit in range(1, 6)]
    assert all(larger[: len(smaller)] == smaller for smaller, larger in pairwise(draws))
    assert set(draws[-1]) == set(TASKS)
    assert len({tuple(take(TASKS, Subset(limit=2, seed=seed))) for seed in range(20)}) > 5


def test_the_draw_does_not_depend_on_the_order_of_the_dataset():
    turned = dict(reversed(TASKS.items()))
    assert list(take(TASKS, Subset(limit=3, seed=1))) == list(take(turned, Subset(limit=3, seed=1)))


def test_an_unknown_id_is_named():
    with pytest.raises(InvalidTaskSource, match="among the 5 of the dataset: nope, neither"):
        take(TASKS, Subset(ids=("a", "nope", "neither")))


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"limit": 0}, "at least one task"),
        ({"limit": 2, "seed": 0, "shortest": True}, "choose one"),
        ({"seed": 0}, "limit how many"),
        ({"shortest": True}, "limit how many"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(rules: dict[str, int], why: str):
    with pytest.raises(InvalidTaskSource, match=why):
        Subset(**rules)


def test_the_length_is_that_of_the_longest_prompt():
    task = {"train": [{"input": [[1, 2]], "output": [[3]]}], "test": [{"input": [[1]]}, {"input": [[1, 2], [3, 4]]}]}
    assert prompt_length(task) == len("I12O3") + len("I12\n34O")
