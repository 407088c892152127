"""The leave-one-out ("n-1") form of a dataset: tasks made of the demonstrations of others.

Each demonstration in turn becomes the test of a task of its own. What was tried on such tasks has not seen the original
tests, so settings can be chosen on them.
"""

from collections.abc import Mapping
from typing import Final

from arc_engine.datasets.sources import TaskJson

FEWEST_DEMONSTRATIONS: Final = 2


def leave_one_out(tasks: Mapping[str, TaskJson]) -> dict[str, TaskJson]:
    """For every task of n demonstrations n tasks, `ID-0` to `ID-<n-1>`, each with another one as its test.

    The original test pairs are in none of them. A task with one demonstration gives none: nothing would be left.
    """
    return {
        f"{task_id}-{held_out}": _without(task, held_out)
        for task_id, task in tasks.items()
        if len(task["train"]) >= FEWEST_DEMONSTRATIONS
        for held_out in range(len(task["train"]))
    }


def _without(task: TaskJson, held_out: int) -> TaskJson:
    demonstrations = [pair for index, pair in enumerate(task["train"]) if index != held_out]
    return {"train": demonstrations, "test": [task["train"][held_out]]}
