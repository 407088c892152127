"""The borders that keep the service light and its halves apart."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.fast

HEAVY = {"torch", "transformers", "peft", "vllm"}
LIGHT_MODULES = [
    "api.app",
    "jobs.repositories",
    "jobs.submission",
    "arcadapt",
    "arcadapt.cli",
    "worker.clock",
    "arc_engine.settings",
    "arc_engine.tasks",
    "arc_engine.candidates",
    "arc_engine.solving",
    "arc_engine.sampling.vllm_sampler",
]


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_importing_a_light_module_loads_no_gpu_library(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


