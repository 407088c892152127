"""What is kept of one way through all tasks, and of everything that was measured before an interruption."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, TypeVar

from arc_engine.datasets.sources import TaskJson
from arc_engine.tasks import parse_task

Record: TypeAlias = dict[str, Any]
Submission: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
"""Kaggle's: per task, per test input `attempt_1` and `attempt_2`."""

DECIMALS: Final = 3
N = TypeVar("N", int, float)


@dataclass(slots=True)
class Timed:
    """Seconds from the beginning to the end, the stages that they are the sum of, and how much was done in them.

    `work` are seconds of stages that several processes were in side by side.
    """

    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    last_losses: dict[str, float] = field(default_factory=dict)

    def add(self, other: Self) -> None:
        """What was done after this, or for another task."""
        self.seconds += other.seconds
        self.stages = _sums(self.stages, other.stages)
        self.work = _sums(self.work, other.work)
        self.counts = _sums(self.counts, other.counts)
        self.last_losses |= other.last_losses

    def record(self, right: Sequence[str]) -> Record:
        """As it is kept, with the tasks that are right."""
        return {
            "seconds": round(self.seconds, DECIMALS),
            "stages": _rounded(self.stages),
            "work": _rounded(self.work),
            "counts": self.counts,
            "last_losses": _rounded(self.last_losses),
            "right": list(right),
        }


def right_tasks(submission: Submission, tasks: Mapping[str, TaskJson]) -> list[str]:
    """The tasks of which every test input has a right attempt. Raises `KeyError` for a task without an answer."""
    return [
        task_id
        for task_id, task_json in tasks.items()
        if all(
            output is not None and output in (entry["attempt_1"], entry["attempt_2"])
            for output, entry in zip(parse_task(task_json)[1].to_json(), submission[task_id], strict=True)
        )
    ]


def _sums(first: Mapping[str, N], second: Mapping[str, N]) -> dict[str, N]:
    return dict(first) | {name: first[name] + value if name in first else value for name, value in second.items()}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, DECIMALS) for name, value in values.items()}


def kept(file: Path, measure: Callable[[], Record]) -> Record:
    """What the file holds; else what is measured now, which the file then holds, all of it or nothing."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(measure()), encoding="utf-8")
        partial.replace(file)
    record: Record = json.loads(file.read_text(encoding="utf-8"))
    return record
