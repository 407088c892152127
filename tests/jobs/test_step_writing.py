"""Training steps of several jobs, put on record by one statement."""

from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, select, text

from jobs.claims import Claim, ClaimedStep
from jobs.database import SessionFactory, transaction
from jobs.models import StepRow
from jobs.repositories import ClaimRepository, JobRepository, StepRepository
from jobs.states import Stage
from tests.fixtures.records import EXPIRED, LEASE_S, Step, claim_adapting, read_job, submit_jobs


def record(database: SessionFactory, *steps: ClaimedStep, lease_s: float = LEASE_S) -> dict[UUID, bool]:
    with transaction(database) as session:
        return dict(ClaimRepository(session).record_steps(steps, lease_s=lease_s))


def losses(database: SessionFactory, job_id: UUID) -> list[tuple[int, float]]:
    with transaction(database) as session:
        return [(row.step, row.loss) for row in StepRepository(session).after(job_id)]


def step(claim: Claim, number: int, **options: object) -> ClaimedStep:
    return ClaimedStep(claim, Step(number, loss=10.0 * number), eta_s=100.0 - number, **options)  # type: ignore[arg-type]


def test_steps_of_several_jobs_are_one_statement_and_renew_every_lease(database: SessionFactory, engine: Engine):
    claims = [claim_adapting(database, job_id, lease_s=EXPIRED) for job_id in submit_jobs(database, 3)]
    statements: list[str] = []

    def note(connection, cursor, statement, *rest):
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    answers = record(database, *(step(claim, number) for number in (1, 2) for claim in claims), lease_s=3600)
    event.remove(engine, "before_cursor_execute", note)
    assert len(statements) == 1
    assert answers == {claim.job_id: False for claim in claims}
    for claim in claims:
        assert losses(database, claim.job_id) == [(1, 10.0), (2, 20.0)]
        assert (read_job(database, claim.job_id).step, read_job(database, claim.job_id).eta_s) == (2, 98.0)
    with transaction(database) as session:
        remaining = text("SELECT min(extract(epoch FROM lease_expires_at - clock_timestamp())) FROM jobs")
        assert 3500 < float(session.scalar(remaining)) <= 3600  # type: ignore[arg-type]


def test_a_job_that_is_anothers_by_now_is_left_out_and_the_others_are_not(database: SessionFactory):
    stale, held = (claim_adapting(database, job_id) for job_id in submit_jobs(database, 2))
    with transaction(database) as session:
        ClaimRepository(session).release(stale)
    newer = claim_adapting(database, stale.job_id)
    assert record(database, step(stale, 1), step(held, 1), step(stale, 2)) == {held.job_id: False}
    assert (losses(database, stale.job_id), read_job(database, stale.job_id).step) == ([], 0)
    assert losses(database, held.job_id) == [(1, 10.0)]
    assert record(database, step(newer, 1)) == {newer.job_id: False}


def test_each_hears_of_its_own_cancellation(database: SessionFactory):
    cancelled, other = (claim_adapting(database, job_id) for job_id in submit_jobs(database, 2))
    with transaction(database) as session:
        JobRepository(session).request_cancel(cancelled.job_id)
    assert record(database, step(other, 1), step(cancelled, 1)) == {cancelled.job_id: True, other.job_id: False}
    assert losses(database, cancelled.job_id) == [(1, 10.0)]


def test_what_is_written_once_more_because_nobody_heard_of_it_stays_as_it_is(database: SessionFactory):
    [claim] = [claim_adapting(database, job_id) for job_id in submit_jobs(database)]
    for _ in range(2):
        assert record(database, step(claim, 1), step(claim, 2)) == {claim.job_id: False}
    assert losses(database, claim.job_id) == [(1, 10.0), (2, 20.0)]


def test_steps_that_are_progress_only_leave_no_rows(database: SessionFactory):
    [claim] = [claim_adapting(database, job_id) for job_id in submit_jobs(database)]
    record(database, step(claim, 1, keep=False), step(claim, 2, stage=Stage.COMMON), step(claim, 3, keep=False))
    assert (losses(database, claim.job_id), read_job(database, claim.job_id).step) == ([(2, 20.0)], 3)
    with transaction(database) as session:
        assert session.scalars(select(StepRow.stage)).all() == ["common"]


@pytest.mark.parametrize("field", ["loss", "grad_norm", "learning_rate"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_step_that_is_not_finite_is_never_stored(database: SessionFactory, field: str, value: float):
    [claim] = [claim_adapting(database, job_id) for job_id in submit_jobs(database)]
    with pytest.raises(ValueError, match="not finite"):
        record(database, step(claim, 1), ClaimedStep(claim, replace(Step(2), **{field: value})))
    assert losses(database, claim.job_id) == []
