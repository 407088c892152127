"""What settings make of a request to the sampler."""

from pathlib import Path

import pytest

from arc_engine.prompts.writer import PromptWriter
from arc_engine.sampling.protocol import (
    DepthFirst,
    Greedy,
    Nucleus,
    SamplingParameters,
)
from arc_engine.settings import PromptSettings, SolveSettings
from arc_engine.solving import Assignment, answer, tokens_of_largest_grid
from arc_engine.tokens import Tokenizer
from tests.arc_engine.oracle import TASK, TOKENIZER, Oracle
from tests.fixtures.merging_tokenizers import merging_tokenizer

pytestmark = pytest.mark.fast


def parameters_of(*, tokenizer: Tokenizer = TOKENIZER, **sampling: object) -> SamplingParameters:
    oracle = Oracle(num_views=1)
    settings = SolveSettings.model_validate({"sampling": {"num_views": 1, **sampling}})
    answer(Assignment(TASK, settings, None), sampler=oracle, tokenizer=tokenizer, base=Path("base"), max_positions=4096)
    [[request]] = oracle.calls
    return request.parameters


@pytest.mark.parametrize(
    ("sampling", "method"),
    [
        ({"temperature": 2.0, "top_p": 0.1}, Greedy()),
        ({"method": "sample", "samples_per_view": 3}, Nucleus(3, temperature=0.7, top_p=1.0)),
        ({"method": "dfs", "min_probability": 0.2}, DepthFirst(0.2, max_nodes=20_000)),
        ({"method": "dfs", "max_nodes": 50}, DepthFirst(0.1, max_nodes=50)),
        ({"method": "dfs", "max_nodes": None}, DepthFirst(0.1, max_nodes=None)),
    ],
)
def test_settings_say_how_completions_are_found(sampling: dict[str, object], method: object) -> None:
    assert parameters_of(**sampling).method == method


def test_settings_say_where_completions_end() -> None:
    parameters = parameters_of()
    assert (parameters.max_new_tokens, parameters.stop_token_id) == (930, TOKENIZER.eos_token_id)
    assert parameters.time_budget_s is None
    parameters = parameters_of(max_new_tokens=7, time_budget_s=1.5)
    assert (parameters.max_new_tokens, parameters.time_budget_s) == (7, 1.5)


def test_only_tokens_of_grids_are_allowed_unless_settings_say_otherwise() -> None:
    allowed = parameters_of().allowed_token_ids
    assert allowed is not None
    assert sorted(TOKENIZER.convert_ids_to_tokens(allowed)) == ["\n", *"0123456789", "<eos>"]
    assert parameters_of(grid_tokens_only=False).allowed_token_ids is None


def test_where_digits_merge_all_tokens_are_allowed() -> None:
    assert parameters_of(tokenizer=merging_tokenizer()).allowed_token_ids is None


@pytest.mark.parametrize(
    ("expression", "tokens"),
    [
        ("MinimalGridEncoder()", 30 * 30 + 29 + 1),
        ("GridWithSeparationEncoder('|')", 30 * 59 + 29 + 1),
        (
            "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))",
            30 * 31 + 29 + 9 + 42 + len("```grid shape: 30x30\n\n```") + 1,
        ),
    ],
)
def test_the_answer_limit_is_what_the_largest_grid_takes(expression: str, tokens: int) -> None:
    writer = PromptWriter.of(PromptSettings(grid_encoder=expression), TOKENIZER)
    assert tokens_of_largest_grid(writer) == tokens
