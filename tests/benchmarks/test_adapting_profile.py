import pytest

from arc_engine.base_models.loading import load_base
from benchmarks.adapting_profile import _profiled
from benchmarks.adapting_profile_tables import PARTS
from tests.arc_engine.adaptation.adapting import TASK


@pytest.mark.fast
def test_the_part_shows_shares_and_rates():
    part = PARTS["adapting-profile"](
        {
            "date": "2026-01-01",
            "command": "python -m benchmarks.adapting_profile",
            "machine": {"cpu": "Abacus", "cores": 2, "memory_gib": 8.0, "gpu": None},
            "versions": {"python": "3.11.1"},
            "plan": {"base": "m", "source": "s", "runs": 5, "threads": 1},
            "rows": [
                {
                    "tokens_per_step": 1200,
                    "step_ms": 200.0,
                    "ms": {"base": 100.0, "adapter": 20.0, "attention": 60.0, "other": 20.0},
                    "base_gflops": 144.4,
                    "ceiling_gflops": 150.0,
                }
            ],
        }
    )
    assert "| 1,200 | 200 | 50.0% | 10.0% | 30.0% | 10.0% | 144 | 150 |" in part


def test_every_millisecond_of_a_step_is_counted_once(tiny_base):
    base = load_base(tiny_base, device="cpu")
    row = _profiled(base, TASK, num_runs=2)
    assert sum(row["ms"].values()) == pytest.approx(row["step_ms"], abs=0.05)
    assert min(row["ms"]["base"], row["ms"]["adapter"], row["ms"]["attention"]) > 0
    assert row["base_gflops"] > 0
    assert row["tokens_per_step"] > 0
