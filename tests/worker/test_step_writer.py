"""Steps on their way to a real database, without a training: what comes when, and what becomes of one that cannot."""

import threading
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from sqlalchemy import Engine, event

from arc_engine.adaptation.steps import AdaptationStep
from jobs.database import transaction
from jobs.errors import StaleClaim
from jobs.repositories import ClaimRepository, JobRepository
from tests.worker.desk import Desk
from tests.worker.outage import Outage
from tests.worker.test_lease import eventually
from worker import step_writer
from worker.lease import Lease, StopReason
from worker.record import DATABASE_AWAY, JobRecord
from worker.step_writer import StepWriter

BEYOND_AN_INTEGER = 2**40


@pytest.fixture
def shutting_down() -> threading.Event:
    return threading.Event()


@pytest.fixture
def attended(desk: Desk, shutting_down: threading.Event) -> Iterator[Callable[[], tuple[JobRecord, Lease]]]:
    """Claims a job whose steps one writer, the same for all, takes to the record."""
    with StepWriter(desk.sessions, lease_s=30.0, shutting_down=shutting_down) as writer:

        def claim() -> tuple[JobRecord, Lease]:
            record = desk.claim_for_adapting(desk.submit())
            lease = Lease(record, timeout_s=60.0, shutting_down=shutting_down, interrupt=lambda: None)
            writer.attend(record, lease)
            return record, lease

        yield claim


def put(record: JobRecord, *numbers: int, tokens: int = 9) -> None:
    for number in numbers:
        step = AdaptationStep(number, 1.0, 1e-3, 0.5, tokens, 0.1 * number)
        record.step(step, seconds_per_step=0.1)


def settle(record: JobRecord) -> None:
    assert record.steps is not None
    record.steps.settle()


def written(desk: Desk, job_id: UUID) -> list[int]:
    return [row.step for row in desk.steps(job_id)]


Attended = Callable[[], tuple[JobRecord, Lease]]


def test_steps_get_there_by_themselves_and_renew_the_lease(desk: Desk, attended: Attended):
    record, _ = attended()
    before = desk.job(record.claim.job_id).lease_expires_at
    put(record, 1, 2, 3)
    eventually(lambda: written(desk, record.claim.job_id) == [1, 2, 3])
    after = desk.job(record.claim.job_id).lease_expires_at
    assert before is not None
    assert after is not None
    assert after > before


def test_steps_of_many_jobs_take_far_fewer_writes(desk: Desk, engine: Engine, attended: Attended):
    records = [attended()[0] for _ in range(4)]
    statements: list[str] = []

    def note(connection, cursor, statement, *rest):
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    for number in range(1, 101):
        for record in records:
            put(record, number)
    for record in records:
        settle(record)
    event.remove(engine, "before_cursor_execute", note)
    assert len([statement for statement in statements if "training_steps" in statement]) < 50
    assert all(written(desk, record.claim.job_id) == list(range(1, 101)) for record in records)


def test_the_end_of_a_job_comes_after_all_of_its_steps(desk: Desk, attended: Attended):
    records = [attended()[0] for _ in range(3)]
    for record in records:
        put(record, *range(1, 51))
    records[0].finish_adapting(adapter=None, usage={})
    records[1].fail("x", "y")
    records[2].cancel()
    for record in records:
        assert written(desk, record.claim.job_id) == list(range(1, 51))
        assert desk.job(record.claim.job_id).step == 50


def test_a_cancel_comes_back_to_its_own_job(desk: Desk, attended: Attended):
    (cancelled, lease), (other, its_lease) = attended(), attended()
    with transaction(desk.sessions) as session:
        JobRepository(session).request_cancel(cancelled.claim.job_id)
    for record in (cancelled, other):
        put(record, 1)
        settle(record)
    assert (lease.stop_reason, its_lease.stop_reason) == (StopReason.CANCELLED, None)


def test_a_stale_claim_comes_back_to_its_own_job(desk: Desk, attended: Attended):
    (stale, lease), (other, its_lease) = attended(), attended()
    with transaction(desk.sessions) as session:
        ClaimRepository(session).release(stale.claim)
    put(stale, 1)
    put(other, 1)
    with pytest.raises(StaleClaim):
        settle(stale)
    settle(other)
    assert (lease.stop_reason, its_lease.stop_reason) == (StopReason.LEASE_LOST, None)
    assert (written(desk, stale.claim.job_id), written(desk, other.claim.job_id)) == ([], [1])


def test_a_step_that_the_database_refuses_is_one_jobs_fault(desk: Desk, attended: Attended):
    one, at_fault, other = (attended()[0] for _ in range(3))
    for record, tokens in ((one, 9), (at_fault, BEYOND_AN_INTEGER), (other, 9)):
        put(record, 1, 2, tokens=tokens)
    with pytest.raises(Exception, match="out of range"):
        settle(at_fault)
    for record in (one, other):
        settle(record)
        assert written(desk, record.claim.job_id) == [1, 2]
    at_fault.fail("internal_error", "out of range")  # the way to its end is free
    assert desk.job(at_fault.claim.job_id).error_code == "internal_error"


def test_nothing_is_lost_while_the_database_is_away(desk: Desk, attended: Attended, outage: Outage):
    record, lease = attended()
    put(record, 1)
    outage.begin()
    put(record, *range(2, 200))
    settling = threading.Thread(target=settle, args=(record,))
    settling.start()
    outage.end()
    settling.join(timeout=30)
    assert not settling.is_alive()
    assert written(desk, record.claim.job_id) == list(range(1, 200))
    assert lease.stop_reason is None


def test_a_training_waits_for_a_database_that_is_away_for_too_many_steps(
    desk: Desk, attended: Attended, outage: Outage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(step_writer, "MAX_UNWRITTEN", 3)
    record, _ = attended()
    outage.begin()
    put(record, 1, 2, 3)
    training = threading.Thread(target=put, args=(record, 4, 5))
    training.start()
    training.join(timeout=0.5)
    assert training.is_alive()
    outage.end()
    training.join(timeout=30)
    settle(record)
    assert written(desk, record.claim.job_id) == [1, 2, 3, 4, 5]


def test_a_worker_that_shuts_down_does_not_wait_for_a_database_that_is_away(
    attended: Attended, outage: Outage, shutting_down: threading.Event
):
    record, _ = attended()
    outage.begin()
    put(record, 1)
    shutting_down.set()
    with pytest.raises(DATABASE_AWAY):
        settle(record)
