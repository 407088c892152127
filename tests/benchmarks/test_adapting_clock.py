import pytest

from benchmarks.adapting_clock import Stopwatch, Timing

pytestmark = pytest.mark.fast


@pytest.fixture
def clock(monkeypatch):
    moments = []
    monkeypatch.setattr("time.perf_counter", lambda: moments[-1])
    return moments


def stopped(clock, *steps, end):
    """The timing of steps that end at these moments: (number, moment)."""
    clock.append(0.0)
    stopwatch = Stopwatch(device="cpu", steps=3)
    for number, moment in steps:
        clock.append(moment)
        stopwatch.step(number)
    clock.append(end)
    return stopwatch.timing()


def test_only_steps_after_the_first_are_measured_as_steps(clock):
    timing = stopped(clock, (1, 5.0), (2, 6.0), (3, 7.0), (1, 12.0), (2, 13.0), (3, 14.0), end=16.0)
    assert timing.step_s == 1.0
    assert timing.startup_s == pytest.approx((4 + 4 + 2) / 2)
    assert timing.tasks_per_hour(steps=150) == pytest.approx(3600 / 155)


def test_steps_of_a_pack_share_their_pass(clock):
    together = [(number, 4.0 * number) for number in (1, 2, 3) for _ in range(4)]
    timing = stopped(clock, *together, end=12.0)
    assert timing.step_s == 1.0
    assert timing.startup_s == 0.0


def test_processes_are_added_up():
    one = Timing(later_s=6.0, num_later=3, rest_s=3.0, num_jobs=1)
    both = Timing.together([one, one])
    assert (one.step_s, one.startup_s) == (2.0, 1.0)
    assert (both.step_s, both.startup_s) == (1.0, 0.5)
    assert both.tasks_per_hour(steps=10) == pytest.approx(2 * one.tasks_per_hour(steps=10))


def test_a_quick_first_step_is_no_negative_start():
    assert Timing(later_s=6.0, num_later=3, rest_s=1.0, num_jobs=1).startup_s == 0.0
