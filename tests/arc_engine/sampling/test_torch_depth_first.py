"""Depth-first search against brute force: every path there is, by plain forward passes."""

import dataclasses
import math
from itertools import count
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.sampling.protocol import (
    AdapterFolder,
    DepthFirst,
    Prompt,
    Question,
    Samples,
)
from arc_engine.sampling.torch_batches import BatchLimits
from arc_engine.sampling.torch_sampler import TorchSampler
from tests.arc_engine.sampling.brute_force import ALPHABET, check_found, depth_first, every_completion, threshold_for
from tests.arc_engine.sampling.reference import STOP, Reference, continued, generated, scored

SHORT = [Prompt((1, 7, 8, 9), seed=0), Prompt((1, 50, 60, 61, 70, 62, 63), seed=0), Prompt((1,), seed=0)]


@pytest.fixture(scope="module")
def loaded(tiny_base: Path) -> LoadedBase:
    """The tiny base, but surer of itself: a random model's next token is anybody's guess."""
    base = load_base(tiny_base, device="cpu")
    with torch.no_grad():
        base.model.get_decoder().norm.weight.mul_(4)
    return base


@pytest.fixture(scope="module")
def sampler(loaded: LoadedBase) -> TorchSampler:
    return TorchSampler(load=lambda _: loaded)


@pytest.mark.parametrize("num_found", [1, 2, 7, 50, 3 * (1 + 3 + 9 + 27 + 81)])
def test_it_finds_what_brute_force_finds_among_allowed_tokens(
    num_found: int, sampler: TorchSampler, loaded: LoadedBase, tiny_base: Path
) -> None:
    every = [every_completion(loaded, prompt, alphabet=ALPHABET, max_new_tokens=5) for prompt in SHORT]
    least = threshold_for(num_found, every)

    found = continued(sampler, SHORT, base=tiny_base, parameters=depth_first(least, max_new_tokens=5, allowed=ALPHABET))

    assert sum(len(samples.completions) for samples in found) == num_found
    for samples, completions in zip(found, every, strict=True):
        check_found(samples, completions, min_probability=least)
        assert not samples.cut


@pytest.fixture(scope="module")
def all_of_any_tokens(loaded: LoadedBase) -> list[dict[tuple[int, ...], float]]:
    """Ten thousand completions per prompt."""
    alphabet = range(loaded.model.config.vocab_size)
    return [every_completion(loaded, prompt, alphabet=alphabet, max_new_tokens=3) for prompt in SHORT[:2]]


@pytest.mark.parametrize("num_found", [1, 20, 100])
def test_it_finds_what_brute_force_finds_among_all_tokens(
    num_found: int, sampler: TorchSampler, all_of_any_tokens: list[dict[tuple[int, ...], float]], tiny_base: Path
) -> None:
    least = threshold_for(num_found, all_of_any_tokens)

    found = continued(sampler, SHORT[:2], base=tiny_base, parameters=depth_first(least, max_new_tokens=3))

    assert sum(len(samples.completions) for samples in found) == num_found
    for samples, completions in zip(found, all_of_any_tokens, strict=True):
        check_found(samples, completions, min_probability=least)


def test_it_finds_what_brute_force_finds_under_another_architecture(tiny_qwen2: Path) -> None:
    base = load_base(tiny_qwen2, device="cpu")
    every = [every_completion(base, prompt, alphabet=ALPHABET, max_new_tokens=5) for prompt in SHORT]
    least = threshold_for(30, every)

    found = continued(
        TorchSampler(load=lambda _: base),
        SHORT,
        base=tiny_qwen2,
        parameters=depth_first(least, max_new_tokens=5, allowed=ALPHABET),
    )

    for samples, completions in zip(found, every, strict=True):
        check_found(samples, completions, min_probability=least)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=12), min_size=1, max_size=5),
    others=st.sets(st.integers(3, 99), min_size=1, max_size=3),
    exponent=st.floats(0.3, 25),
    max_new_tokens=st.integers(1, 4),
    max_rows=st.integers(1, 5),
)
def test_any_batch_in_any_number_of_lanes(
    prompts: list[list[int]],
    others: set[int],
    exponent: float,
    max_new_tokens: int,
    max_rows: int,
    loaded: LoadedBase,
    tiny_base: Path,
) -> None:
    asked = [Prompt(tuple(ids), seed=0) for ids in prompts]
    every = [
        every_completion(loaded, prompt, alphabet=(STOP, *others), max_new_tokens=max_new_tokens) for prompt in asked
    ]
    assume(all(abs(p + exponent) > 1e-3 for completions in every for p in completions.values()))  # no near-ties
    sampler = TorchSampler(load=lambda _: loaded, limits=BatchLimits(max_rows=max_rows))

    found = continued(
        sampler,
        asked,
        base=tiny_base,
        parameters=depth_first(math.exp(-exponent), max_new_tokens=max_new_tokens, allowed=(STOP, *others)),
    )

    for samples, completions in zip(found, every, strict=True):
        check_found(samples, completions, min_probability=math.exp(-exponent))


@pytest.mark.parametrize(
    "limits",
    [BatchLimits(max_rows=1), BatchLimits(max_rows=2), BatchLimits(max_tokens=200)],
    ids=["one lane", "two lanes", "200 tokens"],
)
def test_a_batch_finds_what_single_searches_find(
    limits: BatchLimits, sampler: TorchSampler, loaded: LoadedBase, tiny_base: Path, prompts: list[Prompt]
) -> None:
    parameters = depth_first(1e-9, max_new_tokens=5, allowed=ALPHABET)
    together = continued(sampler, prompts, base=tiny_base, parameters=parameters)
    batched = continued(
        TorchSampler(load=lambda _: loaded, limits=limits), prompts, base=tiny_base, parameters=parameters
    )
    assert sum(len(samples.completions) for samples in together) > len(prompts)
    for prompt, one, other in zip(prompts, together, batched, strict=True):
        [alone] = continued(sampler, [prompt], base=tiny_base, parameters=parameters)
        for samples in (one, other):
            assert [c.ids for c in samples.completions] == [c.ids for c in alone.completions]
            assert [c.log_probability for c in samples.completions] == pytest.approx(
                [c.log_probability for c in alone.completions], abs=1e-3
            )


def test_completions_score_as_they_were_found(
    sampler: TorchSampler, tiny_base: Path, prompts: list[Prompt], adapters: dict[int, AdapterFolder]
) -> None:
    parameters = depth_first(1e-7, max_new_tokens=4, allowed=tuple(range(12)))
    found = continued(sampler, prompts, base=tiny_base, adapter=adapters[8], parameters=parameters)
    questions = [
        Question(prompt.ids, tuple(generated(completion) for completion in samples.completions))
        for prompt, samples in zip(prompts, found, strict=True)
    ]
    scores = scored(sampler, questions, base=tiny_base, adapter=adapters[8])
    assert sum(map(len, scores)) > len(prompts)
    for samples, log_probabilities in zip(found, scores, strict=True):
        expected = [completion.log_probability for completion in samples.completions]
        assert log_probabilities == pytest.approx(expected, abs=1e-3)


def test_the_adapter_is_searched_with(
    tiny_base: Path, prompts: list[Prompt], adapters: dict[int, AdapterFolder]
) -> None:
    parameters = depth_first(1e-9, max_new_tokens=3, allowed=ALPHABET)
    found = continued(TorchSampler(), prompts, base=tiny_base, adapter=adapters[4], parameters=parameters)
    plain = Reference(tiny_base, adapters[4])
    completions = [(prompt, c) for prompt, samples in zip(prompts, found, strict=True) for c in samples.completions]
    assert len(completions) > len(prompts)
    for prompt, completion in completions:
        expected = plain.log_probability(prompt, generated(completion))
        assert completion.log_probability == pytest.approx(expected, abs=1e-3)


def test_a_node_budget_cuts_the_search_and_says_so(sampler: TorchSampler, tiny_base: Path) -> None:
    def found(max_nodes: int | None) -> Samples:
        parameters = depth_first(1e-9, max_new_tokens=4, allowed=ALPHABET, max_nodes=max_nodes)
        return continued(sampler, SHORT[:1], base=tiny_base, parameters=parameters)[0]

    whole = found(None)
    assert not whole.cut
    smaller: set[tuple[int, ...]] = set()
    for max_nodes in count(1):
        samples = found(max_nodes)
        ids = {completion.ids for completion in samples.completions}
        assert smaller <= ids  # the same path is searched, only further
        assert all(len(path) < max_nodes for path in ids)
        smaller = ids
        if not samples.cut:
            break
    assert max_nodes > 2
    assert samples == whole


def test_a_node_budget_is_each_prompt_s_own(sampler: TorchSampler, tiny_base: Path) -> None:
    parameters = depth_first(1e-9, max_new_tokens=5, allowed=ALPHABET, max_nodes=6)
    together = continued(sampler, SHORT, base=tiny_base, parameters=parameters)
    for prompt, samples in zip(SHORT, together, strict=True):
        [alone] = continued(sampler, [prompt], base=tiny_base, parameters=parameters)
        assert [c.ids for c in samples.completions] == [c.ids for c in alone.completions]
        assert samples.cut == alone.cut


def test_a_time_budget_cuts_the_search_and_says_so(sampler: TorchSampler, loaded: LoadedBase, tiny_base: Path) -> None:
    parameters = depth_first(1e-12, max_new_tokens=5, allowed=ALPHABET)
    whole = continued(sampler, SHORT, base=tiny_base, parameters=parameters)
    ticks = count()  # a second passes whenever the clock is read: once at the beginning, once before every node
    for time_budget_s in (1, 4, 8):
        hasty = TorchSampler(load=lambda _: loaded, clock=lambda: float(next(ticks)))
        cut = continued(
            hasty, SHORT, base=tiny_base, parameters=dataclasses.replace(parameters, time_budget_s=time_budget_s)
        )
        for samples, uncut in zip(cut, whole, strict=True):
            assert samples.cut
            ids, all_ids = ([c.ids for c in found.completions] for found in (samples, uncut))
            assert set(ids) < set(all_ids)
            assert len(ids) < time_budget_s


def test_prompts_that_a_time_budget_left_no_time_for_are_cut(
    sampler: TorchSampler, loaded: LoadedBase, tiny_base: Path
) -> None:
    [nodes_of_longest] = [
        max_nodes
        for max_nodes in range(1, 200)
        if not continued(
            sampler,
            SHORT[1:2],
            base=tiny_base,
            parameters=depth_first(1e-4, max_new_tokens=4, allowed=ALPHABET, max_nodes=max_nodes),
        )[0].cut
    ][:1]
    ticks = count()
    hasty = TorchSampler(load=lambda _: loaded, limits=BatchLimits(max_rows=1), clock=lambda: float(next(ticks)))

    found = continued(
        hasty,
        SHORT[:2],
        base=tiny_base,
        parameters=depth_first(1e-4, max_new_tokens=4, allowed=ALPHABET, time_budget_s=nodes_of_longest + 1),
    )

    assert [samples.cut for samples in found] == [True, False]  # the longest is searched first
    assert found[0].completions == ()


def test_the_context_bounds_the_paths(sampler: TorchSampler, loaded: LoadedBase, tiny_base: Path) -> None:
    nearly_full = Prompt((5,) * (loaded.max_positions - 2), seed=0)
    parameters = depth_first(1e-7, max_new_tokens=5, allowed=ALPHABET)

    [samples] = continued(sampler, [nearly_full], base=tiny_base, parameters=parameters)

    every = every_completion(loaded, nearly_full, alphabet=ALPHABET, max_new_tokens=2)
    check_found(samples, every, min_probability=1e-7)


def test_without_a_stop_token_there_is_nothing_to_search_for(sampler: TorchSampler, tiny_base: Path) -> None:
    endless = dataclasses.replace(depth_first(0.1, max_new_tokens=5), stop_token_id=None)
    with pytest.raises(ValueError, match="stop token"):
        continued(sampler, SHORT, base=tiny_base, parameters=endless)


@pytest.mark.parametrize("min_probability", [0.0, -0.1, 1.1, math.nan, math.inf])
def test_a_search_that_would_not_end_or_finds_nothing_cannot_be_asked_for(min_probability: float) -> None:
    with pytest.raises(ValueError, match="min_probability is above 0 and at most 1"):
        DepthFirst(min_probability)


def test_a_search_looks_at_one_token_at_least() -> None:
    with pytest.raises(ValueError, match="max_nodes is at least 1, not 0"):
        DepthFirst(0.1, max_nodes=0)
    assert DepthFirst(1.0, max_nodes=1).max_nodes == 1


def test_a_search_ends_by_itself_after_as_many_tokens_as_the_settings_say(
    sampler: TorchSampler, tiny_base: Path
) -> None:
    parameters = depth_first(0.01, max_new_tokens=4, max_nodes=4 * 100)
    assert not any(samples.cut for samples in continued(sampler, SHORT, base=tiny_base, parameters=parameters))


def test_no_prompts_are_no_work(sampler: TorchSampler, tiny_base: Path) -> None:
    assert continued(sampler, [], base=tiny_base, parameters=depth_first(0.1, max_new_tokens=5)) == ()
