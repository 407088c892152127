"""The tables.

Times are the database's own (`clock_timestamp()`), never a worker's: two machines need not agree on the hour for a
lease to be safe. JSON columns hold what the engine's types write with `to_json`.
"""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    Enum,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from jobs.states import Phase

JsonObject = dict[str, Any]

_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_HELD = text("phase IN ('adapting', 'sampling')")
_NULLABLE_JSON = JSONB(none_as_null=True)


def _finite(column: str) -> CheckConstraint:
    # Postgres sorts NaN above infinity, so the upper bound refuses both.
    return CheckConstraint(f"{column} > '-Infinity' AND {column} < 'Infinity'", name=f"{column}_finite")


class Base(DeclarativeBase):
    """Parent of all tables."""

    metadata = MetaData(naming_convention=_NAMING)
    type_annotation_map: ClassVar = {
        datetime: DateTime(timezone=True),
        str: Text,
        float: Double,
        UUID: Uuid,
        JsonObject: JSONB,
        list[Any]: JSONB,
        list[int]: JSONB,
    }


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
        Index("ix_jobs_claim", "phase", "created_at", "position"),
        Index("ix_jobs_expiry", "lease_expires_at", postgresql_where=_HELD),
        Index("ix_jobs_listing", "created_at", "id"),
        Index(None, "task_id"),
        CheckConstraint(
            "(phase IN ('adapting', 'sampling')) = (lease_owner IS NOT NULL AND lease_expires_at IS NOT NULL)",
            name="lease_while_held",
        ),
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
    results: Mapped[JsonObject | None] = mapped_column(_NULLABLE_JSON)
    usage: Mapped[JsonObject] = mapped_column(default=dict)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    started_at: Mapped[datetime | None]
    adapted_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    batch: Mapped[Batch] = relationship(back_populates="jobs")
    adapter: Mapped["AdapterRow | None"] = relationship(passive_deletes=True)


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
        _finite("loss"),
        _finite("grad_norm"),
        _finite("learning_rate"),
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
    config: Mapped[JsonObject | None] = mapped_column(_NULLABLE_JSON)
    steps: Mapped[list[Any] | None] = mapped_column(_NULLABLE_JSON)
    usage: Mapped[JsonObject | None] = mapped_column(_NULLABLE_JSON)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]


class CandidateRow(Base):
    """A distinct grid that sampling came up with for one test input; rank 0 is the best."""

    __tablename__ = "candidates"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    test_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rank: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    grid: Mapped[list[Any]]
    votes: Mapped[int]
    log_probability: Mapped[float | None]
    score: Mapped[float]
    views: Mapped[list[int]]


class BaseModelRow(Base):
    """A base model that jobs may name, and whether its own adapter has been merged into it.

    A worker looks at one that is not, `look_again_at` being over where it is set: after a failure that may pass, or
    because the worker that was at it must be lost. `merge_attempts` counts how often one did.
    """

    __tablename__ = "base_models"
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy declares it
    __table_args__ = (
        CheckConstraint("merge_state IN ('needs_merge', 'merging', 'merged', 'failed')", name="merge_state"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    revision: Mapped[str | None]
    adapter_source: Mapped[str | None]
    adapter_revision: Mapped[str | None]
    adapter_config: Mapped[JsonObject | None] = mapped_column(_NULLABLE_JSON)
    manifest: Mapped[JsonObject | None] = mapped_column(_NULLABLE_JSON)
    merge_state: Mapped[str]
    merge_attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    look_again_at: Mapped[datetime | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
