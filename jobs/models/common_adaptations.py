"""Adaptations that several jobs share."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.base import NULLABLE_JSON, Base, JsonObject


class CommonAdaptationRow(Base):
    """An adapter that is trained once, on all tasks of a batch or of a group of it, and used by every one of its jobs.

    Its lease and `attempt` are of its own: whichever job's worker trains it, only one can record it. `losses` counts
    trainings that were begun and came to nothing, through no fault that would befall every worker.
    """

    __tablename__ = "common_adaptations"
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy declares it
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'training', 'trained', 'failed')", name="state"),
        CheckConstraint(
            "(state = 'training') = (lease_owner IS NOT NULL AND lease_expires_at IS NOT NULL)",
            name="lease_while_training",
        ),
        CheckConstraint("(state = 'trained') = (artifact_key IS NOT NULL)", name="adapter_when_trained"),
    )

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    group_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(default="waiting", server_default="waiting")
    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    losses: Mapped[int] = mapped_column(default=0, server_default="0")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    artifact_key: Mapped[str | None]
    sha256: Mapped[str | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    config: Mapped[JsonObject | None] = mapped_column(NULLABLE_JSON)
    steps: Mapped[list[Any] | None] = mapped_column(NULLABLE_JSON)
    usage: Mapped[JsonObject | None] = mapped_column(NULLABLE_JSON)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]
