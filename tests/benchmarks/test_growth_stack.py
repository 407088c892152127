"""Jobs through the running stack, which has a tiny model of this name."""

import pytest

from arcadapt.client import Client
from benchmarks.growth_stack import SETTINGS, measure_jobs
from benchmarks.pipeline_service import ServiceFailed
from tests.benchmarks.test_sampling_task import TASK


def test_each_length_is_worked_off_and_timed(service):
    with Client(service.url) as client:
        rows = measure_jobs(client, {"one": TASK, "two": TASK}, lengths=(1, 3))
    assert [row["jobs"] for row in rows] == [1, 3]
    assert all(row["ms"] > 0 for row in rows)
    assert rows[0]["ms"] >= rows[0]["adapting_ms"] + rows[0]["sampling_ms"] > 0


def test_a_job_that_fails_is_no_measurement(service):
    diverging = {**SETTINGS, "adaptation": {"max_steps": 2, "divergence_norm": 1e-9}}
    with Client(service.url) as client, pytest.raises(ServiceFailed, match=r"one: .*diverged"):
        measure_jobs(client, {"one": TASK}, lengths=(1,), settings=diverging)
