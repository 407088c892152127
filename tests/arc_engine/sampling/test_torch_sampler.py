"""The torch backend as a whole: requests, adapters, base models, and its end."""

import dataclasses
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.errors import AdapterRefused, EngineError, SamplerFailed, TaskTooLong
from arc_engine.sampling.protocol import (
    AdapterFolder,
    DepthFirst,
    Method,
    Prompt,
    Question,
    SampleRequest,
    SamplingParameters,
    ScoreRequest,
)
from arc_engine.sampling.torch_decoding import decode
from arc_engine.sampling.torch_sampler import TorchSampler
from tests.arc_engine.sampling.reference import (
    BROKEN,
    GREEDY,
    NUCLEUS,
    STOP,
    broken,
    continued,
    scored,
)


@pytest.mark.parametrize("method", [GREEDY.method, NUCLEUS.method, DepthFirst(0.1)], ids=["greedy", "nucleus", "dfs"])
def test_a_prompt_that_fills_the_context_is_too_long(
    method: Method, sampler: TorchSampler, loaded: LoadedBase, tiny_base: Path
) -> None:
    full = Prompt((5,) * loaded.max_positions, seed=0)
    with pytest.raises(TaskTooLong, match=str(loaded.max_positions)):
        continued(sampler, [full], base=tiny_base, parameters=dataclasses.replace(GREEDY, method=method))


@pytest.mark.parametrize(
    "parameters",
    [GREEDY, NUCLEUS, dataclasses.replace(GREEDY, method=DepthFirst(1e-6))],
    ids=["greedy", "nucleus", "dfs"],
)
def test_only_allowed_tokens_are_taken(
    parameters: SamplingParameters, sampler: TorchSampler, tiny_base: Path, prompts: list[Prompt]
) -> None:
    allowed = (30, STOP, 31, 17)
    restricted = dataclasses.replace(parameters, allowed_token_ids=allowed, max_new_tokens=6)
    found = continued(sampler, prompts, base=tiny_base, parameters=restricted)
    taken = {token for samples in found for completion in samples.completions for token in completion.ids}
    assert taken
    assert taken <= set(allowed)


def test_requests_have_adapters_of_their_own_and_a_refused_one_leaves_the_others_alone(
    sampler: TorchSampler,
    loaded: LoadedBase,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    tmp_path: Path,
) -> None:
    bad = broken(adapters[4], tmp_path / "bad", "other sizes")
    full = Prompt((5,) * loaded.max_positions, seed=0)
    good = [
        SampleRequest(tuple(prompts), adapters[8], GREEDY),
        SampleRequest(tuple(prompts[:2]), None, NUCLEUS),
        SampleRequest(tuple(prompts), adapters[4], GREEDY),
    ]
    refused = [SampleRequest(tuple(prompts), bad, GREEDY), SampleRequest((prompts[0], full), adapters[4], GREEDY)]

    found = sampler.sample([good[0], refused[0], good[1], refused[1], good[2]], base=tiny_base)

    alone = [sampler.sample([request], base=tiny_base)[0] for request in good]
    assert [found[0], found[2], found[4]] == alone
    assert found[0] != found[4]
    assert isinstance(found[1], AdapterRefused)
    assert isinstance(found[3], TaskTooLong)

    questions = (Question(prompts[0].ids, ((7, 8, STOP), (9, STOP))),)
    scores = sampler.score([ScoreRequest(questions, adapter) for adapter in (adapters[8], bad, None)], base=tiny_base)
    assert isinstance(scores[1], AdapterRefused)
    assert [scores[0], scores[2]] == [
        scored(sampler, questions, base=tiny_base, adapter=adapter) for adapter in (adapters[8], None)
    ]
    assert scores[0] != scores[2]


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
    plain = continued(sampler, prompts, base=tiny_base)

    adapted = continued(sampler, prompts, base=tiny_base, adapter=adapters[8])

    assert adapted != plain
    assert continued(sampler, prompts, base=tiny_base) == plain
    assert [type(module) for module in loaded.model.modules()] == modules
    assert not hasattr(loaded.model, "peft_config")
    after = loaded.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(torch.random.get_rng_state(), random_state)


@pytest.mark.parametrize("how", BROKEN)
def test_a_bad_adapter_is_refused_and_leaves_the_base_alone(
    how: str,
    sampler: TorchSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    tmp_path: Path,
) -> None:
    plain = continued(sampler, prompts, base=tiny_base)
    with pytest.raises(AdapterRefused):
        continued(sampler, prompts, base=tiny_base, adapter=broken(adapters[4], tmp_path / "bad", how))
    assert continued(sampler, prompts, base=tiny_base) == plain


def test_a_time_budget_is_each_request_s_own(loaded: LoadedBase, tiny_base: Path, prompts: list[Prompt]) -> None:
    ticks = count()
    hasty = TorchSampler(load=lambda _: loaded, clock=lambda: float(next(ticks)))
    hurried = dataclasses.replace(GREEDY, stop_token_id=None, time_budget_s=4)
    requests = [SampleRequest(tuple(prompts[:1]), None, hurried) for _ in range(2)]
    found = hasty.sample(requests, base=tiny_base)
    assert not isinstance(found[0], EngineError)
    assert len(found[0][0].completions[0].ids) == 3
    assert found[0] == found[1]


def test_a_request_that_the_device_has_no_memory_for_fails_alone(
    sampler: TorchSampler, tiny_base: Path, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode_few(loaded: LoadedBase, prompts: Sequence[Prompt], *args: Any, **kwargs: Any) -> Any:
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("tried to allocate 80 GiB")
        return decode(loaded, prompts, *args, **kwargs)

    freed: list[bool] = []
    monkeypatch.setattr("arc_engine.sampling.torch_sampler.decode", decode_few)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    small, large = (SampleRequest(tuple(prompts[:number]), None, GREEDY) for number in (2, 3))
    found = sampler.sample([small, large, small], base=tiny_base)
    assert isinstance(found[1], SamplerFailed)
    assert "80 GiB" in str(found[1])
    assert found[0] == found[2] == continued(sampler, prompts[:2], base=tiny_base)
    assert freed == [True]


def test_the_base_model_is_asked_for_by_every_call_and_not_kept(
    loaded: LoadedBase, tiny_base: Path, prompts: list[Prompt]
) -> None:
    asked: list[Path] = []

    def load(folder: Path) -> LoadedBase:
        asked.append(folder)
        return loaded

    sampler = TorchSampler(load=load)
    for times in (1, 2):
        continued(sampler, prompts[:1], base=tiny_base)
        assert asked == [tiny_base] * times
        assert not any(isinstance(kept, LoadedBase) for kept in vars(sampler).values())


def test_without_a_loader_the_last_base_model_is_kept_until_it_is_closed(
    tiny_base: Path, tiny_qwen2: Path, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []

    def load(folder: Path) -> LoadedBase:
        loads.append(folder)
        return load_base(folder, device="cpu")

    monkeypatch.setattr("arc_engine.sampling.torch_sampler.load_base", load)
    sampler = TorchSampler()
    for base in (tiny_base, tiny_base, tiny_qwen2, tiny_base):
        continued(sampler, prompts[:1], base=base)
    assert loads == [tiny_base, tiny_qwen2, tiny_base]


def test_a_closed_sampler_says_so(sampler: TorchSampler, tiny_base: Path, prompts: list[Prompt]) -> None:
    sampler.close()
    with pytest.raises(SamplerFailed, match="closed"):
        continued(sampler, prompts, base=tiny_base)
    with pytest.raises(SamplerFailed, match="closed"):
        scored(sampler, [Question((1, 2), ((3,),))], base=tiny_base)


@pytest.mark.parametrize("method", [GREEDY.method, DepthFirst(1e-6)], ids=["greedy", "dfs"])
def test_closing_ends_a_call_that_is_under_way(
    method: Method, loaded: LoadedBase, tiny_base: Path, prompts: list[Prompt]
) -> None:
    def closing_clock() -> float:
        threading.Thread(target=sampler.close).start()  # which waits for the call
        assert sampler._closed.wait(timeout=10)
        return 0.0

    sampler = TorchSampler(load=lambda _: loaded, clock=closing_clock)
    with pytest.raises(SamplerFailed, match="closed"):
        continued(
            sampler, prompts, base=tiny_base, parameters=dataclasses.replace(GREEDY, method=method, time_budget_s=9)
        )
