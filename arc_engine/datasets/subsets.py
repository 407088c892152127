"""Taking some of the tasks of a dataset, by a rule that can be written down and repeated."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from arc_engine.datasets.sources import TaskJson
from arc_engine.encoders import MinimalGridEncoder
from arc_engine.errors import InvalidTaskSource
from arc_engine.prompts import render
from arc_engine.tasks import parse_task


@dataclass(frozen=True, slots=True)
class Subset:
    """Which tasks to take: those named by `ids`, or all, and of these at most `limit`.

    The `limit` tasks are the first ones, or with a `seed` drawn at random, or the `shortest`. A larger limit holds the
    tasks of a smaller one. Raises `InvalidTaskSource` for rules that contradict each other.
    """

    limit: int | None = None
    ids: tuple[str, ...] = ()
    seed: int | None = None
    shortest: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InvalidTaskSource(f"limit {self.limit}: a subset has at least one task")
        if self.seed is not None and self.shortest:
            raise InvalidTaskSource("seed draws tasks at random and shortest takes the shortest: choose one")
        if self.limit is None and (self.seed is not None or self.shortest):
            raise InvalidTaskSource("seed and shortest say which tasks are taken, limit how many: it is missing")


def take(tasks: Mapping[str, TaskJson], subset: Subset) -> dict[str, TaskJson]:
    """The tasks of the subset, in the order in which they are taken.

    Raises `InvalidTaskSource` for ids that the dataset does not have.
    """
    unknown = [task_id for task_id in subset.ids if task_id not in tasks]
    if unknown:
        raise InvalidTaskSource(f"no such task among the {len(tasks)} of the dataset: {', '.join(unknown)}")
    named = [task_id for task_id in tasks if not subset.ids or task_id in subset.ids]
    return {task_id: tasks[task_id] for task_id in _in_turn(named, tasks=tasks, subset=subset)[: subset.limit]}


def _in_turn(task_ids: Iterable[str], *, tasks: Mapping[str, TaskJson], subset: Subset) -> list[str]:
    if subset.shortest:
        return sorted(task_ids, key=lambda task_id: (prompt_length(tasks[task_id]), task_id))
    if subset.seed is not None:
        shuffled = sorted(task_ids)  # the draw does not depend on the order in which the dataset came
        random.Random(subset.seed).shuffle(shuffled)
        return shuffled
    return list(task_ids)


def prompt_length(task_json: TaskJson) -> int:
    """Characters of the task's longest compact prompt, about as many as `arc-mini` reads tokens."""
    task, _ = parse_task(task_json)
    prompts = (render(task.train, query=query, encoder=MinimalGridEncoder()) for query in task.test)
    return max(sum(len(segment.text) for segment in prompt) for prompt in prompts)
