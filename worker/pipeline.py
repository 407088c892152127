"""The life of a job inside a worker, top to bottom: adapt it, later sample it.

Each half gets claimed jobs and leaves their records in the next state: adapted or succeeded if all went well, otherwise
failed, cancelled, or back in the queue. Adapting takes one job at a time, sampling takes several by one call.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from arc_engine.adaptation.adapter import Adapter
from arc_engine.settings import AdaptationSettings
from arc_engine.solving import Assignment, task_views
from jobs.artifacts import adapter_key
from jobs.claims import AdapterRecord, ClaimedJob
from jobs.errors import StaleClaim
from jobs.states import Stage
from worker.adapter_archive import fetched, load, store
from worker.common_adaptation import Start, common_adaptation
from worker.holding import Held
from worker.lease import Lease
from worker.preparing import base_folder
from worker.record import JobRecord
from worker.sampling_pack import Seat, answered, results_of, usage_of
from worker.stage import Before, StepRecorder, train
from worker.workshop import Workshop


def adapt_job(record: JobRecord, *, workshop: Workshop) -> None:
    """adapting -> adapted: trains the job's adapter and stores it."""
    with Held(record, workshop=workshop) as held:
        settings = record.job.settings
        base = base_folder(record, bases=workshop.bases)
        sampler = workshop.models.sampler(base, settings=settings.sampling)
        if settings.adaptation is None:
            sampler.start()
            record.finish_adapting(adapter=None, usage={"adapt_s": 0.0})
            return
        _check_length(record.job, base=base, workshop=workshop)
        sampler.start(lora_rank=settings.adaptation.adapter_rank)  # boots while we train
        adapter, usage = _adapter(record, settings.adaptation, base=base, lease=held.lease, workshop=workshop)
        try:
            record.finish_adapting(adapter=adapter, usage=usage)
        except StaleClaim:
            if adapter.artifact_key == _key(record.job):  # otherwise it is the group's
                workshop.artifacts.delete(adapter.artifact_key)
            raise


def sample_jobs(records: Sequence[JobRecord], *, workshop: Workshop) -> None:
    """sampling -> succeeded: samples candidates, selects attempts, scores them where the solution is known.

    The jobs are ones that one call to the sampler can answer. What goes wrong with one of them ends that one alone.
    """
    pack = [Held(record, workshop=workshop, num_together=len(records)) for record in records]
    with ExitStack() as stack:
        try:
            for held in pack:
                stack.enter_context(held)
            for seat, found, sample_s in answered(_seats(pack, stack, workshop=workshop), workshop=workshop):
                with seat.held.on_its_own():
                    seat.held.record.finish_sampling(
                        candidates=found.candidates,
                        results=results_of(found, seat.held.record.job),
                        usage={"sample_s": sample_s, **usage_of(found)},
                    )
                    seat.held.is_over = True
        except Exception as error:  # noqa: BLE001 - whatever it is, no job of the pack is left without its end
            for held in pack:
                held.end(error)


def _seats(pack: Sequence[Held], stack: ExitStack, *, workshop: Workshop) -> list[Seat]:
    """Those that the sampler can be asked about, their adapters unpacked until the stack is closed."""
    seats: list[Seat] = []
    for held in pack:
        with held.on_its_own():
            job = held.record.job
            adapter = stack.enter_context(fetched(job, workshop=workshop))
            seats.append(Seat(held, Assignment(job.task, job.settings, adapter)))
    return seats


def _check_length(job: ClaimedJob, *, base: Path, workshop: Workshop) -> None:
    """Raises `TaskTooLong` before anything is trained, if the settings fail a job whose task does not fit; vLLM may yet
    refuse one later, where its context is shorter than the model's."""
    if job.settings.sampling.when_too_long == "fail":
        reading = workshop.models.reading(base)
        task_views(job.task, job.settings, tokenizer=reading.tokenizer, max_positions=reading.max_positions)


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


def _key(job: ClaimedJob) -> str:
    return adapter_key(job.claim.job_id, job.claim.attempt)


def _manifest(job: ClaimedJob) -> dict[str, Any]:
    return {
        "job_id": str(job.claim.job_id),
        "attempt": job.claim.attempt,
        "task_id": job.task_id,
        "settings": job.settings.model_dump(mode="json"),
    }
