"""The real engine, one request at a time."""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from arc_engine.base_models.loading import load_base
from arc_engine.errors import AdapterRefused, TaskTooLong
from arc_engine.sampling.protocol import AdapterFolder, Greedy, Prompt, Question, SamplingParameters
from arc_engine.sampling.vllm_sampler import VllmSampler
from tests.arc_engine.adaptation.lora_training import settings_with, trained
from tests.arc_engine.sampling.reference import (
    BROKEN,
    GREEDY,
    NUCLEUS,
    STOP,
    broken,
    check_greedy,
    continued,
    generated,
    make_adapter,
    scored,
)
from tests.fixtures.models import SHAPE, save_model


@pytest.mark.parametrize("ranks", [(None,), (4,), (8,), (4, 8, None, 4)], ids=str)
def test_greedy_equals_transformers_and_peft(
    ranks: tuple[int | None, ...],
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    reference: Callable[..., Any],
) -> None:
    for rank in ranks:
        adapter = adapters[rank] if rank else None
        found = continued(vllm_sampler, prompts, base=tiny_base, adapter=adapter)
        check_greedy(found, prompts, reference(adapter))


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_that_started_from_the_base_s_own_weights_is_sampled_from(
    init: str,
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    reference: Callable[..., Any],
    tmp_path: Path,
) -> None:
    settings = settings_with(init=init, lora_rank=4)
    trained(load_base(tiny_base, device="cpu"), settings)[0].save(tmp_path)
    adapter = AdapterFolder(name=init, path=tmp_path, rank=8)
    found = continued(vllm_sampler, prompts, base=tiny_base, adapter=adapter)
    check_greedy(found, prompts, reference(adapter))
    assert found != continued(vllm_sampler, prompts, base=tiny_base)


def test_an_adapter_that_takes_another_s_name_and_path_is_not_mixed_up_with_it(
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    adapters: dict[int, AdapterFolder],
    reference: Callable[..., Any],
    tmp_path: Path,
) -> None:
    long = [Prompt(tuple(range(5, 95)) * 4, seed=0)]  # only whole blocks, of up to 128 tokens, are kept as prefixes
    for rank in (4, 8):
        shutil.rmtree(tmp_path / "same", ignore_errors=True)
        shutil.copytree(adapters[rank].path, tmp_path / "same")
        adapter = AdapterFolder(name="same", path=tmp_path / "same", rank=rank)
        found = continued(vllm_sampler, long, base=tiny_base, adapter=adapter)
        check_greedy(found, long, reference(adapters[rank]))


def test_samples_repeat_and_do_not_depend_on_the_batch(
    vllm_sampler: VllmSampler, tiny_base: Path, prompts: list[Prompt], adapters: dict[int, AdapterFolder]
) -> None:
    def draw(prompts: list[Prompt]) -> list[list[tuple[int, ...]]]:
        found = continued(vllm_sampler, prompts, base=tiny_base, adapter=adapters[4], parameters=NUCLEUS)
        return [[completion.ids for completion in samples.completions] for samples in found]

    together = draw(prompts)
    assert together == draw(prompts)
    assert together == [found for prompt in prompts for found in draw([prompt])]
    assert together != draw([dataclasses.replace(prompt, seed=prompt.seed + 100) for prompt in prompts])
    assert all(len(set(found)) > 1 for found in together)


def test_log_probability_is_that_of_the_model_before_temperature_and_nucleus(
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    reference: Callable[..., Any],
) -> None:
    plain = reference(adapters[8])
    found = continued(vllm_sampler, prompts, base=tiny_base, adapter=adapters[8], parameters=NUCLEUS)
    for prompt, samples in zip(prompts, found, strict=True):
        for completion in samples.completions:
            expected = plain.log_probability(prompt, generated(completion))
            assert completion.log_probability == pytest.approx(expected, abs=1e-3)


def test_the_stop_token_ends_a_completion_and_is_not_part_of_it(
    vllm_sampler: VllmSampler, tiny_base: Path, prompts: list[Prompt], reference: Callable[..., Any]
) -> None:
    endless = dataclasses.replace(GREEDY, stop_token_id=None)
    [unstopped] = continued(vllm_sampler, prompts[:1], base=tiny_base, parameters=endless)[0].completions
    assert len(unstopped.ids) == 24
    assert not unstopped.finished

    stop = unstopped.ids[5]
    before = unstopped.ids[: unstopped.ids.index(stop)]
    stopping = dataclasses.replace(GREEDY, stop_token_id=stop)
    [stopped] = continued(vllm_sampler, prompts[:1], base=tiny_base, parameters=stopping)[0].completions
    assert stopped.ids == before
    assert stopped.finished
    expected = reference(None).log_probability(prompts[0], (*before, stop))
    assert stopped.log_probability == pytest.approx(expected, abs=1e-3)


def test_only_allowed_tokens_are_taken_and_keep_their_own_probabilities(
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    reference: Callable[..., Any],
) -> None:
    allowed = (STOP, 7, 11, 13, 40, 41)
    parameters = SamplingParameters(Greedy(), max_new_tokens=12, stop_token_id=STOP, allowed_token_ids=allowed)
    plain = reference(adapters[8])
    found = continued(vllm_sampler, prompts, base=tiny_base, adapter=adapters[8], parameters=parameters)
    for prompt, samples in zip(prompts, found, strict=True):
        [completion] = samples.completions
        ids = generated(completion)
        assert ids == plain.greedy_among(allowed, prompt, max_new_tokens=12)
        assert completion.log_probability == pytest.approx(plain.log_probability(prompt, ids), abs=1e-3)
    drawn = dataclasses.replace(parameters, method=NUCLEUS.method)
    for samples in continued(vllm_sampler, prompts, base=tiny_base, adapter=adapters[8], parameters=drawn):
        assert {token for completion in samples.completions for token in completion.ids} <= set(allowed)


@pytest.mark.parametrize("how", [*BROKEN, "another base's", "wrong rank"])
def test_a_bad_adapter_is_refused_and_the_engine_lives(
    how: str,
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    tmp_path: Path,
) -> None:
    good = continued(vllm_sampler, prompts, base=tiny_base, adapter=adapters[4])
    pid = vllm_sampler.engine_pid

    match how:
        case "another base's":
            narrow = LlamaConfig(**{**SHAPE, "hidden_size": 32}, bos_token_id=1, tie_word_embeddings=True)
            bad = make_adapter(
                save_model(LlamaForCausalLM, narrow, tmp_path / "narrow"), tmp_path / "bad", rank=4, seed=1
            )
        case "wrong rank":
            bad = dataclasses.replace(adapters[4], rank=8)
        case _:
            bad = broken(adapters[4], tmp_path / "bad", how)
    with pytest.raises(AdapterRefused, match=bad.name):
        continued(vllm_sampler, prompts, base=tiny_base, adapter=bad)
    with pytest.raises(AdapterRefused, match=bad.name):
        scored(vllm_sampler, [Question((1, 2), ((3,),))], base=tiny_base, adapter=bad)

    assert continued(vllm_sampler, prompts, base=tiny_base, adapter=adapters[4]) == good
    assert vllm_sampler.engine_pid == pid


def test_a_prompt_that_fills_the_context_is_too_long(
    vllm_sampler: VllmSampler, tiny_base: Path, prompts: list[Prompt]
) -> None:
    max_positions = json.loads((tiny_base / "config.json").read_text())["max_position_embeddings"]
    endless = dataclasses.replace(GREEDY, stop_token_id=None)
    nearly_full = Prompt((5,) * (max_positions - 3), seed=0)
    [completion] = continued(vllm_sampler, [nearly_full], base=tiny_base, parameters=endless)[0].completions
    pid = vllm_sampler.engine_pid
    assert len(completion.ids) == 3
    with pytest.raises(TaskTooLong, match=str(max_positions)):
        continued(vllm_sampler, [Prompt((5,) * max_positions, seed=0)], base=tiny_base, parameters=endless)
    full = Question((5,) * max_positions, ((6,), ()))
    assert scored(vllm_sampler, [full], base=tiny_base) == ((-math.inf, 0.0),)
    continued(vllm_sampler, prompts, base=tiny_base)
    assert vllm_sampler.engine_pid == pid


def test_an_engine_that_is_too_small_for_a_rank_is_replaced(
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    new_adapter: Callable[..., AdapterFolder],
    reference: Callable[..., Any],
    tmp_path: Path,
) -> None:
    vllm_sampler.start()
    pid = vllm_sampler.engine_pid
    larger = new_adapter(tmp_path / "rank-12", rank=12, seed=12)
    check_greedy(continued(vllm_sampler, prompts, base=tiny_base, adapter=larger), prompts, reference(larger))
    assert vllm_sampler.engine_pid != pid

    with pytest.raises(AdapterRefused, match="512"):
        vllm_sampler.start(lora_rank=513)


def test_an_engine_that_is_killed_in_mid_request_is_replaced_and_the_request_answered(
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    reference: Callable[..., Any],
) -> None:
    check_greedy(continued(vllm_sampler, prompts, base=tiny_base, adapter=adapters[8]), prompts, reference(adapters[8]))
    engine = psutil.Process(vllm_sampler.engine_pid)
    long = dataclasses.replace(GREEDY, stop_token_id=None, max_new_tokens=1500)
    undisturbed = continued(vllm_sampler, prompts, base=tiny_base, adapter=adapters[8], parameters=long)

    with ThreadPoolExecutor(1) as thread:
        used_before_s = engine.cpu_times().user
        answer = thread.submit(continued, vllm_sampler, prompts, base=tiny_base, adapter=adapters[8], parameters=long)
        # It idles but for requests, and this one takes seconds.
        while engine.cpu_times().user < used_before_s + 0.3:
            assert not answer.done()
            time.sleep(0.01)
        engine.kill()
        assert not answer.done()
        assert [samples.completions[0].ids for samples in answer.result()] == [
            samples.completions[0].ids for samples in undisturbed
        ]
    assert vllm_sampler.engine_pid != engine.pid
