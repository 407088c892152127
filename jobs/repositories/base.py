"""What every repository is made of, and the one way in which a job changes its phase."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Function, Select, func
from sqlalchemy.orm import Session

from jobs.models import EventRow, Job
from jobs.states import HELD, TERMINAL, Phase, check_transition


class Queue(StrEnum):
    """Which doorbell is rung."""

    ADAPT = "adapt"
    SAMPLE = "sample"


QUEUE_OF = {Phase.QUEUED: Queue.ADAPT, Phase.ADAPTED: Queue.SAMPLE}
"""Who should hear that a job waits in this phase."""


MAX_MESSAGE_CHARS: Final = 4000


class Repository:
    """Works in the session it is given, and never commits."""

    def __init__(self, session: Session) -> None:
        self._session = session


def storable(message: str) -> str:
    """What Postgres takes of a text that may come from anywhere: no NUL, no lone surrogates, not endless."""
    return message[:MAX_MESSAGE_CHARS].replace("\0", "").encode(errors="replace").decode()


def now() -> Function[datetime]:
    """The database's clock, not the transaction's start."""
    return func.clock_timestamp()


def lease_until(lease_s: float | ColumnElement[float]) -> Any:  # noqa: ANN401 - a SQL expression
    """The database's clock plus `lease_s` seconds."""
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, lease_s)


def locked(jobs: Select[Job], *, skip_locked: bool = False) -> Select[Job]:
    """The same jobs, read afresh and locked until the transaction ends.

    FOR NO KEY UPDATE rather than FOR UPDATE, so that rows which merely refer to a job can be written meanwhile.
    """
    lock = jobs.with_for_update(key_share=True, skip_locked=skip_locked, of=Job)
    return lock.execution_options(populate_existing=True)


def move(session: Session, job: Job, to: Phase, *, event: str | None = None, **data: Any) -> None:  # noqa: ANN401 - JSON
    """Takes a job, whose row the caller has locked, to its next phase and records the event.

    Raises `InvalidTransition`. Leaving a held phase drops the lease; a terminal phase gets its time.
    """
    check_transition(job.id, job.phase, to)
    job.phase = to
    if to not in HELD:
        job.lease_owner = None
        job.lease_expires_at = None
        job.eta_s = None
    if to in TERMINAL:
        job.finished_at = now()
    session.add(EventRow(job_id=job.id, attempt=job.attempt, kind=event or to.value, data=data))
