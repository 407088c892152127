"""Which jobs are claimed while others of their group train what they share, and who is told when that is over."""

from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import select, update

from arc_engine.settings import AdaptationSettings, SolveSettings
from jobs.claims import ClaimedJob
from jobs.database import SessionFactory, transaction
from jobs.models import Job, OutboxRow
from jobs.repositories import ClaimRepository, ReaperRepository
from jobs.repositories.base import now
from jobs.repositories.common_adaptations import CommonAdaptationRepository, CommonClaim
from jobs.submission import submit
from tests.fixtures.records import ADAPTER, EXPIRED, LEASE_S, OWNER, a_task, submit_jobs

SHARED = SolveSettings(adaptation=AdaptationSettings(scope="shared"))


def submit_shared(database: SessionFactory, num_jobs: int = 3) -> list[UUID]:
    with transaction(database) as session:
        return [job.id for job in submit(session, {str(i): a_task() for i in range(num_jobs)}, SHARED).jobs]


def claim_next(database: SessionFactory, *, lease_s: float = LEASE_S) -> ClaimedJob | None:
    with transaction(database) as session:
        return ClaimRepository(session).claim_for_adapting(None, owner=OWNER, lease_s=lease_s)


def claim_id(database: SessionFactory) -> UUID | None:
    claimed = claim_next(database)
    return None if claimed is None else claimed.claim.job_id


def claim_common(database: SessionFactory, job: ClaimedJob) -> CommonClaim:
    with transaction(database) as session:
        claim = CommonAdaptationRepository(session).claim(job.batch_id, 0, owner=OWNER, lease_s=LEASE_S)
    assert claim is not None
    return claim


def all_rung(database: SessionFactory) -> None:
    with transaction(database) as session:
        session.execute(update(OutboxRow).values(sent_at=now()))


def to_be_rung(database: SessionFactory) -> set[UUID]:
    with transaction(database) as session:
        return set(session.scalars(select(OutboxRow.job_id).where(OutboxRow.sent_at.is_(None))))


def first_of(database: SessionFactory) -> ClaimedJob:
    """Claims the job that will train, all bells having been heard."""
    claimed = claim_next(database)
    assert claimed is not None
    all_rung(database)
    return claimed


def test_workers_take_other_jobs_while_one_trains_for_the_group(database: SessionFactory):
    shared, others = submit_shared(database), submit_jobs(database, 2)
    first = first_of(database)
    assert first.claim.job_id == shared[0]
    assert claim_id(database) == others[0]  # the adaptation is about to be claimed
    claim_common(database, first)
    assert [claim_id(database), claim_id(database)] == [others[1], None]


def finish(common: CommonAdaptationRepository, claim: CommonClaim) -> None:
    common.finish(claim, adapter=ADAPTER, steps=[], usage={})


def fail(common: CommonAdaptationRepository, claim: CommonClaim) -> None:
    common.fail(claim, code="diverged", message="step 1")


@pytest.mark.parametrize("end", [finish, fail])
def test_when_it_is_over_the_others_are_rung_for_and_claimed(
    database: SessionFactory, end: Callable[[CommonAdaptationRepository, CommonClaim], None]
):
    shared = submit_shared(database)
    common = claim_common(database, first_of(database))
    with transaction(database) as session:
        end(CommonAdaptationRepository(session), common)
    assert to_be_rung(database) == set(shared[1:])
    assert [claim_id(database), claim_id(database)] == shared[1:]


@pytest.mark.parametrize(
    "leave",
    [
        lambda claims, claim: claims.fail(claim, code="x", message="y"),
        lambda claims, claim: claims.cancel(claim),
        lambda claims, claim: claims.release(claim),
    ],
    ids=["fail", "cancel", "release"],
)
def test_a_job_that_leaves_it_undone_leaves_it_to_the_others(database: SessionFactory, leave: Callable[..., object]):
    shared = submit_shared(database)
    first = first_of(database)
    with transaction(database) as session:
        leave(ClaimRepository(session), first.claim)
    assert to_be_rung(database) >= set(shared[1:])
    assert claim_id(database) in shared
    assert claim_id(database) is None


def test_a_lost_worker_leaves_it_to_the_others(database: SessionFactory):
    shared = submit_shared(database)
    assert claim_next(database, lease_s=EXPIRED) is not None
    all_rung(database)
    with transaction(database) as session:
        ReaperRepository(session).reclaim_expired(max_attempts=1)
        assert session.get_one(Job, shared[0]).error_code == "worker_lost"
    assert to_be_rung(database) == set(shared[1:])
    assert [claim_id(database), claim_id(database)] == [shared[1], None]
