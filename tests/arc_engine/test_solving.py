"""Solving through the front door, with a sampler that knows the answer, and with the tiny model."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from arc_engine.encoders import MinimalGridEncoder
from arc_engine.errors import EncoderUnsupported, PromptUnsupported, TaskTooLong
from arc_engine.grids import Grid
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.prompts.chat import REQUEST
from arc_engine.prompts.writer import PromptWriter
from arc_engine.sampling.protocol import AdapterFolder, Completion, Prompt, SamplingParameters
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.settings import PromptSettings, SamplingSettings, SolveSettings
from arc_engine.solving import Answer, answer, draw_views, tokens_of_largest_grid
from arc_engine.tasks import Pair, Task
from tests.fixtures.chat_tokenizers import CHATML, chat_tokenizer

TOKENIZER = build_tokenizer(model_max_length=4096)
TASK = Task(
    train=(Pair(((1, 2),), ((2, 1),)), Pair(((3, 4, 5),), ((5, 4, 3),)), Pair(((6,), (7,)), ((6,), (7,)))),
    test=(((1, 2, 3), (4, 5, 6)), ((7, 8),)),
)
GREEK = f"ReplaceNumberEncoder(MinimalGridEncoder(), {list('αβγδεζηθικ')})"
OUTPUTS: tuple[Grid, ...] = (((3, 2, 1), (6, 5, 4)), ((8, 7),))


def settings(**sampling: object) -> SolveSettings:
    return SolveSettings(sampling=SamplingSettings(**sampling))


class Oracle:
    """A sampler that answers as `say(view, grid)` tells it, given the right answer as the view shows it."""

    def __init__(self, say: Callable[[int, str], Completion], num_views: int) -> None:
        self._say = say
        self._num_views = num_views
        self.calls: list[tuple[Sequence[Prompt], SamplingParameters]] = []

    def start(self, *, lora_rank: int = 0) -> None:
        pass

    def close(self) -> None:
        pass

    def sample(
        self, prompts: Sequence[Prompt], *, base: Path, adapter: AdapterFolder | None, parameters: SamplingParameters
    ) -> list[list[Completion]]:
        self.calls.append((prompts, parameters))
        views = draw_views(self._num_views, seed=0, num_pairs=len(TASK.train))
        shown = [MinimalGridEncoder().encode(view.apply(output)) for output in OUTPUTS for view in views]
        numbers = itertools.cycle(range(self._num_views))
        return [
            [self._say(view, text)] * parameters.num_samples
            for view, text, _ in zip(numbers, shown, prompts, strict=False)
        ]


def said(text: str, *, log_probability: float = -1.0, finished: bool = True) -> Completion:
    return Completion(tuple(TOKENIZER.encode(text, add_special_tokens=False)), log_probability, finished)


def ask(oracle: Oracle, **sampling: object) -> Answer:
    return answer(
        TASK,
        sampler=oracle,
        tokenizer=TOKENIZER,
        base=Path("base"),
        adapter=None,
        settings=settings(**sampling),
        max_positions=4096,
    )


def test_answers_under_all_views_are_undone_and_agree() -> None:
    found = ask(Oracle(lambda view, right: said(right), num_views=16), num_views=16)
    assert [attempts.attempt_1 for attempts in found.attempts] == list(OUTPUTS)
    assert [attempts.attempt_2 for attempts in found.attempts] == [None, None]
    assert [attempts.confidence for attempts in found.attempts] == [1.0, 1.0]
    assert [len(candidates) for candidates in found.candidates] == [1, 1]
    assert found.candidates[0][0].views == tuple(range(16))
    assert found.num_completions == 32


def test_refused_answers_count_against_confidence() -> None:
    def say(view: int, right: str) -> Completion:
        return said(right) if view in {0, 1, 2} else said("nonsense") if view == 3 else said(right, finished=False)

    found = ask(Oracle(say, num_views=8), num_views=8)
    assert [attempts.confidence for attempts in found.attempts] == [3 / 8, 3 / 8]
    assert found.refusals == {"bad_cell": 2, "unfinished": 8}


def test_generated_tokens_are_counted_with_their_end() -> None:
    oracle = Oracle(lambda view, right: said("123", finished=view == 0), num_views=2)
    assert ask(oracle, num_views=2).num_tokens == 2 * (4 + 3)


def test_a_special_token_in_an_answer_is_not_passed_over() -> None:
    oracle = Oracle(lambda view, right: Completion((TOKENIZER.pad_token_id, *said(right).ids), -1.0, True), num_views=1)
    assert ask(oracle, num_views=1).refusals == {"bad_cell": 2}


def test_all_views_of_all_inputs_are_one_request() -> None:
    oracle = Oracle(lambda view, right: said(right), num_views=5)
    found = ask(oracle, num_views=5, samples_per_view=2, method="sample")
    [(prompts, parameters)] = oracle.calls
    assert len(prompts) == 10
    assert len({prompt.seed for prompt in prompts}) == 10
    assert parameters == SamplingParameters(
        num_samples=2, temperature=0.7, top_p=1.0, max_new_tokens=930, stop_token_id=TOKENIZER.eos_token_id
    )
    assert found.num_completions == 20


def test_greedy_ignores_temperature_and_nucleus() -> None:
    oracle = Oracle(lambda view, right: said(right), num_views=1)
    ask(oracle, num_views=1, temperature=2.0, top_p=0.1, max_new_tokens=7)
    [(_, parameters)] = oracle.calls
    assert (parameters.temperature, parameters.top_p, parameters.max_new_tokens) == (0.0, 1.0, 7)


def test_the_first_prompt_shows_the_task_as_it_is() -> None:
    oracle = Oracle(lambda view, right: said(right), num_views=3)
    ask(oracle, num_views=3)
    [(prompts, _)] = oracle.calls
    assert TOKENIZER.decode(prompts[0].ids) == "<bos>I12O21<eos>I345O543<eos>I6\n7O6\n7<eos>I123\n456O"
    assert TOKENIZER.decode(prompts[3].ids).endswith("I78O")


def test_a_seed_and_a_view_have_the_same_prompts_however_many_there_are() -> None:
    asked = []
    for num_views in (3, 6):
        oracle = Oracle(lambda view, right: said(right), num_views=num_views)
        ask(oracle, num_views=num_views)
        asked.append(oracle.calls[0][0])
    assert asked[0][:3] == asked[1][:3]
    assert asked[0][3:] == asked[1][6:9]


def test_views_are_distinct_and_start_with_the_identity() -> None:
    views = draw_views(1024, seed=3, num_pairs=3)
    assert len(set(views)) == 1024
    assert views[0].apply_task(TASK) == TASK
    assert views[:10] == draw_views(10, seed=3, num_pairs=3)
    assert views[1:] != draw_views(1024, seed=4, num_pairs=3)[1:]
    assert len(set(draw_views(100, seed=0, num_pairs=1))) == 100


def test_a_prompt_that_leaves_no_room_is_too_long_with_numbers() -> None:
    oracle = Oracle(lambda view, right: said(right), num_views=1)
    length = len(TOKENIZER.encode("I12O21_I345O543_I6\n7O6\n7_I123\n456O", add_special_tokens=False)) + 1
    arguments = {"sampler": oracle, "tokenizer": TOKENIZER, "base": Path("base"), "adapter": None}
    answer(TASK, settings=settings(num_views=1), max_positions=length + 2, **arguments)
    with pytest.raises(TaskTooLong, match=rf"{length} tokens.* leaves 1 of the model's {length + 1} .* needs 2"):
        answer(TASK, settings=settings(num_views=1), max_positions=length + 1, **arguments)
    assert len(oracle.calls) == 1


def test_an_encoder_that_the_tokenizer_cannot_write_is_refused_before_sampling() -> None:
    oracle = Oracle(lambda view, right: said(right), num_views=1)
    greek = SolveSettings.model_validate({"prompt": {"grid_encoder": GREEK}})
    arguments = {"sampler": oracle, "tokenizer": TOKENIZER, "base": Path("base"), "adapter": None}
    with pytest.raises(EncoderUnsupported, match="<unk>"):
        answer(TASK, settings=greek, max_positions=4096, **arguments)
    assert oracle.calls == []


CHAT = SolveSettings.model_validate(
    {"prompt": {"version": "chat"}, "sampling": {"num_views": 2, "method": "greedy", "max_new_tokens": 20}}
)


def test_a_chat_is_asked_stopped_and_read_as_its_template_writes_it() -> None:
    tokenizer = chat_tokenizer(CHATML)
    oracle = Oracle(lambda view, right: said(right), num_views=2)
    arguments = {"sampler": oracle, "base": Path("base"), "adapter": None, "settings": CHAT, "max_positions": 4096}
    found = answer(TASK, tokenizer=tokenizer, **arguments)
    assert [attempts.attempt_1 for attempts in found.attempts] == list(OUTPUTS)
    [(prompts, parameters)] = oracle.calls
    assert parameters.stop_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.decode(prompts[0].ids).endswith(f"{REQUEST}<|im_end|>\n<|im_start|>assistant\n")
    with pytest.raises(PromptUnsupported, match="chat template"):
        answer(TASK, tokenizer=TOKENIZER, **arguments)
    assert len(oracle.calls) == 1


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


def test_a_real_model_answers_the_same_twice(tiny_base: Path) -> None:
    sampler = TorchSampler()
    asked = settings(num_views=4, max_new_tokens=20, method="sample")
    first, second = (
        answer(
            TASK,
            sampler=sampler,
            tokenizer=TOKENIZER,
            base=tiny_base,
            adapter=None,
            settings=asked,
            max_positions=4096,
        )
        for _ in range(2)
    )
    assert first == second
    assert first.num_completions == 8
    assert sum(first.refusals.values()) + sum(c.votes for found in first.candidates for c in found) == 8
