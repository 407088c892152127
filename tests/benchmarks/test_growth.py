"""The benchmark of growing queues and tables in small, on the servers that it starts itself."""

import pytest
from sqlalchemy import text

from benchmarks.growth_desk import Desk, Stopwatch
from benchmarks.growth_latency import Statement, StatementLog, explain_slow, slowest_statements
from benchmarks.growth_queue import Plan, measure_queues
from benchmarks.growth_reads import fill, measure_reads
from benchmarks.growth_rows import copy_batch, count_rows, finish_jobs
from benchmarks.growth_servers import embedded_servers
from jobs.states import Phase, Status
from tests.benchmarks.test_sampling_task import TASK
from tests.fixtures.folders import folder_of_servers

TASKS = {f"task-{number}": TASK for number in range(4)}


@pytest.fixture(scope="module")
def servers():
    with folder_of_servers("growth") as folder, embedded_servers(folder) as servers:
        yield servers


@pytest.fixture
def database(servers):
    with servers.database("growth_test") as database:
        yield database


@pytest.fixture
def desk(servers, database, tmp_path):
    with Desk(database.url, servers.broker_url, folder=tmp_path) as desk:
        yield desk


def phases(desk):
    with desk.api_engine.connect() as connection:
        return dict(connection.execute(text("SELECT phase, count(*) FROM jobs GROUP BY phase")).tuples().all())


def submit(desk, *, steps):
    return desk.submit({"tasks": TASKS, "settings": {"adaptation": {"max_steps": steps}}})


def test_a_job_lives_as_workers_have_it(desk, database):
    batch = submit(desk, steps=3)
    watch = Stopwatch()
    before = database.active_s()
    desk.live(watch)
    desk.settle()
    assert 0 < database.active_s() - before < watch.total_s
    assert phases(desk) == {Phase.SUCCEEDED: 1, Phase.QUEUED: 3}
    rows = count_rows(database.url)
    assert (rows["training_steps"], rows["candidates"], rows["adapters"]) == (3, 4, 1)
    assert b'"succeeded":1' in desk.get(f"/batches/{batch['batch_id']}")


def test_rows_made_by_the_server_are_what_the_api_reads(desk, database):
    batch = submit(desk, steps=20)
    copy_batch(database.url, batch["batch_id"], copies=14)
    finish_jobs(database.url, num_jobs=58, seconds_apart=60.0)
    assert phases(desk) == {Phase.SUCCEEDED: 54, Phase.FAILED: 3, Phase.CANCELLED: 1, Phase.QUEUED: 2}
    rows = count_rows(database.url)
    assert (rows["batches"], rows["jobs"], rows["training_steps"]) == (15, 60, 58 * 20)
    for path in ("", "/losses", "/candidates"):
        for job in batch["jobs"]:
            desk.get(f"/jobs/{job['id']}{path}")
    desk.get(f"/batches/{batch['batch_id']}/submission?partial=true")
    for status in Status:
        desk.get(f"/jobs?status={status}&limit=500")


def test_queues_are_measured_at_both_ends(servers, tmp_path):
    plan = Plan(TASKS, num_steps=2, sample=3)
    rows = measure_queues(servers, plan, lengths=(2, 9), folder=tmp_path)
    assert [(row["queued"], row["finished"], row["measured"]) for row in rows] == [(2, 0, 50), (9, 0, 18), (3, 6, 3)]
    for row in rows:
        assert row["ms"] == pytest.approx(sum(row["stages"].values()), abs=0.1)
        assert 0 < row["database_ms"] < row["ms"]
        assert row["company_ms"] > 0


def test_every_read_is_measured(servers, tmp_path):
    measured = measure_reads(servers, TASKS, num_steps=3000, folder=tmp_path, explain=False)
    assert measured["rows"]["training_steps"] >= 3000
    routes = {row["what"]: row for row in measured["routes"]}
    assert {f"GET /jobs?status={status}" for status in Status} <= routes.keys()
    assert {"GET /jobs", "GET /batches/{id}", "GET /experiments/{id}/report"} <= routes.keys()
    for row in (*measured["routes"], *measured["panels"]):
        assert 0 < row["sql_ms_median"] <= row["sql_ms_p95"]
        assert row["ms_median"] > 0
        assert row["statements"] >= 1
    windows = {name.rpartition(", ")[2] for row in measured["panels"] if (name := row["what"]).count(", ") == 1}
    assert windows == {"6 hours", "7 days", "90 days"}


def test_a_filled_database_has_jobs_of_every_status(desk, database):
    found = fill(desk, database, TASKS, num_jobs=100)
    statuses = {Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.ADAPTING}
    assert statuses <= phases(desk).keys()
    assert len(found.job_ids) == 30
    assert b'"items":[{' in desk.get(f"/jobs?task_id={found.task_id}")


def test_the_slowest_statement_of_each_call_is_kept(engine):
    def call():
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            connection.execute(text("SELECT pg_sleep(0.02)"))

    slowest, num_statements = slowest_statements([call] * 5, engine)
    assert num_statements == 2
    assert [statement.sql for statement in slowest] == ["SELECT pg_sleep(0.02)"] * 2
    assert all(statement.ms >= 20 for statement in slowest)
    with StatementLog(engine).listening() as log:
        pass
    call()
    assert log.statements == []


def test_the_plan_of_a_slow_statement_is_shown(engine, capsys):
    explain_slow([Statement("SELECT %(number)s::int", {"number": 7}, ms=1.0)], engine)
    assert capsys.readouterr().out == ""
    explain_slow([Statement("SELECT %(number)s::int", {"number": 7}, ms=51.0)], engine)
    assert "Result" in capsys.readouterr().out
