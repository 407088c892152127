"""Every panel's SQL runs on the real tables and shows what happened there."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from sqlalchemy import Engine, text

from benchmarks.growth_dashboard import filled
from jobs.database import SessionFactory, transaction
from jobs.repositories import ClaimRepository, JobRepository, ReaperRepository
from jobs.states import Phase
from tests.fixtures.records import (
    EXPIRED,
    OWNER,
    adapted_job,
    claim_adapting,
    claim_sampling,
    finish_adapting,
    finish_sampling,
    record_steps,
    submit_jobs,
)

GRAFANA = Path(__file__).parents[2] / "ops" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "jobs.json").read_text())
PANELS: dict[str, dict[str, Any]] = {panel["title"]: panel for panel in DASHBOARD["panels"]}
LOSSES = [2.0, 1.0, 0.25]

HOUR = timedelta(hours=1)


@pytest.fixture
def job_id(database: SessionFactory) -> UUID:
    """A job that succeeded with three steps; beside it, a job in every other phase."""
    (done,) = submit_jobs(database)
    claim = claim_adapting(database, done)
    record_steps(database, claim, LOSSES)
    finish_adapting(database, claim)
    finish_sampling(database, claim_sampling(database, done))
    submit_jobs(database)  # queued
    claim_adapting(database, *submit_jobs(database))
    adapted_job(database)
    claim_sampling(database, adapted_job(database))
    failed, cancelled, lost = submit_jobs(database, 3)
    failing = claim_adapting(database, failed)
    with transaction(database) as session:
        ClaimRepository(session).fail(failing, code="diverged", message="step 3: loss nan")
        JobRepository(session).request_cancel(cancelled)
    claim_adapting(database, lost, lease_s=EXPIRED)
    with transaction(database) as session:
        ReaperRepository(session).reclaim_expired(max_attempts=1)
    return done


def _run(engine: Engine, sql: str, *, job: UUID | None) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    sql = filled(sql, start=now - HOUR, end=now + HOUR, interval_s=60, job=str(job or ""))
    with engine.connect() as connection:
        # Not as a bind: Grafana sends finished text, in which `:` means nothing.
        return [dict(row._mapping) for row in connection.exec_driver_sql(sql.replace("%", "%%"))]


def _show(engine: Engine, title: str, *, job: UUID | None = None) -> list[dict[str, Any]]:
    (target,) = PANELS[title]["targets"]
    return _run(engine, target["rawSql"], job=job)


@pytest.mark.parametrize("title", PANELS)
def test_each_panel_shows_something(engine: Engine, job_id: UUID, title: str):
    rows = _show(engine, title, job=job_id)
    assert rows
    if PANELS[title]["targets"][0]["format"] == "time_series":
        assert next(iter(rows[0])) == "time"
        assert all(isinstance(value, str) for row in rows for name, value in row.items() if name == "metric")
    if PANELS[title]["type"] == "trend":
        assert PANELS[title]["options"]["xField"] in rows[0]


@pytest.mark.parametrize("title", PANELS)
def test_each_panel_bears_an_empty_database_and_no_job_chosen(engine: Engine, title: str):
    _show(engine, title, job=None)


def test_every_state_is_counted_in_the_order_of_life(engine: Engine, job_id: UUID):
    counts = [(row["phase"], row["jobs"]) for row in _show(engine, "Jobs by state")]
    assert [phase for phase, _ in counts] == [phase.value for phase in Phase]
    assert dict(counts) == {phase.value: 2 if phase is Phase.FAILED else 1 for phase in Phase}


def test_the_curve_is_the_chosen_jobs(engine: Engine, job_id: UUID):
    rows = _show(engine, "Loss by step", job=job_id)
    assert [(row["step"], row["loss"]) for row in rows] == list(enumerate(LOSSES, start=1))
    assert _show(engine, "Loss by step", job=UUID(int=0)) == []


def test_failures_say_what_and_who(engine: Engine, job_id: UUID):
    assert {row["metric"] for row in _show(engine, "Failures by code")} == {"diverged", "worker_lost"}
    assert {row["code"] for row in _show(engine, "Latest failures")} == {"diverged", "worker_lost"}
    assert [(row["metric"], row["lost"]) for row in _show(engine, "Workers lost")] == [(OWNER, 1)]


def test_throughput_counts_every_end(engine: Engine, job_id: UUID):
    ended: dict[str, int] = {}
    for row in _show(engine, "Throughput"):
        ended[row["metric"]] = ended.get(row["metric"], 0) + row["jobs"]
    assert ended == {"succeeded": 1, "failed": 2, "cancelled": 1}


def test_only_jobs_with_known_solutions_are_scored(engine: Engine, database: SessionFactory, job_id: UUID):
    assert _show(engine, "Solved")[0]["solved"] == 1
    unsolved = adapted_job(database)
    claim = claim_sampling(database, unsolved)
    wrong = {"test": [{"attempt_1": [[0]], "attempt_2": None, "confidence": 1.0, "correct": False}]}
    with transaction(database) as session:
        ClaimRepository(session).finish_sampling(claim, candidates=[], results=wrong, usage={})
    assert float(_show(engine, "Solved")[0]["solved"]) == 0.5
    with transaction(database) as session:
        session.execute(text("UPDATE jobs SET solution = '[null]' WHERE id = :id"), {"id": unsolved})
    assert _show(engine, "Solved")[0]["solved"] == 1


def test_the_job_can_be_chosen(engine: Engine, job_id: UUID):
    (variable,) = DASHBOARD["templating"]["list"]
    rows = _run(engine, variable["query"], job=None)
    assert variable["name"] == "job"
    assert str(job_id) in {row["__value"] for row in rows}
    assert all(re.match(r"task-\d · \d{4}-\d\d-\d\d", row["__text"]) for row in rows)


def test_workers_at_work_have_a_lease_left(engine: Engine, job_id: UUID):
    rows = _show(engine, "Workers at work")
    assert {row["phase"] for row in rows} == {"adapting", "sampling"}
    assert all(0 < row["lease_left"] < 61 for row in rows)


def test_every_panel_asks_the_provisioned_data_source():
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "arcadapt.yaml").read_text())["datasources"]
    provisioned = {(source["uid"], source["type"]) for source in sources}
    for panel in DASHBOARD["panels"]:
        for asked in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert (asked["uid"], asked["type"]) in provisioned


def test_panels_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_ids_and_titles_are_unique():
    assert len(PANELS) == len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})
