"""The tasks of a run: read, chosen, kept apart from validation, and checked against the evaluation splits."""

from dataclasses import dataclass
from pathlib import Path

from arc_engine.base_finetuning.recipe import Recipe, TrainingPrompt
from arc_engine.datasets.contamination import EvaluationGuard
from arc_engine.datasets.sources import TaskJson
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
    evaluation_tasks: dict[str, str]
    """Training tasks found to be evaluation tasks, and which; trained on only if that was allowed."""


def load_data(recipe: Recipe, *, folder: Path = Path(), allow_evaluation_tasks: bool = False) -> Data:
    """Reads the sources of the recipe, relative paths from `folder`.

    A task that validation has, under whatever id and view, is not trained on.

    Raises `InvalidTaskSource` for sources that cannot be read, that leave nothing, or tasks without their outputs, and
    `ContaminatedDataset` for evaluation tasks to train on, unless the recipe leaves them out or they are allowed.
    """
    validation = {} if recipe.validation is None else recipe.validation.load(folder)
    held_out, guard = EvaluationGuard([validation]), EvaluationGuard()
    evaluation_tasks: dict[str, str] = {}
    parts = []
    for source in recipe.data:
        documents = source.load(folder)
        found = guard.find(documents)
        evaluation_tasks |= found
        dropped = set(held_out.find(documents))
        if recipe.evaluation_tasks == "leave_out":
            dropped |= set(found)
        elif not allow_evaluation_tasks:
            guard.check({task_id: documents[task_id] for task_id in found if task_id not in dropped})
        kept = {task_id: document for task_id, document in documents.items() if task_id not in dropped}
        if not kept:
            raise InvalidTaskSource(f"{source.source}: no task is left, without those of validation and evaluation")
        parts.append(Part(_solved(kept, source=source.source), source.prompt, source.weight))
    validation_source = "" if recipe.validation is None else recipe.validation.source
    return Data(tuple(parts), _solved(validation, source=validation_source), evaluation_tasks)


def _solved(documents: dict[str, TaskJson], *, source: str) -> tuple[SolvedTask, ...]:
    tasks = []
    for task_id in sorted(documents):  # the draws do not depend on the order in which the source came
        task, solution = parse_task(documents[task_id])
        tests = []
        for number, (grid, output) in enumerate(zip(task.test, solution.outputs, strict=True)):
            if output is None:
                raise InvalidTaskSource(f"{source}: task {task_id} has no output for test input {number}")
            tests.append(Pair(grid, output))
        tasks.append(SolvedTask(task_id, task.train, tuple(tests)))
    return tuple(tasks)
