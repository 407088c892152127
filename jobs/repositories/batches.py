"""Reading batches."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import defer, selectinload

from jobs.errors import NotFound
from jobs.models import Batch, Job
from jobs.repositories.base import Repository
from jobs.states import Status, status_of


class BatchRepository(Repository):
    """The jobs of one request, together."""

    def get(self, batch_id: UUID) -> Batch:
        """The batch; raises `NotFound`."""
        batch = self._session.get(Batch, batch_id)
        if batch is None:
            raise NotFound("batch", batch_id)
        return batch

    def counts(self, batch_id: UUID) -> dict[Status, int]:
        """How many of its jobs are in each status; every status is there."""
        counts = dict.fromkeys(Status, 0)
        rows = self._session.execute(
            select(Job.phase, func.count()).where(Job.batch_id == batch_id).group_by(Job.phase)
        )
        for phase, num_jobs in rows:
            counts[status_of(phase)] += num_jobs
        return counts

    def jobs(self, batch_id: UUID) -> Sequence[Job]:
        """Its jobs in the order of the request. `Job.task` is loaded only on access."""
        statement = select(Job).where(Job.batch_id == batch_id).order_by(Job.position)
        return self._session.scalars(statement.options(defer(Job.task), selectinload(Job.adapter))).all()
