"""A row of the table of settings, and the sets of facets that rows are made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.settings.facets import OTHER_TRAINING, RESULT, AllBut, Observation

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
    "selection.method": "vote",
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
    {"backend", "sampling_base", "sampling_rank", "num_prompts", "prompts", "prompt_seeds", "method", "num_samples"}
    | {"temperature", "top_p", "min_probability", "max_nodes", "max_new_tokens", "stop_token", "allowed_tokens"}
    | {"time_budget_s", "cut", "completions", "num_questions", "answers_per_question", "questions", "scoring_rank"}
    | {"usage.num_completions", "usage.cut_searches", "usage.scored_answers", "usage.dropped_pairs"}
    | {"ending", "error_message"}
)
"""What does not depend on how an adapter came about."""
NUM_ANSWERS: Final = frozenset({"usage.num_completions", "usage.sampled_tokens", "usage.refusals", "attempts"})
"""What counts completions."""
WATCHED: Final = frozenset(
    {"initial_weights", "adapter_dtypes", "base_dtype", "num_steps", "sequences_per_step", "sequences", "targets"}
    | {"forwards_per_step"}
)
"""What is seen of a training from inside."""


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
