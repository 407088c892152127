"""Which jobs a worker may claim."""

from uuid import UUID

from sqlalchemy import ColumnElement, Exists, Select, and_, exists, select
from sqlalchemy.orm import InstrumentedAttribute, aliased

from jobs.models import CommonAdaptationRow, Job
from jobs.repositories.base import now
from jobs.repositories.common_adaptations import OVER
from jobs.states import WAITING_PHASE, Phase


def waiting(to: Phase, job_id: UUID | None = None) -> Select[Job]:
    """The jobs that wait to be taken to phase `to`, the oldest first; or the one that is named, if it does."""
    jobs = select(Job).where(Job.phase == WAITING_PHASE[to]).order_by(Job.created_at, Job.position)
    return jobs if job_id is None else jobs.where(Job.id == job_id)


def seen_to_elsewhere() -> Exists:
    """Whether the job takes part in a common adaptation that is not over, and that another job's worker is at.

    Seconds pass between a worker's claim of a job and that of the adaptation: so it is jobs that are asked for.
    """
    other = aliased(Job)
    common = CommonAdaptationRow
    return exists().where(
        common.batch_id == Job.batch_id,
        common.group_index == Job.group_index,
        common.state.not_in(OVER),
        other.batch_id == Job.batch_id,
        other.group_index == Job.group_index,
        other.phase == Phase.ADAPTING,
        other.lease_expires_at > now(),
    )


def trained_together_with(job_id: UUID) -> ColumnElement[bool]:
    """Whether a trainer can adapt the job together with that one: same model in memory, same precision and
    checkpointing of it, nothing that either shares with its batch."""
    return _in_company_of(job_id, Job.trained_with)


def answered_together_with(job_id: UUID) -> ColumnElement[bool]:
    """Whether one call to a sampler can answer the job together with that one: same model in memory, same backend."""
    return _in_company_of(job_id, Job.answered_with)


def _in_company_of(job_id: UUID, needs: InstrumentedAttribute[str | None]) -> ColumnElement[bool]:
    """Whether the job has the same needs as that one, and both may be worked on together.

    A job that was taken from a lost worker, or from company that took too long, is worked on alone: if it is to blame,
    no other job pays for it again.
    """
    other = aliased(Job)
    its_needs = select(getattr(other, needs.key)).where(other.id == job_id, other.requeues == 0).scalar_subquery()
    return and_(Job.requeues == 0, needs == its_needs)
