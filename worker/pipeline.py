"""The life of a job inside a worker, top to bottom: adapt it, later sample it.

Both halves get a claimed job and leave the record in the next state: adapted or succeeded if all went well, otherwise
failed, cancelled, or back in its queue. What they use is passed in, so that the pipeline reads without Celery.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from arc_engine.adaptation.adapt import adapt
from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.errors import AdaptationStopped, EngineError
from arc_engine.sampling.protocol import AdapterFolder
from arc_engine.scoring import score
from arc_engine.solving import Answer, answer
from jobs.adapter_zip import unpack_adapter, write_adapter_zip
from jobs.artifacts import ArtifactStore
from jobs.errors import JobsError, StaleClaim
from worker.lease import Lease, StopReason
from worker.record import JobRecord
from worker.warm import WarmModels

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a worker has at hand for every job."""

    models: WarmModels
    artifacts: ArtifactStore
    work_dir: Path
    lease_s: float
    job_timeout_s: float
    shutting_down: threading.Event


def adapt_job(record: JobRecord, *, workshop: Workshop) -> None:
    """Trains the job's adapter and stores it: adapting -> adapted."""
    job = record.job
    with _held(record, workshop=workshop) as lease:
        started = time.monotonic()
        base_folder = workshop.models.folder(record.base_model())
        workshop.models.sampler(base_folder, backend=job.settings.sampling.backend).start()  # boots while we train
        if job.settings.adaptation is None:
            record.finish_adapting(adapter=None, usage={"adapt_s": 0.0})
            return
        adapter = adapt(
            workshop.models.base(base_folder),
            job.task,
            settings=job.settings.adaptation,
            prompt=job.settings.prompt,
            observe=_recording(record, lease),
        )
        stored = _store(adapter, record=record, workshop=workshop)
        usage = {"adapt_s": round(time.monotonic() - started, 3), "device": workshop.models.device}
        record.finish_adapting(adapter=stored, usage=usage)
