"""The migrated schema is the one of the models."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from threading import Thread

import pytest
from alembic import command
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from arc_engine.settings import SolveSettings
from jobs.claims import BaseModelSource
from jobs.database import SessionFactory, make_engine, make_session_factory, transaction
from jobs.migrating import alembic_config, check, current_revision, head_revision, upgrade
from jobs.models import Base
from jobs.repositories import BaseModelRepository, ClaimRepository


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


def test_migrated_jobs_are_stored_and_completed_as_those_of_the_models(
    engine: Engine, new_database: Callable[..., str]
):
    # Neither storage parameters nor what generated columns are made of is in Alembic's comparison.
    modelled = make_engine(new_database(migrated=False))
    Base.metadata.create_all(modelled)
    storage = text("SELECT reloptions FROM pg_class WHERE oid = 'jobs'::regclass")
    generated = text(
        "SELECT attname, pg_get_expr(adbin, adrelid) FROM pg_attribute JOIN pg_attrdef"
        " ON (adrelid, adnum) = (attrelid, attnum) WHERE attrelid = 'jobs'::regclass AND attgenerated = 's'"
    )
    found = []
    for one in (engine, modelled):
        with one.connect() as connection:
            found.append((connection.scalar(storage), set(connection.execute(generated).tuples())))
    assert found[0] == found[1]
    assert {name for name, _ in found[0][1]} == {"trained_with", "answered_with", "answered_by_engine", "solved"}
    modelled.dispose()


def test_no_index_holds_what_a_training_step_changes(engine: Engine):
    indexes = inspect(engine).get_indexes("jobs")
    indexed = {column for index in indexes for column in index["column_names"]}
    assert {"phase", "trained_with"} <= indexed
    assert not indexed & {"step", "eta_s", "lease_expires_at"}
    predicates = [index["dialect_options"].get("postgresql_where", "") for index in indexes]
    assert not any("lease" in predicate or "step" in predicate for predicate in predicates)


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


# As revision 0001 stored it: every setting said.
OLD_ADAPTATION = {
    "lora_rank": 8,
    "lora_alpha": 16.0,
    "max_steps": 20,
    "batch_size": 4,
    "learning_rate": 0.002,
    "lr_scheduler": "cosine",
    "warmup_ratio": 0.05,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "max_seq_len": 4096,
    "loss_on": "test_output",
    "augmentation": SolveSettings().model_dump(mode="json")["adaptation"]["augmentation"],
    "seed": 3,
}
OLD_BASE = {"source": "bundled:arc-mini", "revision": None}


@pytest.fixture
def old_engine(new_database: Callable[..., str]) -> Iterator[Engine]:
    """A database at revision 0001 with a batch of two queued jobs: with adaptation, and without."""
    engine = make_engine(new_database(migrated=False))
    move_to(engine, "0001")
    insert_batch = text("INSERT INTO batches (id, settings) VALUES (gen_random_uuid(), :settings)")
    insert_job = text(
        "INSERT INTO jobs (id, batch_id, position, task_id, task, solution, settings, versions, phase, attempt,"
        " requeues, max_steps, step, usage) SELECT gen_random_uuid(), id, :position, 't', :task, '[null]', :settings,"
        " :versions, 'queued', 0, 0, 20, 0, '{}' FROM batches"
    )
    task = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1]]}]}
    with engine.begin() as connection:
        connection.execute(insert_batch, {"settings": json.dumps({"adaptation": OLD_ADAPTATION})})
        for position, adaptation in enumerate((OLD_ADAPTATION, None)):
            fields = {"settings": {"adaptation": adaptation}, "task": task, "versions": {"base_model": OLD_BASE}}
            written = {name: json.dumps(value) for name, value in fields.items()}
            connection.execute(insert_job, {"position": position, **written})
    yield engine
    engine.dispose()


def move_to(engine: Engine, revision: str) -> None:
    move = command.upgrade if (current_revision(engine) or "") < revision else command.downgrade
    with engine.begin() as connection:
        move(alembic_config(connection), revision)


def adaptations(engine: Engine) -> list[dict[str, object] | None]:
    """What the batch's settings say of adaptation, then what the jobs' do."""
    both = "SELECT settings, -1 AS place FROM batches UNION ALL SELECT settings, position FROM jobs ORDER BY place"
    with engine.connect() as connection:
        return [settings["adaptation"] for settings, _ in connection.execute(text(both))]


def test_a_job_that_was_queued_before_is_worked_off_as_it_was_meant(old_engine: Engine):
    upgrade(old_engine)
    check(old_engine)
    sessions = make_session_factory(old_engine)
    for meant in (OLD_ADAPTATION, None):
        with transaction(sessions) as session:
            claimed = ClaimRepository(session).claim_for_adapting(None, owner="w", lease_s=60)
        assert claimed is not None
        adaptation = claimed.settings.adaptation
        if meant is None:
            assert adaptation is None
            continue
        assert adaptation is not None
        assert (adaptation.examples.loss_on, adaptation.examples.leave_one_out) == ("test_output", "random")
        assert (adaptation.lora_rank, adaptation.seed, adaptation.start) == (8, 3, "new")
        assert (adaptation.batch_tokens, adaptation.stop_loss) == (None, None)
        assert claimed.base_model.source == "bundled:arc-mini"
    assert SolveSettings.model_validate({"adaptation": adaptations(old_engine)[0]})


def test_a_downgrade_gives_back_what_was_there(old_engine: Engine):
    before = adaptations(old_engine)
    upgrade(old_engine)
    resolved = SolveSettings.model_validate({"adaptation": adaptations(old_engine)[1]}).model_dump(mode="json")
    with old_engine.begin() as connection:  # as jobs are stored now: every setting said
        connection.execute(
            text("UPDATE jobs SET settings = :settings, versions = :versions WHERE position = 0"),
            {
                "settings": json.dumps(resolved),
                "versions": json.dumps({"base_model": asdict(BaseModelSource(**OLD_BASE))}),
            },
        )
    move_to(old_engine, "0001")
    assert adaptations(old_engine) == before
    with old_engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM base_models")) == 1
        versions = connection.scalars(text("SELECT versions FROM jobs")).all()
        assert versions == [{"base_model": OLD_BASE}] * 2
    upgrade(old_engine)
    check(old_engine)


def stored_settings(engine: Engine, section: str) -> list[dict[str, object]]:
    """What the jobs' settings say in this section, in the order of the request."""
    with engine.connect() as connection:
        return [row[section] for row in connection.scalars(text("SELECT settings FROM jobs ORDER BY position"))]


def store_settings(engine: Engine, settings: dict[str, object]) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET settings = :settings"), {"settings": json.dumps(settings)})


OLD_SAMPLING = {
    "backend": "auto",
    "method": "greedy",
    "num_views": 16,
    "samples_per_view": 1,
    "temperature": 0.7,
    "top_p": 1.0,
    "max_new_tokens": None,
    "seed": 0,
}
"""As revision 0004 stored it."""


def test_sampling_goes_on_as_it_was_where_it_was_stored_before(old_engine: Engine):
    move_to(old_engine, "0004")
    before = {"sampling": OLD_SAMPLING, "selection": {"method": "vote"}}
    store_settings(old_engine, before)
    upgrade(old_engine)
    upgraded = {"sampling": stored_settings(old_engine, "sampling")[0]}
    upgraded["selection"] = stored_settings(old_engine, "selection")[0]
    settings = SolveSettings.model_validate(upgraded)
    assert (settings.sampling.grid_tokens_only, settings.sampling.when_too_long) == (False, "fail")
    resolved = settings.model_dump(mode="json")
    assert upgraded == {"sampling": resolved["sampling"], "selection": resolved["selection"]}, "every setting is said"
    move_to(old_engine, "0004")
    assert stored_settings(old_engine, "sampling") == [OLD_SAMPLING] * 2
    assert stored_settings(old_engine, "selection") == [{"method": "vote"}] * 2


def test_an_older_worker_can_do_jobs_with_todays_defaults_but_none_that_ask_for_what_it_lacks(old_engine: Engine):
    upgrade(old_engine)
    defaults = SolveSettings.model_validate({"selection": {"method": "vote"}}).model_dump(mode="json")
    store_settings(old_engine, defaults)
    move_to(old_engine, "0004")
    assert stored_settings(old_engine, "sampling") == [OLD_SAMPLING] * 2
    assert stored_settings(old_engine, "selection") == [{"method": "vote"}] * 2
    upgrade(old_engine)
    asked = {"max_nodes": 7, "time_budget_s": 1.5}
    store_settings(old_engine, {**defaults, "sampling": {**defaults["sampling"], **asked}})
    move_to(old_engine, "0004")
    assert stored_settings(old_engine, "sampling") == [{**OLD_SAMPLING, **asked}] * 2
    upgrade(old_engine)
    kept = {**defaults["sampling"], **asked, "grid_tokens_only": False, "when_too_long": "fail"}
    assert stored_settings(old_engine, "sampling") == [kept] * 2


@pytest.mark.parametrize("sampling", [{}, {"num_views": 3}])
def test_settings_that_say_little_are_valid_through_both_ways(old_engine: Engine, sampling: dict[str, object]):
    move_to(old_engine, "0004")
    store_settings(old_engine, {"sampling": sampling})
    for move in (lambda: upgrade(old_engine), lambda: move_to(old_engine, "0004")):
        move()
        with old_engine.connect() as connection:
            stored = connection.scalars(text("SELECT settings FROM jobs")).first()
        assert SolveSettings.model_validate(stored)
    assert stored_settings(old_engine, "sampling") == [sampling] * 2


def test_candidates_keep_their_votes_through_both_ways(old_engine: Engine):
    move_to(old_engine, "0004")
    insert_candidate = text(
        "INSERT INTO candidates (job_id, test_index, rank, grid, votes, score, views)"
        " SELECT id, 0, 0, '[[1]]', 3, 0.75, '[0, 2]' FROM jobs"
    )
    with old_engine.begin() as connection:
        connection.execute(insert_candidate)
    upgrade(old_engine)
    with old_engine.begin() as connection:
        rows = connection.execute(text("SELECT votes, score, findings, view_scores FROM candidates")).all()
        assert [tuple(row) for row in rows] == [(3, 0.75, [], [])] * 2
        connection.execute(text("UPDATE candidates SET score = NULL"))
    move_to(old_engine, "0004")
    with old_engine.connect() as connection:
        assert connection.execute(text("SELECT votes, score FROM candidates")).all() == [(3, 0.0)] * 2


def test_a_downgrade_does_not_hide_what_an_older_worker_would_get_wrong(old_engine: Engine):
    upgrade(old_engine)
    with old_engine.begin() as connection:
        warm = json.dumps({"start": "warm", "warmup": {"steps": 7, "batch_size": 16}, "scope": "per_task"})
        connection.execute(
            text("UPDATE jobs SET settings = jsonb_build_object('adaptation', CAST(:warm AS jsonb))"), {"warm": warm}
        )
    move_to(old_engine, "0001")
    assert adaptations(old_engine)[1] == {"start": "warm", "warmup": {"steps": 7, "batch_size": 16}}


@pytest.mark.parametrize(("bound", "left"), [(None, {}), (64, {"batch_tokens": 64})])
def test_steps_of_jobs_from_before_have_no_bound_on_their_tokens(
    old_engine: Engine, bound: int | None, left: dict[str, int]
):
    move_to(old_engine, "0006")
    store_settings(old_engine, {"adaptation": {"batch_size": 4}})
    upgrade(old_engine)
    assert adaptations(old_engine)[1:] == [{"batch_size": 4, "batch_tokens": None, "stop_loss": None}] * 2
    store_settings(old_engine, {"adaptation": {"batch_tokens": bound}})
    move_to(old_engine, "0006")
    assert adaptations(old_engine)[1:] == [left] * 2
    store_settings(old_engine, {"adaptation": None})
    upgrade(old_engine)
    move_to(old_engine, "0006")
    assert adaptations(old_engine)[1:] == [None] * 2


def test_what_old_jobs_can_be_worked_on_with_is_known_after_an_upgrade(old_engine: Engine):
    move_to(old_engine, "0005")
    with old_engine.begin() as connection:
        answered = json.dumps({"test": [{"correct": True}]})
        connection.execute(
            text("UPDATE jobs SET results = :results, solution = '[[[1]]]' WHERE position = 0"), {"results": answered}
        )
    upgrade(old_engine)
    known = "SELECT trained_with IS NULL, answered_with, answered_by_engine, solved FROM jobs ORDER BY position"
    with old_engine.connect() as connection:
        with_adaptation, without = connection.execute(text(known)).all()
    assert (with_adaptation[0], without[0]) == (False, True)
    assert with_adaptation[1] == without[1]
    assert (with_adaptation[2:], without[2:]) == ((True, True), (True, None))
    move_to(old_engine, "0005")
    with old_engine.connect() as connection:
        assert connection.scalar(text("SELECT reloptions FROM pg_class WHERE oid = 'jobs'::regclass")) is None
    assert "ix_jobs_expiry" in {index["name"] for index in inspect(old_engine).get_indexes("jobs")}
