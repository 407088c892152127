"""The real engine: one for all tests, as far as they let it live. It takes 12 to 40 s to start."""

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arc_engine.base_models.loading import load_base
from arc_engine.errors import AdapterRefused, TaskTooLong
from arc_engine.sampling.protocol import AdapterFolder, Prompt
from arc_engine.sampling.vllm_sampler import VllmOptions, VllmSampler
from tests.arc_engine.adaptation.lora_training import settings_with, trained
from tests.arc_engine.sampling.reference import GREEDY, NUCLEUS, broken, check_greedy, generated


@pytest.fixture(scope="session")
def sampler(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmSampler]:
    log_file = tmp_path_factory.mktemp("vllm") / "engine.log"
    sampler = VllmSampler(tiny_base, options=VllmOptions(max_lora_rank=8, log_file=log_file))
    sampler.start()
    yield sampler
    sampler.close()


@pytest.mark.parametrize("ranks", [(None,), (4,), (8,), (4, 8, None, 4)], ids=str)
def test_greedy_equals_transformers_and_peft(
    ranks: tuple[int | None, ...],
    sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    reference: Callable[..., Any],
) -> None:
    for rank in ranks:
        adapter = adapters[rank] if rank else None
        found = sampler.sample(prompts, base=tiny_base, adapter=adapter, parameters=GREEDY)
        check_greedy(found, prompts, reference(adapter))


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_that_started_from_the_base_s_own_weights_is_sampled_from(
    init: str,
    sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    reference: Callable[..., Any],
    tmp_path: Path,
) -> None:
    settings = settings_with(init=init, lora_rank=4)
    trained(load_base(tiny_base, device="cpu"), settings)[0].save(tmp_path)
    adapter = AdapterFolder(name=init, path=tmp_path, rank=8)
    found = sampler.sample(prompts, base=tiny_base, adapter=adapter, parameters=GREEDY)
    check_greedy(found, prompts, reference(adapter))
    assert found != sampler.sample(prompts, base=tiny_base, adapter=None, parameters=GREEDY)


def test_an_adapter_that_takes_another_s_name_and_path_is_not_mixed_up_with_it(
    sampler: VllmSampler,
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
        found = sampler.sample(long, base=tiny_base, adapter=adapter, parameters=GREEDY)
        check_greedy(found, long, reference(adapters[rank]))


def test_samples_repeat_and_do_not_depend_on_the_batch(
    sampler: VllmSampler, tiny_base: Path, prompts: list[Prompt], adapters: dict[int, AdapterFolder]
) -> None:
    def draw(prompts: list[Prompt]) -> list[list[tuple[int, ...]]]:
        found = sampler.sample(prompts, base=tiny_base, adapter=adapters[4], parameters=NUCLEUS)
        return [[completion.ids for completion in completions] for completions in found]

    together = draw(prompts)
    assert together == draw(prompts)
    assert together == [found for prompt in prompts for found in draw([prompt])]
    assert together != draw([dataclasses.replace(prompt, seed=prompt.seed + 100) for prompt in prompts])
    assert all(len(set(found)) > 1 for found in together)


def test_log_probability_is_that_of_the_model_before_temperature_and_nucleus(
    sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    reference: Callable[..., Any],
) -> None:
    plain = reference(adapters[8])
    found = sampler.sample(prompts, base=tiny_base, adapter=adapters[8], parameters=NUCLEUS)
    for prompt, completions in zip(prompts, found, strict=True):
        for completion in completions:
            expected = plain.log_probability(prompt, generated(completion))
            assert completion.log_probability == pytest.approx(expected, abs=1e-3)


def test_the_stop_token_ends_a_completion_and_is_not_part_of_it(
    sampler: VllmSampler, tiny_base: Path, prompts: list[Prompt], reference: Callable[..., Any]
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


@pytest.mark.parametrize("how", ["corrupted weights", "no weights", "dora", "no such folder", "other sizes"])
def test_a_bad_adapter_is_refused_and_the_engine_lives(
    how: str,
    sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    tmp_path: Path,
) -> None:
    good = sampler.sample(prompts, base=tiny_base, adapter=adapters[4], parameters=GREEDY)
    pid = sampler.engine_pid

    with pytest.raises(AdapterRefused):
        sampler.sample(prompts, base=tiny_base, adapter=broken(adapters[4], tmp_path / "bad", how), parameters=GREEDY)

    assert sampler.sample(prompts, base=tiny_base, adapter=adapters[4], parameters=GREEDY) == good
    assert sampler.engine_pid == pid


def test_a_prompt_that_fills_the_context_is_too_long(
    sampler: VllmSampler, tiny_base: Path, prompts: list[Prompt]
) -> None:
    max_positions = json.loads((tiny_base / "config.json").read_text())["max_position_embeddings"]
    pid = sampler.engine_pid
    endless = dataclasses.replace(GREEDY, stop_token_id=None)
    nearly_full = Prompt((5,) * (max_positions - 3), seed=0)
    [[completion]] = sampler.sample([nearly_full], base=tiny_base, adapter=None, parameters=endless)
    assert len(completion.ids) == 3
    with pytest.raises(TaskTooLong, match=str(max_positions)):
        sampler.sample([Prompt((5,) * max_positions, seed=0)], base=tiny_base, adapter=None, parameters=endless)
    sampler.sample(prompts, base=tiny_base, adapter=None, parameters=GREEDY)
    assert sampler.engine_pid == pid


def test_an_engine_that_was_killed_is_replaced_and_so_is_one_too_small_for_a_rank(
    sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    new_adapter: Callable[..., AdapterFolder],
    reference: Callable[..., Any],
    tmp_path: Path,
) -> None:
    os.kill(sampler.engine_pid, signal.SIGKILL)
    found = sampler.sample(prompts, base=tiny_base, adapter=adapters[8], parameters=GREEDY)
    check_greedy(found, prompts, reference(adapters[8]))
    pid = sampler.engine_pid

    larger = new_adapter(tmp_path / "rank-12", rank=12, seed=12)
    found = sampler.sample(prompts, base=tiny_base, adapter=larger, parameters=GREEDY)
    check_greedy(found, prompts, reference(larger))
    assert sampler.engine_pid != pid

    with pytest.raises(AdapterRefused, match="512"):
        sampler.start(lora_rank=513)
