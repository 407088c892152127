"""The overhead of real jobs, on the running stack with a tiny model."""

import pytest

from arcadapt import Client
from benchmarks.overhead import measure

PAIR = {"input": [[1, 2]], "output": [[2, 1]]}
TASKS = {name: {"train": [PAIR, PAIR], "test": [{"input": [[5, 6]]}]} for name in ("first", "second", "third")}
SETTINGS = {
    "base_model": "tiny",
    "adaptation": {"max_steps": 2},
    "sampling": {"backend": "torch", "num_views": 1, "max_new_tokens": 4},
}


def test_the_seconds_of_real_jobs_are_accounted_for(service):
    with Client(service.url) as client:
        measured = measure(client, TASKS, settings=SETTINGS)
    assert measured["startup"]["task_id"] == "first"
    assert [job["task_id"] for job in measured["jobs"]] == ["second", "third"]
    per_job = measured["per_job"]
    assert 0 < per_job["compute_s"] < per_job["wall_s"]
    assert per_job["sample_s"] > 0
    parts = [seconds for name, seconds in per_job.items() if name != "wall_s"]
    assert sum(parts) == pytest.approx(per_job["wall_s"], abs=0.001)


def test_a_job_that_fails_is_no_measurement(service):
    impossible = {**SETTINGS, "adaptation": {"max_steps": 2, "max_seq_len": 64}}
    grid = [[1] * 30] * 30
    too_long = {"train": [{"input": grid, "output": grid}] * 2, "test": [{"input": grid}]}
    with Client(service.url) as client, pytest.raises(RuntimeError, match="task_too_long"):
        measure(client, {"long": too_long}, settings=impossible)
