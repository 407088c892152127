"""Solving through the front door, with a sampler that knows the answer, and with the tiny model."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from arc_engine.errors import AdapterRefused, EncoderUnsupported, EngineError, PromptUnsupported, TaskTooLong
from arc_engine.grids import Grid
from arc_engine.prompts.chat import REQUEST
from arc_engine.sampling.protocol import (
    AdapterFolder,
    Completion,
    Samples,
)
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.settings import SolveSettings
from arc_engine.solving import Answer, Assignment, answer, answer_all
from arc_engine.task_views import TaskViews
from tests.arc_engine.oracle import OUTPUTS, TASK, TOKENIZER, Oracle, said
from tests.fixtures.chat_tokenizers import CHATML, chat_tokenizer

GREEK = f"ReplaceNumberEncoder(MinimalGridEncoder(), {list('αβγδεζηθικ')})"
ONE, OTHER = (AdapterFolder(name, Path(name), rank=8) for name in ("one", "other"))


def settings(**sampling: object) -> SolveSettings:
    return SolveSettings.model_validate({"sampling": sampling, "selection": {"method": "vote"}})


def rescoring(method: str = "product_of_experts", *, num_views: int = 4, **selection: object) -> SolveSettings:
    return SolveSettings.model_validate(
        {"sampling": {"num_views": num_views}, "selection": {"method": method, **selection}}
    )


def ask(oracle: Oracle, asked: SolveSettings | None = None, *, max_positions: int = 4096, **sampling: object) -> Answer:
    return answer(
        Assignment(TASK, asked or settings(**sampling), adapter=None),
        sampler=oracle,
        tokenizer=TOKENIZER,
        base=Path("base"),
        max_positions=max_positions,
    )


def ask_all(oracle: Oracle, *assignments: Assignment, max_positions: int = 4096) -> list[Answer | EngineError]:
    return answer_all(assignments, sampler=oracle, tokenizer=TOKENIZER, base=Path("base"), max_positions=max_positions)


def test_answers_under_all_views_are_undone_and_agree() -> None:
    found = ask(Oracle(num_views=16), num_views=16)
    assert [attempts.attempt_1 for attempts in found.attempts] == list(OUTPUTS)
    assert [attempts.attempt_2 for attempts in found.attempts] == [None, None]
    assert [len(candidates) for candidates in found.candidates] == [1, 1]
    assert found.candidates[0][0].views == tuple(range(16))
    assert found.num_completions == (16, 16)


def test_refused_answers_count_against_confidence() -> None:
    def say(view: int, right: str) -> Completion:
        return said(right) if view in {0, 1, 2} else said("nonsense") if view == 3 else said(right, finished=False)

    found = ask(Oracle(say, num_views=8), num_views=8)
    assert found.refusals == {"bad_cell": 2, "unfinished": 8}
    assert found.candidates[0][0].score == 3 / 8
    agreed = ask(Oracle(num_views=8), num_views=8)
    assert 0 < found.attempts[0].confidence < agreed.attempts[0].confidence < 1


def test_no_answer_is_sure_of_nothing() -> None:
    found = ask(Oracle(lambda view, right: said("nonsense"), num_views=4), num_views=4)
    assert [(one.attempt_1, one.attempt_2, one.confidence) for one in found.attempts] == [(None, None, 0.0)] * 2


def test_generated_tokens_are_counted_with_their_end() -> None:
    oracle = Oracle(lambda view, right: said("123", finished=view == 0), num_views=2)
    assert ask(oracle, num_views=2).num_tokens == 2 * (4 + 3)


def test_a_special_token_in_an_answer_is_not_passed_over() -> None:
    oracle = Oracle(lambda view, right: Completion((TOKENIZER.pad_token_id, *said(right).ids), -1.0, True), num_views=1)
    assert ask(oracle, num_views=1).refusals == {"bad_cell": 2}


def test_all_views_of_all_inputs_are_one_request() -> None:
    oracle = Oracle(num_views=5)
    found = ask(oracle, num_views=5, samples_per_view=2, method="sample")
    [[request]] = oracle.calls
    assert len(request.prompts) == 10
    assert request.adapter is None
    assert found.num_completions == (10, 10)
    assert oracle.score_calls == []


def test_searches_that_a_budget_ended_are_counted_and_what_they_found_is_used() -> None:
    def say(view: int, right: str) -> Samples:
        return Samples((said(right), said("12"), said("1"))[: 3 - view], cut=view != 0)

    found = ask(Oracle(say, num_views=4), num_views=4, method="dfs")
    assert found.num_cut == 6
    assert found.num_completions == (6, 6)
    assert [attempts.attempt_1 for attempts in found.attempts] == list(OUTPUTS)


def test_a_likelier_candidate_wins_over_a_frequent_one_under_product_of_experts() -> None:
    def mostly_wrong(view: int, right: str) -> Completion:
        return said(right) if view == 2 else said("1")  # not the same grid everywhere, once the view is undone

    def likely(grid: Grid) -> float:
        return -0.5 if grid in OUTPUTS else -3.0

    oracle = Oracle(mostly_wrong, likely=likely)
    by_vote, by_score = ask(oracle, num_views=4), ask(oracle, rescoring(num_scoring_views=8))
    assert all(one.attempt_1 in OUTPUTS for one in by_score.attempts)
    assert by_score.candidates[0][0].score == -4.0
    assert by_score.candidates[0][0].view_scores == (-0.5,) * 8
    assert by_vote.num_scored == 0
    assert by_score.num_scored == 8 * sum(len(candidates) for candidates in by_score.candidates)
    [[request]] = oracle.score_calls
    assert len(request.questions) == 2 * 8


def test_candidates_beyond_the_limit_are_not_scored_and_come_last() -> None:
    def say(view: int, right: str) -> Samples:
        return Samples((said(right), *(said(digits) for digits in ("11", "111", "1111")[view:])))

    found = ask(Oracle(say, likely=lambda grid: -float(len(grid))), rescoring(num_scored=2, num_scoring_views=3))
    for candidates in found.candidates:
        assert [len(one.view_scores) for one in candidates][:2] == [3, 3]
        assert not any(one.view_scores for one in candidates[2:])
    assert found.num_scored == 3 * 2 * 2


def test_nothing_is_scored_where_there_is_no_candidate() -> None:
    oracle = Oracle(lambda view, right: said("nonsense"))
    assert ask(oracle, rescoring()).num_scored == 0
    assert oracle.score_calls == []


def test_the_prompts_of_all_jobs_are_one_call_each_job_under_its_own_adapter_and_settings() -> None:
    oracle = Oracle(likely=lambda grid: -1.0 if grid in OUTPUTS else -2.0)
    first, second, third = ask_all(
        oracle,
        Assignment(TASK, rescoring(), ONE),
        Assignment(TASK, settings(num_views=4, max_new_tokens=9), OTHER),
        Assignment(TASK, rescoring("probmul", num_scoring_views=2), None),
    )
    [requests] = oracle.calls
    assert [request.adapter for request in requests] == [ONE, OTHER, None]
    assert [request.parameters.max_new_tokens for request in requests] == [930, 9, 930]
    [score_requests] = oracle.score_calls
    assert [(request.adapter, len(request.questions)) for request in score_requests] == [(ONE, 2 * 8), (None, 2 * 2)]
    assert [found.attempts[0].attempt_1 for found in (first, second, third)] == [OUTPUTS[0]] * 3
    assert [found.candidates[0][0].score for found in (first, second, third)] == [-8.0, 1.0, 4 * 2.0 + 2 * 2.0]


def test_a_refused_adapter_leaves_the_other_jobs_alone() -> None:
    refusal = AdapterRefused("not here")
    oracle = Oracle(refuses={"one": refusal})
    refused, answered = ask_all(oracle, Assignment(TASK, rescoring(), ONE), Assignment(TASK, rescoring(), OTHER))
    assert refused is refusal
    assert answered.attempts[0].attempt_1 == OUTPUTS[0]
    [score_requests] = oracle.score_calls
    assert [request.adapter for request in score_requests] == [OTHER]


def test_a_job_that_cannot_be_scored_has_the_error() -> None:
    refusal = AdapterRefused("not any more")
    oracle = Oracle(refuses_to_score={"one": refusal})
    refused, answered = ask_all(oracle, Assignment(TASK, rescoring(), ONE), Assignment(TASK, rescoring(), OTHER))
    assert refused is refusal
    assert answered.attempts[0].attempt_1 == OUTPUTS[0]


def test_what_cannot_be_asked_never_reaches_the_sampler() -> None:
    oracle = Oracle()
    greek = SolveSettings.model_validate({"prompt": {"grid_encoder": GREEK}})
    unwritable, answered = ask_all(oracle, Assignment(TASK, greek, ONE), Assignment(TASK, settings(num_views=4), OTHER))
    assert isinstance(unwritable, EncoderUnsupported)
    assert answered.attempts[0].attempt_1 == OUTPUTS[0]
    [[request]] = oracle.calls
    assert request.adapter == OTHER
    assert ask_all(oracle, Assignment(TASK, greek, None))[0].code == EncoderUnsupported.code
    assert len(oracle.calls) == 1
    with pytest.raises(EncoderUnsupported, match="<unk>"):
        ask(oracle, greek)


LENGTH = len(TOKENIZER.encode("I12O21_I345O543_I6\n7O6\n7_I123\n456O", add_special_tokens=False)) + 1
"""Tokens of the first prompt, which leave none for its answer."""


def test_a_task_that_does_not_fit_loses_pairs_or_fails_as_settings_say() -> None:
    oracle = Oracle(lambda view, right: said("1"))
    assert ask(oracle, num_views=4).num_dropped_pairs == 0
    assert ask(oracle, num_views=4, max_positions=LENGTH).num_dropped_pairs > 0
    assert len(oracle.calls) == 2
    with pytest.raises(TaskTooLong, match=rf"the model's context is {LENGTH}"):
        ask(oracle, num_views=4, max_positions=LENGTH, when_too_long="fail")
    assert len(oracle.calls) == 2


def test_a_sampler_s_shorter_context_counts() -> None:
    shorter = Oracle(lambda view, right: said("1"), max_positions=LENGTH)
    assert ask(shorter, num_views=4).num_dropped_pairs > 0
    with pytest.raises(TaskTooLong, match=rf"the model's context is {LENGTH}"):
        ask(shorter, num_views=4, when_too_long="fail")
    longer = Oracle(lambda view, right: said("1"), max_positions=10_000)
    assert ask(longer, num_views=4, max_positions=LENGTH).num_dropped_pairs > 0


def test_the_sampler_is_asked_for_its_context_once_for_the_largest_adapter() -> None:
    oracle = Oracle()
    large = dataclasses.replace(ONE, rank=64)
    ask_all(oracle, *(Assignment(TASK, settings(num_views=4), adapter) for adapter in (None, large, OTHER)))
    assert oracle.ranks == [64]
    assert ask_all(oracle) == []
    assert oracle.ranks == [64]


def test_room_is_reserved_for_no_more_than_may_be_generated() -> None:
    oracle = Oracle(lambda view, right: said("1"))
    assert ask(oracle, num_views=4, max_positions=LENGTH + 10).num_dropped_pairs > 0
    assert ask(oracle, num_views=4, max_positions=LENGTH + 10, max_new_tokens=5).num_dropped_pairs == 0


@pytest.mark.parametrize(("method", "num_shown"), [("vote", 4), ("probmul", 8)])
def test_views_that_nothing_is_scored_under_are_not_made_room_for(
    method: str, num_shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    of = TaskViews.of

    def watched(*args: Any, num_views: int, **kwargs: Any) -> TaskViews:
        shown.append(num_views)
        return of(*args, num_views=num_views, **kwargs)

    monkeypatch.setattr(TaskViews, "of", watched)
    ask(Oracle(), rescoring(method, num_scoring_views=8))
    assert shown == [num_shown]


def test_what_was_sampled_and_what_is_scored_show_the_same_pairs() -> None:
    oracle = Oracle(lambda view, right: said("1"))
    assert ask(oracle, rescoring(num_scoring_views=6), max_positions=LENGTH).num_dropped_pairs > 0
    [[sampled]], [[scored]] = oracle.calls, oracle.score_calls
    assert [question.ids for question in scored.questions[:4]] == [prompt.ids for prompt in sampled.prompts[:4]]


CHAT = SolveSettings.model_validate(
    {
        "prompt": {"version": "chat"},
        "sampling": {"num_views": 2, "method": "greedy", "max_new_tokens": 20},
        "selection": {"method": "vote"},
    }
)


def test_a_chat_is_asked_stopped_and_read_as_its_template_writes_it() -> None:
    tokenizer = chat_tokenizer(CHATML)
    oracle = Oracle(num_views=2)
    asked, arguments = Assignment(TASK, CHAT, None), {"sampler": oracle, "base": Path("base"), "max_positions": 4096}
    found = answer(asked, tokenizer=tokenizer, **arguments)
    assert [attempts.attempt_1 for attempts in found.attempts] == list(OUTPUTS)
    [[request]] = oracle.calls
    assert request.parameters.stop_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert request.parameters.stop_token_id in request.parameters.allowed_token_ids
    assert tokenizer.decode(request.prompts[0].ids).endswith(f"{REQUEST}<|im_end|>\n<|im_start|>assistant\n")
    with pytest.raises(PromptUnsupported, match="chat template"):
        answer(asked, tokenizer=TOKENIZER, **arguments)
    assert len(oracle.calls) == 1


def test_a_real_model_answers_the_same_twice(tiny_base: Path) -> None:
    sampler = TorchSampler()
    asked = rescoring("probmul", num_scoring_views=2, num_scored=4)
    asked = asked.model_copy(update={"sampling": settings(num_views=4, max_new_tokens=20, method="sample").sampling})
    first, second = (
        answer(
            Assignment(TASK, asked, adapter=None),
            sampler=sampler,
            tokenizer=TOKENIZER,
            base=tiny_base,
            max_positions=4096,
        )
        for _ in range(2)
    )
    assert first == second
    assert first.num_completions == (4, 4)
    assert sum(first.refusals.values()) + sum(c.votes for found in first.candidates for c in found) == 8
    assert first.num_scored == 2 * sum(min(4, len(candidates)) for candidates in first.candidates) > 0
    assert all(one.view_scores for candidates in first.candidates for one in candidates[:2])
