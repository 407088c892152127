import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.errors import AdapterRefused, SamplerFailed, TaskTooLong
from arc_engine.sampling.protocol import AdapterFolder, Prompt, SamplingParameters
from arc_engine.sampling.torch_sampler import TorchSampler
from tests.arc_engine.sampling.reference import GREEDY, NUCLEUS, broken, check_greedy, generated


@pytest.fixture(scope="module")
def loaded(tiny_base: Path) -> LoadedBase:
    return load_base(tiny_base, device="cpu")


@pytest.fixture
def sampler(loaded: LoadedBase) -> TorchSampler:
    return TorchSampler(load=lambda _: loaded)


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
    found = sampler.sample(prompts, base=tiny_base, adapter=adapter, parameters=GREEDY)

    check_greedy(found, prompts, reference(adapter))


@pytest.mark.parametrize("parameters", [GREEDY, NUCLEUS], ids=["greedy", "nucleus"])
@pytest.mark.parametrize("max_batch", [1, 4])
def test_a_completion_does_not_depend_on_the_batch(
    parameters: SamplingParameters, max_batch: int, loaded: LoadedBase, tiny_base: Path, prompts: list[Prompt]
) -> None:
    sampler = TorchSampler(load=lambda _: loaded, max_batch=max_batch)
    whole = TorchSampler(load=lambda _: loaded, max_batch=100)
    shuffled = random.Random(1).sample(prompts, len(prompts))

    found = dict(
        zip(shuffled, sampler.sample(shuffled, base=tiny_base, adapter=None, parameters=parameters), strict=True)
    )

    together = whole.sample(prompts, base=tiny_base, adapter=None, parameters=parameters)
    for prompt, completions in zip(prompts, together, strict=True):
        assert [c.ids for c in found[prompt]] == [c.ids for c in completions]
        assert [c.log_probability for c in found[prompt]] == pytest.approx(
            [c.log_probability for c in completions], abs=1e-3
        )


def test_seeds_decide_what_is_drawn(sampler: TorchSampler, tiny_base: Path, prompts: list[Prompt]) -> None:
    first, again = (sampler.sample(prompts, base=tiny_base, adapter=None, parameters=NUCLEUS) for _ in range(2))
    reseeded = [dataclasses.replace(prompt, seed=prompt.seed + 100) for prompt in prompts]
    other = sampler.sample(reseeded, base=tiny_base, adapter=None, parameters=NUCLEUS)

    assert first == again
    assert first != other
    assert all(len({completion.ids for completion in found}) > 1 for found in first)  # samples of a prompt differ


def test_log_probability_is_that_of_the_model_before_temperature_and_nucleus(
    sampler: TorchSampler, tiny_base: Path, prompts: list[Prompt], reference: Callable[..., Any]
) -> None:
    plain = reference(None)
    found = sampler.sample(prompts, base=tiny_base, adapter=None, parameters=NUCLEUS)
    for prompt, completions in zip(prompts, found, strict=True):
        for completion in completions:
            expected = plain.log_probability(prompt, generated(completion))
            assert completion.log_probability == pytest.approx(expected, abs=1e-3)


def test_draws_follow_the_nucleus_distribution(
    sampler: TorchSampler, tiny_base: Path, reference: Callable[..., Any]
) -> None:
    prompt = Prompt((1, 10, 20), seed=3)
    parameters = SamplingParameters(num_samples=2000, temperature=0.7, top_p=0.6, max_new_tokens=1, stop_token_id=None)
    with torch.no_grad():
        logits = reference(None).model(input_ids=torch.tensor([prompt.ids])).logits[0, -1]
    ordered, order = (logits / 0.7).softmax(-1).sort(descending=True)
    nucleus = ordered[ordered.cumsum(0) - ordered < 0.6]
    expected = dict(zip(order.tolist(), (nucleus / nucleus.sum()).tolist(), strict=False))

    [found] = TorchSampler(load=sampler._load, max_batch=500).sample(
        [prompt], base=tiny_base, adapter=None, parameters=parameters
    )

    drawn = [completion.ids[0] for completion in found]
    assert set(drawn) <= set(expected)
    for token, share in expected.items():
        assert drawn.count(token) / 2000 == pytest.approx(share, abs=4 * (share * (1 - share) / 2000) ** 0.5 + 1e-9)


def test_the_stop_token_ends_a_completion_and_is_not_part_of_it(
    sampler: TorchSampler, tiny_base: Path, prompts: list[Prompt], reference: Callable[..., Any]
) -> None:
    endless = dataclasses.replace(GREEDY, stop_token_id=None)
    [[unstopped]] = sampler.sample(prompts[:1], base=tiny_base, adapter=None, parameters=endless)
    assert len(unstopped.ids) == 24
    assert not unstopped.finished

    stop = unstopped.ids[5]
    before = unstopped.ids[: unstopped.ids.index(stop)]
    [[stopped]] = sampler.sample(
        prompts[:1], base=tiny_base, adapter=None, parameters=dataclasses.replace(GREEDY, stop_token_id=stop)
    )
    assert stopped.ids == before
    assert stopped.finished
    expected = reference(None).log_probability(prompts[0], (*before, stop))
    assert stopped.log_probability == pytest.approx(expected, abs=1e-3)


def test_the_context_ends_a_completion(sampler: TorchSampler, loaded: LoadedBase, tiny_base: Path) -> None:
    nearly_full = Prompt((5,) * (loaded.max_positions - 3), seed=0)
    endless = dataclasses.replace(GREEDY, stop_token_id=None)

    found = sampler.sample([nearly_full, Prompt((5,), seed=0)], base=tiny_base, adapter=None, parameters=endless)

    assert [len(completion.ids) for [completion] in found] == [3, 24]
    full = Prompt((5,) * loaded.max_positions, seed=0)
    with pytest.raises(TaskTooLong, match=str(loaded.max_positions)):
        sampler.sample([full], base=tiny_base, adapter=None, parameters=endless)


def test_the_base_is_bit_identical_after_an_adapter(
    sampler: TorchSampler,
    loaded: LoadedBase,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
) -> None:
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    modules = [type(module) for module in loaded.model.modules()]
    random_state = torch.random.get_rng_state()
    plain = sampler.sample(prompts, base=tiny_base, adapter=None, parameters=GREEDY)

    adapted = sampler.sample(prompts, base=tiny_base, adapter=adapters[8], parameters=GREEDY)

    assert adapted != plain
    assert sampler.sample(prompts, base=tiny_base, adapter=None, parameters=GREEDY) == plain
    assert [type(module) for module in loaded.model.modules()] == modules
    assert not hasattr(loaded.model, "peft_config")
    after = loaded.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(torch.random.get_rng_state(), random_state)


@pytest.mark.parametrize(
    "how",
    [
        "corrupted weights",
        "no weights",
        "no configuration",
        "dora",
        "pissa",
        "other modules",
        "fewer modules",
        "other sizes",
    ],
)
def test_a_bad_adapter_is_refused_and_leaves_the_base_alone(
    how: str,
    sampler: TorchSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    tmp_path: Path,
) -> None:
    plain = sampler.sample(prompts, base=tiny_base, adapter=None, parameters=GREEDY)
    with pytest.raises(AdapterRefused):
        sampler.sample(prompts, base=tiny_base, adapter=broken(adapters[4], tmp_path / "bad", how), parameters=GREEDY)
    assert sampler.sample(prompts, base=tiny_base, adapter=None, parameters=GREEDY) == plain


def test_a_closed_sampler_says_so(sampler: TorchSampler, tiny_base: Path, prompts: list[Prompt]) -> None:
    sampler.close()
    with pytest.raises(SamplerFailed, match="closed"):
        sampler.sample(prompts, base=tiny_base, adapter=None, parameters=GREEDY)
