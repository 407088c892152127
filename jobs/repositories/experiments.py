"""Reading experiments, in sums: an experiment can have thousands of jobs and millions of training steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Select,
    Uuid,
    and_,
    any_,
    delete,
    func,
    insert,
    lateral,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import defer, load_only, selectinload

from arc_engine.grids import Grid
from jobs.artifacts import adapter_key
from jobs.errors import NotFound
from jobs.models import Batch, CandidateRow, EventRow, Experiment, Job, StepRow
from jobs.repositories.base import Queue, Repository, locked
from jobs.repositories.common_adaptations import CommonAdaptationRepository
from jobs.repositories.cursors import Place, decode, encode
from jobs.repositories.jobs import MAX_PAGE, stop
from jobs.repositories.outbox import ring
from jobs.repositories.reaper import WORKER_LOST
from jobs.states import HELD, TERMINAL, Phase

FINAL_STEPS: Final = 10
"""The final loss is the mean of this many recorded steps: every single step draws other views."""
_NOT_PART_OF_A_CURVE: Final = (Phase.FAILED, Phase.CANCELLED)
_SUBMITTED: Final = (
    "batch_id",
    "position",
    "group_index",
    "task_id",
    "task",
    "solution",
    "settings",
    "versions",
    "max_steps",
)
"""What a job is before anything has happened to it."""


@dataclass(frozen=True, slots=True)
class ListedExperiment:
    """An experiment whose `document` and `cells`, which can be long, are loaded only on access."""

    experiment: Experiment
    num_cells: int


@dataclass(frozen=True, slots=True)
class ExperimentPage:
    """One page, newest experiment first, and the cursor of the next page if there is one."""

    items: Sequence[ListedExperiment]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class CellBatch:
    """The batch of a cell under one seed."""

    id: UUID
    cell: str
    seed: int


@dataclass(frozen=True, slots=True)
class PhaseCount:
    """How many jobs of a cell are in a phase, and how far they are."""

    cell: str
    phase: Phase
    num_jobs: int
    steps: int
    max_steps: int


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """One job with its place in the experiment. `final_loss` is None where no step was recorded."""

    job: Job
    cell: str
    seed: int
    final_loss: float | None


@dataclass(frozen=True, slots=True)
class Vote:
    """How many predictions for one test input of a job gave one grid."""

    job_id: UUID
    test_index: int
    grid: Grid
    votes: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """The fresh jobs, and the artifacts of the old ones, which nothing refers to once this is committed."""

    job_ids: tuple[UUID, ...]
    artifacts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeanLoss:
    """A point of a cell's loss curve."""

    cell: str
    step: int
    loss: float
    std: float | None
    num_jobs: int


class ExperimentRepository(Repository):
    """Experiments and what their jobs add up to."""

    def get(self, experiment_id: UUID) -> Experiment:
        """The experiment; raises `NotFound`."""
        experiment = self._session.get(Experiment, experiment_id)
        if experiment is None:
            raise NotFound("experiment", experiment_id)
        return experiment

    def list(self, *, cursor: str | None = None, limit: int = 50) -> ExperimentPage:
        """A page of experiments, newest first. Raises `InvalidCursor`."""
        limit = max(1, min(limit, MAX_PAGE))
        statement = (
            select(Experiment, func.jsonb_array_length(Experiment.cells))
            .options(defer(Experiment.document), defer(Experiment.cells))
            .order_by(Experiment.created_at.desc(), Experiment.id.desc())
            .limit(limit + 1)
        )
        if cursor is not None:
            statement = statement.where(decode(cursor).is_after(Experiment.created_at, Experiment.id))
        listed = [ListedExperiment(*row) for row in self._session.execute(statement)]
        if len(listed) <= limit:
            return ExperimentPage(listed, None)
        last = listed[limit - 1].experiment
        return ExperimentPage(listed[:limit], encode(Place(last.created_at, last.id)))

    def batches(self, experiment_id: UUID) -> Sequence[CellBatch]:
        """Its batches in the order in which they were submitted."""
        statement = select(Batch.id, Batch.cell, Batch.seed).where(Batch.experiment_id == experiment_id)
        rows = self._session.execute(statement.order_by(Batch.created_at, Batch.id))
        return [CellBatch(*row) for row in rows]  # type: ignore[arg-type]  # see Batch: all or none is NULL

    def job_ids(self, experiment_id: UUID) -> Sequence[UUID]:
        """Its jobs in the order in which workers take them."""
        statement = select(Job.id).join(Job.batch).where(Batch.experiment_id == experiment_id)
        return self._session.scalars(statement.order_by(Job.created_at, Job.position)).all()

    def totals(self, experiment_ids: Sequence[UUID]) -> Mapping[UUID, Mapping[Phase, int]]:
        """How many jobs of each experiment are in each phase."""
        statement = (
            select(Batch.experiment_id, Job.phase, func.count())
            .join(Job.batch)
            .where(Batch.experiment_id.in_(experiment_ids))
            .group_by(Batch.experiment_id, Job.phase)
        )
        totals: dict[UUID, dict[Phase, int]] = {experiment_id: {} for experiment_id in experiment_ids}
        for experiment_id, phase, num_jobs in self._session.execute(statement):
            totals[experiment_id][phase] = num_jobs  # type: ignore[index]  # the condition leaves no NULL
        return totals

    def counts(self, experiment_id: UUID) -> Sequence[PhaseCount]:
        """How many jobs of the experiment there are by cell and phase."""
        statement = (
            select(Batch.cell, Job.phase, func.count(), func.sum(Job.step), func.sum(Job.max_steps))
            .join(Job.batch)
            .where(Batch.experiment_id == experiment_id)
            .group_by(Batch.cell, Job.phase)
        )
        return [PhaseCount(*row) for row in self._session.execute(statement)]  # type: ignore[arg-type]  # as above

    def outcomes(self, experiment_id: UUID) -> Sequence[JobOutcome]:
        """All jobs in the order of their batches, each with its final loss."""
        last = (
            select(StepRow.loss)
            .where(StepRow.job_id == Job.id)
            .order_by(StepRow.step.desc())
            .limit(FINAL_STEPS)
            .correlate(Job)
            .subquery()
        )
        final = lateral(select(func.avg(last.c.loss).label("loss")), name="final")
        statement = (
            select(Job, Batch.cell, Batch.seed, final.c.loss)
            .join(Job.batch)
            .join(final, true())
            .where(Batch.experiment_id == experiment_id)
            .order_by(Batch.created_at, Job.position)
            .options(
                load_only(
                    Job.batch_id,
                    Job.group_index,
                    Job.task_id,
                    Job.phase,
                    Job.solution,
                    Job.settings,
                    Job.results,
                    Job.usage,
                    Job.error_code,
                    Job.error_message,
                )
            )
        )
        return [JobOutcome(*row) for row in self._session.execute(statement)]

    def votes(self, batch_id: UUID) -> Iterator[Vote]:
        """Everything found for the jobs of a batch, by job and test input, best first."""
        statement = (
            select(CandidateRow.job_id, CandidateRow.test_index, CandidateRow.grid, CandidateRow.votes)
            .join(Job, Job.id == CandidateRow.job_id)
            .where(Job.batch_id == batch_id)
            .order_by(CandidateRow.job_id, CandidateRow.test_index, CandidateRow.rank)
        )
        for job_id, test_index, rows, votes in self._session.execute(statement):
            yield Vote(job_id, test_index, tuple(map(tuple, rows)), votes)

    def max_steps(self, experiment_id: UUID) -> int:
        """Most steps that a job of it may take."""
        statement = select(func.max(Job.max_steps)).join(Job.batch).where(Batch.experiment_id == experiment_id)
        return self._session.scalar(statement) or 0

    def curves(self, experiment_id: UUID, *, steps_per_point: int) -> Sequence[MeanLoss]:
        """Mean loss by cell and step: over the tasks of each seed, then over seeds. Failed jobs are left out.

        `steps_per_point` neighbouring steps become one point, at the last of them that was recorded.
        """
        bucket = ((StepRow.step - 1) // steps_per_point).label("bucket")
        # Job by job, by the index of its steps: the steps of all other jobs are many more.
        points = lateral(
            select(bucket, func.max(StepRow.step).label("step"), func.avg(StepRow.loss).label("loss"))
            .where(StepRow.job_id == Job.id)
            .group_by(bucket)
            .correlate(Job),
            name="points",
        )
        per_seed = (
            select(
                Batch.cell,
                Batch.seed,
                points.c.bucket,
                func.max(points.c.step).label("step"),
                func.avg(points.c.loss).label("loss"),
                func.count().label("num_jobs"),
            )
            .select_from(Job)
            .join(Job.batch)
            .join(points, true())
            .where(Batch.experiment_id == experiment_id, Job.phase.not_in(_NOT_PART_OF_A_CURVE))
            .group_by(Batch.cell, Batch.seed, points.c.bucket)
            .subquery()
        )
        statement = (
            select(
                per_seed.c.cell,
                func.max(per_seed.c.step),
                func.avg(per_seed.c.loss),
                func.stddev_samp(per_seed.c.loss),
                func.sum(per_seed.c.num_jobs),
            )
            .group_by(per_seed.c.cell, per_seed.c.bucket)
            .order_by(per_seed.c.cell, per_seed.c.bucket)
        )
        return [
            MeanLoss(cell, step, loss, std, int(num)) for cell, step, loss, std, num in self._session.execute(statement)
        ]

    def cancel(self, experiment_id: UUID) -> None:
        """Cancels what waits, and asks the workers of what runs to stop."""
        self.get(experiment_id)
        unfinished = _jobs(experiment_id).where(Job.phase.not_in(TERMINAL)).order_by(Job.id)
        needed = load_only(Job.phase, Job.attempt, Job.cancel_requested)
        for job in self._session.scalars(locked(unfinished.options(needed))):
            stop(self._session, job)
        self._session.flush()

    def offer_again(self, experiment_id: UUID, *, all_failed: bool = False) -> Replaced:
        """Puts a fresh job into the place of every one that was cancelled or lost its workers, or that failed at all.

        What is over stays over: the old job goes, with everything that it left. So does one that is being cancelled:
        whether its worker has heard of that yet cannot be known here, and it finds out that its claim is stale.
        """
        self.get(experiment_id)
        lost = and_(Job.phase == Phase.FAILED, true() if all_failed else Job.error_code == WORKER_LOST)
        cancelled = or_(Job.phase == Phase.CANCELLED, and_(Job.phase.in_(HELD), Job.cancel_requested))
        missing = _jobs(experiment_id).where(or_(cancelled, lost)).order_by(Job.id)
        with_adapter = (load_only(Job.batch_id), selectinload(Job.adapter))
        old = self._session.scalars(locked(missing.options(*with_adapter))).all()
        if not old:
            return Replaced((), ())
        left = tuple(job.adapter.artifact_key for job in old if job.adapter is not None and _own_adapter(job))
        batch_ids = {job.batch_id for job in old}
        CommonAdaptationRepository(self._session).offer_again(batch_ids, lost_only=not all_failed)
        job_ids = self._replace([job.id for job in old])
        queued = [{"job_id": job_id, "attempt": 0, "kind": "queued", "data": {}} for job_id in job_ids]
        self._session.execute(insert(EventRow), queued)
        ring(self._session, job_ids, Queue.ADAPT)
        return Replaced(job_ids, left)

    def _replace(self, job_ids: Sequence[UUID]) -> tuple[UUID, ...]:
        """Fresh jobs for these, which go, in the same working order; no task leaves the database for it."""
        jobs = Job.metadata.tables[Job.__tablename__]
        old = jobs.c.id == any_(literal(list(job_ids), ARRAY(Uuid)))
        # Two jobs cannot have one place, so the old ones step aside.
        self._session.execute(update(jobs).where(old).values(position=-1 - jobs.c.position))
        place = (-1 - jobs.c.position).label("position")
        kept = [place if name == "position" else jobs.c[name] for name in _SUBMITTED]
        in_order = select(func.gen_random_uuid(), *kept).where(old).order_by(jobs.c.created_at, place)
        fresh = insert(jobs).from_select(["id", *_SUBMITTED], in_order).returning(jobs.c.id)
        fresh_ids = tuple(self._session.scalars(fresh))
        self._session.execute(delete(jobs).where(old))
        return fresh_ids


def _own_adapter(job: Job) -> bool:
    # Not one that other jobs of its batch have too.
    return job.adapter is not None and job.adapter.artifact_key == adapter_key(job.id, job.adapter.attempt)


def _jobs(experiment_id: UUID) -> Select[Job]:
    return select(Job).join(Job.batch).where(Batch.experiment_id == experiment_id)
