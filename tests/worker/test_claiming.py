"""Which jobs a worker takes to answer them by one call, against a real database."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from arc_engine.errors import SamplerFailed
from arc_engine.settings import SamplingSettings
from jobs.config import ServiceConfig
from jobs.database import SessionFactory, transaction
from jobs.models import Job
from jobs.states import Phase
from tests.fixtures.records import OWNER, adapted_job, read_job
from worker import claiming
from worker.claiming import claim_pack

CONFIG = ServiceConfig(database_url="", broker_url="", artifacts_dir=Path(), work_dir=Path())


@pytest.fixture(autouse=True)
def backend(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Says which backend this machine chooses, vLLM at first."""

    def choosing(chosen: str) -> None:
        monkeypatch.setattr(claiming, "choose", lambda _settings: chosen)

    choosing("vllm")
    return choosing


def claimed(database: SessionFactory, **config: Any) -> list[UUID]:
    pack = claim_pack(database, owner=OWNER, config=replace(CONFIG, **config))
    assert all(job.claim.phase is Phase.SAMPLING for job in pack)
    return [job.claim.job_id for job in pack]


def waiting(database: SessionFactory, num_jobs: int) -> list[UUID]:
    return [adapted_job(database) for _ in range(num_jobs)]


@pytest.mark.parametrize(("sample_pack", "packs"), [(1, [1, 1, 1, 1, 1, 0]), (4, [4, 1, 0])])
def test_a_pack_is_of_the_size_that_the_installation_says(database: SessionFactory, sample_pack: int, packs: list[int]):
    jobs = waiting(database, 5)
    taken = [claimed(database, sample_pack=sample_pack) for _ in packs]
    assert [len(pack) for pack in taken] == packs
    assert [job_id for pack in taken for job_id in pack] == jobs


def test_there_may_be_nothing_to_claim(database: SessionFactory):
    assert claimed(database) == []


def test_torch_which_takes_one_job_after_the_other_is_given_one(
    database: SessionFactory, backend: Callable[[str], None]
):
    jobs = waiting(database, 2)
    backend("torch")
    assert claimed(database) == jobs[:1]
    assert read_job(database, jobs[1]).phase is Phase.ADAPTED


def test_where_the_first_lost_worker_ends_a_job_none_ends_because_of_another(database: SessionFactory):
    jobs = waiting(database, 2)
    assert claimed(database, max_attempts=1) == jobs[:1]


def test_a_job_whose_settings_are_damaged_is_claimed_alone_and_fails_where_it_is_worked_on(database: SessionFactory):
    jobs = waiting(database, 2)
    with transaction(database) as session:
        session.execute(update(Job).where(Job.id == jobs[0]).values(settings={"base_model": 3}))
    assert claimed(database) == jobs[:1]


def test_a_job_for_a_backend_that_is_not_here_is_claimed_alone(
    database: SessionFactory, monkeypatch: pytest.MonkeyPatch
):
    def refuse(_settings: SamplingSettings) -> str:
        raise SamplerFailed("not installed")

    monkeypatch.setattr(claiming, "choose", refuse)
    jobs = waiting(database, 2)
    assert claimed(database) == jobs[:1]
