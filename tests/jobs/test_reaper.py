"""Jobs whose worker or whose doorbell was lost."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import select, update

from jobs.database import SessionFactory, transaction
from jobs.models import OutboxRow
from jobs.repositories import ClaimRepository, EventRepository, JobRepository, Reaped, ReaperRepository
from jobs.repositories.base import lease_until
from jobs.repositories.reaper import Action
from jobs.states import Phase
from tests.fixtures.records import (
    EXPIRED,
    LEASE_S,
    OWNER,
    adapted_job,
    claim_adapting,
    claim_sampling,
    read_job,
    submit_jobs,
)


def _reap(database: SessionFactory, *, max_attempts: int = 3) -> list[Reaped]:
    with transaction(database) as session:
        return ReaperRepository(session).reclaim_expired(max_attempts=max_attempts)


def _rung(database: SessionFactory, *, after_s: float = 60, limit: int = 20) -> list[UUID]:
    with transaction(database) as session:
        return [reaped.job_id for reaped in ReaperRepository(session).ring_again(after_s=after_s, limit=limit)]


def _mark_sent(database: SessionFactory, *, seconds_ago: float) -> None:
    with transaction(database) as session:
        session.execute(update(OutboxRow).values(sent_at=lease_until(-seconds_ago)))


def _unsent(database: SessionFactory) -> list[tuple[UUID, str]]:
    with transaction(database) as session:
        rows = session.execute(select(OutboxRow.job_id, OutboxRow.queue).where(OutboxRow.sent_at.is_(None)))
        return [(job_id, queue) for job_id, queue in rows]


def test_a_live_lease_is_left_alone(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    claim_adapting(database, job_id)
    assert _reap(database) == []
    assert read_job(database, job_id).phase is Phase.ADAPTING


def test_an_expired_adaptation_is_queued_again(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    claim_adapting(database, job_id, lease_s=EXPIRED)
    _mark_sent(database, seconds_ago=1)
    assert _reap(database) == [Reaped(job_id, Action.REQUEUED)]
    job = read_job(database, job_id)
    assert (job.phase, job.requeues, job.step) == (Phase.QUEUED, 1, 0)
    assert _unsent(database) == [(job_id, "adapt")]
    with transaction(database) as session:
        assert EventRepository(session).list(job_id)[-1].data == {"lost": OWNER}
    assert claim_adapting(database, job_id).attempt == 2


def test_an_expired_sampling_keeps_its_adapter(database: SessionFactory):
    job_id = adapted_job(database)
    claim_sampling(database, job_id, lease_s=EXPIRED)
    _mark_sent(database, seconds_ago=1)
    _reap(database)
    job = read_job(database, job_id)
    assert job.phase is Phase.ADAPTED
    assert job.adapter is not None
    assert _unsent(database) == [(job_id, "sample")]


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_job_that_loses_too_many_workers_has_failed(database: SessionFactory, max_attempts: int):
    (job_id,) = submit_jobs(database)
    for lost in range(1, max_attempts + 1):
        claim_adapting(database, job_id, lease_s=EXPIRED)
        (reaped,) = _reap(database, max_attempts=max_attempts)
        assert reaped.action is (Action.FAILED if lost == max_attempts else Action.REQUEUED)
    job = read_job(database, job_id)
    assert (job.phase, job.error_code, job.requeues) == (Phase.FAILED, "worker_lost", max_attempts)
    assert job.finished_at is not None


def test_a_lost_job_that_should_be_cancelled_is(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    claim_adapting(database, job_id, lease_s=EXPIRED)
    with transaction(database) as session:
        assert JobRepository(session).request_cancel(job_id).phase is Phase.ADAPTING
    assert _reap(database) == [Reaped(job_id, Action.CANCELLED)]
    assert read_job(database, job_id).phase is Phase.CANCELLED


def test_a_renewed_lease_is_not_reaped(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    claim = claim_adapting(database, job_id, lease_s=EXPIRED)
    with transaction(database) as session:  # nobody took the job meanwhile, so the worker may go on
        ClaimRepository(session).renew(claim, lease_s=LEASE_S)
    assert _reap(database) == []


def test_two_reapers_count_a_lost_worker_once(database: SessionFactory):
    job_ids = submit_jobs(database, 10)
    for job_id in job_ids:
        claim_adapting(database, job_id, lease_s=EXPIRED)
    start = Barrier(2)

    def reap(_: int) -> list[Reaped]:
        start.wait(timeout=30)
        return _reap(database)

    with ThreadPoolExecutor(2) as pool:
        reaped = [one for some in pool.map(reap, range(2)) for one in some]
    assert sorted(one.job_id for one in reaped) == sorted(job_ids)
    assert {read_job(database, job_id).requeues for job_id in job_ids} == {1}


def test_a_waiting_job_whose_doorbell_was_lost_is_rung_for_again(database: SessionFactory):
    queued, adapted = *submit_jobs(database), adapted_job(database)
    _mark_sent(database, seconds_ago=30)
    assert _rung(database) == []
    _mark_sent(database, seconds_ago=90)
    assert _rung(database) == [queued, adapted]
    assert _unsent(database) == [(queued, "adapt"), (adapted, "sample")]
    assert _rung(database) == []


def test_jobs_at_work_or_over_are_not_rung_for(database: SessionFactory):
    at_work, over = submit_jobs(database, 2)
    claim_adapting(database, at_work)
    with transaction(database) as session:
        JobRepository(session).request_cancel(over)
    _mark_sent(database, seconds_ago=90)
    assert _rung(database) == []


def test_a_long_queue_does_not_flood_the_broker(database: SessionFactory):
    job_ids = submit_jobs(database, 10)
    _mark_sent(database, seconds_ago=90)
    assert _rung(database, limit=3) == job_ids[:3]
