"""The tasks of a run: read, chosen, and the validation tasks kept apart from the training tasks."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from arc_engine.base_finetuning.recipe import Recipe, TaskSource, TrainingPrompt
from arc_engine.datasets.sources import TaskJson, load_tasks
from arc_engine.errors import InvalidTaskSource
from arc_engine.tasks import Pair, parse_task


@dataclass(frozen=True, slots=True)
class SolvedTask:
    """A task with all its outputs, which may all be trained on. At test time there is no such thing: see `Task`."""

    task_id: str
    demonstrations: tuple[Pair, ...]
    tests: tuple[Pair, ...]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All pairs, the test pairs last."""
        return self.demonstrations + self.tests


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the mixture."""

    tasks: tuple[SolvedTask, ...]
    prompt: TrainingPrompt
    weight: float


@dataclass(frozen=True, slots=True)
class Data:
    """Everything that a run reads."""

    parts: tuple[Part, ...]
    validation: tuple[SolvedTask, ...]


def load_data(recipe: Recipe) -> Data:
    """Reads the sources of the recipe. A task that validation has, under whatever id, is not trained on.

    Raises `InvalidTaskSource` for sources that cannot be read, that leave nothing, or tasks without their outputs.
    """
    validation = () if recipe.validation is None else _solved(recipe.validation, seed=recipe.seed)
    held_out = {frozenset(task.pairs) for task in validation}
    parts = []
    for source in recipe.data:
        tasks = tuple(task for task in _solved(source, seed=recipe.seed) if frozenset(task.pairs) not in held_out)
        if not tasks:
            raise InvalidTaskSource(f"{source.source}: all its tasks are validation tasks")
        parts.append(Part(tasks, source.prompt, source.weight))
    return Data(tuple(parts), validation)


def _solved(source: TaskSource, *, seed: int) -> tuple[SolvedTask, ...]:
    documents = load_tasks([source.source])
    chosen = _chosen(sorted(documents), source=source, seed=seed)
    return tuple(_solved_task(task_id, documents[task_id], source=source.source) for task_id in chosen)


def _chosen(task_ids: Sequence[str], *, source: TaskSource, seed: int) -> list[str]:
    for task_id in (*(source.ids or ()), *source.exclude):
        if task_id not in task_ids:
            raise InvalidTaskSource(f"{source.source}: has no task {task_id}")
    wanted = task_ids if source.ids is None else source.ids
    chosen = [task_id for task_id in wanted if task_id not in source.exclude]
    if source.limit is not None and source.limit < len(chosen):
        chosen = sorted(random.Random(f"limit {seed}").sample(chosen, source.limit))
    if not chosen:
        raise InvalidTaskSource(f"{source.source}: no tasks are left")
    return chosen


def _solved_task(task_id: str, document: TaskJson, *, source: str) -> SolvedTask:
    task, solution = parse_task(document)
    tests = []
    for number, (grid, output) in enumerate(zip(task.test, solution.outputs, strict=True)):
        if output is None:
            raise InvalidTaskSource(f"{source}: task {task_id} has no output for test input {number}")
        tests.append(Pair(grid, output))
    return SolvedTask(task_id, task.train, tuple(tests))
