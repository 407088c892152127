"""Doorbells that wait to be sent."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Uuid, any_, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobs.models import OutboxRow
from jobs.repositories.base import Queue, Repository, lease_until, now


def ring(session: Session, job_ids: Collection[UUID], queue: Queue) -> None:
    """Notes, in the caller's transaction, that `queue` should hear of these jobs: for the first time or once more."""
    # One array however many jobs there are: a statement has at most 65,535 parameters.
    rung = func.unnest(literal(list(job_ids), ARRAY(Uuid)))
    statement = insert(OutboxRow).from_select(["job_id", "queue"], select(rung, literal(queue.value)))
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
            statement = statement.where(OutboxRow.job_id == any_(literal(list(job_ids), ARRAY(Uuid))))
        return self._session.scalars(statement).all()

    def mark_sent(self, rows: Sequence[OutboxRow]) -> None:
        """Records that these doorbells went out."""
        ids = literal([row.id for row in rows], ARRAY(BigInteger))
        self._session.execute(update(OutboxRow).where(OutboxRow.id == any_(ids)).values(sent_at=now()))
