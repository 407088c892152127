"""Rows of settings that say how answers are sampled."""

from typing import Final

from tests.settings.row import Row

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
