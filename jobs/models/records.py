"""What a job leaves behind: events, steps, its adapter, its candidates."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Integer, func
from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.base import Base, JsonObject, finite


class EventRow(Base):
    """Something that happened to a job."""

    __tablename__ = "job_events"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    kind: Mapped[str]
    data: Mapped[JsonObject]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class StepRow(Base):
    """One optimizer step, of the common adaptation first where there is one.

    Non-finite values are refused: a diverged job has failed.
    """

    __tablename__ = "training_steps"
    __table_args__ = (
        finite("loss"),
        finite("grad_norm"),
        finite("learning_rate"),
        CheckConstraint("stage IN ('common', 'task')", name="stage"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    stage: Mapped[str] = mapped_column(default="task", server_default="task")
    loss: Mapped[float]
    learning_rate: Mapped[float]
    grad_norm: Mapped[float]
    tokens: Mapped[int]
    elapsed_s: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class AdapterRow(Base):
    """The adapter that a job trained, and where its archive lies."""

    __tablename__ = "adapters"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int]
    artifact_key: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    config: Mapped[JsonObject]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class CandidateRow(Base):
    """A distinct grid that sampling came up with for one test input; rank 0 is the best.

    `findings` say of every view that found it how often, and how likely it was: `{view, votes, log_probability}`.
    `view_scores` are its log-probabilities under the scoring views, where it was scored again. In both, and in
    `score`, null stands for what is not finite.
    """

    __tablename__ = "candidates"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    test_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rank: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    grid: Mapped[list[Any]]
    votes: Mapped[int]
    log_probability: Mapped[float | None]
    score: Mapped[float | None]
    views: Mapped[list[int]]
    findings: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    view_scores: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
