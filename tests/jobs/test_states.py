"""The life of a job, as a table and as what the database really does."""

from collections.abc import Callable, Iterator
from functools import partial
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from jobs.claims import Claim
from jobs.database import SessionFactory, make_engine, make_session_factory, transaction
from jobs.errors import InvalidTransition, StaleClaim
from jobs.models import Job
from jobs.repositories import ClaimRepository, JobRepository, ReaperRepository
from jobs.repositories.base import lease_until
from jobs.states import ALLOWED, HELD, TERMINAL, WAITING_PHASE, Phase, Status, check_transition, phases_of, status_of
from tests.fixtures.records import ADAPTER, LEASE_S, RESULTS, Found, read_job, record_step, submit_jobs


def test_terminal_phases_are_those_that_nothing_leaves():
    assert {phase for phase, following in ALLOWED.items() if not following} == TERMINAL


def test_every_living_phase_may_fail_or_be_cancelled():
    assert all({Phase.FAILED, Phase.CANCELLED} <= ALLOWED[phase] for phase in Phase if phase not in TERMINAL)


def test_a_lost_worker_sends_a_job_back_where_it_waited():
    assert set(WAITING_PHASE) == HELD
    assert all(waiting in ALLOWED[held] and held in ALLOWED[waiting] for held, waiting in WAITING_PHASE.items())


def test_every_phase_has_one_status_and_every_status_its_phases():
    assert {phase for status in Status for phase in phases_of(status)} == set(Phase)
    assert {status_of(phase) for phase in TERMINAL} == {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}
    assert all(status_of(phase) is status for status in Status for phase in phases_of(status))


@pytest.mark.parametrize("before", Phase)
@pytest.mark.parametrize("after", Phase)
def test_only_steps_of_the_table_are_allowed(before: Phase, after: Phase):
    if after in ALLOWED[before]:
        check_transition(uuid4(), before, after)
    else:
        with pytest.raises(InvalidTransition):
            check_transition(uuid4(), before, after)


# Whatever workers, clients and the reaper do, in whatever order, with whatever claims they were ever given: the job
# takes only steps of the table, only the holder moves it, and what is over stays over.


@pytest.fixture(scope="module")
def shared_database(new_database: Callable[..., str]) -> Iterator[SessionFactory]:
    engine = make_engine(new_database())
    yield make_session_factory(engine)
    engine.dispose()


WRITES: dict[str, Callable[[ClaimRepository, Claim], object]] = {
    "renew": lambda claims, claim: claims.renew(claim, lease_s=LEASE_S),
    "finish_adapting": lambda claims, claim: claims.finish_adapting(claim, adapter=ADAPTER, usage={}),
    "finish_sampling": lambda claims, claim: claims.finish_sampling(
        claim, candidates=[[Found()]], results=RESULTS, usage={}
    ),
    "fail": lambda claims, claim: claims.fail(claim, code="x", message="y"),
    "cancel": lambda claims, claim: claims.cancel(claim),
    "release": lambda claims, claim: claims.release(claim),
}
actions = st.one_of(
    st.sampled_from([("claim_for_adapting", 0), ("claim_for_sampling", 0)]),
    st.sampled_from([("request_cancel", 0), ("worker_lost", 0), ("reap", 0)]),
    st.tuples(st.sampled_from([*WRITES, "record_steps"]), st.integers(min_value=0, max_value=2)),
    st.just(("advance", 0)),
)
NEXT = {
    Phase.QUEUED: "claim_for_adapting",
    Phase.ADAPTING: "finish_adapting",
    Phase.ADAPTED: "claim_for_sampling",
    Phase.SAMPLING: "finish_sampling",
}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num_advances=st.integers(min_value=0, max_value=4),  # so that late phases see as much as early ones
    script=st.lists(actions, min_size=1, max_size=12),
)
@example(num_advances=3, script=[("finish_adapting", 0)])
@example(num_advances=1, script=[("finish_sampling", 0)])
def test_no_sequence_of_events_leaves_the_table(
    shared_database: SessionFactory, num_advances: int, script: list[tuple[str, int]]
):
    (job_id,) = submit_jobs(shared_database)
    claims: list[Claim] = []
    for name, how_old in [("advance", 0)] * num_advances + script:
        before = read_job(shared_database, job_id)
        if name == "advance":
            name = NEXT.get(before.phase, "reap")  # noqa: PLW2901 - the script says so
        claim = claims[-1 - how_old] if how_old < len(claims) else None
        if name in WRITES or name == "record_steps":
            if claim is not None:
                _write(shared_database, name, claim, before)
        else:
            _happen(shared_database, name, job_id, claims)
        _check(before, read_job(shared_database, job_id))


def _write(database: SessionFactory, name: str, claim: Claim, before: Job) -> None:
    holds = (before.attempt, before.phase) == (claim.attempt, claim.phase)
    write = WRITES.get(name) or partial(record_step, number=before.step + 1)
    try:
        with transaction(database) as session:
            write(ClaimRepository(session), claim)
    except StaleClaim:
        assert not holds or (name, claim.phase) == ("record_steps", Phase.SAMPLING)
    except InvalidTransition:
        assert holds
        assert (name, claim.phase) in {("finish_adapting", Phase.SAMPLING), ("finish_sampling", Phase.ADAPTING)}
    else:
        assert holds


def _happen(database: SessionFactory, name: str, job_id: UUID, claims: list[Claim]) -> None:
    with transaction(database) as session:
        if name == "request_cancel":
            JobRepository(session).request_cancel(job_id)
        elif name == "worker_lost":
            session.execute(
                update(Job).where(Job.id == job_id, Job.phase.in_(HELD)).values(lease_expires_at=lease_until(-1))
            )
        elif name == "reap":
            ReaperRepository(session).reclaim_expired(max_attempts=2)
        else:
            claimed = getattr(ClaimRepository(session), name)(job_id, owner="worker", lease_s=LEASE_S)
            if claimed is not None:
                claims.append(claimed.claim)


def _check(before: Job, after: Job) -> None:
    assert after.phase is before.phase or after.phase in ALLOWED[before.phase]
    assert (after.phase in HELD) == (after.lease_owner is not None)
    assert (after.phase in TERMINAL) == (after.finished_at is not None)
    assert after.attempt - before.attempt == (after.phase in HELD and before.phase not in HELD)
    if before.cancel_requested:
        assert after.phase in {before.phase, *TERMINAL}
