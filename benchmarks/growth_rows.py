"""Jobs that are over, made by the server itself out of queued ones, in the rows that workers would have written."""

from typing import Final
from uuid import UUID

import psycopg

WORKER: Final = "benchmark"

_COPIED: Final = (
    "position, group_index, task_id, task, solution, settings, versions, phase, attempt, requeues, max_steps"
)

_COPY_BATCHES: Final = """
    CREATE TEMP TABLE copies AS SELECT gen_random_uuid() AS id, number FROM generate_series(1, %(copies)s) AS number;
    INSERT INTO batches (id, name, settings)
    SELECT copies.id, 'copy ' || number, settings FROM copies, batches WHERE batches.id = %(batch)s;
"""

_COPY_JOBS: Final = f"""
    INSERT INTO jobs (id, batch_id, created_at, step, usage, {_COPIED})
    SELECT gen_random_uuid(), copies.id, clock_timestamp(), 0, '{{}}', {_COPIED}
    FROM copies, jobs WHERE batch_id = %(batch)s ORDER BY number, position;
    INSERT INTO job_events (job_id, attempt, kind, data)
    SELECT jobs.id, 0, 'queued', '{{}}' FROM jobs JOIN copies ON copies.id = batch_id;
    INSERT INTO outbox (job_id, queue, sent_at)
    SELECT jobs.id, 'adapt', now() FROM jobs JOIN copies ON copies.id = batch_id;
    DROP TABLE copies;
"""  # noqa: S608 - constants

# Jobs end one after the other, `apart` seconds between two, the last of them now. One in 20 fails, one in 50 is
# cancelled, one in 500 has lost a worker.
_CHOOSE: Final = """
    CREATE TEMP TABLE done AS
    SELECT
        id, max_steps, batch_id, position,
        origin + number * gap AS started_at,
        origin + min(number) OVER (PARTITION BY batch_id) * gap + position * interval '1 millisecond' AS created_at,
        CASE WHEN number %% 20 = 7 THEN 'failed' WHEN number %% 50 = 13 THEN 'cancelled' ELSE 'succeeded' END AS fate,
        number %% 500 = 3 AS lost
    FROM (
        SELECT *, row_number() OVER (ORDER BY created_at, position) AS number FROM jobs WHERE phase = 'queued'
    ) AS queued,
    LATERAL (SELECT %(apart)s * interval '1 second' AS gap) AS gaps,
    LATERAL (SELECT now() - (%(num_jobs)s + 1) * gap AS origin) AS origins
    WHERE number <= %(num_jobs)s;
    ANALYZE done;
"""

_END_JOBS: Final = """
    UPDATE jobs SET
        phase = fate, attempt = 2, step = done.max_steps,
        created_at = done.created_at, started_at = done.started_at,
        adapted_at = CASE WHEN fate = 'succeeded' THEN done.started_at + gap * (0.5 + 0.1 * random()) END,
        finished_at = done.started_at + gap * (0.8 + 0.1 * random()),
        error_code = CASE WHEN fate = 'failed' THEN 'diverged' END,
        error_message = CASE WHEN fate = 'failed' THEN 'step 150: loss nan' END,
        usage = '{"adapt_s": 21.5, "sample_s": 6.25, "device": "cpu", "train_tokens": 600000, "num_steps": 150}',
        results = CASE WHEN fate = 'succeeded' THEN (
            SELECT jsonb_build_object('test', jsonb_agg(jsonb_build_object(
                'attempt_1', grid, 'attempt_2', jsonb_set(grid, '{0,0}', '1'), 'confidence', 0.5,
                'confidences', '[0.5, 0.25]'::jsonb, 'num_completions', 16, 'correct', done.position %% 3 = 0
            )))
            FROM jsonb_array_elements(solution) AS grid
        ) END
    FROM done, LATERAL (SELECT %(apart)s * interval '1 second' AS gap) AS gaps
    WHERE jobs.id = done.id;
    UPDATE batches SET created_at = first.created_at
    FROM (SELECT batch_id, min(created_at) AS created_at FROM done GROUP BY batch_id) AS first
    WHERE batches.id = first.batch_id;
"""

_WRITE_RECORDS: Final = """
    INSERT INTO training_steps (job_id, step, attempt, loss, learning_rate, grad_norm, tokens, elapsed_s, created_at)
    SELECT
        id, step, 1, 2 * exp(-step / 40.0::float8) + 0.05 * random(), 2e-3 * (1 - step / (max_steps + 1.0::float8)),
        0.5 + random(), 4000 + (2000 * random())::int, 0.08 * step, started_at + step * interval '80 milliseconds'
    FROM done, generate_series(1, max_steps) AS step;
    INSERT INTO adapters (job_id, attempt, artifact_key, sha256, size_bytes, config)
    SELECT id, 1, 'adapters/' || id || '/1.zip', repeat('ab', 32), 1000000, '{"r": 16, "lora_alpha": 32}'
    FROM done WHERE fate = 'succeeded';
    INSERT INTO candidates (job_id, test_index, rank, grid, votes, log_probability, score, views, findings)
    SELECT
        jobs.id, place - 1, rank, jsonb_set(grid, '{0,0}', to_jsonb(rank)), seen.votes, -0.5,
        seen.votes / 16.0, seen.views, seen.findings
    FROM done JOIN jobs ON jobs.id = done.id,
        LATERAL jsonb_array_elements(solution) WITH ORDINALITY AS answers (grid, place),
        generate_series(0, %(num_candidates)s - 1) AS rank,
        LATERAL (
            SELECT count(*) AS votes, jsonb_agg(view) AS views,
                jsonb_agg(jsonb_build_object('view', view, 'votes', 1, 'log_probability', -0.5)) AS findings
            FROM generate_series(0, 4 / (rank + 1)) AS view
        ) AS seen
    WHERE fate = 'succeeded';
    INSERT INTO job_events (job_id, attempt, kind, data, created_at)
    SELECT id, 1, kind, jsonb_build_object('owner', %(worker)s::text), started_at
    FROM done, unnest(ARRAY['adapting', 'adapted', 'sampling', fate]) AS kind;
    INSERT INTO job_events (job_id, attempt, kind, data, created_at)
    SELECT id, 1, 'requeued', jsonb_build_object('lost', %(worker)s::text), started_at FROM done WHERE lost;
    INSERT INTO outbox (job_id, queue, created_at, sent_at) SELECT id, 'sample', started_at, started_at FROM done;
    DROP TABLE done;
"""


def copy_batch(database_url: str, batch_id: UUID, *, copies: int) -> None:
    """Queues the jobs of a batch so many times more, a batch each time."""
    _run(database_url, _COPY_BATCHES + _COPY_JOBS, batch=batch_id, copies=copies)


def finish_jobs(database_url: str, *, num_jobs: int, seconds_apart: float, num_candidates: int = 8) -> None:
    """Ends the queued jobs that have waited longest, with all their steps, adapters, candidates and events."""
    _run(
        database_url,
        _CHOOSE + _END_JOBS + _WRITE_RECORDS,
        num_jobs=num_jobs,
        apart=seconds_apart,
        num_candidates=num_candidates,
        worker=WORKER,
    )


def count_rows(database_url: str) -> dict[str, int]:
    """Rows by table, of those that jobs fill."""
    tables = ("batches", "jobs", "training_steps", "candidates", "adapters", "job_events", "outbox")
    counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)  # noqa: S608 - constants
    with psycopg.connect(database_url) as connection:
        return dict(zip(tables, connection.execute(f"SELECT {counts}").fetchone() or (), strict=True))


def _run(database_url: str, script: str, **values: object) -> None:
    """Runs the statements of a script in one transaction."""
    with psycopg.connect(database_url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(script, values)
