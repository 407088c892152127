"""Leases against a real database, with leases of a second or less so that they really run out."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobs.database import transaction
from jobs.repositories import ClaimRepository, JobRepository, ReaperRepository
from jobs.states import Phase
from tests.worker.desk import Desk
from worker.lease import Lease, StopReason
from worker.record import JobRecord

SHORT_S = 0.8


class Interrupted:
    """Counts how often the lease interrupted the work."""

    def __init__(self) -> None:
        self.happened = threading.Event()

    def __call__(self) -> None:
        self.happened.set()


@contextmanager
def held(
    record: JobRecord, *, timeout_s: float = 60.0, shutting_down: threading.Event | None = None
) -> Iterator[tuple[Lease, Interrupted]]:
    interrupted = Interrupted()
    with Lease(
        record, timeout_s=timeout_s, shutting_down=shutting_down or threading.Event(), interrupt=interrupted
    ) as lease:
        yield lease, interrupted


def eventually(condition: Callable[[], object], *, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def reap(desk: Desk) -> list[object]:
    with transaction(desk.sessions) as session:
        return list(ReaperRepository(session).reclaim_expired(max_attempts=3))


def test_a_held_lease_outlives_its_length(desk: Desk):
    job_id = desk.submit()
    with held(desk.claim_for_adapting(job_id, lease_s=SHORT_S)) as (lease, _):
        first_end = desk.job(job_id).lease_expires_at
        assert first_end is not None
        eventually(lambda: (desk.job(job_id).lease_expires_at or first_end) > first_end)
        assert lease.check() is None
    assert desk.job(job_id).phase is Phase.ADAPTING


def test_a_lease_that_nobody_renews_is_reaped(desk: Desk):
    job_id = desk.submit()
    desk.claim_for_adapting(job_id, lease_s=SHORT_S)
    eventually(lambda: reap(desk))
    assert desk.job(job_id).phase is Phase.QUEUED


def test_a_cancel_is_seen_without_a_step_and_does_not_interrupt(desk: Desk):
    job_id = desk.submit()
    with held(desk.claim_for_adapting(job_id, lease_s=SHORT_S)) as (lease, interrupted):
        with transaction(desk.sessions) as session:
            JobRepository(session).request_cancel(job_id)
        eventually(lambda: lease.stop_reason is StopReason.CANCELLED)
        last_end = desk.job(job_id).lease_expires_at
        assert last_end is not None
        eventually(lambda: (desk.job(job_id).lease_expires_at or last_end) > last_end)  # still ours to end
    assert not interrupted.happened.is_set()


def test_a_shutdown_does_not_wait_for_a_cancelled_job(desk: Desk):
    shutting_down = threading.Event()
    job_id = desk.submit()
    with held(desk.claim_for_adapting(job_id, lease_s=SHORT_S), shutting_down=shutting_down) as (lease, interrupted):
        with transaction(desk.sessions) as session:
            JobRepository(session).request_cancel(job_id)
        eventually(lambda: lease.stop_reason is StopReason.CANCELLED)
        shutting_down.set()
        eventually(interrupted.happened.is_set)
        assert lease.stop_reason is StopReason.SHUTTING_DOWN


def test_a_lost_lease_interrupts_the_work(desk: Desk):
    job_id = desk.submit()
    record = desk.claim_for_adapting(job_id, lease_s=SHORT_S)
    with held(record) as (lease, interrupted):
        with transaction(desk.sessions) as session:
            ClaimRepository(session).release(record.claim)
        eventually(interrupted.happened.is_set)
        assert lease.stop_reason is StopReason.LEASE_LOST


def test_a_deadline_interrupts_and_lets_the_lease_run_out(desk: Desk):
    job_id = desk.submit()
    with held(desk.claim_for_adapting(job_id, lease_s=SHORT_S), timeout_s=0.1) as (lease, interrupted):
        eventually(interrupted.happened.is_set)
        assert lease.stop_reason is StopReason.DEADLINE
        eventually(lambda: reap(desk))


def test_a_shutdown_interrupts(desk: Desk):
    shutting_down = threading.Event()
    record = desk.claim_for_adapting(desk.submit(), lease_s=SHORT_S)
    with held(record, shutting_down=shutting_down) as (lease, interrupted):
        shutting_down.set()
        eventually(interrupted.happened.is_set)
        assert lease.stop_reason is StopReason.SHUTTING_DOWN


def test_who_was_interrupted_for_another_keeps_a_reason_of_its_own(desk: Desk):
    with held(desk.claim_for_adapting(desk.submit(), lease_s=SHORT_S)) as (lease, _):
        lease.stop(StopReason.CANCELLED)
        lease.stop(StopReason.INTERRUPTED)
        assert lease.stop_reason is StopReason.CANCELLED
        lease.stop(StopReason.DEADLINE)
        assert lease.stop_reason is StopReason.DEADLINE


def test_our_own_last_write_is_no_lost_lease(desk: Desk):
    record = desk.claim_for_adapting(desk.submit(), lease_s=SHORT_S)
    with held(record) as (lease, interrupted):
        record.finish_adapting(adapter=None, usage={})
        eventually(lambda: not lease.renewing)
    assert lease.stop_reason is None
    assert not interrupted.happened.is_set()
