"""A sampler that is asked everything once: what is compared on the same samples must not be sampled again."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from arc_engine.sampling.protocol import Sampled, Sampler, SampleRequest, Scored, ScoreRequest

Request = TypeVar("Request", SampleRequest, ScoreRequest)
Result = TypeVar("Result")


class RememberingSampler:
    """Asks another sampler, one request per call, and answers a request that it has had before from memory.

    `samples` holds what was answered, in the order in which it was asked. `sample_s` and `score_s` are the seconds that
    the other sampler took in all.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._scores: dict[ScoreRequest, Scored] = {}
        self.samples: dict[SampleRequest, Sampled] = {}
        self.sample_s = 0.0
        self.score_s = 0.0

    def start(self, *, lora_rank: int = 0) -> None:
        self._sampler.start(lora_rank=lora_rank)

    def max_positions(self, *, base: Path, lora_rank: int = 0) -> int | None:
        return self._sampler.max_positions(base=base, lora_rank=lora_rank)

    def sample(self, requests: Sequence[SampleRequest], *, base: Path) -> list[Sampled]:
        self.sample_s += _ask(requests, self.samples, lambda request: self._sampler.sample([request], base=base))
        return [self.samples[request] for request in requests]

    def score(self, requests: Sequence[ScoreRequest], *, base: Path) -> list[Scored]:
        self.score_s += _ask(requests, self._scores, lambda request: self._sampler.score([request], base=base))
        return [self._scores[request] for request in requests]

    def close(self) -> None:
        self._sampler.close()


def _ask(
    requests: Sequence[Request], memory: dict[Request, Result], ask: Callable[[Request], Sequence[Result]]
) -> float:
    """Asks what the memory does not hold; the seconds that took."""
    begun = time.perf_counter()
    for request in requests:
        if request not in memory:
            [memory[request]] = ask(request)
    return time.perf_counter() - begun
