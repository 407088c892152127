"""Rows of settings that say how answers are sampled, and how two of them are selected."""

import math
from collections.abc import Mapping
from typing import Any, Final

from jobs.states import Phase
from tests.settings.facets import TALLIES, AllBut
from tests.settings.row import NUM_ANSWERS, Row

DRAWN: Final[Mapping[str, Any]] = {
    "sampling.method": "sample",
    "sampling.temperature": 2.0,
    "sampling.samples_per_view": 16,
}
"""Enough that some of what the model says are grids, and candidates differ."""
AT_RANDOM: Final[Mapping[str, Any]] = {**DRAWN, "sampling.samples_per_view": 4}
"""What a random model says is then short and long, with and without the likeliest tokens."""
SEARCHED: Final[Mapping[str, Any]] = {"sampling.method": "dfs", "sampling.min_probability": 1e-3}
RESCORED: Final[Mapping[str, Any]] = {**DRAWN, "selection.method": "product_of_experts"}
SAID: Final = frozenset({"completions", "log_probabilities"}) | TALLIES | NUM_ANSWERS
"""What the sampler says, and what is made of it."""

SAMPLING: Final = (
    Row("sampling.backend", "vllm", {"backend"}, check=lambda before, after: after["backend"] == "vllm"),
    Row(
        "sampling.method",
        "sample",
        {"method", "temperature", "log_probabilities", "completions"},
        check=lambda before, after: (before["temperature"], after["temperature"]) == (0, 0.7),
    ),
    Row(
        "sampling.method",
        "dfs",
        {"method", "min_probability", "max_nodes"},
        may=SAID,
        check=lambda before, after: (after["method"], after["min_probability"]) == ("DepthFirst", 0.1),
    ),
    Row(
        "sampling.num_views",
        4,
        {"num_prompts", "usage.num_completions"},
        check=lambda before, after: after["num_prompts"] == after["usage.num_completions"] == 4,
    ),
    Row(
        "sampling.samples_per_view",
        3,
        {"num_samples", "usage.num_completions"},
        given={"sampling.method": "sample"},
        check=lambda before, after: (after["num_samples"], after["usage.num_completions"]) == (3, 6),
    ),
    Row(
        "sampling.temperature",
        2.0,
        {"temperature", "log_probabilities", "completions"},
        given={"sampling.method": "sample"},
    ),
    Row("sampling.top_p", 0.1, {"top_p", "log_probabilities", "completions"}, given=AT_RANDOM),
    Row(
        "sampling.min_probability",
        1e-4,
        {"min_probability", "usage.num_completions"},
        given={**SEARCHED, "sampling.min_probability": 0.3},
        may=SAID,
        check=lambda before, after: (
            before["usage.num_completions"] < after["usage.num_completions"]
            and min(after["log_probabilities"]) > math.log(1e-4) - 1e-3
        ),
    ),
    Row(
        "sampling.max_nodes",
        1,
        {"max_nodes", "cut", "usage.cut_searches"},
        given=SEARCHED,
        may=SAID,
        check=lambda before, after: (before["usage.cut_searches"], after["usage.cut_searches"]) == (0, 2),
    ),
    Row(
        "sampling.time_budget_s",
        1e-6,
        {"time_budget_s", "cut", "usage.cut_searches"},
        may=SAID,
        check=lambda before, after: after["ending"] == (Phase.SUCCEEDED, None) and after["usage.cut_searches"] == 2,
    ),
    Row(
        "sampling.max_new_tokens",
        4,
        {"max_new_tokens", "log_probabilities", "completions"},
        given=AT_RANDOM,
        check=lambda before, after: _longest(before) > 4 >= _longest(after),
    ),
    Row(
        "sampling.grid_tokens_only",
        False,
        {"allowed_tokens", "log_probabilities", "completions"},
        given=AT_RANDOM,
        check=lambda before, after: (
            after["allowed_tokens"] is None
            and _only(before["allowed_tokens"], before)
            and not _only(before["allowed_tokens"], after)
        ),
    ),
    Row(
        "sampling.when_too_long",
        "fail",
        AllBut({"max_steps", "adapter_of_job"}),  # it fails before it is trained on
        given={"base_model": "short"},
        may={"candidates"},
        check=lambda before, after: (
            (before["usage.dropped_pairs"], before["ending"]) == (1, (Phase.SUCCEEDED, None))
            and after["ending"] == (Phase.FAILED, "task_too_long")
            and "context is 80" in after["error_message"]
        ),
    ),
    Row("sampling.seed", 1, {"prompts", "prompt_seeds", "log_probabilities"}),
)

SELECTION: Final = (
    Row("selection.method", "hierarchical_vote", {"candidates"}, given=DRAWN, may={"attempts"}),
    Row(
        "selection.method",
        "product_of_experts",
        {"num_questions", "answers_per_question", "scoring_rank", "usage.scored_answers", "candidates"},
        given=DRAWN,
        may={"attempts"},
        check=lambda before, after: (before["num_questions"], after["num_questions"]) == (0, 8),
    ),
    Row("selection.method", "probmul", {"candidates"}, given=RESCORED, may={"attempts"}),
    Row("selection.method", "view_count_logprob", {"candidates"}, given=RESCORED, may={"attempts"}),
    Row(
        "selection.num_scoring_views",
        3,
        {"num_questions", "usage.scored_answers", "candidates"},
        given=RESCORED,
        may={"attempts"},
        check=lambda before, after: 3 * before["usage.scored_answers"] == 8 * after["usage.scored_answers"],
    ),
    Row(
        "selection.num_scored",
        2,
        {"answers_per_question", "usage.scored_answers", "candidates"},
        given=RESCORED,
        may={"attempts"},
        check=lambda before, after: after["answers_per_question"] == (2,) and after["usage.scored_answers"] == 16,
    ),
)


def _longest(run: Any) -> int:
    """How many tokens the longest completion has."""
    return max(len(ids) for ids, _ in run["completions"])


def _only(allowed: tuple[int, ...], run: Any) -> bool:
    """Whether the completions are made of these tokens alone."""
    return {token for ids, _ in run["completions"] for token in ids} <= set(allowed)
