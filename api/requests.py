"""The body of POST /solve: read, checked as a whole, and every fault located."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from api.digests import digest
from api.documents import parse_document
from api.problems import Fault, invalid_request, pointer_to
from api.schemas import SolveRequest
from api.validation import faults_of
from arc_engine.errors import InvalidTask
from arc_engine.settings import SolveSettings
from arc_engine.tasks import Solution, Task, parse_task


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that may be stored as it is."""

    tasks: Mapping[str, tuple[Task, Solution]]
    settings: SolveSettings
    name: str | None
    sha256: str
    """Of the body: the same for a request that is only written in another way."""


def parse_submission(body: bytes, *, max_tasks: int) -> Submission:
    """Checks the body of POST /solve.

    Raises `Problem`: `invalid_json`, or `invalid_request` that names every fault of the envelope and the settings,
    and the first fault of each task.
    """
    document = parse_document(body)
    if not isinstance(document, dict):
        raise invalid_request([Fault("", "expected an object with `task` or `tasks`")])
    faults: list[Fault] = []
    request = _envelope(document, faults)
    tasks = {
        name: parsed
        for name, value, pointer in _named(document)
        if (parsed := parsed_task(value, pointer, faults=faults))
    }
    if isinstance(document.get("tasks"), dict) and len(document["tasks"]) > max_tasks:
        faults.append(
            Fault("/tasks", f"a request has at most {max_tasks} tasks, this one has {len(document['tasks'])}")
        )
    if faults or request is None:
        raise invalid_request(faults)
    if "task" in document:
        tasks = {request.task_id: tasks["task"]}
    return Submission(tasks, request.settings, request.name, digest(document))


def _envelope(document: dict[str, Any], faults: list[Fault]) -> SolveRequest | None:
    try:
        return SolveRequest.model_validate(document)
    except ValidationError as error:
        faults.extend(Fault(pointer_to(*path), message) for path, message in faults_of(error))
        return None


def _named(document: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Name, JSON and pointer of every task in the body."""
    if "task" in document:
        yield "task", document["task"], "/task"
    elif isinstance(tasks := document.get("tasks"), dict):
        for name, value in tasks.items():
            yield name, value, pointer_to("tasks", name)


def parsed_task(value: object, pointer: str, *, faults: list[Fault]) -> tuple[Task, Solution] | None:
    """The task at `pointer`; None where it is none, which is added to `faults`."""
    try:
        return parse_task(value, pointer=pointer)
    except InvalidTask as error:
        faults.append(Fault(error.pointer, error.message))
        return None
