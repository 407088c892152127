"""What a job leaves behind: steps, adapter, candidates, events."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from jobs.errors import NoAdapter
from jobs.models import AdapterRow, CandidateRow, EventRow, StepRow
from jobs.repositories.base import Repository


class StepRepository(Repository):
    """Training steps of a job."""

    def after(self, job_id: UUID, *, after: int = 0, limit: int = 10_000) -> Sequence[StepRow]:
        """Recorded steps with a number above `after`, in order."""
        statement = select(StepRow).where(StepRow.job_id == job_id, StepRow.step > after)
        return self._session.scalars(statement.order_by(StepRow.step).limit(limit)).all()


class AdapterRepository(Repository):
    """The adapter of a job."""

    def get(self, job_id: UUID) -> AdapterRow:
        """The adapter; raises `NoAdapter`."""
        row = self._session.get(AdapterRow, job_id)
        if row is None:
            raise NoAdapter(job_id)
        return row


class CandidateRepository(Repository):
    """The candidates of a job."""

    def list(self, job_id: UUID) -> Sequence[CandidateRow]:
        """All candidates by test input, best first."""
        statement = select(CandidateRow).where(CandidateRow.job_id == job_id)
        return self._session.scalars(statement.order_by(CandidateRow.test_index, CandidateRow.rank)).all()


class EventRepository(Repository):
    """What happened to a job."""

    def append(self, job_id: UUID, *, attempt: int, kind: str, **data: Any) -> None:  # noqa: ANN401 - JSON values
        """Records an event."""
        self._session.add(EventRow(job_id=job_id, attempt=attempt, kind=kind, data=data))

    def list(self, job_id: UUID, *, after: int = 0, limit: int = 1000) -> Sequence[EventRow]:
        """Events with an id above `after`, in order."""
        statement = select(EventRow).where(EventRow.job_id == job_id, EventRow.id > after)
        return self._session.scalars(statement.order_by(EventRow.id).limit(limit)).all()
