import pytest

from benchmarks.growth_tables import PARTS

pytestmark = pytest.mark.fast


def queue(queued, finished, *, ms, database_ms):
    return {
        "queued": queued,
        "finished": finished,
        "measured": 100,
        "ms": ms,
        "database_ms": database_ms,
        "submission_database_ms": 1.0,
        "unheard_ms": 3.25,
        "company_ms": 0.5,
        "stages": {"submission": 2.0, "steps": ms - 2.0},
    }


def read(what, ms):
    return {"what": what, "calls": 30, "ms_median": ms, "ms_p95": ms + 1, "sql_ms_median": 0.5, "sql_ms_p95": 0.75} | {
        "statements": 2
    }


def made_up_growth(queues):
    return {
        "date": "2026-01-01",
        "command": "python -m benchmarks.growth",
        "machine": {"cpu": "Abacus", "cores": 2, "memory_gib": 8.0, "gpu": None},
        "versions": {"python": "3.11.1", "postgresql": "18.1"},
        "seconds": 1234,
        "plan": {"steps": 10, "sample": 300, "request_tasks": 400},
        "queue": queues,
        "stack": [{"jobs": 10, "ms": 250.4, "adapting_ms": 100.0, "sampling_ms": 90.0}],
        "rows": {"jobs": 7000, "training_steps": 1_035_020},
        "routes": [read("GET /jobs", 7.0)],
        "panels": [read("arcadapt: jobs: Solved", 4.0)],
    }


def parts(queues):
    return {name: part(made_up_growth(queues)) for name, part in PARTS.items()}


def test_lengths_are_compared_with_a_hundred_jobs():
    rows = [queue(100, 0, ms=50.0, database_ms=10.0), queue(10_000, 0, ms=60.0, database_ms=15.0)]
    written = parts(rows)
    assert "| 100 | 0 | 2.0 | 48.0 | 50.0 | 1.00x | 10.0 | 1.00x | 3.2 | 0.5 |" in written["growth-queue"]
    assert "| 10,000 | 0 | 2.0 | 58.0 | 60.0 | 1.20x | 15.0 | 1.50x | 3.2 | 0.5 |" in written["growth-queue"]
    assert "| ms a job | 100 of 100 | 10,000 of 10,000 |" in written["growth-stages"]
    assert "| steps | 48.0 | 58.0 |" in written["growth-stages"]


def test_without_a_hundred_jobs_nothing_is_compared():
    written = parts([queue(300, 9700, ms=50.0, database_ms=10.0)])
    assert "| 300 | 9,700 | 2.0 | 48.0 | 50.0 |  | 10.0 |  | 3.2 | 0.5 |" in written["growth-queue"]


def test_the_other_parts_say_what_was_measured():
    written = parts([queue(1, 0, ms=50.0, database_ms=10.0)])
    assert "Abacus, 2 cores, 8 GiB; python 3.11.1, postgresql 18.1." in written["growth-conditions"]
    assert "7,000 rows in jobs, 1,035,020 rows in training_steps" in written["growth-conditions"]
    assert "| 10 | 250 | 100 | 90 |" in written["growth-stack"]
    assert "| GET /jobs | 7.0 | 8.0 | 0.5 | 0.8 | 2 |" in written["growth-routes"]
    assert "| arcadapt: jobs: Solved | 4.0 | 5.0 | 0.5 | 0.8 | 2 |" in written["growth-panels"]
