from pathlib import Path

import pytest

from arc_engine.errors import AdapterRefused
from arc_engine.sampling.protocol import (
    Completion,
    Greedy,
    Prompt,
    Question,
    SampleRequest,
    Samples,
    SamplingParameters,
    ScoreRequest,
)
from benchmarks.remembering import RememberingSampler

pytestmark = pytest.mark.fast

BASE = Path("base")
PARAMETERS = SamplingParameters(Greedy(), max_new_tokens=4, stop_token_id=2)


class CountingSampler:
    """A fake, because what is tested is how often it is asked."""

    def __init__(self):
        self.num_calls = 0

    def start(self, *, lora_rank=0):
        pass

    def max_positions(self, *, base, lora_rank=0):
        return None

    def sample(self, requests, *, base):
        self.num_calls += 1
        return [
            AdapterRefused("no") if request.prompts[0].ids == (0,) else (Samples((Completion((7,), -1.0, True),)),)
            for request in requests
        ]

    def score(self, requests, *, base):
        self.num_calls += 1
        return [((-2.0,),) for _ in requests]

    def close(self):
        pass


def asking(*ids):
    return SampleRequest((Prompt(ids, seed=0),), None, PARAMETERS)


def test_equal_requests_are_answered_once():
    counting = CountingSampler()
    sampler = RememberingSampler(counting)
    first = sampler.sample([asking(1), asking(2)], base=BASE)
    assert counting.num_calls == 2
    assert sampler.sample([asking(2), asking(1)], base=BASE) == first[::-1]
    assert sampler.sample([asking(3)], base=BASE)
    assert counting.num_calls == 3
    assert list(sampler.samples) == [asking(1), asking(2), asking(3)]


def test_scores_are_remembered_too():
    counting = CountingSampler()
    sampler = RememberingSampler(counting)
    request = ScoreRequest((Question((1,), ((2,),)),), None)
    assert sampler.score([request], base=BASE) == sampler.score([request, request], base=BASE)[:1] == [((-2.0,),)]
    assert counting.num_calls == 1


def test_seconds_are_those_of_what_was_asked(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    sampler = RememberingSampler(CountingSampler())
    sampler.sample([asking(1)], base=BASE)
    assert (sampler.sample_s, sampler.score_s) == (1, 0)


def test_a_refusal_is_an_answer():
    counting = CountingSampler()
    sampler = RememberingSampler(counting)
    for _ in range(2):
        [refused] = sampler.sample([asking(0)], base=BASE)
        assert isinstance(refused, AdapterRefused)
    assert counting.num_calls == 1
