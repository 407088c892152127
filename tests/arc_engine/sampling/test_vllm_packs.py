"""The real engine with the requests of several jobs in one call: none of them sees anything of the others."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from arc_engine.errors import AdapterRefused, MethodUnsupported, TaskTooLong
from arc_engine.sampling.protocol import (
    AdapterFolder,
    DepthFirst,
    Nucleus,
    Prompt,
    Question,
    SampleRequest,
    Samples,
    SamplingParameters,
    ScoreRequest,
)
from arc_engine.sampling.vllm_sampler import VllmSampler
from tests.arc_engine.sampling.reference import (
    GREEDY,
    NUCLEUS,
    STOP,
    broken,
    check_greedy,
    continued,
    generated,
    scored,
)


@pytest.fixture
def pack(adapters: dict[int, AdapterFolder]) -> list[AdapterFolder | None]:
    """Two adapters and none, in turns."""
    return [adapters[4], None, adapters[8], adapters[4], None]


def requests(
    pack: Sequence[AdapterFolder | None], prompts: Sequence[Prompt], *, parameters: SamplingParameters = GREEDY
) -> list[SampleRequest]:
    return [SampleRequest(tuple(prompts), adapter, parameters) for adapter in pack]


def ids_of(found: Any) -> list[list[tuple[int, ...]]]:
    return [[completion.ids for completion in samples.completions] for samples in found]


def assert_same(found: Any, other: Any) -> None:
    """The same tokens; sums over another batch's rounding."""
    assert ids_of(found) == ids_of(other)
    for one, another in zip(found, other, strict=True):
        expected = [completion.log_probability for completion in another.completions]
        assert [completion.log_probability for completion in one.completions] == pytest.approx(expected, abs=1e-3)


def test_adapters_and_none_in_one_batch_equal_transformers_and_peft(
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    pack: list[AdapterFolder | None],
    reference: Callable[..., Any],
) -> None:
    found = vllm_sampler.sample(requests(pack, prompts), base=tiny_base)
    for adapter, samples in zip(pack, found, strict=True):
        assert isinstance(samples, tuple)
        check_greedy(samples, prompts, reference(adapter))


def test_what_is_drawn_in_a_mixed_batch_equals_single_calls(
    vllm_sampler: VllmSampler, tiny_base: Path, prompts: list[Prompt], pack: list[AdapterFolder | None]
) -> None:
    together = vllm_sampler.sample(requests(pack, prompts, parameters=NUCLEUS), base=tiny_base)
    alone = [continued(vllm_sampler, prompts, base=tiny_base, adapter=a, parameters=NUCLEUS) for a in pack]
    assert [ids_of(found) for found in together] == [ids_of(found) for found in alone]
    assert ids_of(alone[0]) != ids_of(alone[1])


def test_more_adapters_than_the_engine_has_slots_for(
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    new_adapter: Callable[..., AdapterFolder],
    reference: Callable[..., Any],
    tmp_path: Path,
) -> None:
    many = [new_adapter(tmp_path / f"{seed}", rank=1 + seed, seed=seed) for seed in range(7)]
    found = vllm_sampler.sample(requests(many, prompts[:2]), base=tiny_base)
    for adapter, samples in zip(many, found, strict=True):
        assert isinstance(samples, tuple)
        check_greedy(samples, prompts[:2], reference(adapter))


def test_refused_requests_leave_the_others_alone(
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    tmp_path: Path,
) -> None:
    max_positions = json.loads((tiny_base / "config.json").read_text())["max_position_embeddings"]
    good = vllm_sampler.sample(requests([adapters[4], adapters[8]], prompts), base=tiny_base)
    pid = vllm_sampler.engine_pid
    first, last = requests([adapters[4], adapters[8]], prompts)
    refused = [
        SampleRequest(tuple(prompts), broken(adapters[4], tmp_path / "bad", "truncated weights"), GREEDY),
        SampleRequest((prompts[0], Prompt((5,) * max_positions, seed=0)), adapters[8], GREEDY),
        SampleRequest(tuple(prompts), None, dataclasses.replace(GREEDY, method=DepthFirst(0.1))),
    ]
    found = vllm_sampler.sample([first, *refused, last], base=tiny_base)
    for answered, before in zip((found[0], found[-1]), good, strict=True):
        assert_same(answered, before)
    assert [type(error) for error in found[1:-1]] == [AdapterRefused, TaskTooLong, MethodUnsupported]
    assert vllm_sampler.engine_pid == pid


def test_scores_are_those_of_one_plain_forward_pass(
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    pack: list[AdapterFolder | None],
    reference: Callable[..., Any],
) -> None:
    answers = ((7, 8, 9, STOP), (STOP,), tuple(range(5, 60)), (7, 8, 9, STOP), ())
    questions = tuple(Question(prompt.ids, answers[: number + 1]) for number, prompt in enumerate(prompts))
    found = vllm_sampler.score([ScoreRequest(questions, adapter) for adapter in pack], base=tiny_base)
    for adapter, scores in zip(pack, found, strict=True):
        plain = reference(adapter)
        assert isinstance(scores, tuple)
        for prompt, question, row in zip(prompts, questions, scores, strict=True):
            expected = [plain.log_probability(prompt, answer) if answer else 0.0 for answer in question.answers]
            assert list(row) == pytest.approx(expected, abs=1e-3)


def test_scores_of_completions_are_the_log_probabilities_that_they_came_with(
    vllm_sampler: VllmSampler, tiny_base: Path, prompts: list[Prompt], adapters: dict[int, AdapterFolder]
) -> None:
    found = continued(vllm_sampler, prompts, base=tiny_base, adapter=adapters[8], parameters=NUCLEUS)
    questions = [
        Question(prompt.ids, tuple(generated(completion) for completion in samples.completions))
        for prompt, samples in zip(prompts, found, strict=True)
    ]
    scores = scored(vllm_sampler, questions, base=tiny_base, adapter=adapters[8])
    for samples, row in zip(found, scores, strict=True):
        expected = [completion.log_probability for completion in samples.completions]
        assert list(row) == pytest.approx(expected, abs=1e-3)


def test_an_answer_may_fill_the_context_and_one_more_token_is_impossible(
    vllm_sampler: VllmSampler, tiny_base: Path, reference: Callable[..., Any]
) -> None:
    max_positions = json.loads((tiny_base / "config.json").read_text())["max_position_embeddings"]
    prompt = Prompt((1, *(5 + number % 90 for number in range(max_positions - 5))), seed=0)
    fitting, longer = (7, 8, 9, 10), (7, 8, 9, 10, 11)
    [row] = scored(vllm_sampler, [Question(prompt.ids, (longer, fitting))], base=tiny_base)
    assert row[0] == -math.inf
    assert row[1] == pytest.approx(reference(None).log_probability(prompt, fitting), abs=1e-2)


def test_a_time_budget_ends_its_own_request_and_says_so(
    vllm_sampler: VllmSampler,
    tiny_base: Path,
    prompts: list[Prompt],
    adapters: dict[int, AdapterFolder],
    reference: Callable[..., Any],
) -> None:
    endless = dataclasses.replace(GREEDY, stop_token_id=None, max_new_tokens=3000)
    hurried = dataclasses.replace(endless, time_budget_s=3.0)
    calm = dataclasses.replace(GREEDY, time_budget_s=3600.0)
    found = vllm_sampler.sample(
        [
            SampleRequest(tuple(prompts), adapters[4], hurried),
            SampleRequest(tuple(prompts), adapters[8], calm),
            SampleRequest(tuple(prompts), None, GREEDY),
        ],
        base=tiny_base,
    )
    cut, *others = found
    assert isinstance(cut, tuple)
    for prompt, samples in zip(prompts, cut, strict=True):
        assert samples.cut
        [completion] = samples.completions
        assert not completion.finished
        assert 0 < len(completion.ids) < 3000
        expected = reference(adapters[4]).log_probability(prompt, completion.ids)
        assert completion.log_probability == pytest.approx(expected, rel=1e-4, abs=1e-3)
    for adapter, samples in zip((adapters[8], None), others, strict=True):
        assert isinstance(samples, tuple)
        check_greedy(samples, prompts, reference(adapter))
    again = continued(vllm_sampler, prompts, base=tiny_base, adapter=adapters[8])
    assert_same(again, others[0])  # nothing is left behind


def test_prompts_of_one_adapter_share_what_was_computed_and_those_of_another_name_do_not(
    vllm_sampler: VllmSampler, tiny_base: Path, adapters: dict[int, AdapterFolder]
) -> None:
    def cached(prompts: Sequence[Prompt], adapter: AdapterFolder) -> int:
        vllm_sampler.start()
        before = vllm_sampler.num_cached_tokens
        continued(vllm_sampler, prompts, base=tiny_base, adapter=adapter)
        return vllm_sampler.num_cached_tokens - before

    long = Prompt((1, *(5 + 11 * number % 89 for number in range(299))), seed=0)  # two blocks and a half on a CPU
    continued(vllm_sampler, [long], base=tiny_base, adapter=adapters[4])
    assert cached([long, dataclasses.replace(long, seed=1)], adapters[4]) >= 256
    assert cached([long], dataclasses.replace(adapters[4], name="another")) == 0
    assert cached([long], adapters[4]) == 0, "a name of its own for every call, whatever the caller calls it"


def test_parameters_that_vllm_does_not_take_are_their_request_s_own_error(
    vllm_sampler: VllmSampler, tiny_base: Path, prompts: list[Prompt], adapters: dict[int, AdapterFolder]
) -> None:
    good = vllm_sampler.sample(requests([adapters[4]], prompts), base=tiny_base)
    pid = vllm_sampler.engine_pid
    hot = dataclasses.replace(GREEDY, method=Nucleus(1, temperature=5.0, top_p=1.0))
    unheard_of = dataclasses.replace(GREEDY, allowed_token_ids=(10**6,))
    [answered] = requests([adapters[4]], prompts)
    found = vllm_sampler.sample(
        [
            SampleRequest(tuple(prompts), adapters[8], hot),
            answered,
            SampleRequest(tuple(prompts), adapters[8], unheard_of),
        ],
        base=tiny_base,
    )
    assert [type(found[0]), type(found[2])] == [MethodUnsupported, MethodUnsupported]
    assert_same(found[1], good[0])
    assert vllm_sampler.engine_pid == pid


def test_the_engine_s_context_is_known(vllm_sampler: VllmSampler, tiny_base: Path) -> None:
    max_positions = json.loads((tiny_base / "config.json").read_text())["max_position_embeddings"]
    assert vllm_sampler.max_positions(base=tiny_base) == max_positions


def test_a_budget_of_no_time_leaves_nothing_or_little(
    vllm_sampler: VllmSampler, tiny_base: Path, prompts: list[Prompt]
) -> None:
    parameters = dataclasses.replace(GREEDY, stop_token_id=None, time_budget_s=1e-9)
    found = continued(vllm_sampler, prompts, base=tiny_base, parameters=parameters)
    assert all(isinstance(samples, Samples) and samples.cut for samples in found)
    assert all(len(completion.ids) <= 1 for samples in found for completion in samples.completions)
