"""The life of a job inside a worker, top to bottom: adapt it, later sample it.

Each half gets a claimed job and leaves its record in the next state: adapted or succeeded if all went well, otherwise
failed, cancelled, or back in its queue.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from arc_engine.adaptation.adapter import Adapter
from arc_engine.sampling.protocol import AdapterFolder
from arc_engine.scoring import score
from arc_engine.settings import AdaptationSettings
from arc_engine.solving import Answer, answer
from jobs.artifacts import adapter_key
from jobs.claims import AdapterRecord, ClaimedJob
from jobs.errors import CommonAdaptationFailed, StaleClaim
from jobs.states import Stage
from worker.adapter_archive import load, store, unpacked
from worker.common_adaptation import Start, common_adaptation
from worker.lease import Lease, StopReason
from worker.preparing import merged_folder
from worker.record import DATABASE_AWAY, JobRecord
from worker.stage import Before, StepRecorder, train
from worker.workshop import Workshop

log = structlog.get_logger()


def adapt_job(record: JobRecord, *, workshop: Workshop) -> None:
    """adapting -> adapted: trains the job's adapter and stores it."""
    with _held(record, workshop=workshop) as lease:
        settings = record.job.settings
        base = _base_folder(record, workshop=workshop)
        sampler = workshop.models.sampler(base, backend=settings.sampling.backend)
        if settings.adaptation is None:
            sampler.start()
            record.finish_adapting(adapter=None, usage={"adapt_s": 0.0})
            return
        sampler.start(lora_rank=settings.adaptation.adapter_rank)  # boots while we train
        adapter, usage = _adapter(record, settings.adaptation, base=base, lease=lease, workshop=workshop)
        try:
            record.finish_adapting(adapter=adapter, usage=usage)
        except StaleClaim:
            if adapter.artifact_key == _key(record.job):  # otherwise it is the group's
                workshop.artifacts.delete(adapter.artifact_key)
            raise


def sample_job(record: JobRecord, *, workshop: Workshop) -> None:
    """sampling -> succeeded: samples candidates, selects attempts, scores them where the solution is known."""
    with _held(record, workshop=workshop), _fetched(record.job, workshop=workshop) as adapter:
        job, started = record.job, time.monotonic()
        reading = workshop.models.reading(_base_folder(record, workshop=workshop))
        found = answer(
            job.task,
            sampler=workshop.models.sampler(reading.folder, backend=job.settings.sampling.backend),
            tokenizer=reading.tokenizer,
            base=reading.folder,
            adapter=adapter,
            settings=job.settings,
            max_positions=reading.max_positions,
        )
        usage = {
            "sample_s": round(time.monotonic() - started, 3),
            "sampled_tokens": found.num_tokens,
            "refusals": dict(found.refusals),
        }
        record.finish_sampling(candidates=found.candidates, results=_results(found, job), usage=usage)


def _adapter(
    record: JobRecord, settings: AdaptationSettings, *, base: Path, lease: Lease, workshop: Workshop
) -> tuple[AdapterRecord, dict[str, Any]]:
    """The job's adapter, stored, and what it took: the group's own, or one trained on the job's task alone."""
    loaded = workshop.models.base(base, precision=settings.precision)
    initial = Adapter.load(workshop.bases.adapter(record.job.base_model)) if settings.start == "continue" else None
    if record.common is None:
        return _adapted_to_task(record, settings, Start(loaded, initial), lease=lease, workshop=workshop)
    common = common_adaptation(record, Start(loaded, initial), lease=lease, workshop=workshop)
    if settings.scope != "per_task":
        return common.adapter, {"adapt_s": 0.0, "device": loaded.device, "common": common.usage}
    warmed_up = Start(loaded, load(common.adapter, workshop=workshop))
    before = Before(num_steps=common.usage["num_steps"], elapsed_s=common.elapsed_s)
    adapter, usage = _adapted_to_task(record, settings, warmed_up, lease=lease, workshop=workshop, before=before)
    return adapter, {**usage, "common": common.usage}


def _adapted_to_task(
    record: JobRecord,
    settings: AdaptationSettings,
    start: Start,
    *,
    lease: Lease,
    workshop: Workshop,
    before: Before | None = None,
) -> tuple[AdapterRecord, dict[str, Any]]:
    started, job = time.monotonic(), record.job
    trained = train(
        start.base,
        [job.task],
        settings=settings,
        prompt=job.settings.prompt,
        initial=start.initial,
        recorder=StepRecorder(
            record, lease, stage=Stage.TASK, logging_steps=settings.logging_steps, before=before or Before()
        ),
    )
    stored = store(trained.adaptation.adapter, _key(job), manifest=_manifest(job), workshop=workshop)
    usage = {
        "adapt_s": round(time.monotonic() - started, 3),
        "device": start.base.device,
        "train_tokens": trained.num_tokens,
        "num_steps": trained.adaptation.num_steps,
        "stopped_by": trained.adaptation.stopped_by,
    }
    return stored, usage


@contextmanager
def _held(record: JobRecord, *, workshop: Workshop) -> Iterator[Lease]:
    """Keeps the lease while the block runs, and turns whatever ends the block into the job's next state."""
    lease = Lease(
        record,
        timeout_s=workshop.job_timeout_s,
        shutting_down=workshop.shutting_down,
        interrupt=workshop.models.close,
    )
    try:
        with lease:
            yield lease
    except StaleClaim:
        log.warning("job taken over by another worker; dropping what we have")
    except DATABASE_AWAY:
        # Nothing can be recorded, and the job is not to blame: it is taken over when the lease has run out.
        log.exception("the database is away; leaving the job to its lease")
    except Exception as error:  # noqa: BLE001 - whatever it is, the job's record is where it belongs
        _let_go(record, lease.check(), error)
    except BaseException:
        _let_go(record, StopReason.SHUTTING_DOWN, None)
        raise


def _let_go(record: JobRecord, reason: StopReason | None, error: Exception | None) -> None:
    try:
        match reason:
            case StopReason.CANCELLED:
                record.cancel()
            case StopReason.SHUTTING_DOWN:
                record.release()
            case StopReason.LEASE_LOST:
                log.warning("lease lost; dropping what we have")
            case StopReason.DEADLINE:
                record.fail("timed_out", "the job took longer than this installation allows")
            case None:
                log.error("job failed", exc_info=error)
                record.fail(*_cause(error))
    except StaleClaim:
        log.warning("job taken over by another worker before its end was recorded")


def _cause(error: Exception | None) -> tuple[str, str]:
    if isinstance(error, CommonAdaptationFailed):
        return error.cause, f"common adaptation: {error}"
    return getattr(error, "code", "internal_error"), f"{type(error).__name__}: {error}"


def _base_folder(record: JobRecord, *, workshop: Workshop) -> Path:
    """What is loaded, trained on and sampled from: the base's own adapter folded in, unless it is trained further."""
    job, bases = record.job, workshop.bases
    adaptation = job.settings.adaptation
    if adaptation is not None and adaptation.start == "continue":
        return bases.unmerged(job.base_model)
    return merged_folder(job.settings.base_model, job.base_model, sessions=record.sessions, bases=bases)


def _key(job: ClaimedJob) -> str:
    return adapter_key(job.claim.job_id, job.claim.attempt)


def _manifest(job: ClaimedJob) -> dict[str, Any]:
    return {
        "job_id": str(job.claim.job_id),
        "attempt": job.claim.attempt,
        "task_id": job.task_id,
        "settings": job.settings.model_dump(mode="json"),
    }


@contextmanager
def _fetched(job: ClaimedJob, *, workshop: Workshop) -> Iterator[AdapterFolder | None]:
    """The stored adapter, unpacked under a name and path of this attempt's own: vLLM's prefix cache goes by them."""
    if job.adapter is None or job.settings.adaptation is None:
        yield None
        return
    name = f"{job.claim.job_id}-{job.claim.attempt}"
    with unpacked(job.adapter, name=name, workshop=workshop) as folder:
        yield AdapterFolder(name=name, path=folder, rank=job.adapter.config["r"])


def _results(found: Answer, job: ClaimedJob) -> dict[str, Any]:
    return {
        "test": [
            {
                "attempt_1": attempts.attempt_1,
                "attempt_2": attempts.attempt_2,
                "confidence": attempts.confidence,
                "correct": correct,
            }
            for attempts, correct in zip(found.attempts, score(found.attempts, job.solution), strict=True)
        ]
    }
