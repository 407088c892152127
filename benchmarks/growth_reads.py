"""A database with a million training steps, and every read of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
from sqlalchemy import Engine, text

from arc_engine.datasets.sources import TaskJson
from benchmarks.growth_dashboard import WINDOWS, filled, queries
from benchmarks.growth_desk import Desk, Stopwatch
from benchmarks.growth_latency import (
    CALLS,
    WARM_UP_CALLS,
    explain_slow,
    row_of,
    slowest_statements,
    time_calls,
)
from benchmarks.growth_rows import copy_batch, count_rows, finish_jobs
from benchmarks.growth_servers import Database, Servers
from jobs.repositories.cursors import Place, encode
from jobs.states import Status

STEPS_PER_JOB: Final = 150
SEEDS: Final = (0, 1)
RANKS: Final = (8, 16)
EXPERIMENT_TASKS: Final = 25
"""Under two seeds and two ranks: 100 jobs."""
SECONDS_APART: Final = 300.0
"""Between the ends of two jobs: 6,700 of them take 23 days."""
WAITING: Final = 100
HELD: Final = 4
"""Jobs that are not over while the tables are read, and those of them that workers have."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What there is to ask for: jobs that succeeded, and a place nine tenths down the list of all."""

    experiment_id: UUID
    batch_id: UUID
    task_id: str
    job_ids: Sequence[UUID]
    deep: Place


def measure_reads(
    servers: Servers, tasks: Mapping[str, TaskJson], *, num_steps: int, folder: Path, explain: bool
) -> dict[str, Any]:
    """Rows by table; median and 95th percentile of every read, in milliseconds.

    A route is timed over HTTP, at an API in a process of its own, and its statements by the same API in this process.
    """
    with servers.database("reads") as database, Desk(database.url, servers.broker_url, folder=folder) as desk:
        found = fill(desk, database, tasks, num_jobs=-(-num_steps // STEPS_PER_JOB))
        counts = count_rows(database.url)
        print(f"filled: {counts}", flush=True)
        engine = desk.api_engine
        with servers.api(database) as client:
            routes = [
                _measured(what, partial(_get, client), desk.get, paths, engine=engine, explain=explain)
                for what, paths in _routes(found).items()
            ]
        run = partial(_run, engine)
        panels = [_measured(what, run, run, [sql], engine=engine, explain=explain) for what, sql in _panels(found)]
    return {"rows": counts, "routes": routes, "panels": panels}


def _measured(
    what: str,
    timed: Callable[[str], object],
    watched: Callable[[str], object],
    of: Sequence[str],
    *,
    engine: Engine,
    explain: bool,
) -> dict[str, Any]:
    times = time_calls(_calls(timed, of))
    slowest, num_statements = slowest_statements(_calls(watched, of), engine)
    row = row_of(what, times, slowest, num_statements=num_statements)
    if explain:
        explain_slow(slowest, engine)
    return row


def fill(desk: Desk, database: Database, tasks: Mapping[str, TaskJson], *, num_jobs: int) -> Filled:
    """An experiment and batches of all tasks, `num_jobs` or a few more that are over, and some that are not."""
    settings = {"adaptation": {"max_steps": STEPS_PER_JOB}}
    some = dict(islice(tasks.items(), EXPERIMENT_TASKS))
    grid = {"adaptation.lora_rank": list(RANKS)}
    experiment = desk.submit(
        {"name": "growth", "tasks": some, "settings": settings, "grid": grid, "seeds": list(SEEDS)},
        route="/experiments",
    )
    batch = desk.submit({"tasks": tasks, "settings": settings})
    num_compared = len(some) * len(RANKS) * len(SEEDS)
    num_batches = max(1, -(-(num_jobs - num_compared) // len(tasks)))
    copy_batch(database.url, batch["batch_id"], copies=num_batches - 1)
    finish_jobs(database.url, num_jobs=num_compared + num_batches * len(tasks), seconds_apart=SECONDS_APART)
    desk.submit({"tasks": dict(islice(tasks.items(), WAITING)), "settings": settings})
    for _ in range(HELD):
        desk.train(desk.claim(Stopwatch()), num_steps=5, watch=Stopwatch())
    database.tidy()
    job_ids, deep = _some_jobs(desk.api_engine)
    return Filled(experiment["id"], batch["batch_id"], next(iter(tasks)), job_ids, deep)


def _some_jobs(engine: Engine) -> tuple[list[UUID], Place]:
    any_that_succeeded = "SELECT id FROM jobs WHERE phase = 'succeeded' ORDER BY md5(id::text) LIMIT :calls"
    deep = (
        "SELECT created_at, id FROM jobs ORDER BY created_at DESC, id DESC"
        " OFFSET (SELECT count(*) * 9 / 10 FROM jobs) LIMIT 1"
    )
    with engine.connect() as connection:
        job_ids = list(connection.scalars(text(any_that_succeeded), {"calls": CALLS}))
        return job_ids, Place(*connection.execute(text(deep)).one())


def _routes(found: Filled) -> dict[str, list[str]]:
    """Paths by what they stand for."""
    cursor = encode(found.deep)
    of_jobs = {
        f"GET /jobs/{{id}}{rest}": [f"/jobs/{job_id}{rest}" for job_id in found.job_ids]
        for rest in ("", "/losses", "/losses?format=csv", "/losses?after=140", "/candidates")
    }
    of_experiment = {
        f"GET /experiments/{{id}}{rest}": [f"/experiments/{found.experiment_id}{rest}"]
        for rest in ("", "/report", "/jobs", "/curves")
    }
    return {
        "GET /jobs": ["/jobs"],
        "GET /jobs?limit=500": ["/jobs?limit=500"],
        **{f"GET /jobs?status={status}": [f"/jobs?status={status}"] for status in Status},
        "GET /jobs?batch_id=": [f"/jobs?batch_id={found.batch_id}"],
        "GET /jobs?task_id=": [f"/jobs?task_id={found.task_id}"],
        "GET /jobs?cursor= of the last tenth": [f"/jobs?cursor={cursor}"],
        "GET /jobs?status=failed&cursor= of the last tenth": [f"/jobs?status=failed&cursor={cursor}"],
        **of_jobs,
        "GET /batches/{id}": [f"/batches/{found.batch_id}"],
        "GET /batches/{id}/submission": [f"/batches/{found.batch_id}/submission"],
        "GET /experiments": ["/experiments"],
        **of_experiment,
    }


def _panels(found: Filled) -> Iterator[tuple[str, str]]:
    """Every query of the dashboards, over every window where the time picker matters to it."""
    end = datetime.now(UTC)
    for what, sql in queries():
        done = set()
        for window in WINDOWS:
            text_of = filled(
                sql, start=end - window.length, end=end, interval_s=window.interval_s, job=str(found.job_ids[0])
            )
            if text_of not in done:
                done.add(text_of)
                yield (f"{what}, {window.name}" if "$__" in sql else what), text_of


def _calls(read: Callable[[str], object], of: Sequence[str]) -> list[Callable[[], object]]:
    return [partial(read, one) for one in islice(cycle(of), WARM_UP_CALLS + CALLS)]


def _run(engine: Engine, sql: str) -> None:
    with engine.connect() as connection:
        # Not as a bind: Grafana sends finished text, in which `:` means nothing.
        connection.exec_driver_sql(sql.replace("%", "%%")).all()


def _get(client: httpx.Client, path: str) -> None:
    client.get(path).raise_for_status()
