"""Common adaptations: one adapter for all jobs of a batch or of a group of it, trained by whichever worker comes first.

A claim of one is fenced like a claim of a job: every write names its attempt, and a stale one changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import and_, insert, or_, select, text, update

from jobs.claims import AdapterRecord, StepFields
from jobs.errors import CommonAdaptationFailed, StaleClaim
from jobs.models import CommonAdaptationRow, Job
from jobs.repositories.base import Repository, lease_until, now, storable

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
        """Takes an adaptation that nobody trains, or whose trainer let its lease run out. None: there is none."""
        row = CommonAdaptationRow
        lost = and_(row.state == "training", row.lease_expires_at < now())
        attempt = self._session.execute(
            update(row)
            .where(row.batch_id == batch_id, row.group_index == group_index, or_(row.state == "waiting", lost))
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
        """Extends the lease; raises `StaleClaim`, as every write does."""
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

    def release(self, claim: CommonClaim) -> None:
        """Gives it back untrained."""
        self._write(claim, state="waiting", lease_owner=None, lease_expires_at=None)

    def offer_again(self, batch_ids: Collection[UUID]) -> None:
        """Lets those of the batches that failed be trained once more."""
        row = CommonAdaptationRow
        fresh = {"state": "waiting", "error_code": None, "error_message": None, "finished_at": None}
        self._session.execute(update(row).where(row.batch_id.in_(batch_ids), row.state == "failed").values(**fresh))

    def copy_steps(self, job_id: UUID, attempt: int, *, batch_id: UUID, group_index: int) -> None:
        """Makes the common steps the job's own. The caller has locked the job's row and proven its claim."""
        parameters = {"job_id": job_id, "attempt": attempt, "batch_id": batch_id, "group_index": group_index}
        self._session.execute(_COPY_STEPS, parameters)

    def _end(self, claim: CommonClaim, state: str, **fields: Any) -> None:  # noqa: ANN401 - column values
        self._write(claim, state=state, lease_owner=None, lease_expires_at=None, finished_at=now(), **fields)

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
            raise StaleClaim(claim.batch_id, claim.attempt)
