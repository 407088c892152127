"""Training steps on their way to the record. A thread takes them there, so that the training need not wait for the
database.
"""

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias

import structlog

from jobs.claims import Claim, ClaimedStep
from jobs.database import SessionFactory, transaction
from jobs.errors import StaleClaim
from jobs.repositories import ClaimRepository
from worker.lease import Lease, StopReason
from worker.record import DATABASE_AWAY, JobRecord

WRITE_EVERY_S: Final = 0.1
RETRY_AFTER_S: Final = 1.0
MAX_UNWRITTEN: Final = 5000
"""Of one job. A training that is so far ahead of a database that is away waits for it."""

log = structlog.get_logger()


class StepWriter:
    """Writes the steps of all jobs that it attends to, those that have come since its last write by one statement.

    That renews their leases too, and what it says of a job goes to the job's lease. While the database is away the
    steps are kept and tried again, unless the worker shuts down. A step that the database refuses is its job's fault
    alone.
    """

    def __init__(self, sessions: SessionFactory, *, lease_s: float, shutting_down: threading.Event) -> None:
        self._sessions = sessions
        self._lease_s = lease_s
        self._shutting_down = shutting_down
        self._queues: list[_StepQueue] = []
        self._hurry = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="steps", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        self._hurry.set()
        self._thread.join()

    def attend(self, record: JobRecord, lease: Lease) -> None:
        """Takes the job's steps from now on."""
        queue = _StepQueue(record.claim, lease, hurry=self._hurry)
        self._queues.append(queue)
        record.steps = queue

    def _run(self) -> None:
        while not self._closed.is_set():
            self._hurry.wait(WRITE_EVERY_S)
            self._hurry.clear()
            # The list grows meanwhile; a copy is made at once.
            waiting = [(queue, steps) for queue in tuple(self._queues) if (steps := queue.unwritten())]
            if waiting and not self._write(waiting):
                self._closed.wait(RETRY_AFTER_S)

    def _write(self, waiting: Sequence["_Waiting"]) -> bool:
        """Whether the database was there."""
        try:
            with transaction(self._sessions) as session:
                taken = [step for _, steps in waiting for step in steps]
                answers = ClaimRepository(session).record_steps(taken, lease_s=self._lease_s)
        except DATABASE_AWAY as error:
            log.warning("steps not written", num_jobs=len(waiting), error=str(error))
            if self._shutting_down.is_set():
                for queue, _ in waiting:
                    queue.give_up(error)
            return False
        except Exception as error:  # noqa: BLE001 - the job that it is due to is told
            if len(waiting) > 1:
                return all(self._write([one]) for one in waiting)
            waiting[0][0].give_up(error)
            return True
        for queue, steps in waiting:
            queue.written(len(steps), cancel_requested=answers.get(queue.claim.job_id))
        return True


class _StepQueue:
    """The steps of one job that are not on record yet."""

    def __init__(self, claim: Claim, lease: Lease, *, hurry: threading.Event) -> None:
        self.claim = claim
        self._lease = lease
        self._hurry = hurry
        self._steps: list[ClaimedStep] = []
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def put(self, step: ClaimedStep) -> None:
        with self._changed:
            while len(self._steps) >= MAX_UNWRITTEN and self._lease.check() is None:
                self._changed.wait(WRITE_EVERY_S)
            self._raise_error()
            self._steps.append(step)

    def settle(self) -> None:
        with self._changed:
            while self._steps:
                self._hurry.set()
                self._changed.wait(WRITE_EVERY_S)
            self._raise_error()

    def unwritten(self) -> tuple[ClaimedStep, ...]:
        """All that wait, in their order."""
        with self._changed:
            return tuple(self._steps)

    def written(self, num_steps: int, *, cancel_requested: bool | None) -> None:
        """The first so many are on record, or, with None, nothing is because the claim no longer holds."""
        if cancel_requested is None:
            self._lease.stop(StopReason.LEASE_LOST)
            self.give_up(StaleClaim(self.claim.job_id, self.claim.attempt))
            return
        self._lease.was_renewed()
        if cancel_requested:
            self._lease.stop(StopReason.CANCELLED)
        with self._changed:
            del self._steps[:num_steps]
            self._changed.notify_all()

    def give_up(self, error: Exception) -> None:
        """What waits will never be written; whoever trains or ends the job is told why."""
        with self._changed:
            self._steps.clear()
            self._error = error
            self._changed.notify_all()

    def _raise_error(self) -> None:
        """Once: the write by which the job is then ended has nothing to wait for."""
        error, self._error = self._error, None
        if error is not None:
            raise error


_Waiting: TypeAlias = tuple[_StepQueue, tuple[ClaimedStep, ...]]
