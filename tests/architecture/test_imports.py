"""The borders that keep the service light and its halves apart."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[2]
SERVERS = {
    "ARCADAPT_DATABASE_URL": "postgresql://nobody@localhost/nothing",
    "ARCADAPT_BROKER_URL": "redis://localhost/0",
    "ARCADAPT_ARTIFACTS_DIR": "artifacts",
}
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
    "arc_engine.adaptation.examples",
    "arc_engine.adaptation.schedule",
    "arc_engine.adaptation.steps",
    "arc_engine.base_models.manifest",
    "arc_engine.base_models.plain_lora",
    "arc_engine.base_models.sources",
    "arc_engine.candidates",
    "arc_engine.datasets.contamination",
    "arc_engine.datasets.subsets",
    "arc_engine.evaluation.metrics",
    "arc_engine.solving",
    "arc_engine.sampling.vllm_sampler",
]


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_importing_a_light_module_loads_no_gpu_library(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    environment = os.environ | SERVERS  # the worker's entry points read where they are; nothing connects
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.split() == []


def test_only_the_gpu_rooms_of_the_engine_import_the_model_libraries():
    rooms = {"adaptation", "base_finetuning", "base_models", "sampling", "pretraining", "training"}
    engine = ROOT / "arc_engine"
    heavy = re.compile(r"^\s*(?:import|from) (?:torch|transformers|peft|vllm)\b", re.MULTILINE)
    outside = [path for path in engine.rglob("*.py") if path.relative_to(engine).parts[0] not in rooms]
    assert outside
    assert [path.name for path in outside if heavy.search(path.read_text())] == []


@pytest.mark.parametrize(
    ("text", "folder", "home"),
    [
        ("file_digest(", "", "arc_engine/hashing.py"),
        ('= "adapter_config.json"', "arc_engine", "arc_engine/base_models/plain_lora.py"),
        ('"adapter_model.safetensors"', "arc_engine", "arc_engine/base_models/plain_lora.py"),
        ("frozenset({Status.", "", None),
    ],
)
def test_what_is_shared_stands_once(text: str, folder: str, home: str | None) -> None:
    everywhere = ("arc_engine", "jobs", "api", "worker", "arcadapt")
    sources = [path for package in everywhere for path in (ROOT / package).rglob("*.py")]
    found = [path.relative_to(ROOT).as_posix() for path in sources if text in path.read_text()]
    assert [path for path in found if path.startswith(folder)] == ([home] if home else [])
