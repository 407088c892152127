"""Greedy and nucleus decoding by torch, against plain transformers."""

import dataclasses
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from arc_engine.base_models.loading import LoadedBase
from arc_engine.sampling.protocol import (
    AdapterFolder,
    Nucleus,
    Prompt,
    SamplingParameters,
)
from arc_engine.sampling.torch_batches import BatchLimits
from arc_engine.sampling.torch_sampler import TorchSampler
from tests.arc_engine.sampling.reference import (
    GREEDY,
    NUCLEUS,
    STOP,
    check_greedy,
    continued,
    generated,
)


def endless(parameters: SamplingParameters = GREEDY, **changes: Any) -> SamplingParameters:
    return dataclasses.replace(parameters, stop_token_id=None, **changes)


@pytest.mark.parametrize("rank", [None, 4, 8])
def test_greedy_equals_transformers_token_for_token(
    rank: int | None,
    sampler: TorchSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    reference: Callable[..., Any],
) -> None:
    adapter = adapters[rank] if rank else None
    found = continued(sampler, prompts, base=tiny_base, adapter=adapter)

    check_greedy(found, prompts, reference(adapter))


@pytest.mark.parametrize("parameters", [GREEDY, NUCLEUS], ids=["greedy", "nucleus"])
@pytest.mark.parametrize(
    "limits",
    [BatchLimits(max_rows=1), BatchLimits(max_rows=4), BatchLimits(max_tokens=100)],
    ids=["single", "four", "100 tokens"],
)
def test_a_completion_does_not_depend_on_the_batch(
    parameters: SamplingParameters, limits: BatchLimits, loaded: LoadedBase, tiny_base: Path, prompts: list[Prompt]
) -> None:
    sampler = TorchSampler(load=lambda _: loaded, limits=limits)
    whole = TorchSampler(load=lambda _: loaded, limits=BatchLimits(max_rows=100))
    shuffled = random.Random(1).sample(prompts, len(prompts))

    found = dict(zip(shuffled, continued(sampler, shuffled, base=tiny_base, parameters=parameters), strict=True))

    together = continued(whole, prompts, base=tiny_base, parameters=parameters)
    for prompt, samples in zip(prompts, together, strict=True):
        alone = found[prompt].completions
        assert [c.ids for c in alone] == [c.ids for c in samples.completions]
        assert [c.log_probability for c in alone] == pytest.approx(
            [c.log_probability for c in samples.completions], abs=1e-3
        )


def test_seeds_decide_what_is_drawn(sampler: TorchSampler, tiny_base: Path, prompts: list[Prompt]) -> None:
    first, again = (continued(sampler, prompts, base=tiny_base, parameters=NUCLEUS) for _ in range(2))
    reseeded = [dataclasses.replace(prompt, seed=prompt.seed + 100) for prompt in prompts]
    other = continued(sampler, reseeded, base=tiny_base, parameters=NUCLEUS)

    assert first == again
    assert first != other
    assert all(len({completion.ids for completion in samples.completions}) > 1 for samples in first)


@pytest.mark.parametrize("allowed", [None, (STOP, 40, 41, 42, 43)], ids=["all tokens", "allowed tokens"])
def test_log_probability_is_that_of_the_model_before_temperature_nucleus_and_restriction(
    allowed: tuple[int, ...] | None,
    sampler: TorchSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    reference: Callable[..., Any],
) -> None:
    plain = reference(None)
    parameters = dataclasses.replace(NUCLEUS, allowed_token_ids=allowed)
    found = continued(sampler, prompts, base=tiny_base, parameters=parameters)
    for prompt, samples in zip(prompts, found, strict=True):
        for completion in samples.completions:
            expected = plain.log_probability(prompt, generated(completion))
            assert completion.log_probability == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("allowed", [None, tuple(range(10, 40))], ids=["all tokens", "allowed tokens"])
def test_draws_follow_the_nucleus_distribution(
    allowed: tuple[int, ...] | None, loaded: LoadedBase, tiny_base: Path, reference: Callable[..., Any]
) -> None:
    prompt = Prompt((1, 10, 20), seed=3)
    parameters = SamplingParameters(
        Nucleus(num_samples=2000, temperature=0.7, top_p=0.6),
        max_new_tokens=1,
        stop_token_id=None,
        allowed_token_ids=allowed,
    )
    with torch.no_grad():
        logits = reference(None).model(input_ids=torch.tensor([prompt.ids])).logits[0, -1]
    if allowed:
        logits[[token for token in range(len(logits)) if token not in allowed]] = -torch.inf
    ordered, order = (logits / 0.7).softmax(-1).sort(descending=True)
    nucleus = ordered[ordered.cumsum(0) - ordered < 0.6]
    expected = dict(zip(order.tolist(), (nucleus / nucleus.sum()).tolist(), strict=False))

    [samples] = continued(
        TorchSampler(load=lambda _: loaded, limits=BatchLimits(max_rows=500)),
        [prompt],
        base=tiny_base,
        parameters=parameters,
    )

    drawn = [completion.ids[0] for completion in samples.completions]
    assert set(drawn) <= set(expected)
    for token, share in expected.items():
        assert drawn.count(token) / 2000 == pytest.approx(share, abs=4 * (share * (1 - share) / 2000) ** 0.5 + 1e-9)


def test_the_stop_token_ends_a_completion_and_is_not_part_of_it(
    sampler: TorchSampler, tiny_base: Path, prompts: list[Prompt], reference: Callable[..., Any]
) -> None:
    [samples] = continued(sampler, prompts[:1], base=tiny_base, parameters=endless())
    [unstopped] = samples.completions
    assert len(unstopped.ids) == 24
    assert not unstopped.finished
    assert not samples.cut  # no budget ended it

    stop = unstopped.ids[5]
    before = unstopped.ids[: unstopped.ids.index(stop)]
    parameters = dataclasses.replace(GREEDY, stop_token_id=stop)
    [samples] = continued(sampler, prompts[:1], base=tiny_base, parameters=parameters)
    [stopped] = samples.completions
    assert stopped.ids == before
    assert stopped.finished
    expected = reference(None).log_probability(prompts[0], (*before, stop))
    assert stopped.log_probability == pytest.approx(expected, abs=1e-3)


def test_the_context_ends_a_completion(sampler: TorchSampler, loaded: LoadedBase, tiny_base: Path) -> None:
    nearly_full = Prompt((5,) * (loaded.max_positions - 3), seed=0)

    found = continued(sampler, [nearly_full, Prompt((5,), seed=0)], base=tiny_base, parameters=endless())

    assert [len(samples.completions[0].ids) for samples in found] == [3, 24]


@pytest.mark.parametrize("num_tokens", [1, 5])
def test_a_time_budget_cuts_completions_where_they_are(
    num_tokens: int, loaded: LoadedBase, tiny_base: Path, prompts: list[Prompt], sampler: TorchSampler
) -> None:
    ticks = count()  # a second passes whenever the clock is read: once at the beginning, once before every token
    hasty = TorchSampler(load=lambda _: loaded, clock=lambda: float(next(ticks)))
    whole = continued(sampler, prompts, base=tiny_base, parameters=endless())
    found = continued(hasty, prompts, base=tiny_base, parameters=endless(time_budget_s=num_tokens + 1))
    for cut, uncut in zip(found, whole, strict=True):
        assert cut.cut
        assert not uncut.cut
        assert cut.completions[0].ids == uncut.completions[0].ids[:num_tokens]
        assert not cut.completions[0].finished


def test_completions_that_a_time_budget_left_no_time_for_are_not_listed(
    loaded: LoadedBase, tiny_base: Path, prompts: list[Prompt]
) -> None:
    ticks = count()
    hasty = TorchSampler(load=lambda _: loaded, limits=BatchLimits(max_rows=1), clock=lambda: float(next(ticks)))
    found = continued(hasty, prompts[:2], base=tiny_base, parameters=endless(max_new_tokens=4, time_budget_s=7))
    assert [len(completion.ids) for samples in found for completion in samples.completions] == [4, 2]
    assert [samples.cut for samples in found] == [False, True]

    [first, second] = continued(hasty, prompts[:2], base=tiny_base, parameters=endless(time_budget_s=3))
    assert len(first.completions[0].ids) == 2
    assert second.completions == ()
    assert second.cut
