"""Claiming queued jobs that can be trained together with one that is held already."""

from typing import Any
from uuid import UUID

import pytest

from arc_engine.settings import SolveSettings
from jobs.claims import ClaimedJob
from jobs.database import SessionFactory, transaction
from jobs.models import BaseModelRow
from jobs.repositories import BaseModelRepository, ClaimRepository, ReaperRepository, StepRepository
from jobs.states import Phase
from jobs.submission import submit
from tests.fixtures.records import EXPIRED, LEASE_S, OWNER, a_task, read_job, record_steps


def queued(database: SessionFactory, settings: dict[str, Any] | None = None, *, num_jobs: int = 1) -> list[UUID]:
    with transaction(database) as session:
        tasks = {f"task-{i}": a_task() for i in range(num_jobs)}
        return [job.id for job in submit(session, tasks, SolveSettings.model_validate(settings or {})).jobs]


def claim(claims: ClaimRepository, job_id: UUID, *, lease_s: float = LEASE_S) -> ClaimedJob:
    first = claims.claim_for_adapting(job_id, owner=OWNER, lease_s=lease_s)
    assert first is not None
    return first


def claimed_with(database: SessionFactory, job_id: UUID, *, limit: int = 10) -> list[UUID]:
    """The jobs that a worker would train together with this one."""
    with transaction(database) as session:
        claims = ClaimRepository(session)
        more = claims.claim_more_for_adapting(claim(claims, job_id), limit=limit, owner=OWNER, lease_s=LEASE_S)
        return [job.claim.job_id for job in more]


def give_back(database: SessionFactory, job_id: UUID, *, alone: bool) -> None:
    with transaction(database) as session:
        claims = ClaimRepository(session)
        held = claim(claims, job_id).claim
        claims.release(held, alone=alone)


def test_the_oldest_that_wait_are_taken_up_to_the_limit(database: SessionFactory):
    jobs = queued(database, num_jobs=5)
    assert claimed_with(database, jobs[0], limit=2) == jobs[1:3]
    assert [read_job(database, job_id).phase for job_id in jobs] == [Phase.ADAPTING] * 3 + [Phase.QUEUED] * 2
    assert claimed_with(database, jobs[4], limit=1) == jobs[3:4]


def test_each_has_a_claim_of_its_own_and_an_empty_curve(database: SessionFactory):
    first, second = queued(database, num_jobs=2)
    with transaction(database) as session:
        earlier = claim(ClaimRepository(session), second).claim
    record_steps(database, earlier, [2.0, 1.0])
    with transaction(database) as session:
        ClaimRepository(session).release(earlier)
    with transaction(database) as session:
        claims = ClaimRepository(session)
        held = claim(claims, first)
        [other] = claims.claim_more_for_adapting(held, limit=1, owner=OWNER, lease_s=LEASE_S)
    assert (other.claim.job_id, other.claim.attempt, other.claim.phase) == (second, 2, Phase.ADAPTING)
    assert (other.requeues, held.requeues) == (0, 0)
    with transaction(database) as session:
        assert StepRepository(session).after(second) == []
        ClaimRepository(session).fail(held.claim, code="x", message="y")
        assert ClaimRepository(session).renew(other.claim, lease_s=LEASE_S) is False
    assert [read_job(database, job_id).phase for job_id in (first, second)] == [Phase.FAILED, Phase.ADAPTING]


TUNED = {"base_model": "arc-mini-ft"}
CONTINUED = {**TUNED, "adaptation": {"start": "continue"}}


@pytest.fixture
def tuned(database: SessionFactory) -> None:
    """As if a worker had read the adapter of the bundled base model."""
    config = {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj"]}
    with transaction(database) as session:
        row: BaseModelRow = BaseModelRepository(session).get("arc-mini-ft")
        row.adapter_config = config


@pytest.mark.usefixtures("tuned")
@pytest.mark.parametrize(
    ("settings", "other", "together"),
    [
        ({}, {"adaptation": {"lora_rank": 64, "lora_alpha": 8, "target_modules": ["q_proj"], "init": "olora"}}, True),
        ({}, {"adaptation": {"max_steps": 3, "batch_size": 7, "learning_rate": 0.5, "max_seq_len": 512}}, True),
        ({}, {"adaptation": {"lora_dropout": 0.1, "seed": 9, "stop_loss": 0.1, "time_budget_s": 5}}, True),
        ({}, {"sampling": {"backend": "torch"}, "selection": {"method": "product_of_experts"}}, True),
        ({}, {"prompt": {"version": "chat"}}, True),
        ({}, {"adaptation": {"precision": "bfloat16"}}, False),
        ({"adaptation": {"precision": "float32"}}, {"adaptation": {"precision": "float32"}}, True),
        ({}, {"adaptation": {"gradient_checkpointing": True}}, False),
        ({}, {"adaptation": None}, False),
        ({"adaptation": None}, {"adaptation": None}, False),
        ({}, {"adaptation": {"scope": "shared"}}, False),
        ({}, {"adaptation": {"start": "warm"}}, False),
        ({"adaptation": {"scope": "shared"}}, {}, False),
        ({}, TUNED, False),
        (TUNED, TUNED, True),
        (TUNED, CONTINUED, False),
        (CONTINUED, CONTINUED, True),
    ],
)
def test_only_jobs_for_the_same_model_in_memory_that_share_nothing_with_their_batch_are_taken(
    database: SessionFactory, settings: dict[str, Any], other: dict[str, Any], together: bool
):
    [first], [second] = queued(database, settings), queued(database, other)
    assert claimed_with(database, first) == ([second] if together else [])
    assert read_job(database, second).phase is (Phase.ADAPTING if together else Phase.QUEUED)


@pytest.mark.parametrize("troubled", [0, 1])
def test_a_job_that_was_in_trouble_is_neither_joined_nor_taken_along(database: SessionFactory, troubled: int):
    jobs = queued(database, num_jobs=3)
    give_back(database, jobs[troubled], alone=True)
    assert claimed_with(database, jobs[0]) == ([] if troubled == 0 else [jobs[2]])


def test_a_job_that_was_given_back_without_fault_may_have_company(database: SessionFactory):
    jobs = queued(database, num_jobs=3)
    for job_id in jobs[:2]:
        give_back(database, job_id, alone=False)
    assert claimed_with(database, jobs[0]) == jobs[1:]


def test_jobs_whose_worker_died_are_taken_one_by_one(database: SessionFactory):
    jobs = queued(database, num_jobs=3)
    with transaction(database) as session:
        claims = ClaimRepository(session)
        first = claim(claims, jobs[0], lease_s=EXPIRED)
        assert len(claims.claim_more_for_adapting(first, limit=2, owner=OWNER, lease_s=EXPIRED)) == 2
    with transaction(database) as session:
        ReaperRepository(session).reclaim_expired(max_attempts=2)
    assert [read_job(database, job_id).phase for job_id in jobs] == [Phase.QUEUED] * 3
    assert claimed_with(database, jobs[0]) == []


def test_a_base_model_that_was_registered_anew_is_another_one(database: SessionFactory):
    jobs = []
    for source in ("/models/old", "/models/new", "/models/new"):
        with transaction(database) as session:
            BaseModelRepository(session).register("mine", source)
        jobs += queued(database, {"base_model": "mine"})
    assert claimed_with(database, jobs[0]) == []
    assert claimed_with(database, jobs[1]) == [jobs[2]]


def test_jobs_that_another_worker_is_claiming_are_passed_over(database: SessionFactory):
    first, second, third = queued(database, num_jobs=3)
    with transaction(database) as elsewhere:
        assert claim(ClaimRepository(elsewhere), second)
        assert claimed_with(database, first) == [third]
