"""Doing something at a given moment of a job's training, as a client or another worker would."""

from collections.abc import Callable
from typing import Any

from arc_engine.adaptation.steps import AdaptationStep
from worker.record import JobRecord


def after_step(record: JobRecord, step: int, do: Callable[[], object]) -> None:
    """Does something right after a step was sent on its way to the record."""
    recorded = record.step

    def record_and_do(taken: AdaptationStep, **how: Any) -> None:
        recorded(taken, **how)
        if taken.step == step:
            do()

    record.step = record_and_do  # type: ignore[method-assign]
