"""The body of POST /experiments: read, checked as a whole, and every fault located."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from api.digests import digest
from api.documents import parse_document
from api.experiment_cells import Cell, expand, num_cells
from api.experiment_schemas import ExperimentRequest
from api.problems import Fault, invalid_request, pointer_to
from api.requests import parsed_task
from api.validation import faults_of
from arc_engine.tasks import Solution, Task

MAX_CELLS: Final = 2000
MAX_DOCUMENT_BYTES: Final = 256 * 1024
"""Of an experiment without its tasks. Every cell repeats a part of it."""


@dataclass(frozen=True, slots=True)
class ExperimentSubmission:
    """An experiment that may be stored as it is."""

    name: str
    tasks: Mapping[str, tuple[Task, Solution]]
    cells: Sequence[Cell]
    seeds: Sequence[int]
    document: Mapping[str, Any]
    """The request without its tasks."""
    sha256: str


def parse_experiment(body: bytes, *, max_jobs: int) -> ExperimentSubmission:
    """Checks the body of POST /experiments.

    Raises `Problem`: `invalid_json`, or `invalid_request` that names every fault of the envelope and of the cells, and
    the first fault of each task.
    """
    document = parse_document(body)
    if not isinstance(document, dict):
        raise invalid_request([Fault("", "expected an object with `name` and `tasks`")])
    rest = {name: value for name, value in document.items() if name != "tasks"}
    num_bytes = len(json.dumps(rest, separators=(",", ":")))
    if num_bytes > MAX_DOCUMENT_BYTES:
        message = f"an experiment without its tasks has at most {MAX_DOCUMENT_BYTES} bytes, this one has {num_bytes}"
        raise invalid_request([Fault("", message)])
    faults: list[Fault] = []
    request = _envelope(document, faults)
    tasks = _tasks(document.get("tasks"), faults)
    cells: list[Cell] = []
    if request is not None:
        _check_size(request, max_jobs=max_jobs)
        cells = expand(request, faults=faults)
    if faults or request is None:
        raise invalid_request(faults)
    return ExperimentSubmission(request.name, tasks, cells, request.seeds, rest, digest(document))


def _envelope(document: dict[str, Any], faults: list[Fault]) -> ExperimentRequest | None:
    try:
        return ExperimentRequest.model_validate(document)
    except ValidationError as error:
        faults += [Fault(pointer_to(*path), message) for path, message in faults_of(error)]
        return None


def _check_size(request: ExperimentRequest, *, max_jobs: int) -> None:
    cells = num_cells(request)
    num_jobs = cells * len(request.seeds) * len(request.tasks)
    if num_jobs > max_jobs:
        raise invalid_request([Fault("", f"cells, seeds and tasks make {num_jobs} jobs, {max_jobs} are allowed")])
    if cells > MAX_CELLS:
        raise invalid_request([Fault("", f"there are {cells} cells, {MAX_CELLS} are allowed")])


def _tasks(tasks: object, faults: list[Fault]) -> dict[str, tuple[Task, Solution]]:
    named = tasks if isinstance(tasks, dict) else {}
    parsed = {name: parsed_task(value, pointer_to("tasks", name), faults=faults) for name, value in named.items()}
    return {name: task for name, task in parsed.items() if task is not None}
