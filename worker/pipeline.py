"""The life of a job inside a worker, top to bottom: adapt it, later sample it.

Each half gets a claimed job and leaves its record in the next state: adapted or succeeded if all went well, otherwise
failed, cancelled, or back in its queue.
"""

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from arc_engine.adaptation.adapt import adapt
from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.steps import AdaptationStep, StepObserver
from arc_engine.base_models.sources import resolve
from arc_engine.errors import AdaptationStopped
from arc_engine.sampling.protocol import AdapterFolder
from arc_engine.scoring import score
from arc_engine.solving import Answer, answer
from jobs.adapter_zip import pack, unpack
from jobs.artifacts import ArtifactStore, adapter_key
from jobs.claims import AdapterRecord, ClaimedJob
from jobs.errors import StaleClaim
from worker.lease import Lease, StopReason
from worker.record import DATABASE_AWAY, JobRecord
from worker.warm import WarmModels

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a worker has at hand for every job."""

    models: WarmModels
    artifacts: ArtifactStore
    work_dir: Path
    job_timeout_s: float
    shutting_down: threading.Event


def adapt_job(record: JobRecord, *, workshop: Workshop) -> None:
    """adapting -> adapted: trains the job's adapter and stores it."""
    with _held(record, workshop=workshop) as lease:
        settings = record.job.settings
        base = _base_folder(record.job)
        sampler = workshop.models.sampler(base, backend=settings.sampling.backend)
        sampler.start(lora_rank=settings.adaptation.lora_rank if settings.adaptation else 0)  # boots while we train
        if settings.adaptation is None:
            record.finish_adapting(adapter=None, usage={"adapt_s": 0.0})
            return
        started = time.monotonic()
        tokens: Counter[int] = Counter()  # by step
        loaded = workshop.models.base(base)
        adapter = adapt(
            loaded,
            [record.job.task],
            settings=settings.adaptation,
            prompt=settings.prompt,
            observe=_recording(record, lease, tokens),
        ).adapter
        stored = _store(adapter, record.job, workshop=workshop)
        usage = {
            "adapt_s": round(time.monotonic() - started, 3),
            "device": loaded.device,
            "train_tokens": tokens.total(),
        }
        try:
            record.finish_adapting(adapter=stored, usage=usage)
        except StaleClaim:
            workshop.artifacts.delete(stored.artifact_key)
            raise


def sample_job(record: JobRecord, *, workshop: Workshop) -> None:
    """sampling -> succeeded: samples candidates, selects attempts, scores them where the solution is known."""
    with _held(record, workshop=workshop), tempfile.TemporaryDirectory(dir=workshop.work_dir) as scratch:
        job, started = record.job, time.monotonic()
        reading = workshop.models.reading(_base_folder(job))
        found = answer(
            job.task,
            sampler=workshop.models.sampler(reading.folder, backend=job.settings.sampling.backend),
            tokenizer=reading.tokenizer,
            base=reading.folder,
            adapter=_fetch(job, workshop=workshop, scratch=Path(scratch)),
            settings=job.settings,
            max_positions=reading.max_positions,
        )
        usage = {
            "sample_s": round(time.monotonic() - started, 3),
            "sampled_tokens": found.num_tokens,
            "refusals": dict(found.refusals),
        }
        record.finish_sampling(candidates=found.candidates, results=_results(found, job), usage=usage)


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
                record.fail(getattr(error, "code", "internal_error"), f"{type(error).__name__}: {error}")
    except StaleClaim:
        log.warning("job taken over by another worker before its end was recorded")


def _recording(record: JobRecord, lease: Lease, tokens: Counter[int]) -> StepObserver:
    """Records every step, counts its tokens, and stops the training as soon as there is a reason to."""

    def observe(step: AdaptationStep) -> None:
        tokens[step.step] = step.tokens
        if record.step(step):
            lease.stop(StopReason.CANCELLED)
        if lease.check() is not None:
            raise AdaptationStopped(f"stopped after step {step.step}: {lease.stop_reason}")

    return observe


def _base_folder(job: ClaimedJob) -> Path:
    return resolve(job.base_model.source, revision=job.base_model.revision)


def _store(adapter: Adapter, job: ClaimedJob, *, workshop: Workshop) -> AdapterRecord:
    with tempfile.TemporaryDirectory(dir=workshop.work_dir) as scratch:
        folder = Path(scratch) / "adapter"
        adapter.save(folder)
        archive = Path(scratch) / "adapter.zip"
        pack(folder, archive, manifest=_manifest(job))
        stored = workshop.artifacts.write(adapter_key(job.claim.job_id, job.claim.attempt), archive)
    return AdapterRecord(stored.key, stored.sha256, stored.size_bytes, adapter.config)


def _manifest(job: ClaimedJob) -> dict[str, Any]:
    """What somebody who finds the archive later needs to know about it."""
    return {
        "job_id": str(job.claim.job_id),
        "attempt": job.claim.attempt,
        "task_id": job.task_id,
        "settings": job.settings.model_dump(mode="json"),
    }


def _fetch(job: ClaimedJob, *, workshop: Workshop, scratch: Path) -> AdapterFolder | None:
    """The stored adapter, unpacked under a name and path of this attempt's own: vLLM's prefix cache goes by them."""
    if job.adapter is None or job.settings.adaptation is None:
        return None
    name = f"{job.claim.job_id}-{job.claim.attempt}"
    unpack(workshop.artifacts.path(job.adapter.artifact_key), scratch / name)
    return AdapterFolder(name=name, path=scratch / name, rank=job.settings.adaptation.lora_rank)


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
