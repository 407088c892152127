"""Forward passes that are too large, or go wrong: fewer go together, batches are cut, and nobody else is hurt.

No CPU runs out of memory when a test asks it to, so the decoder here is one that says so above a number of tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from arc_engine.adaptation import memory, passes
from arc_engine.adaptation.decoders import decoder_of
from arc_engine.adaptation.memory import token_budget
from arc_engine.adaptation.passes import Pass
from arc_engine.base_models.loading import load_base
from arc_engine.errors import OutOfMemory
from tests.arc_engine.adaptation.adapting import adapt_to, changed, numbers
from tests.arc_engine.adaptation.packing import ONE_SEQUENCE, Wanted, alone, assert_same, in_float64, square, train_all

IN_FLOAT64 = 1e-12


class SimulatedMemory:
    """A decoder that has memory for `max_tokens`, and counts how often that was too little."""

    def __init__(self, decoder: Any, max_tokens: int) -> None:
        self.sites = decoder.sites
        self._decoder = decoder
        self._max_tokens = max_tokens
        self.computed: list[int] = []
        self.num_failures = 0

    @contextmanager
    def hidden(self, batch: Any, adapters: Any) -> Iterator[torch.Tensor]:
        if batch.num_computed > self._max_tokens:
            self.num_failures += 1
            raise torch.OutOfMemoryError("simulated")
        self.computed.append(batch.num_computed)
        with self._decoder.hidden(batch, adapters) as hidden:
            yield hidden


@pytest.fixture
def memory_for(monkeypatch):
    """Says how many tokens there is memory for; the decoders that are made then."""

    def limit(max_tokens: int) -> list[SimulatedMemory]:
        made: list[SimulatedMemory] = []

        def simulated(base: Any, **options: Any) -> SimulatedMemory:
            made.append(SimulatedMemory(decoder_of(base, **options), max_tokens))
            return made[-1]

        monkeypatch.setattr(passes, "decoder_of", simulated)
        return made

    return limit


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, device="cpu")


@pytest.fixture(scope="module")
def exact(tiny_base):
    return in_float64(tiny_base)


def of_one_length(side, *, batch_size, **values):
    return Wanted(changed(batch_size=batch_size, lora_dropout=0.3, **ONE_SEQUENCE, **values), (square(side),))


def test_less_goes_together_where_memory_runs_out_simulated(exact, memory_for):
    wanted = [of_one_length(3, batch_size=2, seed=seed) for seed in range(4)]
    expected = [alone(exact, one) for one in wanted]
    num_tokens = 2 * (expected[0].steps[0].tokens // 2 - 1)
    made = memory_for(2 * num_tokens)
    for trial, other in zip(train_all(exact, *wanted), expected, strict=True):
        assert_same(trial, other, tolerance=IN_FLOAT64)
        assert trial.adaptation.company == 2
    (decoder,) = made
    assert decoder.num_failures == 1, "it is known from then on"
    assert set(decoder.computed) == {2 * num_tokens}


def test_a_batch_is_cut_where_memory_runs_out_simulated(exact, memory_for):
    wanted = of_one_length(3, batch_size=5)
    expected = alone(exact, wanted)
    num_tokens = expected.steps[0].tokens // 5 - 1
    made = memory_for(2 * num_tokens)
    assert_same(alone(exact, wanted), expected, tolerance=IN_FLOAT64)
    (decoder,) = made
    assert max(decoder.computed) == 2 * num_tokens
    assert sum(decoder.computed) == 5 * num_tokens * 6, "each sequence once"


def test_a_batch_that_had_to_be_cut_is_cut_beforehand_from_then_on_simulated(base, memory_for):
    wanted = of_one_length(3, batch_size=4)
    num_tokens = alone(base, wanted).steps[0].tokens // 4 - 1
    made = memory_for(2 * num_tokens)
    alone(base, wanted)
    assert made[0].num_failures == 1


def test_a_sequence_that_fits_nowhere_fails_its_own_run_simulated(exact, memory_for):
    small = [of_one_length(2, batch_size=3, seed=seed) for seed in (1, 2)]
    large = of_one_length(9, batch_size=2)
    expected = [alone(exact, one) for one in small]
    num_tokens = alone(exact, large).steps[0].tokens // 2 - 1
    memory_for(num_tokens - 1)
    first, failed, second = train_all(exact, small[0], large, small[1])
    assert isinstance(failed.error, OutOfMemory)
    assert failed.error.num_tokens == num_tokens
    assert failed.steps == []
    for trial, other in zip((first, second), expected, strict=True):
        assert_same(trial, other, tolerance=IN_FLOAT64)


def test_an_error_in_company_fails_only_the_run_whose_error_it_is_simulated(exact, monkeypatch):
    wanted = [of_one_length(3, batch_size=2, seed=seed) for seed in range(3)]
    expected = [alone(exact, one) for one in wanted]
    original, error = Pass.gradients, RuntimeError("a fault of this run's own")

    def gradients(self, members):
        for _, run in members:
            if run.settings.seed == 1 and run.step == 3:
                raise error
        return original(self, members)

    monkeypatch.setattr(Pass, "gradients", gradients)
    first, guilty, last = train_all(exact, *wanted)
    assert guilty.error is error
    assert len(guilty.steps) == 2
    for trial, other in ((first, expected[0]), (last, expected[2])):
        assert_same(trial, other, tolerance=IN_FLOAT64)


def test_free_memory_makes_no_difference_to_a_run_alone(base, monkeypatch):
    wanted = changed(batch_size=7, lora_dropout=0.3)
    _, plenty = adapt_to(base, settings=wanted)
    monkeypatch.setattr(memory, "_free_bytes", lambda device: 0)
    _, none = adapt_to(base, settings=wanted)
    assert numbers(none) == numbers(plenty)


def test_the_first_guess_grows_with_free_memory_and_with_smaller_numbers(base, tiny_base, monkeypatch):
    def guess(of, num_bytes):
        monkeypatch.setattr(memory, "_free_bytes", lambda device: num_bytes)
        return token_budget(of, Pass(of).sites)

    gibibyte = 2**30
    assert guess(base, gibibyte) > 1000
    assert guess(base, 8 * gibibyte) == pytest.approx(8 * guess(base, gibibyte), rel=1e-3)
    half = load_base(tiny_base, device="cpu", precision="bfloat16")
    assert guess(half, gibibyte) == pytest.approx(2 * guess(base, gibibyte), rel=1e-3)
    assert guess(base, 0) == 1


def test_free_memory_is_found_out(base):
    assert token_budget(base, Pass(base).sites) > 1
