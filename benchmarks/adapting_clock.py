"""What a step and the start of a task take."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch


@dataclass(frozen=True, slots=True)
class Timing:
    """The seconds of a run, divided into steps and the rest, both summed up over its processes."""

    steps_s: float
    num_steps: int
    """Of those that `steps_s` is about."""
    startup_total_s: float
    num_jobs: int
    num_processes: int = 1

    @property
    def step_s(self) -> float:
        """Seconds per step of one job, of those that all processes take side by side."""
        return self.steps_s / self.num_steps / self.num_processes

    @property
    def startup_s(self) -> float:
        """Seconds per job beside its steps."""
        return self.startup_total_s / self.num_jobs / self.num_processes

    def tasks_per_hour(self, *, steps: int) -> float:
        """Of jobs with so many steps."""
        return 3600 / (self.startup_s + steps * self.step_s)

    @classmethod
    def together(cls, timings: Sequence[Self]) -> Self:
        """Of processes that ran side by side, as if each had as much to do as the others."""
        return cls(
            steps_s=sum(one.steps_s for one in timings),
            num_steps=sum(one.num_steps for one in timings),
            startup_total_s=sum(one.startup_total_s for one in timings),
            num_jobs=sum(one.num_jobs for one in timings),
            num_processes=len(timings),
        )


class OneByOne:
    """Times jobs that are trained one after the other. Runs from its making to `timing`.

    The seconds up to the end of a job's first step hold its start-up, so that only the steps after it are timed; what
    those seconds have more than a step is start-up, and so is what follows a job's last step.
    """

    def __init__(self, *, device: str, steps: int) -> None:
        """`steps` are those of each job."""
        self._device = device
        self._steps = steps
        self._num_jobs = 0
        self._num_later = 0
        self._later_s = 0.0
        self._rest_s = 0.0
        self._before = _now(device)

    def step(self, number: int) -> None:
        """Step `number` of a job, counted from 1, is done.

        Waits for the GPU after a job's first and last step alone: what keeps it busy ahead of time may do so.
        """
        now = _now(self._device) if number in {1, self._steps} else time.perf_counter()
        if number == 1:
            self._num_jobs += 1
            self._rest_s += now - self._before
        else:
            self._num_later += 1
            self._later_s += now - self._before
        self._before = now

    def timing(self) -> Timing:
        """All seconds up to now."""
        rest_s = self._rest_s + _now(self._device) - self._before
        first_steps_s = self._num_jobs * self._later_s / self._num_later
        return Timing(self._later_s, self._num_later, max(0.0, rest_s - first_steps_s), self._num_jobs)


class Together:
    """Times jobs that are trained in common passes. Runs from its making to `timing`.

    Start-up is what is done for one job alone: making its run, and exporting its adapter after its last step.
    Everything else counts as steps, the first ones and what a pack begins with too.
    """

    def __init__(self, *, device: str) -> None:
        self._device = device
        self._num_jobs = 0
        self._num_steps = 0
        self._startup_s = 0.0
        self._begun = self._stepped = _now(device)

    @contextmanager
    def startup(self) -> Iterator[None]:
        """A job is got ready."""
        begun = time.perf_counter()
        yield
        self._startup_s += time.perf_counter() - begun

    def step(self) -> None:
        """A step of any job is done."""
        self._num_steps += 1
        self._stepped = time.perf_counter()

    def exported(self) -> None:
        """The job whose step was the last one is over."""
        self._num_jobs += 1
        self._startup_s += time.perf_counter() - self._stepped

    def timing(self) -> Timing:
        """All seconds up to now."""
        seconds = _now(self._device) - self._begun
        return Timing(seconds - self._startup_s, self._num_steps, self._startup_s, self._num_jobs)


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()
