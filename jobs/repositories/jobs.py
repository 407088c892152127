"""Reading jobs, and cancelling them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, load_only, selectinload

from jobs.errors import NotFound
from jobs.models import EventRow, Job
from jobs.repositories.base import Repository, locked, move
from jobs.repositories.cursors import Place, decode, encode
from jobs.states import HELD, TERMINAL, Phase, Status, phases_of

MAX_PAGE = 500
HOW_FAR: Final = (
    Job.batch_id,
    Job.task_id,
    Job.phase,
    Job.step,
    Job.max_steps,
    Job.eta_s,
    Job.error_code,
    Job.error_message,
    Job.created_at,
    Job.started_at,
    Job.finished_at,
)
"""Columns that tell how far a job is. None of them is long: lists have many jobs."""


@dataclass(frozen=True, slots=True)
class JobFilters:
    """Which jobs to list; a field that is None does not filter. `created_before` is exclusive."""

    status: Status | None = None
    batch_id: UUID | None = None
    task_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page, newest job first, and the cursor of the next page if there is one.

    Of a job only what tells how far it is, is there at once; the rest is loaded on access.
    """

    items: Sequence[Job]
    next_cursor: str | None


class JobRepository(Repository):
    """The client's side of a job."""

    def get(self, job_id: UUID) -> Job:
        """The job; raises `NotFound`."""
        job = self._session.scalar(select(Job).where(Job.id == job_id).options(selectinload(Job.adapter)))
        if job is None:
            raise NotFound("job", job_id)
        return job

    def list(self, filters: JobFilters | None = None, *, cursor: str | None = None, limit: int = 50) -> JobPage:
        """A page of jobs, newest first. Jobs added meanwhile do not shift the pages. Raises `InvalidCursor`."""
        limit = max(1, min(limit, MAX_PAGE))
        statement = _filtered(filters or JobFilters())
        if cursor is not None:
            statement = statement.where(decode(cursor).is_after(Job.created_at, Job.id))
        statement = statement.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit + 1)
        jobs = self._session.scalars(statement).all()
        page = jobs[:limit]
        more = len(jobs) > limit
        return JobPage(page, encode(Place(page[-1].created_at, page[-1].id)) if more else None)

    def request_cancel(self, job_id: UUID) -> Job:
        """Cancels a waiting job at once and asks the worker of a running one to stop; a finished job stays as it is."""
        statement = select(Job).where(Job.id == job_id).options(selectinload(Job.adapter))
        job = self._session.scalar(locked(statement))
        if job is None:
            raise NotFound("job", job_id)
        stop(self._session, job)
        self._session.flush()
        return job


def stop(session: Session, job: Job) -> None:
    """Cancels a job, whose row the caller has locked, at once or through its worker, unless it is finished."""
    if job.phase in HELD and not job.cancel_requested:
        job.cancel_requested = True
        session.add(EventRow(job_id=job.id, attempt=job.attempt, kind="cancel_requested", data={}))
    elif job.phase not in HELD and job.phase not in TERMINAL:
        job.cancel_requested = True
        move(session, job, Phase.CANCELLED)


def _filtered(filters: JobFilters) -> Select[Job]:
    statement = select(Job).options(load_only(*HOW_FAR))
    if filters.status is not None:
        statement = statement.where(Job.phase.in_(phases_of(filters.status)))
    if filters.batch_id is not None:
        statement = statement.where(Job.batch_id == filters.batch_id)
    if filters.task_id is not None:
        statement = statement.where(Job.task_id == filters.task_id)
    if filters.created_after is not None:
        statement = statement.where(Job.created_at >= filters.created_after)
    if filters.created_before is not None:
        statement = statement.where(Job.created_at < filters.created_before)
    return statement
