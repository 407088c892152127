"""Which jobs a worker may claim."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Exists, Select, and_, exists, func, select
from sqlalchemy.orm import aliased

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


def answered_together_with(job_id: UUID) -> Exists:
    """Whether one call to a sampler can answer the job together with that one: same model in memory, same backend.

    A job that was taken from a lost worker, or from a call that took too long, is answered alone: if it is to blame,
    no other job pays for it again.
    """
    other = aliased(Job)
    same = [mine.is_not_distinct_from(its) for mine, its in zip(_needs(Job), _needs(other), strict=True)]
    return exists().where(other.id == job_id, Job.requeues == 0, other.requeues == 0, and_(*same))


def _needs(job: Any) -> tuple[ColumnElement[Any], ...]:  # noqa: ANN401 - Job, or an alias of it
    """What a sampler is chosen by: the base model as it was registered, merged or not, the backend, and whether the
    job searches depth first, which only one backend can."""
    start = func.coalesce(job.settings[("adaptation", "start")].astext, "new")
    return (
        job.settings["base_model"],
        job.versions["base_model"],
        start == "continue",
        job.settings[("sampling", "backend")],
        job.settings[("sampling", "method")].astext == "dfs",
    )
