"""The migrated schema is the one of the models."""

from collections.abc import Callable
from threading import Thread

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from jobs.database import SessionFactory, make_engine, transaction
from jobs.migrating import check, current_revision, head_revision, upgrade
from jobs.models import Base
from jobs.repositories import BaseModelRepository


def test_migrated_tables_are_those_of_the_models(engine: Engine):
    check(engine)
    assert set(Base.metadata.tables) < set(inspect(engine).get_table_names())


def test_migrated_checks_are_those_of_the_models(engine: Engine, new_database: Callable[..., str]):
    # Alembic's own comparison leaves CHECK constraints out.
    modelled = make_engine(new_database(migrated=False))
    Base.metadata.create_all(modelled)
    for name in Base.metadata.tables:
        assert inspect(engine).get_check_constraints(name) == inspect(modelled).get_check_constraints(name)
    modelled.dispose()


def test_a_database_is_empty_then_at_the_head(new_database: Callable[..., str]):
    engine = make_engine(new_database(migrated=False))
    assert current_revision(engine) is None
    assert upgrade(engine) == head_revision() == current_revision(engine)
    assert upgrade(engine) == head_revision()
    engine.dispose()


def test_two_replicas_may_migrate_at_once(new_database: Callable[..., str]):
    engine = make_engine(new_database(migrated=False))
    revisions: list[str] = []
    threads = [Thread(target=lambda: revisions.append(upgrade(engine))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert revisions == [head_revision()] * 2
    engine.dispose()


def test_the_bundled_base_model_is_registered(database: SessionFactory):
    with transaction(database) as session:
        assert BaseModelRepository(session).get("arc-mini").source == "bundled:arc-mini"


def test_the_database_itself_refuses_an_unknown_phase(engine: Engine):
    columns = "id, batch_id, position, task_id, task, solution, settings, versions, phase, attempt, requeues, step"
    with engine.connect() as connection, pytest.raises(IntegrityError, match="ck_jobs_phase"):
        connection.execute(
            text(
                f"INSERT INTO jobs ({columns}, max_steps, usage) VALUES (gen_random_uuid(), gen_random_uuid(), 0,"  # noqa: S608
                " 't', '{}', '[]', '{}', '{}', 'resting', 0, 0, 0, 1, '{}')"
            )
        )
