"""Common adaptations: one adapter for all jobs of a batch or of a group of it, trained by whichever worker comes first.

A claim of one is fenced like a claim of a job: every write names its attempt, and a stale one changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from sqlalchemy import and_, insert, select, text, update

from jobs.claims import AdapterRecord, StepFields
from jobs.errors import CommonAdaptationFailed, StaleCommonClaim
from jobs.models import CommonAdaptationRow, Job
from jobs.repositories.base import Queue, Repository, lease_until, now, storable
from jobs.repositories.outbox import ring
from jobs.states import Phase

MAX_LOSSES: Final = 3
"""So many workers lost or out of order, and it is the training that is to blame."""

WORKER_LOST: Final = "worker_lost"

OVER: Final = ("trained", "failed")
"""States in which no job has to see to the adaptation."""

_UNHELD: Final[Mapping[str, Any]] = MappingProxyType(
    {"state": "waiting", "lease_owner": None, "lease_expires_at": None}
)

_COPY_STEPS = text(
    """
    INSERT INTO training_steps
        (job_id, step, attempt, stage, loss, learning_rate, grad_norm, tokens, elapsed_s)
    SELECT
        :job_id, taken.step, :attempt, 'common', taken.loss, taken.learning_rate, taken.grad_norm, taken.tokens,
        taken.elapsed_s
    FROM common_adaptations, jsonb_to_recordset(steps) AS taken (
        step int, loss float8, learning_rate float8, grad_norm float8, tokens int, elapsed_s float8
    )
    WHERE batch_id = :batch_id AND group_index = :group_index
    ON CONFLICT (job_id, step) DO NOTHING  -- the job whose worker trained it has them
    """
)


@dataclass(frozen=True, slots=True)
class CommonClaim:
    """The right to train a common adaptation, good for as long as nobody was given a later attempt."""

    batch_id: UUID
    group_index: int
    attempt: int
    owner: str


@dataclass(frozen=True, slots=True)
class CommonAdaptation:
    """A common adaptation that is trained."""

    adapter: AdapterRecord
    usage: Mapping[str, Any]
    """With `num_steps`, and in `left_out` the ids of tasks that fit into no training sequence."""
    elapsed_s: float
    """Seconds that the steps took."""


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """A training step as it is kept for the jobs that take part."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    elapsed_s: float

    @classmethod
    def of(cls, step: StepFields) -> "RecordedStep":
        """The same step."""
        return cls(step.step, step.loss, step.learning_rate, step.grad_norm, step.tokens, step.elapsed_s)


class CommonAdaptationRepository(Repository):
    """What the workers of a batch share."""

    def add(self, batch_id: UUID, *, num_groups: int) -> None:
        """Adds the common adaptations of a new batch, to be trained when a job first needs one."""
        rows = [{"batch_id": batch_id, "group_index": group_index} for group_index in range(num_groups)]
        if rows:
            self._session.execute(insert(CommonAdaptationRow), rows)

    def trained(self, batch_id: UUID, group_index: int) -> CommonAdaptation | None:
        """The adaptation, or None while it is not trained. Raises `CommonAdaptationFailed` if it never will be."""
        row = self._session.get_one(CommonAdaptationRow, (batch_id, group_index), populate_existing=True)
        if row.state == "failed":
            raise CommonAdaptationFailed(str(row.error_code), str(row.error_message))
        if row.state != "trained":
            return None
        adapter = AdapterRecord(str(row.artifact_key), str(row.sha256), row.size_bytes or 0, row.config or {})
        elapsed_s = row.steps[-1]["elapsed_s"] if row.steps else 0.0
        return CommonAdaptation(adapter, row.usage or {}, elapsed_s)

    def claim(self, batch_id: UUID, group_index: int, *, owner: str, lease_s: float) -> CommonClaim | None:
        """Takes an adaptation that nobody trains, or whose trainer let its lease run out. None: there is none.

        One that has lost `MAX_LOSSES` trainers fails instead.
        """
        row = CommonAdaptationRow
        self._take_from_lost(batch_id, group_index)
        attempt = self._session.execute(
            update(row)
            .where(row.batch_id == batch_id, row.group_index == group_index, row.state == "waiting")
            .values(
                state="training",
                attempt=row.attempt + 1,
                lease_owner=owner,
                lease_expires_at=lease_until(lease_s),
            )
            .returning(row.attempt)
            .execution_options(synchronize_session=False)
        ).scalar_one_or_none()
        return None if attempt is None else CommonClaim(batch_id, group_index, attempt, owner)

    def tasks(self, batch_id: UUID, group_index: int) -> list[tuple[str, Mapping[str, Any]]]:
        """Id and JSON of every task that takes part, in the order of the request."""
        statement = select(Job.task_id, Job.task).where(Job.batch_id == batch_id, Job.group_index == group_index)
        return [(task_id, task) for task_id, task in self._session.execute(statement.order_by(Job.position))]

    def renew(self, claim: CommonClaim, *, lease_s: float) -> None:
        """Extends the lease; raises `StaleCommonClaim`, as every write does."""
        self._write(claim, lease_expires_at=lease_until(lease_s))

    def finish(
        self,
        claim: CommonClaim,
        *,
        adapter: AdapterRecord,
        steps: Sequence[RecordedStep],
        usage: Mapping[str, Any],
    ) -> None:
        """Records the adapter and the steps that led to it."""
        self._end(
            claim,
            "trained",
            **{**asdict(adapter), "config": dict(adapter.config)},
            steps=[asdict(step) for step in steps],
            usage=dict(usage),
        )

    def fail(self, claim: CommonClaim, *, code: str, message: str) -> None:
        """Ends it as failed, and with it every job that takes part."""
        self._end(claim, "failed", error_code=code, error_message=storable(message))

    def ring_queued(self, batch_id: UUID, group_index: int) -> None:
        """Rings for the jobs that were passed over while another one of theirs saw to the adaptation."""
        queued = select(Job.id).where(
            Job.batch_id == batch_id, Job.group_index == group_index, Job.phase == Phase.QUEUED
        )
        ring(self._session, self._session.scalars(queued.order_by(Job.position)).all(), Queue.ADAPT)

    def ring_unless_over(self, job: Job) -> None:
        """Rings for the jobs of the group of one that will not see to the adaptation any more, if somebody has to."""
        if job.group_index is None:
            return
        key = (job.batch_id, job.group_index)
        row = self._session.get_one(CommonAdaptationRow, key, populate_existing=True)
        if row.state not in OVER:
            self.ring_queued(*key)

    def release(self, claim: CommonClaim) -> None:
        """Gives it back untrained."""
        self._write(claim, **_UNHELD)

    def give_up(self, claim: CommonClaim, *, code: str, message: str) -> None:
        """Gives it back untrained because of something that another worker may not meet.

        That counts as a lost worker; if it is one too many, the adaptation fails with `code`.
        """
        row = CommonAdaptationRow
        self._write(claim, **_UNHELD, losses=row.losses + 1)
        self._fail_if_hopeless(claim.batch_id, claim.group_index, code=code, message=message)

    def offer_again(self, batch_ids: Collection[UUID], *, lost_only: bool = False) -> None:
        """Lets those of the batches that failed be trained once more, or only those that lost their workers."""
        row = CommonAdaptationRow
        failed = and_(row.batch_id.in_(batch_ids), row.state == "failed")
        if lost_only:
            failed = and_(failed, row.error_code == WORKER_LOST)
        fresh = {"state": "waiting", "losses": 0, "error_code": None, "error_message": None, "finished_at": None}
        self._session.execute(update(row).where(failed).values(**fresh))

    def copy_steps(self, job_id: UUID, attempt: int, *, batch_id: UUID, group_index: int) -> None:
        """Makes the common steps the job's own. The caller has locked the job's row and proven its claim."""
        parameters = {"job_id": job_id, "attempt": attempt, "batch_id": batch_id, "group_index": group_index}
        self._session.execute(_COPY_STEPS, parameters)

    def _take_from_lost(self, batch_id: UUID, group_index: int) -> None:
        row = CommonAdaptationRow
        lost = self._session.execute(
            update(row)
            .where(
                row.batch_id == batch_id,
                row.group_index == group_index,
                row.state == "training",
                row.lease_expires_at < now(),
            )
            .values(**_UNHELD, losses=row.losses + 1)
            .returning(row.losses)
            .execution_options(synchronize_session=False)
        ).scalar_one_or_none()
        if lost is not None:
            message = f"{lost} workers were lost while they trained it"
            self._fail_if_hopeless(batch_id, group_index, code=WORKER_LOST, message=message)

    def _fail_if_hopeless(self, batch_id: UUID, group_index: int, *, code: str, message: str) -> None:
        row = CommonAdaptationRow
        self._session.execute(
            update(row)
            .where(
                row.batch_id == batch_id,
                row.group_index == group_index,
                row.state == "waiting",
                row.losses >= MAX_LOSSES,
            )
            .values(state="failed", error_code=code, error_message=storable(message), finished_at=now())
            .execution_options(synchronize_session=False)
        )

    def _end(self, claim: CommonClaim, state: str, **fields: Any) -> None:  # noqa: ANN401 - column values
        self._write(claim, state=state, lease_owner=None, lease_expires_at=None, finished_at=now(), **fields)
        self.ring_queued(claim.batch_id, claim.group_index)

    def _write(self, claim: CommonClaim, **fields: Any) -> None:  # noqa: ANN401 - column values
        row = CommonAdaptationRow
        written = self._session.execute(
            update(row)
            .where(
                row.batch_id == claim.batch_id,
                row.group_index == claim.group_index,
                row.attempt == claim.attempt,
                row.lease_owner == claim.owner,
                row.state == "training",
            )
            .values(**fields)
            .returning(row.attempt)
            .execution_options(synchronize_session=False)
        )
        if written.scalar_one_or_none() is None:
            raise StaleCommonClaim(claim.batch_id, claim.group_index, claim.attempt)
