"""The table: what every setting changes. Whatever a row does not name must stay as it was, bit for bit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from arc_engine.pretraining.tokenizer import VOCABULARY
from jobs.states import Phase
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

GIVEN: Final[Mapping[str, Any]] = {
    "base_model": "tiny",
    "adaptation.max_steps": 4,
    "adaptation.batch_size": 2,
    "adaptation.learning_rate": 5e-3,
    "adaptation.lora_rank": 2,
    "adaptation.lora_alpha": 4.0,
    "adaptation.precision": "float32",
    "sampling.backend": "torch",
    "sampling.num_views": 2,
    "sampling.max_new_tokens": 8,
}
"""What every run is given, on top of the defaults: small enough to run in a moment."""

PLAIN: Final[Mapping[str, Any]] = {
    "adaptation.examples.leave_one_out": "off",
    "adaptation.augmentation.dihedral": False,
    "adaptation.augmentation.colours": False,
    "adaptation.augmentation.pair_order": False,
}
"""Training on the task as it is, again and again."""

EXAMPLES: Final = frozenset({"sequences"}) | OTHER_TRAINING
"""What follows from other training sequences."""
LONGER: Final = frozenset({"targets", "tokens_per_step", "usage.train_tokens"}) | EXAMPLES
"""What follows from training sequences of another length."""
LENGTH: Final = frozenset({"num_steps", "recorded_steps", "usage.train_tokens", "usage.num_steps"}) | RESULT
"""What follows from an earlier or later end."""
ENDING: Final = LENGTH | {"usage.stopped_by"}
ANSWERING: Final = frozenset(
    {"backend", "sampling_base", "sampling_rank", "num_prompts", "prompts", "prompt_seeds", "num_samples"}
    | {"temperature", "top_p", "max_new_tokens", "stop_token", "completions", "ending", "error_message"}
)
"""What does not depend on how an adapter came about."""
WATCHED: Final = frozenset(
    {"initial_weights", "adapter_dtypes", "base_dtype", "num_steps", "sequences_per_step", "sequences", "targets"}
    | {"forwards_per_step"}
)
"""What is seen of a training from inside."""
WARM: Final[Mapping[str, Any]] = {
    "adaptation.lr_scheduler": "constant",
    "adaptation.warmup.steps": 2,
    "adaptation.warmup.batch_size": 2,
}


@dataclass(frozen=True, slots=True)
class Row:
    """`setting` takes `value` in place of what it is under `given`: the facets in `changes` differ, and no others.

    Facets in `may` are free: they hang on rounding. What the model says is free where its probabilities change. `check`
    says what the difference is, where that is known.
    """

    setting: str
    value: Any
    changes: frozenset[str] | set[str] | AllBut
    given: Mapping[str, Any] = field(default_factory=dict)
    may: frozenset[str] | set[str] = frozenset()
    tasks: tuple[str, ...] = ("a",)
    check: Callable[[Observation, Observation], bool] = lambda before, after: True


def one_sequence(run: Observation) -> bool:
    """Whether every training sequence is the same one."""
    return len(set(run["sequences"])) == 1


def one_background(run: Observation) -> bool:
    """Whether all training sequences have colour 0 in the same places."""
    zero = VOCABULARY["0"]
    return len({tuple(i for i, token in enumerate(ids) if token == zero) for ids in run["sequences"]}) == 1


def num_targets(run: Observation) -> int:
    """Target tokens of the first training sequence."""
    return sum(run["targets"][0])


def adapters(run: Observation) -> list[int]:
    """For every job the first one that has the same adapter."""
    return [job["adapter_of_job"] for job in run.jobs]


def with_rates(scheduler: str, factors: tuple[float, ...]) -> Row:
    """A scheduler without warm-up whose rates over four steps are these shares of the peak."""
    return Row(
        "adaptation.lr_scheduler",
        scheduler,
        {"learning_rates"} | OTHER_UPDATES,
        given={"adaptation.warmup_ratio": 0.0},
        check=lambda before, after: (
            tuple(after["learning_rates"].values()) == pytest.approx([5e-3 * f for f in factors])
        ),
    )


UPDATES: Final = (
    Row(
        "adaptation.learning_rate",
        1e-2,
        {"learning_rates"} | OTHER_UPDATES,
        check=lambda before, after: (
            after["learning_rates"] == {step: 2 * rate for step, rate in before["learning_rates"].items()}
        ),
    ),
    with_rates("constant", (1, 1, 1, 1)),
    with_rates("cosine", (1, (2 + 2**0.5) / 4, 1 / 2, (2 - 2**0.5) / 4)),
    Row(
        "adaptation.lr_scheduler",
        "constant_with_warmup",
        {"learning_rates"} | OTHER_UPDATES,
        given={"adaptation.warmup_ratio": 0.25},
        check=lambda before, after: tuple(after["learning_rates"].values()) == (2.5e-3, 5e-3, 5e-3, 5e-3),
    ),
    Row(
        "adaptation.warmup_ratio",
        0.5,
        {"learning_rates"} | OTHER_UPDATES,
        check=lambda before, after: after["learning_rates"][2] == max(after["learning_rates"].values()) == 5e-3,
    ),
    Row(
        "adaptation.weight_decay",
        1.0,
        OTHER_UPDATES,
        check=lambda before, after: after["final_norm"] < 0.99 * before["final_norm"],
    ),
    Row("adaptation.max_grad_norm", 1e-6, OTHER_UPDATES),
    Row(
        "adaptation.max_steps",
        6,
        LENGTH | {"max_steps"},
        given={"adaptation.lr_scheduler": "constant"},
        check=lambda before, after: after["recorded_steps"] == (1, 2, 3, 4, 5, 6),
    ),
    Row(
        "adaptation.batch_size",
        4,
        {"sequences_per_step", "tokens_per_step", "usage.train_tokens"} | OTHER_TRAINING,
        check=lambda before, after: set(after["sequences_per_step"]) == {4},
    ),
    Row(
        "adaptation.stop_loss",
        100.0,
        ENDING,
        given={"adaptation.max_steps": 12},
        check=lambda before, after: (after["num_steps"], after["usage.stopped_by"]) == (10, "stop_loss"),
    ),
    Row(
        "adaptation.time_budget_s",
        1e-6,
        ENDING,
        check=lambda before, after: (after["num_steps"], after["usage.stopped_by"]) == (1, "time_budget"),
    ),
    Row(
        "adaptation.divergence_norm",
        1e-6,
        AllBut(WATCHED - {"num_steps"} | {"max_steps", "adapter_of_job"}),
        check=lambda before, after: (
            after["ending"] == (Phase.FAILED, "diverged")
            and "step 1: the gradient norm, 1.303, is above 1e-06" in after["error_message"]
        ),
    ),
    Row(
        "adaptation.logging_steps",
        3,
        {"recorded_steps"},
        given={"adaptation.max_steps": 8},
        check=lambda before, after: after["recorded_steps"] == (1, 3, 6, 8),
    ),
    Row(
        "adaptation.gradient_checkpointing",
        True,
        {"forwards_per_step"},
        check=lambda before, after: (before["forwards_per_step"], after["forwards_per_step"]) == (1, 2),
    ),
    Row(
        "adaptation.seed",
        1,
        {"initial_weights"} | EXAMPLES,
    ),
)

EXAMPLES_AND_VIEWS: Final = (
    Row(
        "adaptation.examples.leave_one_out",
        "random",
        EXAMPLES,
        given=PLAIN,
        check=lambda before, after: one_sequence(before) and not one_sequence(after),
    ),
    Row(
        "adaptation.examples.leave_one_out",
        "rotate",
        EXAMPLES,
        given=PLAIN,
        check=lambda before, after: (
            len(set(after["sequences"][:3])) == 3 and after["sequences"][:3] == after["sequences"][3:6]
        ),
    ),
    Row("adaptation.examples.swap", 1.0, EXAMPLES, given=PLAIN, check=lambda before, after: not one_sequence(after)),
    Row(
        "adaptation.examples.loss_on",
        "all_outputs",
        {"targets"} | OTHER_TRAINING,
        check=lambda before, after: 2 * num_targets(after) == 3 * num_targets(before),
    ),
    Row(
        "adaptation.examples.loss_on",
        "test_output",
        {"targets"} | OTHER_TRAINING,
        check=lambda before, after: 2 * num_targets(after) == num_targets(before),
    ),
    Row("adaptation.augmentation.dihedral", True, EXAMPLES, given=PLAIN),
    Row("adaptation.augmentation.colours", True, EXAMPLES, given=PLAIN),
    Row("adaptation.augmentation.pair_order", True, EXAMPLES, given=PLAIN),
    Row(
        "adaptation.augmentation.keep_background",
        1.0,
        EXAMPLES,
        given={**PLAIN, "adaptation.augmentation.colours": True},
        check=lambda before, after: one_background(after) and not one_background(before) and not one_sequence(after),
    ),
    Row(
        "adaptation.max_seq_len",
        64,
        LONGER,
        check=lambda before, after: max(map(len, before["sequences"])) > 64 >= max(map(len, after["sequences"])),
    ),
)

SAMPLING: Final = (
    Row("sampling.backend", "vllm", {"backend"}, check=lambda before, after: after["backend"] == "vllm"),
    Row(
        "sampling.method",
        "sample",
        {"temperature", "log_probabilities", "completions"},
        check=lambda before, after: (before["temperature"], after["temperature"]) == (0, 0.7),
    ),
    Row(
        "sampling.num_views",
        4,
        {"num_prompts"},
        check=lambda before, after: after["num_prompts"] == 4,
    ),
    Row(
        "sampling.samples_per_view",
        3,
        {"num_samples"},
        given={"sampling.method": "sample"},
        check=lambda before, after: after["num_samples"] == 3,
    ),
    Row(
        "sampling.temperature",
        5.0,
        {"temperature", "log_probabilities", "completions"},
        given={"sampling.method": "sample"},
    ),
    Row("sampling.top_p", 0.1, {"top_p", "log_probabilities", "completions"}, given={"sampling.method": "sample"}),
    Row(
        "sampling.max_new_tokens",
        4,
        {"max_new_tokens", "log_probabilities", "completions"},
    ),
    Row("sampling.seed", 1, {"prompts", "prompt_seeds", "log_probabilities"}),
)


def with_init(init: str) -> Row:
    """An initialisation that takes B A out of the base: twice the rank in the end, the base model in the beginning."""
    return Row(
        "adaptation.init",
        init,
        {"initial_weights", "shapes", "config.r", "config.lora_alpha", "sampling_rank", "first_grad_norm"}
        | OTHER_UPDATES,
        check=lambda before, after: (
            after["config.r"] == after["sampling_rank"] == 4
            and after["config.init_lora_weights"] is True
            and after["first_loss"] == pytest.approx(before["first_loss"])
        ),
    )


LORA: Final = (
    Row(
        "adaptation.lora_rank",
        4,
        {"initial_weights", "shapes", "config.r", "sampling_rank", "first_grad_norm"} | OTHER_UPDATES,
        check=lambda before, after: after["config.r"] == after["sampling_rank"] == 4,
    ),
    Row(
        "adaptation.lora_alpha",
        8.0,
        {"config.lora_alpha", "first_grad_norm"} | OTHER_UPDATES,
        check=lambda before, after: after["first_grad_norm"] == pytest.approx(2 * before["first_grad_norm"]),
    ),
    Row(
        "adaptation.use_rslora",
        True,
        {"config.use_rslora", "first_grad_norm"} | OTHER_UPDATES,
        check=lambda before, after: after["first_grad_norm"] == pytest.approx(2**0.5 * before["first_grad_norm"]),
    ),
    Row("adaptation.lora_dropout", 0.5, {"config.lora_dropout", "first_grad_norm"} | OTHER_UPDATES),
    Row(
        "adaptation.target_modules",
        ["q_proj", "v_proj"],
        {"config.target_modules", "initial_weights", "shapes", "first_grad_norm"} | OTHER_UPDATES,
        check=lambda before, after: (
            len(after["shapes"]) == 2 * 2 * 2 and after["config.target_modules"] == ["q_proj", "v_proj"]
        ),
    ),
    Row("adaptation.init", "gaussian", {"initial_weights", "first_grad_norm"} | OTHER_UPDATES),
    Row(
        "adaptation.init",
        "orthogonal",
        {"initial_weights", "first_grad_norm"} | OTHER_UPDATES,
        may={"first_loss"},
        check=lambda before, after: after["first_loss"] == pytest.approx(before["first_loss"]),
    ),
    with_init("pissa"),
    with_init("pissa_niter_4"),
    with_init("olora"),
    # PEFT draws new matrices in float32, rounds them to the base's precision, and makes float32 of that.
    Row("adaptation.precision", "bfloat16", {"base_dtype", "initial_weights"} | OTHER_TRAINING),
    Row("adaptation.precision", "float16", {"base_dtype", "initial_weights"} | OTHER_TRAINING),
    Row("adaptation.precision", "nf4", {"base_dtype"} | OTHER_TRAINING),
)

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
        {"prompts", "stop_token"} | LONGER,
        given={"base_model": "chat"},
        check=lambda before, after: len(after["prompts"][0]) > len(before["prompts"][0]) + 100,
    ),
    Row(
        "prompt.grid_encoder",
        "GridWithSeparationEncoder('|')",
        {"prompts"} | LONGER,
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

IDLE: Final = (
    Row("adaptation.warmup.steps", 7, set()),
    Row("adaptation.warmup.batch_size", 7, set()),
    Row("adaptation.group_size", 1, set()),
    Row("adaptation.warmup_ratio", 0.5, set(), given={"adaptation.lr_scheduler": "constant"}),
    Row("adaptation.max_grad_norm", 1000.0, set(), given={"adaptation.max_grad_norm": 100.0}),
    Row("adaptation.divergence_norm", 1e6, set()),
    Row("adaptation.stop_loss", 1e-6, set()),
    Row("adaptation.time_budget_s", 3600.0, set()),
    Row("adaptation.max_seq_len", 80, set()),
    Row("adaptation.augmentation.keep_background", 1.0, set(), given={"adaptation.augmentation.colours": False}),
    Row("sampling.temperature", 5.0, set()),
    Row("sampling.top_p", 0.1, set()),
)
"""Settings that have nothing to act on."""

ROWS: Final = (*MODELS_AND_PROMPTS, *COMMON, *LORA, *UPDATES, *EXAMPLES_AND_VIEWS, *SAMPLING, *IDLE)

ONE_VALUE: Final = frozenset({"selection.method"})
"""Settings that have a single value as yet, which no row can change."""
