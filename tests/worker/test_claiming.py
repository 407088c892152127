"""Which jobs a worker takes, against a real database."""

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
from tests.fixtures.records import OWNER, adapted_job, read_job, submit_jobs
from worker import claiming
from worker.claiming import Claims

CONFIG = ServiceConfig(database_url="", broker_url="", artifacts_dir=Path(), work_dir=Path())


@pytest.fixture(autouse=True)
def backend(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Says which backend this machine chooses, vLLM at first."""

    def choosing(chosen: str) -> None:
        monkeypatch.setattr(claiming, "choose", lambda _settings: chosen)

    choosing("vllm")
    return choosing


def claimed(database: SessionFactory, **config: Any) -> list[UUID]:
    pack = Claims(database, owner=OWNER, config=replace(CONFIG, **config)).to_sample()
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


def test_a_worker_may_ask_for_jobs_of_the_engine_or_for_the_others(database: SessionFactory):
    settings: dict[str, dict[str, Any]] = {
        "auto": {},
        "torch": {"backend": "torch"},
        "dfs": {"method": "dfs"},
        "vllm": {"backend": "vllm"},
    }
    jobs = {name: adapted_job(database, settings={"sampling": sampling}) for name, sampling in settings.items()}
    jobs["damaged"] = adapted_job(database)
    with transaction(database) as session:
        session.execute(update(Job).where(Job.id == jobs["damaged"]).values(settings={"base_model": 3}))
    claims = Claims(database, owner=OWNER, config=replace(CONFIG, sample_pack=1))
    taken = {
        in_engine: [job.claim.job_id for _ in jobs for job in claims.to_sample(in_engine=in_engine)]
        for in_engine in (True, False)
    }
    assert taken == {
        True: [jobs["auto"], jobs["vllm"], jobs["damaged"]],
        False: [jobs["torch"], jobs["dfs"]],
    }


def test_the_oldest_queued_job_is_taken_to_be_adapted_and_then_what_fits_to_it(database: SessionFactory):
    claims = Claims(database, owner=OWNER, config=CONFIG)
    jobs = submit_jobs(database, 3)
    first = claims.to_adapt()
    assert first is not None
    more = [claims.to_adapt_with(first) for _ in range(3)]
    assert [first.claim.job_id, *(job.claim.job_id for job in more if job)] == jobs
    assert more[-1] is None
    assert claims.to_adapt() is None


@pytest.mark.parametrize(("max_attempts", "in_packs"), [(1, False), (2, True)])
def test_a_worker_knows_whether_jobs_may_have_company(database: SessionFactory, max_attempts: int, in_packs: bool):
    assert Claims(database, owner=OWNER, config=replace(CONFIG, max_attempts=max_attempts)).in_packs is in_packs
