"""Who trains with whom: slots that are taken again, limits that are kept, turns, and what an adaptation tells of it."""

from dataclasses import replace

import pytest

from arc_engine.adaptation import pack
from arc_engine.adaptation.pack import PackLimits, train_together
from arc_engine.adaptation.slots import Slots
from arc_engine.base_models.loading import load_base
from arc_engine.errors import AdaptationStopped
from tests.arc_engine.adaptation.adapting import TASK, changed
from tests.arc_engine.adaptation.packing import (
    ONE_SEQUENCE,
    WIDE,
    Trial,
    Wanted,
    alone,
    square,
    train_all,
    watched_passes,
)


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, device="cpu")


def test_a_slot_that_is_free_is_given_to_the_next_at_once(base):
    num_steps = (2, 6, 3, 1, 4)
    wanted = [Wanted(changed(max_steps=n, seed=n, **ONE_SEQUENCE)) for n in num_steps]
    with watched_passes() as passes:
        trials = train_all(base, *wanted, limits=replace(WIDE, max_runs=2))
    place = {trial.run: index for index, trial in enumerate(trials)}
    assert [{place[run] for run, _ in members} for members in passes] == [
        {0, 1}, {0, 1}, {1, 2}, {1, 2}, {1, 2}, {1, 3}, {4}, {4}, {4}, {4},
    ]  # fmt: skip
    assert [len(trial.steps) for trial in trials] == list(num_steps)


def test_admit_is_asked_between_steps_too_and_again_after_it_had_nobody(base):
    late, answers, asked_after = Trial(base, Wanted(changed(max_steps=2))), [], []
    first = Trial(base, Wanted(changed(max_steps=5)))

    def admit():
        asked_after.append(len(first.steps))
        answers.append({1: first, 4: late}.get(len(asked_after)))
        return answers[-1]

    train_together(base, admit, limits=replace(WIDE, max_runs=3))
    # Twice to begin with, once after every pass while a slot is free; after its third step there was somebody.
    assert asked_after[:6] == [0, 0, 1, 2, 2, 3]
    assert answers[3] is late
    assert late.adaptation.company == 2
    assert first.adaptation.company == (3 * 1 + 2 * 2) / 5
    assert asked_after[-1] == 5, "nobody is left, and nobody is let in"


def test_nobody_at_all_is_fine(base):
    train_together(base, lambda: None)


def test_a_slot_is_free_before_its_trainee_hears_of_its_end(base, monkeypatch):
    """The trainee may go on for long: the memory is not to wait for it."""
    sizes, slots = [], []
    original = Slots.__init__
    monkeypatch.setattr(
        Slots, "__init__", lambda self, *args, **rest: (slots.append(self), original(self, *args, **rest))[1]
    )

    class Last(Trial):
        def done(self, adaptation):
            sizes.append(len(slots[0]))
            super().done(adaptation)

        def failed(self, error):
            sizes.append(len(slots[0]))
            super().failed(error)

    def stop(step):
        raise AdaptationStopped("at once")

    waiting = [Last(base, Wanted(changed(max_steps=1))), Last(base, Wanted(observe=stop)), Trial(base, Wanted())]
    train_together(base, lambda: waiting.pop() if waiting else None, limits=WIDE)
    assert sorted(sizes) == [1, 2]


MIXED = [
    Wanted(changed(max_steps=6, seed=side, batch_size=batch_size), (square(side),))
    for side, batch_size in ((2, 2), (2, 2), (3, 2), (3, 1), (8, 1), (8, 1), (1, 3), (9, 2))
]


@pytest.mark.parametrize("max_runs", [1, 3, 8])
@pytest.mark.parametrize("max_tokens", [300, 2_000])
@pytest.mark.parametrize("max_padding", [0.0, 0.25])
def test_forward_passes_keep_the_limits(base, max_runs, max_tokens, max_padding):
    limits = PackLimits(max_runs=max_runs, max_tokens=max_tokens, max_padding=max_padding)
    with watched_passes() as passes:
        train_all(base, *MIXED, limits=limits)
    for members in passes:
        portions = [portion for _, portion in members]
        size = len(portions) * max(len(one.rows) for one in portions) * max(one.length for one in portions)
        assert len(portions) <= max_runs
        assert size <= max_tokens or (len(portions) == 1 and len(portions[0].rows) == 1)
        assert size - sum(one.num_padded for one in portions) <= max_padding * size
    most_runs = max(len(members) for members in passes)
    assert (most_runs > 1) == (max_runs > 1), "or the limits are not what keeps them"
    # Eight runs of six steps, whatever they are cut into.
    assert sum(len(portion.rows) for members in passes for _, portion in members) == sum(
        6 * wanted.settings.batch_size for wanted in MIXED
    )


def test_no_run_waits_longer_than_there_are_others(base):
    # Too unequal to go together: all that is fair is taking turns.
    with watched_passes() as passes:
        trials = train_all(base, *MIXED, limits=PackLimits(max_runs=8, max_tokens=100_000, max_padding=0.05))
    assert len(passes) > 2 * len(trials)
    for start in range(len(passes) - len(trials)):
        before, window, after = passes[:start], passes[start : start + len(trials)], passes[start + len(trials) :]
        in_between = {run for members in window for run, _ in members}
        lasting = {run for members in after for run, _ in members}
        assert lasting <= in_between, f"since pass {len(before)}"


def test_an_adaptation_tells_how_much_company_and_padding_it_had(base):
    wanted = [
        Wanted(changed(max_steps=n, batch_size=size, **ONE_SEQUENCE), (square(side),))
        for n, size, side in ((6, 1, 3), (3, 2, 3), (2, 1, 1))
    ]
    with watched_passes() as passes:
        trials = train_all(base, *wanted)
    assert len(passes) == 6
    assert [trial.adaptation.company for trial in trials] == [(2 * 3 + 2 + 3 * 1) / 6, (2 * 3 + 2) / 3, 3]
    long, short = trials[0].steps[0].tokens - 1, trials[2].steps[0].tokens - 1
    assert short < 0.5 * long
    # The first one is alone in the end, and takes half of a rectangle of two rows before.
    assert trials[0].adaptation.padding == pytest.approx(1 - 6 / (3 * 2 + 3))
    assert trials[1].adaptation.padding == 0
    assert trials[2].adaptation.padding == pytest.approx(1 - short / (2 * long))


class Clock:
    """Stands in for `time`: every pass takes a second."""

    def __init__(self) -> None:
        self._calls = 0

    def perf_counter(self) -> float:
        self._calls += 1
        return float(self._calls)


def test_seconds_are_shared_by_tokens_simulated_clock(base, monkeypatch):
    monkeypatch.setattr(pack, "time", Clock())
    wanted = [
        Wanted(changed(max_steps=n, batch_size=1, **ONE_SEQUENCE), (square(side),))
        for n, side in ((5, 3), (2, 3), (2, 1))
    ]
    trials = train_all(base, *wanted)
    long, short = trials[0].steps[0].tokens - 1, trials[2].steps[0].tokens - 1
    first, second, third = (trial.adaptation.compute_s for trial in trials)
    assert first == pytest.approx(2 * long / (2 * long + short) + 3)
    assert second == pytest.approx(2 * long / (2 * long + short))
    assert third == pytest.approx(2 * short / (2 * long + short))


def test_a_common_run_with_sequences_of_many_lengths_is_cut_before_it_is_padded(base):
    wanted = Wanted(changed(batch_size=6, max_steps=4), (square(8), square(2), TASK))
    trial = alone(base, wanted)
    assert 0 < trial.adaptation.padding <= 0.2
