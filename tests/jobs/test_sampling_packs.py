"""Jobs that are claimed to be answered together."""

from typing import Any
from uuid import UUID

import pytest

from arc_engine.settings import SolveSettings
from jobs.claims import ClaimedJob
from jobs.database import SessionFactory, transaction
from jobs.repositories import BaseModelRepository, ClaimRepository, ReaperRepository
from jobs.states import Phase
from jobs.submission import submit
from tests.fixtures.records import EXPIRED, LEASE_S, OWNER, a_task, claim_adapting, finish_adapting, read_job


def adapted(database: SessionFactory, settings: dict[str, Any] | None = None, *, num_jobs: int = 1) -> list[UUID]:
    """Jobs with these settings that wait for sampling."""
    with transaction(database) as session:
        tasks = {f"task-{i}": a_task() for i in range(num_jobs)}
        ids = [job.id for job in submit(session, tasks, SolveSettings.model_validate(settings or {})).jobs]
    for job_id in ids:
        finish_adapting(database, claim_adapting(database, job_id))
    return ids


def claim(claims: ClaimRepository, job_id: UUID) -> ClaimedJob:
    first = claims.claim_for_sampling(job_id, owner=OWNER, lease_s=LEASE_S)
    assert first is not None
    return first


def claimed_with(database: SessionFactory, job_id: UUID, *, limit: int = 10) -> list[UUID]:
    """The jobs that a worker would answer together with this one."""
    with transaction(database) as session:
        claims = ClaimRepository(session)
        more = claims.claim_more_for_sampling(claim(claims, job_id), limit=limit, owner=OWNER, lease_s=LEASE_S)
        return [job.claim.job_id for job in more]


def test_the_oldest_that_wait_are_taken_up_to_the_limit(database: SessionFactory):
    jobs = adapted(database, num_jobs=5)
    assert claimed_with(database, jobs[0], limit=2) == jobs[1:3]
    assert [read_job(database, job_id).phase for job_id in jobs] == [Phase.SAMPLING] * 3 + [Phase.ADAPTED] * 2
    assert claimed_with(database, jobs[4], limit=0) == []
    assert read_job(database, jobs[3]).phase is Phase.ADAPTED


def test_each_has_a_claim_of_its_own(database: SessionFactory):
    first, second = adapted(database, num_jobs=2)
    with transaction(database) as session:
        claims = ClaimRepository(session)
        held = claim(claims, first)
        [other] = claims.claim_more_for_sampling(held, limit=1, owner=OWNER, lease_s=LEASE_S)
    assert (other.claim.job_id, other.claim.attempt, other.claim.phase) == (second, 2, Phase.SAMPLING)
    assert other.adapter is not None
    with transaction(database) as session:
        ClaimRepository(session).fail(held.claim, code="x", message="y")
        assert ClaimRepository(session).renew(other.claim, lease_s=LEASE_S) is False
    assert [read_job(database, job_id).phase for job_id in (first, second)] == [Phase.FAILED, Phase.SAMPLING]


TUNED = {"base_model": "arc-mini-ft"}
CONTINUED = {**TUNED, "adaptation": {"start": "continue"}}


@pytest.mark.parametrize(
    ("settings", "other", "together"),
    [
        ({}, {"sampling": {"num_views": 3, "method": "sample", "seed": 7}}, True),
        ({}, {"selection": {"method": "product_of_experts"}}, True),
        ({}, {"adaptation": {"lora_rank": 64}}, True),
        ({}, {"adaptation": None}, True),
        ({}, TUNED, False),
        (TUNED, CONTINUED, False),
        (CONTINUED, CONTINUED, True),
        ({}, {"sampling": {"backend": "torch"}}, False),
        ({"sampling": {"backend": "torch"}}, {"sampling": {"backend": "torch", "method": "dfs"}}, False),
        ({"sampling": {"method": "dfs"}}, {"sampling": {"method": "dfs", "min_probability": 0.2}}, True),
    ],
)
def test_only_jobs_for_the_same_sampler_with_the_same_model_are_taken(
    database: SessionFactory, settings: dict[str, Any], other: dict[str, Any], together: bool
):
    [first], [second] = adapted(database, settings), adapted(database, other)
    assert claimed_with(database, first) == ([second] if together else [])
    assert read_job(database, second).phase is (Phase.SAMPLING if together else Phase.ADAPTED)


def give_back_to_be_alone(database: SessionFactory, job_id: UUID) -> None:
    with transaction(database) as session:
        claims = ClaimRepository(session)
        claims.release(claim(claims, job_id).claim, alone=True)


@pytest.mark.parametrize("troubled", [0, 1])
def test_a_job_that_was_in_trouble_is_neither_joined_nor_taken_along(database: SessionFactory, troubled: int):
    jobs = adapted(database, num_jobs=3)
    give_back_to_be_alone(database, jobs[troubled])
    assert claimed_with(database, jobs[0]) == ([] if troubled == 0 else [jobs[2]])


def test_jobs_whose_worker_died_are_taken_one_by_one(database: SessionFactory):
    jobs = adapted(database, num_jobs=3)
    with transaction(database) as session:
        claims = ClaimRepository(session)
        first = claims.claim_for_sampling(jobs[0], owner=OWNER, lease_s=EXPIRED)
        assert first is not None
        assert len(claims.claim_more_for_sampling(first, limit=2, owner=OWNER, lease_s=EXPIRED)) == 2
    with transaction(database) as session:
        ReaperRepository(session).reclaim_expired(max_attempts=2)
    assert [read_job(database, job_id).phase for job_id in jobs] == [Phase.ADAPTED] * 3
    assert claimed_with(database, jobs[0]) == []


def test_a_base_model_that_was_registered_anew_is_another_one(database: SessionFactory):
    jobs = []
    for source in ("/models/old", "/models/new", "/models/new"):
        with transaction(database) as session:
            BaseModelRepository(session).register("mine", source)
        jobs += adapted(database, {"base_model": "mine"})
    assert claimed_with(database, jobs[0]) == []
    assert claimed_with(database, jobs[1]) == [jobs[2]]


def test_jobs_that_another_worker_is_claiming_are_passed_over(database: SessionFactory):
    first, second, third = adapted(database, num_jobs=3)
    with transaction(database) as elsewhere:
        assert claim(ClaimRepository(elsewhere), second)
        assert claimed_with(database, first) == [third]


def test_jobs_that_are_not_adapted_yet_are_not_taken(database: SessionFactory):
    [first] = adapted(database)
    with transaction(database) as session:
        submit(session, {"queued": a_task()}, SolveSettings())
    assert claimed_with(database, first) == []
