import pytest

from benchmarks.adapting_clock import OneByOne, Timing, Together

pytestmark = pytest.mark.fast


@pytest.fixture
def clock(monkeypatch):
    """Moments, of which the last one is now."""
    moments = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: moments[-1])
    return moments


def one_by_one(clock, *steps, end):
    """The timing of steps that end at these moments: (number, moment)."""
    stopwatch = OneByOne(device="cpu", steps=3)
    for number, moment in steps:
        clock.append(moment)
        stopwatch.step(number)
    clock.append(end)
    return stopwatch.timing()


def test_only_steps_after_the_first_are_timed_as_steps(clock):
    timing = one_by_one(clock, (1, 5.0), (2, 6.0), (3, 7.0), (1, 12.0), (2, 13.0), (3, 14.0), end=16.0)
    assert timing.step_s == 1.0
    assert timing.startup_s == pytest.approx((4 + 4 + 2) / 2)
    assert timing.tasks_per_hour(steps=150) == pytest.approx(3600 / 155)


def test_a_quick_first_step_is_no_negative_start(clock):
    assert one_by_one(clock, (1, 1.0), (2, 3.0), (3, 5.0), end=5.0).startup_s == 0.0


def test_of_a_pack_what_is_done_for_one_job_alone_is_its_start(clock):
    stopwatch = Together(device="cpu")
    for ready in (2.0, 5.0):
        with stopwatch.startup():
            clock.append(ready)
        clock.append(ready + 1)
    for stepped, exported in ((10.0, None), (10.0, None), (14.0, 14.5), (14.5, 15.5)):
        clock.append(stepped)
        stopwatch.step()
        if exported:
            clock.append(exported)
            stopwatch.exported()
    clock.append(16.0)
    timing = stopwatch.timing()
    assert (timing.num_steps, timing.num_jobs) == (4, 2)
    assert timing.startup_s == (2 + 2 + 0.5 + 1) / 2
    assert timing.step_s == (16 - 5.5) / 4


def test_processes_are_added_up():
    one = Timing(steps_s=6.0, num_steps=3, startup_total_s=1.0, num_jobs=1)
    both = Timing.together([one, one])
    assert (one.step_s, one.startup_s) == (2.0, 1.0)
    assert (both.step_s, both.startup_s) == (1.0, 0.5)
    assert both.tasks_per_hour(steps=10) == pytest.approx(2 * one.tasks_per_hour(steps=10))
