"""A claimed job and its record: every write in a transaction of its own, each of them fenced by the claim."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import structlog
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from arc_engine.adaptation.steps import AdaptationStep
from jobs.claims import AdapterRecord, CandidateFields, Claim, ClaimedJob, ClaimedStep
from jobs.database import SessionFactory, transaction
from jobs.repositories import ClaimRepository
from jobs.states import Phase, Stage
from worker.common_record import CommonRecord

DATABASE_AWAY: Final = (OperationalError, InterfaceError, InternalError, PoolTimeout)
"""How a database that went away, or may not be written to for now, shows itself."""

log = structlog.get_logger()


class StepSink(Protocol):
    """Where a job's training steps go on their way to the record."""

    def put(self, step: ClaimedStep) -> None:
        """Takes a step and returns at once, as a rule. Raises why an earlier one could not be written."""
        ...

    def settle(self) -> None:
        """Waits until all steps are on record. Raises why they are not and never will be."""
        ...


class JobRecord:
    """What the worker that holds a claim reads and writes. Writes raise `StaleClaim` once the job is another's."""

    def __init__(self, job: ClaimedJob, *, sessions: SessionFactory, lease_s: float) -> None:
        self.job = job
        self.lease_s = lease_s
        self.common = (
            None
            if job.group_index is None
            else CommonRecord(job, group_index=job.group_index, sessions=sessions, lease_s=lease_s)
        )
        self.closing = False
        """Set before the write that ends the claim: from then on a stale claim is no surprise."""
        self.steps: StepSink | None = None
        """Set while the job is adapted."""
        self.sessions = sessions

    @property
    def claim(self) -> Claim:
        """The job's id, and the attempt number that every write names."""
        return self.job.claim

    @property
    def names(self) -> dict[str, object]:
        """What the log calls the job."""
        return {"job_id": str(self.claim.job_id), "task_id": self.job.task_id, "attempt": self.claim.attempt}

    def renew(self) -> bool:
        """Extends the lease, and that of the common adaptation if we train it. True: the client asked to cancel."""
        if self.common is not None:
            self.common.renew()
        with transaction(self.sessions) as session:
            return ClaimRepository(session).renew(self.claim, lease_s=self.lease_s)

    def step(
        self, step: AdaptationStep, *, seconds_per_step: float, stage: Stage = Stage.TASK, keep: bool = True
    ) -> None:
        """Sends a training step, or only its number, on its way to the record; it is there before any other write."""
        if self.steps is None:
            raise RuntimeError("nobody writes the steps of this job")
        eta_s = seconds_per_step * (self.job.max_steps - step.step)
        self.steps.put(ClaimedStep(self.claim, step, eta_s, stage, keep))

    def forget_steps(self) -> None:
        """Deletes what was recorded so far: the training is to begin anew."""
        self._settle()
        with transaction(self.sessions) as session:
            ClaimRepository(session).forget_steps(self.claim)

    def copy_common_steps(self, *, num_steps: int) -> None:
        """Makes the steps of the common adaptation the job's own."""
        self._settle()
        with transaction(self.sessions) as session:
            ClaimRepository(session).copy_common_steps(self.claim, num_steps=num_steps)

    def finish_adapting(self, *, adapter: AdapterRecord | None, usage: Mapping[str, Any]) -> Phase:
        """adapting -> adapted, or cancelled if that was asked for meanwhile."""
        self._close()
        with transaction(self.sessions) as session:
            return ClaimRepository(session).finish_adapting(self.claim, adapter=adapter, usage=usage)

    def finish_sampling(
        self,
        *,
        candidates: Sequence[Sequence[CandidateFields]],
        results: Mapping[str, Any],
        usage: Mapping[str, Any],
    ) -> None:
        """sampling -> succeeded."""
        self._close()
        with transaction(self.sessions) as session:
            ClaimRepository(session).finish_sampling(self.claim, candidates=candidates, results=results, usage=usage)

    def fail(self, code: str, message: str) -> None:
        """Ends the job as failed."""
        log.warning("job failed", code=code, message=message)
        self._close()
        with transaction(self.sessions) as session:
            ClaimRepository(session).fail(self.claim, code=code, message=message)

    def cancel(self) -> None:
        """Ends the job as cancelled."""
        self._close()
        with transaction(self.sessions) as session:
            ClaimRepository(session).cancel(self.claim)

    def release(self, *, alone: bool = False) -> Phase:
        """Gives the job back unfinished, for another worker to take; with `alone`, to be worked on by itself."""
        self._close()
        with transaction(self.sessions) as session:
            return ClaimRepository(session).release(self.claim, alone=alone)

    def _close(self) -> None:
        self._settle()
        self.closing = True

    def _settle(self) -> None:
        if self.steps is not None:
            self.steps.settle()
