"""Claiming jobs, and everything that a worker may write about them.

Each method but the claims first proves that the claim still holds: same attempt, same owner, same phase, with the
row locked until the transaction ends. A worker that was too slow gets `StaleClaim` and has changed nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, insert, select, update

from jobs.claims import AdapterRecord, CandidateFields, Claim, ClaimedJob, ClaimedStep
from jobs.errors import InvalidTransition, StaleClaim
from jobs.models import AdapterRow, CandidateRow, Job, StepRow
from jobs.repositories.base import QUEUE_OF, Repository, lease_until, locked, move, now, storable
from jobs.repositories.claimable import (
    answered_together_with,
    seen_to_elsewhere,
    trained_together_with,
    waiting,
)
from jobs.repositories.common_adaptations import CommonAdaptationRepository
from jobs.repositories.outbox import ring
from jobs.repositories.step_writing import record_steps
from jobs.states import WAITING_PHASE, Phase


class ClaimRepository(Repository):
    """The worker's side of a job."""

    def claim_for_adapting(self, job_id: UUID | None, *, owner: str, lease_s: float) -> ClaimedJob | None:
        """Takes a queued job, the oldest where `job_id` is None. None: there is nothing to take.

        Where none is named, those are passed over that would only wait for the common adaptation which another job's
        worker sees to: rung for when that is over. Steps that an earlier attempt recorded are deleted: a curve is one
        run's.
        """
        queued = waiting(Phase.ADAPTING, job_id)
        if job_id is None:
            queued = queued.where(~seen_to_elsewhere())
        return next(iter(self._claim_to_adapt(queued.limit(1), owner=owner, lease_s=lease_s)), None)

    def claim_more_for_adapting(self, like: ClaimedJob, *, limit: int, owner: str, lease_s: float) -> list[ClaimedJob]:
        """Takes up to `limit` queued jobs, the oldest first, that can be trained together with `like`."""
        queued = waiting(Phase.ADAPTING).where(trained_together_with(like.claim.job_id)).limit(limit)
        return self._claim_to_adapt(queued, owner=owner, lease_s=lease_s)

    def claim_for_sampling(
        self, job_id: UUID | None, *, owner: str, lease_s: float, in_engine: bool | None = None
    ) -> ClaimedJob | None:
        """Takes an adapted job, the oldest where `job_id` is None. None: there is nothing to take.

        With `in_engine` it is one that vLLM answers where it is installed, or one that it does not.
        """
        adapted = waiting(Phase.SAMPLING, job_id).limit(1)
        if in_engine is not None:
            adapted = adapted.where(Job.answered_by_engine == in_engine)
        return next(iter(self._claim(Phase.SAMPLING, adapted, owner=owner, lease_s=lease_s)), None)

    def claim_more_for_sampling(self, like: ClaimedJob, *, limit: int, owner: str, lease_s: float) -> list[ClaimedJob]:
        """Takes up to `limit` adapted jobs, the oldest first, that one call to a sampler can answer together with
        `like`."""
        adapted = waiting(Phase.SAMPLING).where(answered_together_with(like.claim.job_id)).limit(limit)
        return self._claim(Phase.SAMPLING, adapted, owner=owner, lease_s=lease_s)

    def renew(self, claim: Claim, *, lease_s: float) -> bool:
        """Extends the lease. True: the client asked to cancel."""
        renewed = self._session.execute(
            update(Job)
            .where(*_holds(claim))
            .values(lease_expires_at=lease_until(lease_s))
            .returning(Job.cancel_requested)
            .execution_options(synchronize_session=False)
        )
        return self._answer(claim, renewed.scalar_one_or_none())

    def record_steps(self, taken: Sequence[ClaimedStep], *, lease_s: float) -> Mapping[UUID, bool]:
        """Records training steps, those of each job in their order, and extends the leases, in one statement.

        By job, whether the client asked to cancel. A job whose claim no longer holds is not among them, and nothing was
        recorded of it. Raises `ValueError` for a step that is not finite: such a run has diverged and is to be failed.
        """
        return record_steps(self._session, taken, lease_s=lease_s)

    def forget_steps(self, claim: Claim) -> None:
        """Deletes the steps recorded so far, as for a training that begins anew."""
        job = self._held(claim)
        job.step = 0
        self._session.execute(delete(StepRow).where(StepRow.job_id == job.id))

    def copy_common_steps(self, claim: Claim, *, num_steps: int) -> None:
        """Gives the job the steps of the common adaptation that it takes part in."""
        job = self._held(claim)
        if job.group_index is None:
            raise ValueError(f"job {job.id} takes part in no common adaptation")
        CommonAdaptationRepository(self._session).copy_steps(
            job.id, claim.attempt, batch_id=job.batch_id, group_index=job.group_index
        )
        job.step = num_steps

    def finish_adapting(self, claim: Claim, *, adapter: AdapterRecord | None, usage: Mapping[str, Any]) -> Phase:
        """Records the adapter and hands the job on to sampling.

        Returns `adapted`, or `cancelled` if the client asked for that meanwhile; the adapter is kept either way.
        """
        job = self._held(claim)
        if job.phase is not Phase.ADAPTING:  # a sampling job may become adapted too, but only by being given back
            raise InvalidTransition(job.id, job.phase, Phase.ADAPTED)
        job.usage = {**job.usage, **usage}
        job.adapted_at = now()
        if adapter is not None:
            self._session.add(
                AdapterRow(
                    job_id=job.id,
                    attempt=claim.attempt,
                    artifact_key=adapter.artifact_key,
                    sha256=adapter.sha256,
                    size_bytes=adapter.size_bytes,
                    config=dict(adapter.config),
                )
            )
        self._hand_on(job, Phase.ADAPTED)
        return job.phase

    def finish_sampling(
        self,
        claim: Claim,
        *,
        candidates: Sequence[Sequence[CandidateFields]],
        results: Mapping[str, Any],
        usage: Mapping[str, Any],
    ) -> None:
        """Records the answer: per test input its candidates, best first.

        A cancellation that comes after the last sample comes too late.
        """
        job = self._held(claim)
        job.results = dict(results)
        job.usage = {**job.usage, **usage}
        move(self._session, job, Phase.SUCCEEDED)
        rows = [
            {
                "job_id": job.id,
                "test_index": test_index,
                "rank": rank,
                "grid": [list(row) for row in candidate.grid],
                "votes": candidate.votes,
                "log_probability": candidate.log_probability,
                "score": _finite(candidate.score),
                "views": list(candidate.views),
                "findings": [
                    {"view": found.view, "votes": found.votes, "log_probability": found.log_probability}
                    for found in candidate.findings
                ],
                "view_scores": [_finite(score) for score in candidate.view_scores],
            }
            for test_index, ranked in enumerate(candidates)
            for rank, candidate in enumerate(ranked)
        ]
        if rows:
            self._session.execute(insert(CandidateRow), rows)

    def fail(self, claim: Claim, *, code: str, message: str) -> None:
        """Ends the job as failed."""
        job = self._held(claim)
        job.error_code = code
        job.error_message = storable(message)
        move(self._session, job, Phase.FAILED, code=code)
        self._leave_common(claim, job)

    def cancel(self, claim: Claim) -> None:
        """Ends the job as cancelled, which the client asked for."""
        job = self._held(claim)
        move(self._session, job, Phase.CANCELLED)
        self._leave_common(claim, job)

    def release(self, claim: Claim, *, alone: bool = False) -> Phase:
        """Gives the job back unfinished: this worker shuts down, or was interrupted for the sake of another job.

        That does not count as a lost worker. With `alone` it does, because the job may be to blame; it is then sampled
        by itself.
        """
        job = self._held(claim)
        job.requeues += alone
        job.step = 0 if claim.phase is Phase.ADAPTING else job.step
        self._hand_on(job, WAITING_PHASE[claim.phase], event="released")
        self._leave_common(claim, job)
        return job.phase

    def _claim_to_adapt(self, queued: Select[Job], *, owner: str, lease_s: float) -> list[ClaimedJob]:
        claimed = self._claim(Phase.ADAPTING, queued, owner=owner, lease_s=lease_s)
        for job in claimed:
            self._session.execute(delete(StepRow).where(StepRow.job_id == job.claim.job_id))
        return claimed

    def _claim(self, to: Phase, jobs: Select[Job], *, owner: str, lease_s: float) -> list[ClaimedJob]:
        # Rows that another worker is claiming right now are skipped, not waited for.
        taken = self._session.scalars(locked(jobs, skip_locked=True)).all()
        return [self._taken(job, to, owner=owner, lease_s=lease_s) for job in taken]

    def _taken(self, job: Job, to: Phase, *, owner: str, lease_s: float) -> ClaimedJob:
        job.attempt += 1
        job.lease_owner = owner
        job.lease_expires_at = lease_until(lease_s)
        job.started_at = job.started_at or now()
        if to is Phase.ADAPTING:
            job.step = 0
        move(self._session, job, to, owner=owner)
        self._session.flush()
        return ClaimedJob.of(job, Claim(job.id, job.attempt, owner, to))

    def _held(self, claim: Claim) -> Job:
        """The claimed row, locked. Raises `StaleClaim` when it is no longer this claim's."""
        job = self._session.scalar(locked(select(Job).where(*_holds(claim))))
        if job is None:
            raise StaleClaim(claim.job_id, claim.attempt)
        return job

    def _leave_common(self, claim: Claim, job: Job) -> None:
        if claim.phase is Phase.ADAPTING:
            CommonAdaptationRepository(self._session).ring_unless_over(job)

    def _hand_on(self, job: Job, to: Phase, *, event: str | None = None) -> None:
        """Lets a job wait for its next worker, unless its client wants it cancelled."""
        if job.cancel_requested:
            move(self._session, job, Phase.CANCELLED)
            return
        move(self._session, job, to, event=event)
        ring(self._session, [job.id], QUEUE_OF[to])

    @staticmethod
    def _answer(claim: Claim, cancel_requested: bool | None) -> bool:  # noqa: FBT001 - the row's answer
        if cancel_requested is None:
            raise StaleClaim(claim.job_id, claim.attempt)
        return cancel_requested


def _holds(claim: Claim) -> tuple[Any, ...]:
    return (
        Job.id == claim.job_id,
        Job.attempt == claim.attempt,
        Job.lease_owner == claim.owner,
        Job.phase == claim.phase,
    )


def _finite(score: float) -> float | None:
    """What JSON and the dashboards can show of a score."""
    return score if math.isfinite(score) else None
