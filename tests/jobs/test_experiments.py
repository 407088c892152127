"""In which order the jobs of an experiment are queued; what becomes of them is tested through the API."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from arc_engine.settings import SolveSettings
from jobs.experiments import in_working_order

pytestmark = pytest.mark.fast


@dataclass(frozen=True)
class Cell:
    name: str
    settings: SolveSettings
    changes: dict[str, Any] = field(default_factory=dict)


def queued(**settings: dict[str, Any]) -> list[tuple[str, int]]:
    cells = [Cell(name, SolveSettings.model_validate(each)) for name, each in settings.items()]
    return [(cell.name, seed) for cell, seed in in_working_order(cells, [0, 1])]


def test_depth_first_jobs_which_another_backend_may_answer_come_together():
    order = queued(
        greedy={}, searched={"sampling": {"method": "dfs"}}, drawn={"sampling": {"method": "sample", "temperature": 1}}
    )
    assert order == [
        *(("greedy", 0), ("drawn", 0), ("greedy", 1), ("drawn", 1)),
        *(("searched", 0), ("searched", 1)),
    ]
