"""Rows of settings that say what is trained on, and how the weights are updated."""

from typing import Final

import pytest

from arc_engine.pretraining.tokenizer import VOCABULARY
from jobs.states import Phase
from tests.settings.facets import OTHER_TRAINING, OTHER_UPDATES, AllBut, Observation
from tests.settings.row import ENDING, EXAMPLES, LENGTH, LONGER, PLAIN, WATCHED, Row


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


def cells(run: Observation) -> set[tuple[int, ...]]:
    """The tokens of the training sequences, wherever they stand."""
    return {tuple(sorted(ids)) for ids in run["sequences"]}


def pairs(run: Observation) -> set[tuple[int, ...]]:
    """The demonstration pairs, as they are written, of all training sequences."""
    found: set[tuple[int, ...]] = set()
    for ids in run["sequences"]:
        ends = [i for i, token in enumerate(ids) if token == VOCABULARY["<eos>"]]
        found |= {ids[start + 1 : end] for start, end in zip([0, *ends], ends, strict=False)}
    return found


def same_pairs(before: Observation, after: Observation) -> bool:
    """Whether the sequences, all the same before, now differ in the order of their pairs and in nothing else."""
    return one_sequence(before) and not one_sequence(after) and pairs(before) == pairs(after)


def recoloured(run: Observation) -> bool:
    """Whether the training sequences are one sequence under one-to-one changes of tokens."""
    first = run["sequences"][0]
    return all(len(set(zip(first, ids, strict=True))) == len(set(first)) == len(set(ids)) for ids in run["sequences"])


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
        "adaptation.batch_tokens",
        1,
        {"sequences_per_step", "tokens_per_step", "usage.train_tokens"} | OTHER_TRAINING,
        check=lambda before, after: set(after["sequences_per_step"]) == {1},
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
        check=same_pairs,
    ),
    Row(
        "adaptation.examples.leave_one_out",
        "rotate",
        EXAMPLES,
        given=PLAIN,
        check=lambda before, after: (
            len(set(after["sequences"][:3])) == 3
            and after["sequences"][:3] == after["sequences"][3:6]
            and same_pairs(before, after)
        ),
    ),
    Row("adaptation.examples.swap", 1.0, EXAMPLES, given=PLAIN, check=same_pairs),
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
    Row(
        "adaptation.augmentation.dihedral",
        True,
        EXAMPLES,
        given=PLAIN,
        check=lambda before, after: cells(after) == cells(before) and pairs(after) != pairs(before),
    ),
    Row("adaptation.augmentation.colours", True, EXAMPLES, given=PLAIN, check=lambda before, after: recoloured(after)),
    Row("adaptation.augmentation.pair_order", True, EXAMPLES, given=PLAIN, check=same_pairs),
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
