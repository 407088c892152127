import pytest

from benchmarks.sampling_plan import SAMPLERS, SELECTORS
from benchmarks.sampling_summary import any_token, figures, rows
from benchmarks.sampling_tables import PARTS
from tests.benchmarks.records import failed, sampled, task

pytestmark = pytest.mark.fast


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


def test_the_parts_say_what_was_measured():
    tasks = [task(greedy=sampled(probmul=1.0, product_of_experts=1.0)), task(), task(), failed()]
    parts = {name: part(made_up_sampling(tasks)) for name, part in PARTS.items()}
    assert "| greedy | probmul | 25.0% | 75.0% |" in parts["sampling"]
    assert "| greedy | 0.0% | 25.0% | +25.0 points | 1 gained, 0 lost |" in parts["verdict"]
    assert "| vllm | one job | 1,234 | 0.1 | 96.9% |" in parts["backends"]
    assert "Abacus, 2 cores, 8 GiB; 2 tasks at a time" in parts["conditions"]
    assert "| grid tokens only | 0.0% |" in parts["grid-tokens"]
    for sampler in SAMPLERS:
        assert all(f"| {sampler} | {selector} |" in parts["sampling"] for selector in SELECTORS)


def test_without_vllm_nothing_is_compared_with_torch():
    assert PARTS["backends"]({**made_up_sampling([task()]), "backends": None}) == "Measured where vLLM is installed.\n"
