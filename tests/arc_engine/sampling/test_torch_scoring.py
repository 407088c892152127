import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arc_engine.base_models.loading import LoadedBase
from arc_engine.sampling.protocol import AdapterFolder, Prompt, Question
from arc_engine.sampling.torch_batches import BatchLimits
from arc_engine.sampling.torch_sampler import TorchSampler
from tests.arc_engine.sampling.reference import GREEDY, NUCLEUS, STOP, continued, generated, scored

ANSWERS = ((7, 8, 9, STOP), (STOP,), (40,) * 30, (7, 8, 10, STOP), (), (5, 5))


@pytest.fixture
def questions(prompts: list[Prompt]) -> list[Question]:
    """Answers of different lengths to prompts of different lengths, and as few of either as there can be."""
    return [
        *(Question(prompt.ids, ANSWERS) for prompt in prompts),
        Question((1,), ANSWERS),
        Question(prompts[0].ids, ()),
        Question(prompts[1].ids, ((3,),)),
    ]


@pytest.mark.parametrize("rank", [None, 8])
@pytest.mark.parametrize(
    "limits",
    [BatchLimits(), BatchLimits(max_rows=1), BatchLimits(max_tokens=80)],
    ids=["one batch", "one answer at a time", "80 tokens at a time"],
)
def test_scores_are_those_of_a_plain_forward_pass(
    rank: int | None,
    limits: BatchLimits,
    loaded: LoadedBase,
    tiny_base: Path,
    questions: list[Question],
    adapters: dict[int, AdapterFolder],
    reference: Callable[..., Any],
) -> None:
    adapter = adapters[rank] if rank else None
    found = scored(TorchSampler(load=lambda _: loaded, limits=limits), questions, base=tiny_base, adapter=adapter)

    plain = reference(adapter)
    for question, log_probabilities in zip(questions, found, strict=True):
        expected = [plain.log_probability(Prompt(question.ids, seed=0), answer) for answer in question.answers]
        assert log_probabilities == pytest.approx(expected, abs=1e-3)


def test_a_model_with_an_output_layer_of_its_own(tiny_qwen2: Path, prompts: list[Prompt]) -> None:
    sampler = TorchSampler()
    found = continued(sampler, prompts, base=tiny_qwen2)
    questions = [
        Question(prompt.ids, (generated(samples.completions[0]),))
        for prompt, samples in zip(prompts, found, strict=True)
    ]
    [scores] = zip(*scored(sampler, questions, base=tiny_qwen2), strict=True)
    assert scores == pytest.approx([samples.completions[0].log_probability for samples in found], abs=1e-3)


@pytest.mark.parametrize("parameters", [GREEDY, NUCLEUS], ids=["greedy", "nucleus"])
def test_what_was_sampled_scores_as_it_was_sampled(
    parameters: Any, loaded: LoadedBase, tiny_base: Path, prompts: list[Prompt], adapters: dict[int, AdapterFolder]
) -> None:
    sampler = TorchSampler(load=lambda _: loaded)
    found = continued(sampler, prompts, base=tiny_base, adapter=adapters[4], parameters=parameters)
    questions = [
        Question(prompt.ids, tuple(generated(completion) for completion in samples.completions))
        for prompt, samples in zip(prompts, found, strict=True)
    ]
    scores = scored(sampler, questions, base=tiny_base, adapter=adapters[4])
    for samples, log_probabilities in zip(found, scores, strict=True):
        expected = [completion.log_probability for completion in samples.completions]
        assert log_probabilities == pytest.approx(expected, abs=1e-3)


def test_an_answer_that_the_context_has_no_room_for_is_impossible(loaded: LoadedBase, tiny_base: Path) -> None:
    room = 3
    nearly_full = Question((5,) * (loaded.max_positions - room), ((6,) * room, (6,) * (room + 1)))
    full = Question((5,) * loaded.max_positions, ((6,), (6, 7)))

    found = scored(TorchSampler(load=lambda _: loaded), [nearly_full, full], base=tiny_base)

    assert math.isfinite(found[0][0])
    assert found[0][1] == -math.inf
    assert found[1] == (-math.inf, -math.inf)
