"""A recipe and tasks small enough for tests."""

import json
import random
from pathlib import Path
from typing import Any

from arc_engine.base_finetuning.recipe import Recipe

NUM_TASKS = 6


def small_task(number: int) -> dict[str, Any]:
    """Three demonstrations and a test; inputs of 3x3 random cells, outputs with two of their rows exchanged."""
    rng = random.Random(number)

    def pair() -> dict[str, list[list[int]]]:
        before = [[rng.randrange(10) for _ in range(3)] for _ in range(3)]
        return {"input": before, "output": [before[1], before[0], before[2]]}

    return {"train": [pair() for _ in range(3)], "test": [pair()]}


def write_tasks(folder: Path) -> Path:
    """A file of tasks `t0`, `t1`, ..."""
    path = folder / "tasks.json"
    path.write_text(json.dumps({f"t{number}": small_task(number) for number in range(NUM_TASKS)}))
    return path


def tiny_recipe(base: Path, tasks: Path, **changes: Any) -> Recipe:
    """12 steps of a rank 4 adapter, a checkpoint every 5, one validation task."""
    fields: dict[str, Any] = {
        "base_model": str(base),
        "lora": {"rank": 4, "alpha": 8},
        "data": [{"source": str(tasks)}],
        "validation": {"source": str(tasks), "ids": ["t5"], "every_steps": 6},
        "optimisation": {"learning_rate": 0.01, "warmup_steps": 2},
        "max_steps": 12,
        "batch_tokens": 256,
        "checkpoint_every_steps": 5,
        "log_every_steps": 1,
        "seed": 3,
    }
    return Recipe.model_validate({**fields, **changes})
