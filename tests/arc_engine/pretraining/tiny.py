"""Recipes small enough for tests."""

from typing import Any

from arc_engine.pretraining.recipe import Recipe


def tiny_recipe(**changes: Any) -> Recipe:
    """30 steps of a 15 k parameter model, two stages, with ARC training tasks in the second."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "seed": 3,
        "max_steps": 30,
        "model": {"hidden_size": 32, "num_layers": 1, "intermediate_size": 64, "num_heads": 2},
        "stages": [
            {"name": "first", "until": 0.4, "max_side": 3, "level_weights": {0: 1}, "max_tokens": 128},
            {
                "name": "second",
                "until": 1.0,
                "max_side": 5,
                "level_weights": {1: 1, 2: 1, 3: 0.2},
                "arc_share": [0.2, 0.5],
                "max_tokens": 256,
            },
        ],
        "pool_sequences": 24,
        "held_out": {"tasks_per_family": 1, "max_side": 4, "arc_max_tokens": 300},
        "optimisation": {"warmup_steps": 5},
        "checkpoint_every_steps": 10,
        "log_every_steps": 1,
    }
    for stage in fields["stages"]:
        stage["batch_tokens"] = 512
    return Recipe.model_validate({**fields, **changes})
