"""The life of a job inside a worker, top to bottom: adapt it, later sample it.

Each half gets claimed jobs and leaves their records in the next state: adapted or succeeded if all went well, otherwise
failed, cancelled, or back in the queue. Both take several at a time where that pays: what is trained together or
answered by one call is still a job each, with an end of its own.
"""

from collections.abc import Sequence
from contextlib import ExitStack

from arc_engine.solving import Assignment
from worker.adapter_archive import fetched
from worker.adapting import adapter_of, get_ready, hand_on
from worker.adapting_pack import ClaimMore, adapt_together
from worker.holding import Held
from worker.preparing import base_folder
from worker.record import JobRecord
from worker.sampling_pack import Seat, answered, results_of, usage_of
from worker.step_writer import StepWriter
from worker.workshop import Workshop


def adapt_job(record: JobRecord, *, workshop: Workshop, claim_more: ClaimMore | None = None) -> None:
    """adapting -> adapted: trains the job's adapter and stores it.

    A job that shares its training with nobody is trained beside others, which `claim_more` claims, where the device is
    good for it.
    """
    steps = StepWriter(record.sessions, lease_s=record.lease_s, shutting_down=workshop.shutting_down)
    with steps, Held(record, workshop=workshop) as held:
        steps.attend(record, held.lease)
        settings = record.job.settings
        folder = base_folder(record, bases=workshop.bases)
        get_ready(record.job, folder=folder, workshop=workshop)
        if settings.adaptation is None:
            record.finish_adapting(adapter=None, usage={"adapt_s": 0.0})
            held.finished()
            return
        base = workshop.models.base(folder, precision=settings.adaptation.precision)
        if record.common is None:
            adapt_together(held, base, steps=steps, claim_more=claim_more, workshop=workshop)
            return
        adapter, usage = adapter_of(record, settings.adaptation, base=base, lease=held.lease, workshop=workshop)
        hand_on(held, adapter, usage, workshop=workshop)


def sample_jobs(records: Sequence[JobRecord], *, workshop: Workshop) -> None:
    """sampling -> succeeded: samples candidates, selects attempts, scores them where the solution is known.

    The jobs are ones that one call to the sampler can answer. What goes wrong with one of them ends that one alone.
    """
    pack = [Held(record, workshop=workshop) for record in records]
    with ExitStack() as stack:
        try:
            for held in pack:
                held.share(len(pack))
                stack.enter_context(held)
            for seat, found, sample_s in answered(_seats(pack, stack, workshop=workshop), workshop=workshop):
                with seat.held.on_its_own():
                    seat.held.record.finish_sampling(
                        candidates=found.candidates,
                        results=results_of(found, seat.held.record.job),
                        usage={"sample_s": sample_s, **usage_of(found)},
                    )
                    seat.held.finished()
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
