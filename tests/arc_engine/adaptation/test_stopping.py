"""When a training ends, and what it says of it."""

import pytest

from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.adaptation.stopping import StopRule
from arc_engine.settings import AdaptationSettings

pytestmark = pytest.mark.fast


def ends(losses, *, seconds_per_step=1.0, **settings):
    """The step after which the rule ends the training, and why; None if it never does."""
    rule = StopRule(AdaptationSettings(**settings))
    for number, loss in enumerate(losses, start=1):
        cause = rule.after(AdaptationStep(number, loss, 1e-3, 1.0, 10, number * seconds_per_step))
        if cause is not None:
            return number, cause
    return None


def test_all_steps_are_taken_unless_the_task_is_learned_before():
    assert ends([0.01] * 30, seconds_per_step=1e6, max_steps=30) == (30, "max_steps")
    assert ends([0.01] * 29, seconds_per_step=1e6, max_steps=30) is None
    assert ends([0.0] * 30, max_steps=30, stop_loss=None) == (30, "max_steps")


def test_the_mean_of_the_last_ten_losses_has_to_be_below_stop_loss():
    losses = [1.0] * 5 + [0.0] * 30
    # Ten losses with k ones in them have the mean k / 10.
    assert ends(losses, stop_loss=0.45) == (11, "stop_loss")
    assert ends(losses, stop_loss=0.05) == (15, "stop_loss")
    assert ends([0.5] * 30, stop_loss=0.5) is None


def test_a_low_loss_alone_ends_nothing_before_ten_steps_are_over():
    assert ends([0.0] * 30, stop_loss=0.1) == (10, "stop_loss")
    assert ends([0.0] * 30, stop_loss=0.1, max_steps=9) == (9, "max_steps")


def test_the_step_in_which_the_time_runs_out_is_the_last():
    assert ends([1.0] * 30, time_budget_s=2.5) == (3, "time_budget")
    assert ends([1.0] * 30, time_budget_s=3) == (3, "time_budget")
    assert ends([1.0] * 30, time_budget_s=0.001) == (1, "time_budget")


def test_a_training_that_came_to_its_end_was_not_cut_short():
    assert ends([0.0] * 10, stop_loss=0.1, time_budget_s=10, max_steps=10) == (10, "max_steps")
