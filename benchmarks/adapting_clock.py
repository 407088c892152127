"""What a step and the start of a task take, from the moments at which steps ended."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch


@dataclass(frozen=True, slots=True)
class Timing:
    """The seconds of a run, divided into steps and the rest.

    The time up to the end of a job's first step holds its start-up, so only the steps after it are measured as steps:
    `later_s` are the seconds before each of them, since whatever step ended before. Everything else, the way to each
    job's first step and what comes after the last one, is `rest_s`. Both are sums over all processes.
    """

    later_s: float
    num_later: int
    rest_s: float
    num_jobs: int
    num_processes: int = 1

    @property
    def step_s(self) -> float:
        """Seconds per step of one job, of those that all processes take side by side."""
        return self.later_s / self.num_later / self.num_processes

    @property
    def startup_s(self) -> float:
        """Seconds per job beside its steps."""
        return max(0.0, self.rest_s / self.num_jobs / self.num_processes - self.step_s)

    def tasks_per_hour(self, *, steps: int) -> float:
        """Of jobs with so many steps."""
        return 3600 / (self.startup_s + steps * self.step_s)

    @classmethod
    def together(cls, timings: Sequence[Self]) -> Self:
        """Of processes that ran side by side, as if each had as much to do as the others."""
        return cls(
            later_s=sum(one.later_s for one in timings),
            num_later=sum(one.num_later for one in timings),
            rest_s=sum(one.rest_s for one in timings),
            num_jobs=sum(one.num_jobs for one in timings),
            num_processes=len(timings),
        )


class Stopwatch:
    """Runs from its making to `timing`."""

    def __init__(self, *, device: str, steps: int) -> None:
        """`steps` are those of each job."""
        self._on_gpu = device.startswith("cuda")
        self._steps = steps
        self._num_jobs = 0
        self._num_later = 0
        self._later_s = 0.0
        self._rest_s = 0.0
        self._before = self._now()

    def step(self, number: int) -> None:
        """Step `number` of a job, counted from 1, is done.

        Waits for the GPU after a job's first and last step alone: what keeps it busy ahead of time may do so.
        """
        now = self._now() if number in {1, self._steps} else time.perf_counter()
        if number == 1:
            self._num_jobs += 1
            self._rest_s += now - self._before
        else:
            self._num_later += 1
            self._later_s += now - self._before
        self._before = now

    def timing(self) -> Timing:
        """All seconds up to now."""
        return Timing(self._later_s, self._num_later, self._rest_s + self._now() - self._before, self._num_jobs)

    def _now(self) -> float:
        if self._on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()
