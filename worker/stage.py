"""One stage of a job's training: every step on record, and an end to it as soon as there is a reason."""

from dataclasses import dataclass, replace
from typing import Any

from arc_engine.adaptation.adapt import adapt
from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.run import Adaptation
from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import AdaptationStopped, Diverged
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Task
from jobs.states import Stage
from worker.lease import Lease
from worker.record import JobRecord


@dataclass(frozen=True, slots=True)
class Trained:
    """What a stage has led to."""

    adaptation: Adaptation
    steps: tuple[AdaptationStep, ...]
    """Those on record."""
    num_tokens: int

    @property
    def usage(self) -> dict[str, Any]:
        """What it took, but for the seconds from its start to its end."""
        return {
            "train_tokens": self.num_tokens,
            "num_steps": self.adaptation.num_steps,
            "stopped_by": self.adaptation.stopped_by,
            "compute_s": round(self.adaptation.compute_s, 3),
            "padding": round(self.adaptation.padding, 4),
            "company": round(self.adaptation.company, 2),
        }


@dataclass(frozen=True, slots=True)
class Before:
    """What the job had behind it when the stage began: its steps are counted on from there."""

    num_steps: int = 0
    elapsed_s: float = 0.0


def train(
    base: LoadedBase,
    tasks: list[Task],
    *,
    settings: AdaptationSettings,
    prompt: PromptSettings,
    initial: Adapter | None,
    recorder: "StepRecorder",
) -> Trained:
    """Trains an adapter on `tasks`, with its steps on record. Raises what `adapt` raises."""
    try:
        adaptation = adapt(base, tasks, settings=settings, prompt=prompt, observe=recorder, initial=initial)
    except Diverged as error:  # counted as the job's record counts
        number = recorder.before.num_steps + error.step
        raise Diverged(number, error.loss, error.grad_norm, error.divergence_norm) from error
    return recorder.finish(adaptation)


class StepRecorder:
    """Observes a training: puts every `logging_steps`-th step on record, the first and the last one.

    The others are progress only. Raises `AdaptationStopped` as soon as the job is to be let go of.
    """

    def __init__(
        self, record: JobRecord, lease: Lease, *, stage: Stage, logging_steps: int, before: Before | None = None
    ) -> None:
        self._record = record
        self._lease = lease
        self._stage = stage
        self._logging_steps = logging_steps
        self.before = before or Before()
        self._unrecorded: AdaptationStep | None = None
        self._steps: list[AdaptationStep] = []
        self._num_tokens = 0

    def __call__(self, step: AdaptationStep) -> None:
        self._num_tokens += step.tokens
        seconds_per_step = step.elapsed_s / step.step
        numbered = replace(
            step, step=self.before.num_steps + step.step, elapsed_s=self.before.elapsed_s + step.elapsed_s
        )
        if step.step == 1 or step.step % self._logging_steps == 0:
            self._unrecorded = None
            self._keep(numbered, seconds_per_step=seconds_per_step)
        else:
            self._unrecorded = numbered
            self._record.step(numbered, stage=self._stage, keep=False, seconds_per_step=seconds_per_step)
        if self._lease.check() is not None:
            raise AdaptationStopped(f"stopped after step {numbered.step}: {self._lease.stop_reason}")

    def finish(self, adaptation: Adaptation) -> Trained:
        """The last step has been taken: now it is known which one it was."""
        if self._unrecorded is not None:
            self._keep(self._unrecorded, seconds_per_step=0.0)
        return Trained(adaptation, tuple(self._steps), self._num_tokens)

    def _keep(self, step: AdaptationStep, *, seconds_per_step: float) -> None:
        self._steps.append(step)
        self._record.step(step, stage=self._stage, seconds_per_step=seconds_per_step)
