"""A task under many views: what the sampler is asked, what fits, and what its answers come to."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.candidates import Finding, Reading, Tally, collect
from arc_engine.encoders import Refusal
from arc_engine.errors import TaskTooLong
from arc_engine.grids import Grid
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.prompts.writer import PromptWriter
from arc_engine.sampling.protocol import Completion, Samples
from arc_engine.settings import PromptSettings
from arc_engine.task_views import TaskViews, draw_views
from arc_engine.tasks import Pair, Task
from tests.fixtures.grid_strategies import grids, tasks
from tests.fixtures.merging_tokenizers import merging_tokenizer

pytestmark = pytest.mark.fast

TOKENIZER = build_tokenizer(model_max_length=4096)
WRITER = PromptWriter.of(PromptSettings(), TOKENIZER)
# Columns, so that no view is longer than the task as it is: a row has no line ends.
SHORT, MIDDLE = Pair(((1,),), ((2,),)), Pair(((3,), (4,)), ((4,), (3,)))
LONG = Pair(((5,), (6,), (7,), (8,)), ((8,), (7,), (6,), (5,)))
TASK = Task(train=(MIDDLE, LONG, SHORT), test=(((1, 2), (3, 4)), ((7,), (8,))))


def under(task: Task = TASK, *, num_views: int = 4, max_positions: int = 4096, **options: object) -> TaskViews:
    return TaskViews.of(task, num_views=num_views, seed=0, writer=WRITER, max_positions=max_positions, **options)


def length(task: Task) -> int:
    """Tokens of the first prompt and of an answer as large as the largest output or the test input."""
    room = max(WRITER.num_answer_tokens(grid) for grid in (task.test[0], *(pair.output for pair in task.train)))
    return len(WRITER.question(task.train, task.test[0])) + room


def completion(grid: Grid, *, log_probability: float = -1.0, finished: bool = True) -> Completion:
    return Completion(WRITER.answer(grid)[:-1], log_probability, finished)


def test_views_are_distinct_and_start_with_the_identity() -> None:
    views = draw_views(1024, seed=3, num_pairs=3)
    assert len(set(views)) == 1024
    assert views[0].apply_task(TASK) == TASK
    assert views[:10] == draw_views(10, seed=3, num_pairs=3)
    assert views[1:] != draw_views(1024, seed=4, num_pairs=3)[1:]
    assert len(set(draw_views(100, seed=0, num_pairs=1))) == 100


def test_prompts_are_the_inputs_in_turn_each_under_every_view() -> None:
    seen = under(num_views=3)
    expected = [
        WRITER.question(view.apply_task(TASK).train, view.apply(query)).ids
        for query in TASK.test
        for view in seen.views
    ]
    assert [prompt.ids for prompt in seen.prompts()] == expected
    assert TOKENIZER.decode(expected[0]) == "<bos>I3\n4O4\n3<eos>I5\n6\n7\n8O8\n7\n6\n5<eos>I1O2<eos>I12\n34O"
    assert TOKENIZER.decode(expected[3]).endswith("I7\n8O")


def test_every_prompt_has_a_seed_of_its_own_however_many_there_are() -> None:
    few, many = under(num_views=3).prompts(), under(num_views=6).prompts()
    assert few == (*many[:3], *many[6:9])
    assert len({prompt.seed for prompt in many}) == 12
    assert all(0 <= prompt.seed < 2**31 for prompt in many)


def test_another_seed_shows_other_views_and_draws_otherwise() -> None:
    one, other = (
        TaskViews.of(TASK, num_views=4, seed=seed, writer=WRITER, max_positions=4096).prompts() for seed in (0, 1)
    )
    assert one[0].ids == other[0].ids  # the identity
    assert {prompt.ids for prompt in one[1:4]} != {prompt.ids for prompt in other[1:4]}
    assert {prompt.seed for prompt in one}.isdisjoint(prompt.seed for prompt in other)


def test_the_first_views_show_the_same_task() -> None:
    seen = under(num_views=6, max_positions=length(TASK) - 1)
    assert seen.first(2).views == seen.views[:2]
    assert (seen.first(2).task, seen.first(2).num_dropped_pairs) == (seen.task, 1)


def test_what_fits_keeps_all_its_pairs() -> None:
    seen = under(max_positions=length(TASK))
    assert (seen.task, seen.num_dropped_pairs) == (TASK, 0)


def test_the_longest_pairs_are_left_out_first_and_one_stays() -> None:
    without_long = Task((MIDDLE, SHORT), TASK.test)
    seen = under(max_positions=length(TASK) - 1)
    assert (seen.task, seen.num_dropped_pairs) == (without_long, 1)
    seen = under(max_positions=length(without_long) - 1)
    assert (seen.task, seen.num_dropped_pairs) == (Task((SHORT,), TASK.test), 2)
    with pytest.raises(TaskTooLong, match=rf"needs {length(Task((SHORT,), TASK.test))} tokens .* not even one pair"):
        under(max_positions=length(Task((SHORT,), TASK.test)) - 1)


def test_room_is_left_for_no_more_than_may_be_generated() -> None:
    prompt = len(WRITER.question(TASK.train, TASK.test[0]))
    assert under(max_positions=prompt + 2).num_dropped_pairs == 1
    assert under(max_positions=prompt + 2, max_new_tokens=2).num_dropped_pairs == 0
    assert under(max_positions=prompt + 1, max_new_tokens=2).num_dropped_pairs == 1
    assert under(max_positions=length(TASK) - 1, max_new_tokens=1000).num_dropped_pairs == 1


def test_the_same_pairs_are_left_out_of_all_views() -> None:
    seen = under(num_views=20, max_positions=length(TASK) - 1)
    for view, prompt in zip(seen.views, seen.prompts()[:20], strict=True):
        shown = view.apply_task(Task((MIDDLE, SHORT), TASK.test))
        assert prompt.ids == WRITER.question(shown.train, shown.test[0]).ids


def test_fail_refuses_what_leaving_out_pairs_would_help() -> None:
    needed = len(WRITER.question(TASK.train, TASK.test[0])) + WRITER.num_answer_tokens(((0,),))
    assert needed < length(TASK), "nobody knows that the answer is as large as the largest output"
    assert under(max_positions=needed, when_too_long="fail").num_dropped_pairs == 0
    with pytest.raises(TaskTooLong, match=rf"needs {needed} tokens .* the model's context is {needed - 1}$"):
        under(max_positions=needed - 1, when_too_long="fail")


@given(tasks, st.integers(20, 150), st.integers(1, 6))
def test_every_prompt_fits_with_an_answer_as_large_as_the_outputs_shown(
    task: Task, max_positions: int, num_views: int
) -> None:
    try:
        seen = under(task, num_views=num_views, max_positions=max_positions)
    except TaskTooLong:
        return
    kept = list(seen.task.train)
    assert len(kept) == len(task.train) - seen.num_dropped_pairs >= 1
    assert kept == [pair for pair in task.train if pair in kept][: len(kept)]
    room = max(WRITER.num_answer_tokens(pair.output) for pair in kept)
    assert all(len(prompt.ids) + room <= max_positions for prompt in seen.prompts())


def test_where_colours_change_lengths_every_view_is_measured() -> None:
    writer = PromptWriter.of(PromptSettings(), merging_tokenizer())
    square = ((0,) * 4,) * 4  # the same number of tokens either way round
    zeros = Pair(square, square)
    task = Task((zeros, zeros, SHORT), (((0,),),))
    as_it_is = len(writer.question(task.train, task.test[0])) + writer.num_answer_tokens(zeros.output)
    seen = TaskViews.of(task, num_views=8, seed=0, writer=writer, max_positions=as_it_is)
    assert seen.num_dropped_pairs > 0  # under other colours there are no runs of zeros to write in fewer tokens
    assert all(len(prompt.ids) < as_it_is for prompt in seen.prompts())


@given(tasks, st.data())
def test_answers_are_seen_as_the_task_shows_them(task: Task, data: st.DataObject) -> None:
    seen = under(task, num_views=3)
    right = [data.draw(grids(max_side=4)) for _ in task.test]
    samples = [Samples((completion(view.apply(grid)),)) for grid in right for view in seen.views]
    tallies = seen.tallies(samples)
    assert [[found.grid for found in tally.candidates] for tally in tallies] == [[grid] for grid in right]
    assert all(tally.candidates[0].views == (0, 1, 2) for tally in tallies)


def test_refusals_are_counted_by_reason_and_a_view_may_find_much_or_nothing() -> None:
    seen = under(num_views=3)
    grid, other = ((1, 2),), ((3,),)
    ragged = Completion(tuple(TOKENIZER.encode("12\n3", add_special_tokens=False)), -1.0, finished=True)
    first = (
        Samples((completion(grid, log_probability=-0.5), completion(other, log_probability=-2.0))),
        Samples((), cut=True),
        Samples((ragged, completion(seen.views[2].apply(grid), finished=False))),
    )
    tally, nothing = seen.tallies((*first, Samples(()), Samples(()), Samples(())))
    assert [(found.grid, found.findings) for found in tally.candidates] == [
        (grid, (Finding(0, 1, -0.5),)),
        (other, (Finding(0, 1, -2.0),)),
    ]
    assert tally.refusals == {Refusal.RAGGED: 1, Refusal.UNFINISHED: 1}
    assert tally.completions_per_view == (2, 0, 2)
    assert nothing == Tally((), {}, completions_per_view=(0, 0, 0))


def tally_of(*grids_and_votes: tuple[Grid, int]) -> Tally:
    return collect((Reading(0, grid, -1.0) for grid, votes in grids_and_votes for _ in range(votes)), num_views=4)


def test_every_candidate_is_asked_about_under_the_same_views() -> None:
    seen = under(num_views=3)
    grids_found: list[Grid] = [((1, 2),), ((3,),), ((4,), (4,))]
    tallies = (tally_of(*((grid, 9 - place) for place, grid in enumerate(grids_found))), tally_of((((7,),), 1)))
    questions = seen.questions(tallies, num_scored=2)
    assert [question.ids for question in questions] == [prompt.ids for prompt in seen.prompts()]
    for question, view in zip(questions[:3], seen.views, strict=True):
        assert question.answers == tuple(WRITER.answer(view.apply(grid)) for grid in grids_found[:2])
    assert [len(question.answers) for question in questions] == [2, 2, 2, 1, 1, 1]
    assert questions[0].answers[0][-1] == WRITER.stop_token_id


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 4), st.integers(2, 5))
def test_scores_come_back_to_the_candidates_that_were_asked_about(
    nums_candidates: list[int], num_views: int, num_scored: int
) -> None:
    task = Task(TASK.train, (((1,),),) * len(nums_candidates))
    seen = under(task, num_views=num_views)
    tallies = [tally_of(*((((colour,),), 9 - colour) for colour in range(number))) for number in nums_candidates]
    questions = seen.questions(tallies, num_scored=num_scored)
    # Scores that say which answer they are of: the question, then the answer.
    scores = [tuple(-100.0 * n - m for m in range(len(q.answers))) for n, q in enumerate(questions)]
    answered = 0
    for before, after in zip(tallies, seen.rescored(tallies, scores), strict=True):
        assert [found.grid for found in after.candidates] == [found.grid for found in before.candidates]
        for place, found in enumerate(after.candidates):
            asked = range(answered, answered + num_views) if place < num_scored else ()
            assert found.view_scores == tuple(-100.0 * question - place for question in asked)
        answered += num_views if before.candidates else 0
    assert answered == len(questions)


def test_inputs_without_candidates_are_not_asked_about() -> None:
    seen = under(num_views=2)
    nothing = Tally((), {}, completions_per_view=(1, 1))
    assert seen.questions([nothing, nothing], num_scored=16) == ()
    assert seen.rescored([nothing, nothing], []) == (nothing, nothing)


def test_a_score_that_is_no_number_is_none_at_all() -> None:
    seen = under(Task(TASK.train, TASK.test[:1]), num_views=2)
    [tally] = seen.rescored([tally_of((((1,),), 1))], [(math.nan,), (-1.0,)])
    assert tally.candidates[0].view_scores == (-math.inf, -1.0)
