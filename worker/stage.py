"""One stage of a job's training: every step on record, and an end to it as soon as there is a reason."""

from dataclasses import dataclass, replace

from arc_engine.adaptation.adapt import Adaptation, adapt
from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import AdaptationStopped, Diverged
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Task
from jobs.states import Stage
from worker.lease import Lease, StopReason
from worker.record import JobRecord


@dataclass(frozen=True, slots=True)
class Trained:
    """What a stage has led to."""

    adaptation: Adaptation
    steps: tuple[AdaptationStep, ...]
    """Those on record."""
    num_tokens: int


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
    recorder.finish()
    return Trained(adaptation, tuple(recorder.steps), recorder.num_tokens)


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
        self.steps: list[AdaptationStep] = []
        self.num_tokens = 0

    def __call__(self, step: AdaptationStep) -> None:
        self.num_tokens += step.tokens
        seconds_per_step = step.elapsed_s / step.step
        numbered = replace(
            step, step=self.before.num_steps + step.step, elapsed_s=self.before.elapsed_s + step.elapsed_s
        )
        if step.step == 1 or step.step % self._logging_steps == 0:
            self._unrecorded = None
            self._keep(numbered, seconds_per_step=seconds_per_step)
        else:
            self._unrecorded = numbered
            self._write(numbered, keep=False, seconds_per_step=seconds_per_step)
        if self._lease.check() is not None:
            raise AdaptationStopped(f"stopped after step {numbered.step}: {self._lease.stop_reason}")

    def finish(self) -> None:
        """The last step has been taken: now it is known which one it was."""
        if self._unrecorded is not None:
            self._keep(self._unrecorded, seconds_per_step=0.0)

    def _keep(self, step: AdaptationStep, *, seconds_per_step: float) -> None:
        self.steps.append(step)
        self._write(step, keep=True, seconds_per_step=seconds_per_step)

    def _write(self, step: AdaptationStep, *, keep: bool, seconds_per_step: float) -> None:
        if self._record.step(step, stage=self._stage, keep=keep, seconds_per_step=seconds_per_step):
            self._lease.stop(StopReason.CANCELLED)
