import pytest

from benchmarks.pipeline_summary import rows
from benchmarks.pipeline_tables import PARTS
from tests.benchmarks.pipeline_records import measured_round

pytestmark = pytest.mark.fast


def made_up_pipeline(rounds):
    return {
        "date": "2026-01-01",
        "command": "python -m benchmarks.pipeline",
        "machine": {"cpu": "Abacus", "cores": 2, "memory_gib": 8.0, "gpu": None},
        "versions": {"python": "3.11.1"},
        "plan": {
            "base": "m",
            "source": "s",
            "excluded": [],
            "tasks": ["a", "b"],
            "steps": 150,
            "num_views": 16,
            "num_workers": 2,
            "seed": 0,
            "num_rounds": len(rounds),
        },
        "rows": rows(rounds),
        "rounds": rounds,
    }


def test_the_parts_say_what_was_measured():
    parts = {name: part(made_up_pipeline([measured_round(), measured_round()])) for name, part in PARTS.items()}
    assert "2 tasks of `s` with the shortest prompts; m, 150 steps and 16 views" in parts["pipeline-conditions"]
    assert "took turns: 2;" in parts["pipeline-conditions"]
    assert "Abacus, 2 cores, 8 GiB; ours with 2 workers." in parts["pipeline-conditions"]
    assert "| arcadapt, warm | 20.0 | 10.0 | 10.00x | 8.00x | 5.00x | 1 |" in parts["pipeline"]
    assert "| scripts | 200.0 | 100.0 | 1.00x | 0.80x | 0.50x | 1 |" in parts["pipeline"]
    assert "| arcadapt, warm | 300 | 100,000 | 0.200 | 32 | 1,500 |" in parts["pipeline-done"]


def test_stages_that_a_way_lacks_are_empty():
    parts = {name: part(made_up_pipeline([measured_round()])) for name, part in PARTS.items()}
    assert "| scripts | 30.0 | 4.0 | 100.0 | 10.0 | 50.0 | 5.0 | 1.0 | 200.0 |" in parts["pipeline-scripts"]
    assert "| scripts, together | 30.0 | 4.0 | 100.0 |  | 50.0 |" in parts["pipeline-scripts"]
    assert "| scripts, tuned | 34.0 | 4.0 | 100.0 | 10.0 | 50.0 | 5.0 | 1.0 | 160.0 |" in parts["pipeline-scripts"]
    assert "| arcadapt, warm | 0.0 | 0.5 | 15.0 | 3.0 | 0.5 | 20.0 |" in parts["pipeline-service"]
    assert (
        "of 2 x 40.0 worker seconds, 24.0 were training, 6.0 were sampling or waiting for vLLM"
        in parts["pipeline-service"]
    )
