"""Doorbells that wait to be sent."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobs.models import OutboxRow
from jobs.repositories.base import Queue, Repository, lease_until, now


def ring(session: Session, job_ids: Collection[UUID], queue: Queue) -> None:
    """Notes, in the caller's transaction, that `queue` should hear of these jobs: for the first time or once more."""
    if not job_ids:
        return
    statement = insert(OutboxRow).values([{"job_id": job_id, "queue": queue.value} for job_id in job_ids])
    again = {"sent_at": None, "created_at": now()}
    session.execute(statement.on_conflict_do_update(index_elements=["job_id", "queue"], set_=again))


class OutboxRepository(Repository):
    """Reads unsent doorbells and marks them sent."""

    def unsent(
        self, *, limit: int = 500, older_than_s: float = 0.0, job_ids: Collection[UUID] | None = None
    ) -> Sequence[OutboxRow]:
        """Unsent doorbells, oldest first, locked until the transaction ends; those that another relay holds are not."""
        statement = (
            select(OutboxRow)
            .where(OutboxRow.sent_at.is_(None), OutboxRow.created_at <= lease_until(-older_than_s))
            .order_by(OutboxRow.created_at, OutboxRow.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        if job_ids is not None:
            statement = statement.where(OutboxRow.job_id.in_(job_ids))
        return self._session.scalars(statement).all()

    def mark_sent(self, rows: Sequence[OutboxRow]) -> None:
        """Records that these doorbells went out."""
        ids = [row.id for row in rows]
        self._session.execute(update(OutboxRow).where(OutboxRow.id.in_(ids)).values(sent_at=now()))
