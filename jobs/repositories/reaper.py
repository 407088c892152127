"""Jobs whose worker or whose message was lost."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import select

from jobs.models import Job, OutboxRow
from jobs.repositories.base import QUEUE_OF, Queue, Repository, lease_until, locked, move, now
from jobs.repositories.common_adaptations import CommonAdaptationRepository
from jobs.repositories.outbox import ring
from jobs.states import HELD, WAITING_PHASE, Phase

WORKER_LOST = "worker_lost"


class Action(StrEnum):
    """What the reaper did with a job."""

    REQUEUED = "requeued"
    CANCELLED = "cancelled"
    FAILED = "failed"
    RUNG_AGAIN = "rung_again"


@dataclass(frozen=True, slots=True)
class Reaped:
    """One job that the reaper dealt with."""

    job_id: UUID
    action: Action


class ReaperRepository(Repository):
    """Finds what was lost. Several reapers may run at once: each leaves alone the rows that another one holds."""

    def reclaim_expired(self, *, max_attempts: int, limit: int = 100) -> list[Reaped]:
        """Takes jobs from workers that let their lease run out.

        The job waits again, unless its client wants it cancelled, or `max_attempts` workers were lost over it.
        """
        expired = (
            select(Job)
            .where(Job.phase.in_(HELD), Job.lease_expires_at < now())
            .order_by(Job.lease_expires_at)
            .limit(limit)
        )
        jobs = self._session.scalars(locked(expired, skip_locked=True)).all()
        return [Reaped(job.id, self._reclaim(job, max_attempts=max_attempts)) for job in jobs]

    def ring_again(self, *, after_s: float, queues: Collection[Queue] = tuple(Queue), limit: int = 20) -> list[Reaped]:
        """Rings anew for the oldest waiting jobs whose doorbell went out `after_s` ago and that nobody has claimed.

        Superfluous messages cost workers a look each: name only `queues` of which the broker knows nothing any more, as
        `jobs.doorbells.ring_lost` does, or ring for a few at a time.
        """
        reaped = []
        for phase, queue in QUEUE_OF.items():
            if queue not in queues:
                continue
            unheard = (
                select(Job.id)
                .join(OutboxRow, (OutboxRow.job_id == Job.id) & (OutboxRow.queue == queue.value))
                .where(Job.phase == phase, OutboxRow.sent_at < lease_until(-after_s))
                .order_by(Job.created_at, Job.position)
                .limit(limit)
                .with_for_update(skip_locked=True, of=OutboxRow)  # a claim of the job itself goes ahead
            )
            job_ids: Sequence[UUID] = self._session.scalars(unheard).all()
            ring(self._session, job_ids, queue)
            reaped += [Reaped(job_id, Action.RUNG_AGAIN) for job_id in job_ids]
        return reaped

    def _reclaim(self, job: Job, *, max_attempts: int) -> Action:
        was_adapting = job.phase is Phase.ADAPTING
        action = self._move_on(job, max_attempts=max_attempts)
        if was_adapting:
            CommonAdaptationRepository(self._session).ring_unless_over(job)
        return action

    def _move_on(self, job: Job, *, max_attempts: int) -> Action:
        job.requeues += 1
        owner = job.lease_owner
        if job.cancel_requested:
            move(self._session, job, Phase.CANCELLED, lost=owner)
            return Action.CANCELLED
        if job.requeues >= max_attempts:
            job.error_code = WORKER_LOST
            job.error_message = f"{job.requeues} workers were lost while they had this job"
            move(self._session, job, Phase.FAILED, code=WORKER_LOST, lost=owner)
            return Action.FAILED
        to = WAITING_PHASE[job.phase]
        if job.phase is Phase.ADAPTING:
            job.step = 0
        move(self._session, job, to, event="requeued", lost=owner)
        ring(self._session, [job.id], QUEUE_OF[to])
        return Action.REQUEUED
