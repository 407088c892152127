import pytest

from benchmarks.sampling_plan import GREEDY, SAMPLERS, SELECTORS
from benchmarks.sampling_summary import any_token, figures, rows
from tests.benchmarks.records import failed, sampled, task

pytestmark = pytest.mark.fast


def row(tasks, sampler, selector):
    [found] = [one for one in rows(tasks) if (one["sampler"], one["selector"]) == (sampler, selector)]
    return found


def test_every_pair_has_one_row():
    pairs = [(one["sampler"], one["selector"]) for one in rows([task()])]
    assert pairs == [(sampler, selector) for sampler in SAMPLERS for selector in SELECTORS]


def test_failed_tasks_and_samplers_count_as_wrong():
    tasks = [task(greedy=sampled(pass_at_2=1.0)), task(greedy={"error": "task_too_long"}), failed(), failed()]
    greedy = row(tasks, GREEDY, "vote")
    assert greedy["pass_at_2"] == greedy["found_any"] == 0.25
    assert greedy["unanswered"] == 0.75
    assert greedy["num_failed"] == 3


def test_selectors_are_compared_with_the_vote_task_by_task():
    better = task(greedy=sampled(probmul=1.0))
    worse = task(greedy=sampled(pass_at_2=1.0, probmul=0.5))
    same = task(greedy=sampled(pass_at_2=1.0))
    tasks = [better, better, worse, same, failed()]
    probmul = row(tasks, GREEDY, "probmul")
    assert (probmul["gained"], probmul["lost"]) == (2, 1)
    assert probmul["pass_at_2"] == pytest.approx((1 + 1 + 0.5 + 1) / 5)
    vote = row(tasks, GREEDY, "vote")
    assert (vote["gained"], vote["lost"]) == (0, 0)


def test_only_methods_that_score_again_take_time_for_it():
    assert row([task()], GREEDY, "hierarchical_vote")["score_s"] == 0
    assert row([task()], GREEDY, "product_of_experts")["score_s"] == 1.0


def test_grid_tokens_are_compared_on_tasks_that_both_answered():
    unrestricted_failed = {**task(), "any_token": {"error": "sampler_failed"}}
    measured = any_token([task(greedy=sampled(pass_at_2=0.5)), unrestricted_failed, failed()])
    assert measured["num_tasks"] == 1
    assert measured["equal_outputs"] == 0.75
    assert measured["pass_at_2"] == {"grid_tokens": 0.5, "any_token": 1.0}
    assert any_token([failed()]) == {"num_tasks": 0}


def test_figures_count_all_tasks():
    assert figures([task(), task(), failed()]) == {
        "num_tasks": 3,
        "num_test_inputs": 2,
        "num_not_adapted": 1,
        "adapt_s": 30.0,
        "measured_s": 2 * (30 + len(SAMPLERS) * (2 + 1) + 4),
    }


def test_what_failed_has_no_seconds():
    without = {**task(greedy={"error": "task_too_long"}), "any_token": {"error": "sampler_failed"}}
    assert figures([without])["measured_s"] == 30 + (len(SAMPLERS) - 1) * (2 + 1)
