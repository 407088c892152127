"""When a training ends."""

import statistics
from collections import deque
from typing import Final, Literal, TypeAlias

from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.settings import AdaptationSettings

StopCause: TypeAlias = Literal["max_steps", "stop_loss", "time_budget"]

NUM_STOP_LOSSES: Final = 10
"""Single losses jump with the sequences that they are of: `stop_loss` is about the mean of this many."""


class StopRule:
    """Looks at every step and says whether it was the last one."""

    def __init__(self, settings: AdaptationSettings) -> None:
        self._settings = settings
        self._losses: deque[float] = deque(maxlen=NUM_STOP_LOSSES)

    def after(self, step: AdaptationStep) -> StopCause | None:
        """Why the training ends with `step`; None if it goes on. To be asked once per step, in order."""
        self._losses.append(step.loss)
        if step.step >= self._settings.max_steps:
            return "max_steps"
        if self._is_low(self._settings.stop_loss):
            return "stop_loss"
        if self._settings.time_budget_s is not None and step.elapsed_s >= self._settings.time_budget_s:
            return "time_budget"
        return None

    def _is_low(self, stop_loss: float | None) -> bool:
        if stop_loss is None or len(self._losses) < NUM_STOP_LOSSES:
            return False
        return statistics.fmean(self._losses) < stop_loss
