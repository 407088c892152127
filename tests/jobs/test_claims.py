"""A worker's side of a job: claiming, and writing only while the claim holds."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from time import monotonic
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select, text, update

from jobs.claims import Claim
from jobs.database import SessionFactory, transaction
from jobs.errors import InvalidTransition, NoAdapter, StaleClaim
from jobs.models import Job, OutboxRow
from jobs.repositories import (
    AdapterRepository,
    CandidateRepository,
    ClaimRepository,
    EventRepository,
    JobRepository,
    ReaperRepository,
    StepRepository,
)
from jobs.states import Phase
from tests.fixtures.records import (
    ADAPTER,
    EXPIRED,
    LEASE_S,
    OWNER,
    RESULTS,
    Found,
    a_task,
    adapted_job,
    claim_adapting,
    claim_sampling,
    finish_adapting,
    finish_sampling,
    read_job,
    record_step,
    record_steps,
    submit_jobs,
)

WRITES: dict[str, Callable[[ClaimRepository, Claim], object]] = {
    "renew": lambda claims, claim: claims.renew(claim, lease_s=LEASE_S),
    "record_steps": record_step,
    "copy_common_steps": lambda claims, claim: claims.copy_common_steps(claim, num_steps=1),
    "forget_steps": lambda claims, claim: claims.forget_steps(claim),
    "finish_adapting": lambda claims, claim: claims.finish_adapting(claim, adapter=ADAPTER, usage={}),
    "finish_sampling": lambda claims, claim: claims.finish_sampling(claim, candidates=[], results={}, usage={}),
    "fail": lambda claims, claim: claims.fail(claim, code="x", message="y"),
    "cancel": lambda claims, claim: claims.cancel(claim),
    "release": lambda claims, claim: claims.release(claim),
}


def test_the_whole_life_of_a_job(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    claim = claim_adapting(database, job_id)
    record_steps(database, claim, [2.0, 1.0, 0.5])
    adapting = read_job(database, job_id)
    assert (adapting.phase, adapting.step, adapting.eta_s, adapting.attempt) == (Phase.ADAPTING, 3, 1.0, 1)

    finish_adapting(database, claim)
    adapted = read_job(database, job_id)
    assert adapted.phase is Phase.ADAPTED
    assert (adapted.lease_owner, adapted.lease_expires_at, adapted.eta_s) == (None, None, None)

    finish_sampling(database, claim_sampling(database, job_id))
    done = read_job(database, job_id)
    assert (done.phase, done.attempt, done.results) == (Phase.SUCCEEDED, 2, RESULTS)
    assert done.usage == {"adapt_s": 1.0, "sample_s": 2.0}
    times = [done.created_at, done.started_at, done.adapted_at, done.finished_at]
    assert all(times)
    assert times == sorted(times)
    with transaction(database) as session:
        assert [row.loss for row in StepRepository(session).after(job_id)] == [2.0, 1.0, 0.5]
        assert [row.step for row in StepRepository(session).after(job_id, after=1, limit=1)] == [2]
        assert AdapterRepository(session).get(job_id).artifact_key == ADAPTER.artifact_key
        (candidate,) = CandidateRepository(session).list(job_id)
        assert (candidate.grid, candidate.votes, candidate.views) == ([[6, 5]], 3, [0, 2, 5])
        kinds = [row.kind for row in EventRepository(session).list(job_id)]
        assert kinds == ["queued", "adapting", "adapted", "sampling", "succeeded"]


def test_a_claim_carries_what_the_worker_needs(database: SessionFactory):
    job_id = adapted_job(database)
    with transaction(database) as session:
        claimed = ClaimRepository(session).claim_for_sampling(job_id, owner=OWNER, lease_s=LEASE_S)
    assert claimed is not None
    assert (claimed.task, claimed.solution) == a_task()
    assert claimed.adapter == ADAPTER
    assert claimed.settings.adaptation is not None
    assert claimed.max_steps == claimed.settings.adaptation.max_steps
    assert "output" not in str(claimed.task_json["test"])


def test_a_job_without_adaptation_has_no_adapter(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    finish_adapting(database, claim_adapting(database, job_id), adapter=None)
    with transaction(database) as session:
        claimed = ClaimRepository(session).claim_for_sampling(job_id, owner=OWNER, lease_s=LEASE_S)
        assert claimed is not None
        assert claimed.adapter is None
        with pytest.raises(NoAdapter):
            AdapterRepository(session).get(job_id)


def test_without_an_id_the_oldest_job_is_taken(database: SessionFactory):
    first, second = submit_jobs(database, 2)
    (third,) = submit_jobs(database)
    with transaction(database) as session:
        claims = ClaimRepository(session)
        taken = [claims.claim_for_adapting(None, owner=OWNER, lease_s=LEASE_S) for _ in range(4)]
    assert [claimed and claimed.claim.job_id for claimed in taken] == [first, second, third, None]


def test_only_a_waiting_job_can_be_claimed(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    with transaction(database) as session:
        claims = ClaimRepository(session)
        assert claims.claim_for_sampling(job_id, owner=OWNER, lease_s=LEASE_S) is None
        assert claims.claim_for_adapting(uuid4(), owner=OWNER, lease_s=LEASE_S) is None
        assert claims.claim_for_adapting(job_id, owner=OWNER, lease_s=LEASE_S) is not None
        assert claims.claim_for_adapting(job_id, owner="worker-2", lease_s=LEASE_S) is None


@pytest.mark.parametrize("named", [True, False])
def test_of_two_workers_exactly_one_gets_each_job(database: SessionFactory, named: bool):
    job_ids = submit_jobs(database, 20)
    start = Barrier(2)

    def work(owner: str) -> list[UUID]:
        won = []
        for job_id in job_ids:
            start.wait(timeout=30)
            with transaction(database) as session:
                claims = ClaimRepository(session)
                claimed = claims.claim_for_adapting(job_id if named else None, owner=owner, lease_s=LEASE_S)
            if claimed:
                won.append(claimed.claim.job_id)
        return won

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(work, ["one", "other"])
    assert sorted(one + other) == sorted(job_ids)


def test_a_claim_does_not_wait_for_a_job_that_is_just_being_claimed(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    with transaction(database) as first, transaction(database) as second:
        assert ClaimRepository(first).claim_for_adapting(job_id, owner="one", lease_s=LEASE_S)
        assert ClaimRepository(second).claim_for_adapting(job_id, owner="other", lease_s=LEASE_S) is None


def test_a_new_attempt_starts_an_empty_curve(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    claim = claim_adapting(database, job_id)
    record_steps(database, claim, [2.0, 1.0])
    with transaction(database) as session:
        ClaimRepository(session).release(claim)
    claim_adapting(database, job_id)
    with transaction(database) as session:
        assert StepRepository(session).after(job_id) == []


def _stale_by_attempt(database: SessionFactory, phase: Phase) -> Claim:
    claim = _claim_in(database, phase, lease_s=EXPIRED)
    with transaction(database) as session:
        ReaperRepository(session).reclaim_expired(max_attempts=3)
    again = claim_adapting if phase is Phase.ADAPTING else claim_sampling
    again(database, claim.job_id)  # by the same owner: only the number tells them apart
    return claim


def _stale_by_reaper(database: SessionFactory, phase: Phase) -> Claim:
    claim = _claim_in(database, phase, lease_s=EXPIRED)
    with transaction(database) as session:
        ReaperRepository(session).reclaim_expired(max_attempts=3)
    return claim


def _stale_by_owner(database: SessionFactory, phase: Phase) -> Claim:
    return replace(_claim_in(database, phase), owner="impostor")


def _stale_by_end(database: SessionFactory, phase: Phase) -> Claim:
    claim = _claim_in(database, phase)
    with transaction(database) as session:
        ClaimRepository(session).fail(claim, code="x", message="")
    return claim


def _claim_in(database: SessionFactory, phase: Phase, *, lease_s: float = LEASE_S) -> Claim:
    if phase is Phase.ADAPTING:
        (job_id,) = submit_jobs(database)
        return claim_adapting(database, job_id, lease_s=lease_s)
    return claim_sampling(database, adapted_job(database), lease_s=lease_s)


@pytest.mark.parametrize("phase", [Phase.ADAPTING, Phase.SAMPLING])
@pytest.mark.parametrize("stale", [_stale_by_attempt, _stale_by_reaper, _stale_by_owner, _stale_by_end])
def test_every_write_of_a_stale_claim_is_refused_and_changes_nothing(
    database: SessionFactory, engine: Engine, stale: Callable[[SessionFactory, Phase], Claim], phase: Phase
):
    claim = stale(database, phase)
    before = _everything(engine)
    for name, write in WRITES.items():
        with pytest.raises(StaleClaim), transaction(database) as session:
            write(ClaimRepository(session), claim)
        assert _everything(engine) == before, name


def test_every_write_of_the_claim_is_covered_above():
    methods = {name for name in vars(ClaimRepository) if not name.startswith(("_", "claim_"))}
    assert methods == set(WRITES)


@pytest.mark.parametrize(("phase", "write"), [(Phase.ADAPTING, "finish_sampling"), (Phase.SAMPLING, "finish_adapting")])
def test_a_phase_cannot_be_skipped_or_repeated(database: SessionFactory, engine: Engine, phase: Phase, write: str):
    claim = _claim_in(database, phase)
    before = _everything(engine)
    with pytest.raises(InvalidTransition), transaction(database) as session:
        WRITES[write](ClaimRepository(session), claim)
    assert _everything(engine) == before


def _everything(engine: Engine) -> list[object]:
    tables = ("jobs", "outbox", "job_events", "training_steps", "adapters", "candidates")
    with engine.connect() as connection:
        return [
            connection.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2")).fetchall()  # noqa: S608
            for table in tables
        ]


def test_a_write_that_waits_for_the_reaper_is_refused(database: SessionFactory, engine: Engine):
    (job_id,) = submit_jobs(database)
    claim = claim_adapting(database, job_id, lease_s=EXPIRED)

    def step() -> None:
        with transaction(database) as session:
            record_step(ClaimRepository(session), claim)

    with ThreadPoolExecutor(1) as pool:
        with transaction(database) as reaper:
            assert ReaperRepository(reaper).reclaim_expired(max_attempts=3)
            reaper.flush()
            recording = pool.submit(step)
            _wait_for_lock(engine)
        with pytest.raises(StaleClaim):
            recording.result(timeout=30)
    with transaction(database) as session:
        assert StepRepository(session).after(job_id) == []


def _wait_for_lock(engine: Engine) -> None:
    deadline = monotonic() + 30
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(waiting):
            assert monotonic() < deadline


def test_the_worker_hears_of_a_cancellation_at_its_next_word(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    claim = claim_adapting(database, job_id)
    with transaction(database) as session:
        assert ClaimRepository(session).renew(claim, lease_s=LEASE_S) is False
        JobRepository(session).request_cancel(job_id)
    with transaction(database) as session:
        assert ClaimRepository(session).renew(claim, lease_s=LEASE_S) is True
        assert record_step(ClaimRepository(session), claim) is True
        ClaimRepository(session).cancel(claim)
    assert read_job(database, job_id).phase is Phase.CANCELLED


def test_a_cancellation_just_before_the_last_step_keeps_the_job_from_sampling(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    claim = claim_adapting(database, job_id)
    with transaction(database) as session:
        JobRepository(session).request_cancel(job_id)
    with transaction(database) as session:
        assert ClaimRepository(session).finish_adapting(claim, adapter=ADAPTER, usage={}) is Phase.CANCELLED
    with transaction(database) as session:
        assert AdapterRepository(session).get(job_id)  # so that its file can be found and deleted
        assert session.scalars(select(OutboxRow.queue)).all() == ["adapt"]


@pytest.mark.parametrize(("phase", "back"), [(Phase.ADAPTING, Phase.QUEUED), (Phase.SAMPLING, Phase.ADAPTED)])
def test_a_released_job_waits_again_and_is_rung_for(database: SessionFactory, phase: Phase, back: Phase):
    claim = _claim_in(database, phase)
    with transaction(database) as session:
        session.execute(update(OutboxRow).values(sent_at=text("clock_timestamp()")))
    with transaction(database) as session:
        assert ClaimRepository(session).release(claim) is back
    job = read_job(database, claim.job_id)
    assert (job.phase, job.requeues, job.lease_owner) == (back, 0, None)
    with transaction(database) as session:
        queue = "adapt" if phase is Phase.ADAPTING else "sample"
        assert session.scalars(select(OutboxRow.queue).where(OutboxRow.sent_at.is_(None))).all() == [queue]


def test_a_job_released_to_be_alone_counts_as_lost_once(database: SessionFactory):
    claim = _claim_in(database, Phase.SAMPLING)
    with transaction(database) as session:
        assert ClaimRepository(session).release(claim, alone=True) is Phase.ADAPTED
    assert (read_job(database, claim.job_id).phase, read_job(database, claim.job_id).requeues) == (Phase.ADAPTED, 1)


def test_a_released_job_that_should_be_cancelled_is(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    claim = claim_adapting(database, job_id)
    with transaction(database) as session:
        JobRepository(session).request_cancel(job_id)
    with transaction(database) as session:
        assert ClaimRepository(session).release(claim) is Phase.CANCELLED


def test_a_failure_keeps_its_code_and_any_message_at_all(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    claim = claim_adapting(database, job_id)
    with transaction(database) as session:
        ClaimRepository(session).fail(claim, code="diverged", message="nul \0, half a pair \ud800, " + "x" * 10_000)
    job = read_job(database, job_id)
    assert (job.phase, job.error_code) == (Phase.FAILED, "diverged")
    assert job.error_message is not None
    assert job.error_message.startswith("nul , half a pair ?, xxx")
    assert len(job.error_message) < 5000


def test_a_damaged_row_can_still_be_claimed_and_failed(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    with transaction(database) as session:
        session.execute(update(Job).values(settings={"no": "settings"}))
        claimed = ClaimRepository(session).claim_for_adapting(job_id, owner=OWNER, lease_s=LEASE_S)
    assert claimed is not None
    with pytest.raises(ValueError, match="no"):
        _ = claimed.settings
    with transaction(database) as session:
        ClaimRepository(session).fail(claimed.claim, code="internal", message="")


def test_many_candidates_keep_their_order(database: SessionFactory):
    claim = claim_sampling(database, adapted_job(database))
    ranked = [[Found(grid=((i, j),), votes=9 - j) for j in range(9)] for i in range(3)]
    with transaction(database) as session:
        ClaimRepository(session).finish_sampling(claim, candidates=ranked, results=RESULTS, usage={})
    with transaction(database) as session:
        rows = CandidateRepository(session).list(claim.job_id)
    assert [(row.test_index, row.rank, row.grid) for row in rows] == [
        (i, j, [[i, j]]) for i in range(3) for j in range(9)
    ]
