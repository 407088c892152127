"""What adapting a job takes, whether others are trained beside it or not: a sampler warmed up, an adapter stored, the
job handed on.
"""

import time
from pathlib import Path
from typing import Any

from arc_engine.adaptation.adapter import Adapter
from arc_engine.base_models.loading import LoadedBase
from arc_engine.settings import AdaptationSettings
from arc_engine.solving import task_views
from jobs.artifacts import adapter_key
from jobs.claims import AdapterRecord, ClaimedJob
from jobs.errors import StaleClaim
from jobs.states import Stage
from worker.adapter_archive import load, store
from worker.common_adaptation import Start, common_adaptation
from worker.holding import Held
from worker.lease import Lease
from worker.record import JobRecord
from worker.stage import Before, StepRecorder, Trained, train
from worker.workshop import Workshop


def get_ready(job: ClaimedJob, *, folder: Path, workshop: Workshop) -> None:
    """Lets the sampler start up while we train, which takes the base model in `folder`.

    Raises `TaskTooLong` before anything is trained, if the settings fail a job whose task does not fit; vLLM may yet
    refuse one later, where its context is shorter than the model's.
    """
    settings = job.settings
    if settings.adaptation is not None and settings.sampling.when_too_long == "fail":
        reading = workshop.models.reading(folder)
        task_views(job.task, settings, tokenizer=reading.tokenizer, max_positions=reading.max_positions)
    lora_rank = settings.adaptation.adapter_rank if settings.adaptation is not None else 0
    workshop.models.warm_up(folder, settings=settings.sampling, lora_rank=lora_rank)


def initial_adapter(job: ClaimedJob, settings: AdaptationSettings, *, workshop: Workshop) -> Adapter | None:
    """The base model's own adapter, if the job goes on with that one."""
    return Adapter.load(workshop.bases.adapter(job.base_model)) if settings.start == "continue" else None


def adapter_of(
    record: JobRecord, settings: AdaptationSettings, *, base: LoadedBase, lease: Lease, workshop: Workshop
) -> tuple[AdapterRecord, dict[str, Any]]:
    """The adapter, stored, of a job that has a common adaptation, and what it took: that one's own, or one that is
    trained further on the job's task."""
    initial = initial_adapter(record.job, settings, workshop=workshop)
    common = common_adaptation(record, Start(base, initial), lease=lease, workshop=workshop)
    if settings.scope != "per_task":
        return common.adapter, {"adapt_s": 0.0, "device": base.device, "common": common.usage}
    started = time.monotonic()
    trained = train(
        base,
        [record.job.task],
        settings=settings,
        prompt=record.job.settings.prompt,
        initial=load(common.adapter, workshop=workshop),
        recorder=StepRecorder(
            record,
            lease,
            stage=Stage.TASK,
            logging_steps=settings.logging_steps,
            before=Before(num_steps=common.usage["num_steps"], elapsed_s=common.elapsed_s),
        ),
    )
    adapter, usage = stored(record.job, trained, started=started, device=base.device, workshop=workshop)
    return adapter, {**usage, "common": common.usage}


def stored(
    job: ClaimedJob, trained: Trained, *, started: float, device: str, workshop: Workshop
) -> tuple[AdapterRecord, dict[str, Any]]:
    """The job's own adapter, stored, and what it took since `started` on the monotonic clock."""
    adapter = store(trained.adaptation.adapter, _key(job), manifest=_manifest(job), workshop=workshop)
    return adapter, {"adapt_s": round(time.monotonic() - started, 3), "device": device, **trained.usage}


def hand_on(held: Held, adapter: AdapterRecord, usage: dict[str, Any], *, workshop: Workshop) -> None:
    """adapting -> adapted. Raises `StaleClaim`, and leaves nothing in the store, if the job is another worker's."""
    try:
        held.record.finish_adapting(adapter=adapter, usage=usage)
    except StaleClaim:
        if adapter.artifact_key == _key(held.record.job):  # otherwise it is the group's
            workshop.artifacts.delete(adapter.artifact_key)
        raise
    held.finished()


def _key(job: ClaimedJob) -> str:
    return adapter_key(job.claim.job_id, job.claim.attempt)


def _manifest(job: ClaimedJob) -> dict[str, Any]:
    return {
        "job_id": str(job.claim.job_id),
        "attempt": job.claim.attempt,
        "task_id": job.task_id,
        "settings": job.settings.model_dump(mode="json"),
    }
