"""Jobs, the batches and experiments that they belong to, and the doorbells that are rung for them."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    Enum,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from jobs.models.base import NULLABLE_JSON, Base, JsonObject
from jobs.models.derived import ANSWERED_BY_ENGINE, ANSWERED_WITH, SOLVED, TRAINED_WITH
from jobs.models.records import AdapterRow
from jobs.states import Phase


class Experiment(Base):
    """A grid of settings over tasks and seeds: one batch per cell and seed.

    `document` is the request without its tasks, which the jobs have; `cells` are the grid's cells in its order.
    """

    __tablename__ = "experiments"
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy declares it
    __table_args__ = (Index("ix_experiments_listing", "created_at", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str]
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    request_sha256: Mapped[str | None]
    document: Mapped[JsonObject]
    cells: Mapped[list[Any]]
    seeds: Mapped[list[int]]
    num_tasks: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Batch(Base):
    """The jobs of one request, or of one cell and seed of an experiment."""

    __tablename__ = "batches"
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy declares it
    __table_args__ = (
        Index(None, "experiment_id"),
        CheckConstraint(
            "num_nulls(experiment_id, cell, seed) IN (0, 3)",
            name="place_in_experiment",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    experiment_id: Mapped[UUID | None] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"))
    cell: Mapped[str | None]
    seed: Mapped[int | None]
    name: Mapped[str | None]
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    request_sha256: Mapped[str | None]
    settings: Mapped[JsonObject]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    jobs: Mapped[list["Job"]] = relationship(back_populates="batch", order_by="Job.position", passive_deletes=True)


class Job(Base):
    """One task under one settings: the unit that is queued.

    `attempt` is the fencing token: each claim adds one, and every write of a worker names the one it was given.
    """

    __tablename__ = "jobs"
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy declares it
    __table_args__ = (
        UniqueConstraint("batch_id", "position"),
        # Nothing that a training step changes is in an index: such an update touches the row's own page only.
        Index("ix_jobs_claim", "phase", "created_at", "position"),
        Index("ix_jobs_trained_with", "phase", "trained_with", "created_at", "position"),
        Index("ix_jobs_answered_with", "phase", "answered_with", "created_at", "position"),
        Index("ix_jobs_answered_by_engine", "phase", "answered_by_engine", "created_at", "position"),
        Index("ix_jobs_listing", "created_at", "id"),
        Index(None, "task_id"),
        CheckConstraint(
            "(phase IN ('adapting', 'sampling')) = (lease_owner IS NOT NULL AND lease_expires_at IS NOT NULL)",
            name="lease_while_held",
        ),
        # Task, settings and results lie beside the table, which is short to scan, and to write again at every step.
        {"postgresql_with": {"toast_tuple_target": 512}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"))
    position: Mapped[int]
    group_index: Mapped[int | None]  # which of the batch's common adaptations it takes part in
    task_id: Mapped[str]
    task: Mapped[JsonObject]
    solution: Mapped[list[Any]]
    settings: Mapped[JsonObject]
    versions: Mapped[JsonObject]
    phase: Mapped[Phase] = mapped_column(
        Enum(
            Phase,
            native_enum=False,
            length=16,
            create_constraint=True,
            name="phase",
            values_callable=lambda phases: [phase.value for phase in phases],
        ),
        default=Phase.QUEUED,
    )
    attempt: Mapped[int] = mapped_column(default=0)
    requeues: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    step: Mapped[int] = mapped_column(default=0)
    max_steps: Mapped[int]
    eta_s: Mapped[float | None]
    results: Mapped[JsonObject | None] = mapped_column(NULLABLE_JSON)
    usage: Mapped[JsonObject] = mapped_column(default=dict)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    started_at: Mapped[datetime | None]
    adapted_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    trained_with: Mapped[str | None] = mapped_column(Computed(TRAINED_WITH, persisted=True), deferred=True)
    answered_with: Mapped[str | None] = mapped_column(Computed(ANSWERED_WITH, persisted=True), deferred=True)
    answered_by_engine: Mapped[bool | None] = mapped_column(Computed(ANSWERED_BY_ENGINE, persisted=True), deferred=True)
    solved: Mapped[bool | None] = mapped_column(Computed(SOLVED, persisted=True), deferred=True)

    batch: Mapped[Batch] = relationship(back_populates="jobs")
    adapter: Mapped[AdapterRow | None] = relationship(passive_deletes=True)


class OutboxRow(Base):
    """A doorbell that a queue should hear: at most one per job and queue, sent again by clearing `sent_at`."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("job_id", "queue"),
        Index("ix_outbox_unsent", "created_at", postgresql_where=text("sent_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    queue: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    sent_at: Mapped[datetime | None]
