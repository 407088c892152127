"""The learning rate: transformers' own values after the warm-up, and a warm-up that never starts at zero."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_scheduler

from arc_engine.adaptation.schedule import learning_rate_factor

pytestmark = pytest.mark.fast

SCHEDULERS = ["linear", "cosine", "constant", "constant_with_warmup"]


def reference(scheduler, *, max_steps, num_warmup_steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = get_scheduler(scheduler, optimizer, num_warmup_steps=num_warmup_steps, num_training_steps=max_steps)
    rates = []
    for _ in range(max_steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(("max_steps", "warmup_ratio"), [(1, 0.0), (20, 0.0), (20, 0.25), (33, 0.1), (10, 0.99)])
def test_after_the_warmup_the_rate_is_that_of_transformers(scheduler, max_steps, warmup_ratio):
    num_warmup_steps = math.ceil(max_steps * warmup_ratio)
    expected = reference(scheduler, max_steps=max_steps, num_warmup_steps=num_warmup_steps)
    factors = [
        learning_rate_factor(step, scheduler=scheduler, max_steps=max_steps, warmup_ratio=warmup_ratio)
        for step in range(1, max_steps + 1)
    ]
    assert factors[num_warmup_steps:] == pytest.approx(expected[num_warmup_steps:])


def test_the_warmup_rises_in_equal_steps_to_the_peak():
    factors = [learning_rate_factor(s, scheduler="linear", max_steps=10, warmup_ratio=0.4) for s in range(1, 6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@given(st.sampled_from(SCHEDULERS), st.integers(1, 500), st.floats(0, 0.999), st.data())
def test_no_step_is_taken_in_vain(scheduler, max_steps, warmup_ratio, data):
    step = data.draw(st.integers(1, max_steps))
    factor = learning_rate_factor(step, scheduler=scheduler, max_steps=max_steps, warmup_ratio=warmup_ratio)
    assert 0 < factor <= 1
