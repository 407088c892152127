"""From a checked request to queued jobs, all or nothing."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from arc_engine.settings import AdaptationSettings, SolveSettings
from jobs.claims import parse_solution
from jobs.database import SessionFactory, transaction
from jobs.errors import IdempotencyConflict, SettingsConflict, UnknownBaseModel
from jobs.models import Batch, Job, OutboxRow
from jobs.repositories import BaseModelRepository
from jobs.states import Phase
from jobs.submission import submit
from tests.fixtures.records import a_task


def _submit(database: SessionFactory, *, key: str | None = None, sha256: str | None = None) -> UUID:
    with transaction(database) as session:
        return submit(session, {"a": a_task()}, SolveSettings(), idempotency_key=key, request_sha256=sha256).id


def _count(database: SessionFactory, table: type) -> int:
    with transaction(database) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_batch_its_jobs_and_their_doorbells_are_stored_together(database: SessionFactory):
    settings = SolveSettings(adaptation=AdaptationSettings(max_steps=7))
    with transaction(database) as session:
        batch = submit(session, {"b": a_task(), "a": a_task()}, settings, name="mine", versions={"arcadapt": "1"})
    with transaction(database) as session:
        stored = session.get_one(Batch, batch.id)
        assert (stored.name, stored.settings) == ("mine", settings.model_dump(mode="json"))
        assert [(job.task_id, job.position) for job in stored.jobs] == [("b", 0), ("a", 1)]
        assert {(job.phase, job.max_steps, job.attempt) for job in stored.jobs} == {(Phase.QUEUED, 7, 0)}
        assert stored.jobs[0].versions == {
            "arcadapt": "1",
            "base_model": {
                "source": "bundled:arc-mini",
                "revision": None,
                "adapter_source": None,
                "adapter_revision": None,
            },
        }
        assert SolveSettings.model_validate(stored.jobs[0].settings) == settings
        assert set(session.scalars(select(OutboxRow.job_id))) == {job.id for job in stored.jobs}


def test_the_solution_is_kept_apart_from_the_task(database: SessionFactory):
    _submit(database)
    with transaction(database) as session:
        job = session.scalars(select(Job)).one()
        assert all(set(test) == {"input"} for test in job.task["test"])
        assert parse_solution(job.solution) == a_task()[1]


def test_a_job_without_adaptation_has_no_steps_to_do(database: SessionFactory):
    with transaction(database) as session:
        (job,) = submit(session, {"a": a_task()}, SolveSettings(adaptation=None)).jobs
        assert job.max_steps == 0


def test_an_unknown_base_model_stores_nothing(database: SessionFactory):
    with pytest.raises(UnknownBaseModel), transaction(database) as session:
        submit(session, {"a": a_task()}, SolveSettings(base_model="nobody"))
    assert _count(database, Batch) == 0


def test_a_key_gives_the_first_batch_whatever_has_become_of_its_base_model(database: SessionFactory):
    def register(adapter: str | None) -> None:
        with transaction(database) as session:
            shape = None if adapter is None else {"r": 4, "target_modules": ["q_proj"]}
            BaseModelRepository(session).register("mine", "/base", adapter_source=adapter, adapter_config=shape)

    def submit_it(key: str | None, sha256: str = "a") -> UUID:
        settings = SolveSettings(base_model="mine", adaptation=AdaptationSettings(start="continue"))
        with transaction(database) as session:
            return submit(session, {"a": a_task()}, settings, idempotency_key=key, request_sha256=sha256).id

    register("/adapter")
    first = submit_it("k")
    register(None)
    with pytest.raises(SettingsConflict):
        submit_it(None)
    assert submit_it("k") == first
    with pytest.raises(IdempotencyConflict):
        submit_it("k", sha256="b")


def test_a_base_model_registered_anew_keeps_what_is_known_of_the_same_adapter(database: SessionFactory):
    def register(adapter: str, **fields: Any) -> tuple[Any, str]:
        with transaction(database) as session:
            row = BaseModelRepository(session).register("mine", "/base", adapter_source=adapter, **fields)
            return row.adapter_config, row.merge_state

    assert register("/one", adapter_config={"r": 4}) == ({"r": 4}, "needs_merge")
    assert register("/one", checked=False) == ({"r": 4}, "needs_merge")
    assert register("/one", adapter_config={"r": 8}) == ({"r": 8}, "needs_merge")
    assert register("/two") == (None, "needs_merge")


def test_a_registered_base_model_may_be_named(database: SessionFactory):
    with transaction(database) as session:
        models = BaseModelRepository(session)
        models.register("mine", "/models/one")
        assert models.register("mine", "/models/two", revision="main").source == "/models/two"
        assert [model.name for model in models.list()] == ["arc-mini", "arc-mini-ft", "mine"]
        assert submit(session, {"a": a_task()}, SolveSettings(base_model="mine")).jobs


def test_the_same_request_again_gives_the_same_batch(database: SessionFactory):
    assert _submit(database, key="k", sha256="one") == _submit(database, key="k", sha256="one")
    assert (_count(database, Batch), _count(database, Job), _count(database, OutboxRow)) == (1, 1, 1)


def test_a_key_of_another_request_is_refused(database: SessionFactory):
    _submit(database, key="k", sha256="one")
    with pytest.raises(IdempotencyConflict):
        _submit(database, key="k", sha256="two")
    assert _count(database, Batch) == 1


def test_requests_without_a_key_are_all_new(database: SessionFactory):
    assert _submit(database) != _submit(database)


def test_of_two_equal_requests_at_once_one_is_stored(database: SessionFactory):
    start = Barrier(2)

    def send(number: int) -> list[UUID]:
        batches = []
        for i in range(10):
            start.wait(timeout=30)
            batches.append(_submit(database, key=f"k{i}", sha256="same"))
        return batches

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(send, range(2))
    assert one == other
    assert _count(database, Batch) == 10
