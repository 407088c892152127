"""docs/benchmarks.md is what the committed results say."""

from pathlib import Path

import pytest

from benchmarks.calibration import FAMILIES, check
from benchmarks.results import CALIBRATION, SAMPLING, read
from benchmarks.sampling_plan import SAMPLERS, SELECTORS
from benchmarks.sampling_summary import any_token, figures, rows
from benchmarks.tables import PART, written
from tests.benchmarks.records import failed, sampled, task

pytestmark = pytest.mark.fast

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def made_up_sampling(tasks):
    return {
        "date": "2026-01-01",
        "command": "python -m benchmarks.sampling",
        "machine": {"cpu": "Abacus", "cores": 2, "memory_gib": 8.0, "gpu": None},
        "versions": {"python": "3.11.1"},
        "figures": {**figures(tasks), "num_workers": 2},
        "plan": {"base": "m", "source": "s", "excluded": [], "steps": 1, "num_views": 2, "max_nodes": 5000, "seed": 0},
        "rows": rows(tasks),
        "grid_tokens_only": any_token(tasks),
        "backends": {
            "num_tasks": 1,
            "num_prompts": 16,
            "threads": 1,
            "vllm_startup_s": 40.0,
            "rows": [
                {
                    "backend": "vllm",
                    "per_call": "one job",
                    "num_refused": 0,
                    "num_tokens": 100,
                    "seconds": 0.08,
                    "tokens_per_s": 1234.5,
                    "equal_outputs": 0.96875,
                }
            ],
        },
        "tasks": tasks,
    }


def test_the_page_is_current():
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, sampling=read(SAMPLING), calibration=read(CALIBRATION)) == page, "run `make docs`"


def test_every_part_of_the_page_is_written():
    tasks = [task(greedy=sampled(probmul=1.0, product_of_experts=1.0)), task(), task(), failed()]
    many = [task(f"{number:08x}") for number in range(40)]
    calibration = {
        "fitted_on": "made up",
        "num_folds": 5,
        "families": {family: check(many, family=family) for family in FAMILIES},
    }
    page = PAGE.read_text(encoding="utf-8")
    anew = written(page, sampling=made_up_sampling(tasks), calibration=calibration)
    assert [part["name"] for part in PART.finditer(anew)] == [part["name"] for part in PART.finditer(page)]
    assert "Not measured" not in anew
    assert "| greedy | probmul | 25.0% | 75.0% |" in anew
    assert "| greedy | 0.0% | 25.0% | +25.0 points | 1 gained, 0 lost |" in anew
    assert "| vllm | one job | 1,234 | 0.1 | 96.9% |" in anew
    assert "Abacus, 2 cores, 8 GiB; 2 tasks at a time" in anew
    for sampler in SAMPLERS:
        assert all(f"| {sampler} | {selector} |" in anew for selector in SELECTORS)
    again = written(anew, sampling=made_up_sampling(tasks), calibration=calibration)
    assert again == anew


def test_what_is_not_measured_says_so():
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, sampling=None, calibration=None).count("Not measured yet.") == len(list(PART.finditer(page)))


def test_a_page_with_a_part_that_nobody_writes_is_refused():
    page = "<!-- speed: written by python -m benchmarks.tables -->\n<!-- end of speed -->\n"
    with pytest.raises(KeyError):
        written(page, sampling=made_up_sampling([task()]), calibration=None)
