"""The part of a job's training that it shares with others: used if it is there, trained if nobody does, waited for."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import AdaptationStopped, EngineError, TaskTooLong
from arc_engine.settings import AdaptationSettings
from arc_engine.tasks import Task
from jobs.artifacts import common_adapter_key
from jobs.errors import StaleClaim, StaleCommonClaim
from jobs.repositories.common_adaptations import CommonAdaptation
from jobs.states import Stage
from worker.adapter_archive import store
from worker.common_record import CommonRecord
from worker.lease import Lease, StopReason
from worker.record import DATABASE_AWAY, JobRecord
from worker.stage import StepRecorder, Trained, train
from worker.workshop import Workshop

POLL_S: Final = 0.5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Start:
    """What a training begins with: the base model, and an adapter to go on with if there is one."""

    base: LoadedBase
    initial: Adapter | None


def common_adaptation(record: JobRecord, start: Start, *, lease: Lease, workshop: Workshop) -> CommonAdaptation:
    """The common adaptation that the job takes part in, its steps now the job's too.

    Raises `CommonAdaptationFailed` if it failed, whichever worker it failed at; `TaskTooLong` if the job's own task had
    to be left out of it; `AdaptationStopped` if the job is to be let go of meanwhile.
    """
    common = record.common
    if common is None:
        raise RuntimeError("the job takes part in no common adaptation")
    while (trained := common.trained()) is None:
        if lease.check() is not None:
            raise AdaptationStopped(f"stopped while waiting for the common adaptation: {lease.stop_reason}")
        if common.claim():
            try:
                _train(record, common, start, lease=lease, workshop=workshop)
            except StaleCommonClaim as error:
                log.warning("the common adaptation is another worker's by now", error=str(error))
                record.forget_steps()
        else:
            lease.extend(POLL_S)
            workshop.shutting_down.wait(POLL_S)
    if record.job.task_id in trained.usage["left_out"]:
        raise TaskTooLong("no two demonstrations of the task fit into a training sequence of the common adaptation")
    record.copy_common_steps(num_steps=trained.usage["num_steps"])
    return trained


def _train(record: JobRecord, common: CommonRecord, start: Start, *, lease: Lease, workshop: Workshop) -> None:
    try:
        _train_and_store(record, common, start, lease=lease, workshop=workshop)
    except (StaleCommonClaim, *DATABASE_AWAY):
        raise  # nothing can be written; whoever finds the lease run out takes it from here
    except Exception as error:
        _let_go(common, lease.check(), error)
        raise
    except BaseException:
        with suppress(StaleCommonClaim):
            common.release()
        raise


def _let_go(common: CommonRecord, reason: StopReason | None, error: Exception) -> None:
    """Fails the adaptation for every job only where it would fail at every worker; else the next one may try."""
    code, message = getattr(error, "code", "internal_error"), f"{type(error).__name__}: {error}"
    match reason:
        case StopReason.DEADLINE:
            common.fail("timed_out", "it took longer than this installation allows a job")
        case StopReason():  # the job ends, or goes elsewhere; the others need not
            common.release()
        case None if isinstance(error, StaleClaim):  # as before, only that the lease's keeper does not know yet
            common.release()
        case None if isinstance(error, EngineError):
            common.fail(code, message)
        case None:
            common.give_up(code, message)


def _train_and_store(
    record: JobRecord, common: CommonRecord, start: Start, *, lease: Lease, workshop: Workshop
) -> None:
    started = time.monotonic()
    settings, tasks = record.job.settings, common.tasks()
    if settings.adaptation is None:
        raise RuntimeError("a job without adaptation takes part in no common one")
    own = common_settings(settings.adaptation)
    log.info("training a common adapter", group_index=common.group_index, num_tasks=len(tasks))
    trained = train(
        start.base,
        list(tasks.values()),
        settings=own,
        prompt=settings.prompt,
        initial=start.initial,
        recorder=_CommonStepRecorder(record, lease, stage=Stage.COMMON, logging_steps=own.logging_steps),
    )
    stored = store(
        trained.adaptation.adapter,
        common_adapter_key(common.batch_id, common.group_index, common.attempt),
        manifest=_manifest(record, common, tasks),
        workshop=workshop,
    )
    usage = _usage(trained, list(tasks), device=start.base.device, adapt_s=time.monotonic() - started)
    try:
        common.finish(adapter=stored, steps=trained.steps, usage=usage)
    except StaleCommonClaim:
        workshop.artifacts.delete(stored.artifact_key)
        raise


class _CommonStepRecorder(StepRecorder):
    """Stops too when the common adaptation, though not the job, was given to another worker: `StaleCommonClaim`."""

    def __call__(self, step: AdaptationStep) -> None:
        super().__call__(step)
        if self._record.common is not None:
            self._record.common.check()


def _usage(trained: Trained, task_ids: Sequence[str], *, device: str, adapt_s: float) -> dict[str, Any]:
    left_out = [task_ids[index] for index in trained.adaptation.left_out]
    return {"adapt_s": round(adapt_s, 3), "device": device, **trained.usage, "left_out": left_out}


def _manifest(record: JobRecord, common: CommonRecord, tasks: Mapping[str, Task]) -> dict[str, Any]:
    return {
        "batch_id": str(common.batch_id),
        "group_index": common.group_index,
        "attempt": common.attempt,
        "task_ids": list(tasks),
        "settings": record.job.settings.model_dump(mode="json"),
    }


def common_settings(settings: AdaptationSettings) -> AdaptationSettings:
    """How the common adapter is trained. The warm-up of `start` warm has its own length, and ends by nothing else."""
    if settings.start != "warm":
        return settings
    own = {"max_steps": settings.warmup.steps, "batch_size": settings.warmup.batch_size}
    free = {"batch_tokens": None, "stop_loss": None, "time_budget_s": None}
    return settings.model_copy(update={**own, **free, "start": "new"})
