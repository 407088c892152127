"""Holding a claimed job: renewing its lease in the background and knowing when to let go.

A lease is renewed by a thread, because loading a model or one call to the sampler can outlast it. The thread stops
renewing at the job's deadline, so that a worker that hangs loses the job like a worker that died.
"""

import threading
import time
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

import structlog

from jobs.errors import StaleClaim
from worker.record import DATABASE_AWAY, JobRecord

log = structlog.get_logger()


class StopReason(StrEnum):
    """Why a worker lets go of a job that it has not finished."""

    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    DEADLINE = "deadline"
    SHUTTING_DOWN = "shutting_down"
    INTERRUPTED = "interrupted"
    """The call that was to answer it was ended for the sake of another job."""


URGENT: Final = frozenset({StopReason.SHUTTING_DOWN, StopReason.DEADLINE, StopReason.LEASE_LOST})
"""Reasons not to wait for the end of a call to the sampler."""


class Lease:
    """A claim kept alive while its `with` block runs.

    `stop_reason` is None as long as the work may go on. It is looked at after every training step, so adaptation stops
    within one. Sampling is one call: a cancel waits for its end, the lease still being kept, but for the reasons in
    `URGENT` the keeping thread calls `interrupt`, which is to make it fail.
    """

    def __init__(
        self,
        record: JobRecord,
        *,
        timeout_s: float,
        shutting_down: threading.Event,
        interrupt: Callable[[], None],
    ) -> None:
        self._record = record
        # Often enough that a cancel is seen within a second even between two steps.
        self._interval_s = min(1.0, record.lease_s / 4)
        self._deadline = time.monotonic() + timeout_s
        self._shutting_down = shutting_down
        self._interrupt = interrupt
        self._renewed_at = time.monotonic()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{record.claim.job_id}", daemon=True)
        self.stop_reason: StopReason | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Renews no more; harmless when that is so already, or never began."""
        self._released.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def renewing(self) -> bool:
        """Whether the lease is still being kept."""
        return self._thread.is_alive()

    def stop(self, reason: StopReason) -> None:
        """Marks the job as one to let go of. The first reason stays, but an urgent one replaces one that is not."""
        if self.stop_reason is None or (reason in URGENT and self.stop_reason not in URGENT):
            self.stop_reason = reason
            log.info("letting go", reason=reason, **self._record.names)

    def extend(self, seconds: float) -> None:
        """Moves the job's deadline back: what it is about to wait for is not its own doing."""
        self._deadline += seconds

    def was_renewed(self) -> None:
        """Another write has extended the lease just now."""
        self._renewed_at = time.monotonic()

    def check(self) -> StopReason | None:
        """The reason to stop, looked up now; costs no query."""
        if self._shutting_down.is_set():
            self.stop(StopReason.SHUTTING_DOWN)
        elif time.monotonic() > self._deadline:
            self.stop(StopReason.DEADLINE)
        return self.stop_reason

    def _keep(self) -> None:
        while not self._released.wait(self._interval_s):
            if self.check() in URGENT or self._record.closing:
                break
            if self._is_fresh():
                continue
            try:
                if self._record.renew():
                    self.stop(StopReason.CANCELLED)
            except StaleClaim:
                if not self._record.closing:  # otherwise it is our own last write that ended the claim
                    self.stop(StopReason.LEASE_LOST)
            except DATABASE_AWAY as error:
                # The database is away. The lease outlives some missed renewals; after that the claim is stale.
                log.warning("lease not renewed", error=str(error), **self._record.names)
        if self.stop_reason in URGENT and not self._released.is_set():
            self._interrupt()

    def _is_fresh(self) -> bool:
        # The lease of a common adaptation is renewed with the job's and by nobody else.
        return self._record.common is None and time.monotonic() - self._renewed_at < self._interval_s
