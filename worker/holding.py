"""A claimed job in this worker's hands: what becomes of it, whatever happens while it is there."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self

import structlog
from structlog.contextvars import bound_contextvars

from jobs.errors import CommonAdaptationFailed, StaleClaim
from worker.lease import URGENT, Lease, StopReason
from worker.record import DATABASE_AWAY, JobRecord
from worker.workshop import Workshop

log = structlog.get_logger()


class Held:
    """Keeps a job's lease while the `with` block runs, and turns whatever ends the block into the job's next state.

    Several may be held together, to be trained together or to be answered by one call to the sampler.
    """

    def __init__(self, record: JobRecord, *, workshop: Workshop) -> None:
        self.record = record
        self.lease = Lease(
            record,
            timeout_s=workshop.job_timeout_s,
            shutting_down=workshop.shutting_down,
            interrupt=partial(workshop.models.interrupt, threading.get_ident()),
        )
        self._workshop = workshop
        self._is_alone = True
        self.is_over = False
        """Whether its end, or its way back to the queue, needs no more writing."""

    def __enter__(self) -> Self:
        self.lease.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.lease.release()
        if error is not None:
            self.end(error)
        return isinstance(error, Exception)

    def share(self, num_together: int) -> None:
        """The time of a job now counts for each of so many: waiting for the others is not the job's own doing.

        Where that is not enough nobody knows which of them it is due to: they go back to the queue, each to be worked
        on alone.
        """
        self.lease.extend(self._workshop.job_timeout_s * (num_together - 1))
        self._is_alone = num_together == 1

    def may_go_on(self) -> bool:
        """Whether there is no reason to stop; if there is one, the job is let go of now."""
        if self.is_over:
            return False
        reason = self.lease.check()
        if reason is not None:
            self.end(_LetGo(reason))
        return reason is None

    @contextmanager
    def on_its_own(self) -> Iterator[None]:
        """What goes wrong in the block ends this job alone; those that it is held with go on."""
        with bound_contextvars(**self.record.names):
            try:
                yield
            except Exception as error:  # noqa: BLE001 - whatever it is, the job's record is where it belongs
                self.end(error)

    def finished(self) -> None:
        """Its next state is on record: others may go on with it."""
        self.is_over = True
        self.lease.release()
        self._workshop.pass_on(self.record.job)

    def end(self, error: BaseException, *, is_anyones: bool = False) -> None:
        """Records what this makes of the job, unless it is over.

        With `is_anyones` the error may be due to any of those that it is held with, so that it is to be tried alone.
        """
        if self.is_over:
            return
        self.is_over = True
        self.lease.release()
        with bound_contextvars(**self.record.names):
            try:
                self._let_go(error, is_anyones=is_anyones and not self._is_alone)
                self._workshop.pass_on(self.record.job)
            except StaleClaim:
                log.warning("job taken over by another worker; dropping what we have")
            except DATABASE_AWAY:
                # Nothing can be recorded, and the job is not to blame: it is taken over when the lease has run out.
                log.exception("the database is away; leaving the job to its lease")

    def _let_go(self, error: BaseException, *, is_anyones: bool) -> None:
        if isinstance(error, (StaleClaim, *DATABASE_AWAY)):
            raise error
        # What is no Exception ends the process.
        match self.lease.check() if isinstance(error, Exception) else StopReason.SHUTTING_DOWN:
            case StopReason.CANCELLED:
                self.record.cancel()
            case StopReason.SHUTTING_DOWN | StopReason.INTERRUPTED:
                self.record.release()
            case StopReason.LEASE_LOST:
                log.warning("lease lost; dropping what we have")
            case StopReason.DEADLINE if not self._is_alone:
                self.record.release(alone=True)
            case StopReason.DEADLINE:
                self.record.fail("timed_out", "the job took longer than this installation allows")
            case None if is_anyones:
                log.error("a fault that may be another job's; to be tried alone", exc_info=error)
                self.record.release(alone=True)
            case None:
                log.error("job failed", exc_info=error)
                self.record.fail(*_cause(error))


def note_interruption(pack: Sequence[Held]) -> None:
    """If one job of the pack could not wait for the end of their call, the others are not to blame for what it did.

    The deadline is the call's, so that one that has passed it has passed it for all.
    """
    going = [held for held in pack if not held.is_over]
    reasons = {held.lease.check() for held in going}
    if not reasons & URGENT:
        return
    for held in going:
        held.lease.stop(StopReason.DEADLINE if StopReason.DEADLINE in reasons else StopReason.INTERRUPTED)


class _LetGo(Exception):
    """There is a reason to stop."""


def _cause(error: BaseException) -> tuple[str, str]:
    if isinstance(error, CommonAdaptationFailed):
        return error.cause, f"common adaptation: {error}"
    return getattr(error, "code", "internal_error"), f"{type(error).__name__}: {error}"
