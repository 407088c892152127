"""Rows of settings that choose the model, the prompt, and what the jobs of a batch share."""

from collections.abc import Mapping
from typing import Any, Final

import pytest

from arc_engine.pretraining.tokenizer import VOCABULARY
from tests.settings.facets import (
    FIRST_STEP,
    LATER_STEPS,
    OTHER_TRAINING,
    OTHER_UPDATES,
    RESULT,
    AllBut,
    Observation,
    changed,
)
from tests.settings.row import ANSWERING, LONGER, WATCHED, Row

WARM: Final[Mapping[str, Any]] = {
    "adaptation.lr_scheduler": "constant",
    "adaptation.warmup.steps": 2,
    "adaptation.warmup.batch_size": 2,
}


def adapters(run: Observation) -> list[int]:
    """For every job the first one that has the same adapter."""
    return [job["adapter_of_job"] for job in run.jobs]


MODELS_AND_PROMPTS: Final = (
    Row(
        "base_model",
        "other",
        {"sampling_base", "config.base_model_name_or_path"} | OTHER_TRAINING,
        check=lambda before, after: after["config.base_model_name_or_path"] == "other-llama",
    ),
    Row(
        "adaptation",
        None,
        AllBut(ANSWERING - {"sampling_rank"} | {"adapter_of_job"}),
        check=lambda before, after: (after["max_steps"], after["sampling_rank"]) == (0, None),
    ),
    Row(
        "prompt.version",
        "chat",
        {"prompts", "stop_token", "allowed_tokens"} | LONGER,
        given={"base_model": "chat"},
        check=lambda before, after: len(after["prompts"][0]) > len(before["prompts"][0]) + 100,
    ),
    Row(
        "prompt.grid_encoder",
        "GridWithSeparationEncoder('|')",
        {"prompts", "allowed_tokens"} | LONGER,
        check=lambda before, after: after["prompts"][0].count(VOCABULARY["|"]) == 7 * 3 * 2,
    ),
)

COMMON: Final = (
    Row(
        "adaptation.start",
        "continue",
        {"sampling_base", "config.base_model_name_or_path", "initial_weights", "first_grad_norm"} | OTHER_UPDATES,
        given={"base_model": "adapted"},
        may={"first_loss"},
        check=lambda before, after: (
            after["first_loss"] == pytest.approx(before["first_loss"]) and after["sampling_base"].name == "tiny-llama"
        ),
    ),
    Row(
        "adaptation.start",
        "warm",
        {"max_steps", "initial_weights", "common_*"} | OTHER_TRAINING,
        given=WARM,
        tasks=("a", "b"),
        check=lambda before, after: [job["common_recorded_steps"] for job in after.jobs] == [(1, 2), (1, 2)],
    ),
    Row(
        "adaptation.warmup.steps",
        3,
        {"max_steps", "initial_weights", "common_num_steps", "common_recorded_steps"}
        | {"common_usage.num_steps", "common_usage.train_tokens"}
        | OTHER_TRAINING,
        given={**WARM, "adaptation.start": "warm"},
        tasks=("a", "b"),
        check=lambda before, after: after["common_recorded_steps"] == (1, 2, 3),
    ),
    Row(
        "adaptation.warmup.batch_size",
        3,
        {
            "initial_weights",
            "common_sequences_per_step",
            "common_tokens_per_step",
            "common_first_loss",
            "common_later_losses",
        }
        | {"common_first_grad_norm", "common_later_grad_norms", "common_usage.train_tokens"}
        | OTHER_TRAINING,
        given={**WARM, "adaptation.start": "warm"},
        tasks=("a", "b"),
        check=lambda before, after: after["common_sequences_per_step"] == (3, 3),
    ),
    Row(
        "adaptation.scope",
        "shared",
        AllBut(ANSWERING | {"max_steps", "shapes", "config.*", "usage.device"}),
        tasks=("a", "b", "c"),
        check=lambda before, after: adapters(before) == [0, 1, 2] and adapters(after) == [0, 0, 0],
    ),
    Row(
        "adaptation.scope",
        "groups",
        AllBut(ANSWERING | {"max_steps", "shapes", "config.*", "usage.device"}),
        given={"adaptation.group_size": 2},
        tasks=("a", "b", "c"),
        check=lambda before, after: adapters(after) == [0, 0, 2],
    ),
    Row(
        "adaptation.group_size",
        2,
        {f"common_{facet}" for facet in WATCHED | FIRST_STEP | LATER_STEPS} | RESULT | {"adapter_of_job"},
        given={"adaptation.scope": "groups", "adaptation.group_size": 1},
        tasks=("a", "b", "c"),
        check=lambda before, after: (
            adapters(before) == [0, 1, 2]
            and adapters(after) == [0, 0, 2]
            and changed(Observation(before.jobs[2:]), Observation(after.jobs[2:])) == set()
        ),
    ),
)
