"""One process per core with one thread each, as many workers of the service would be, or as many competitors."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Barrier
from types import TracebackType
from typing import Final, Self

import torch

from arc_engine.allocator import keep_freed_memory
from arc_engine.base_models.loading import LoadedBase
from arc_engine.settings import AdaptationSettings
from benchmarks.adapting_clock import Timing
from benchmarks.adapting_jobs import Job
from benchmarks.adapting_models import load
from benchmarks.adapting_plan import Way
from benchmarks.adapting_ways import Trained, train

START_LIMIT_S: Final = 600.0
_here: dict[str, tuple[LoadedBase, Barrier]] = {}
"""In a process of the pool: its model, and where it meets the others."""


class CoreProcesses:
    """Processes that each hold the model, and start at the same moment. Use as a context manager."""

    def __init__(self, model: str, *, count: int, full_vocabulary: bool) -> None:
        context = get_context("spawn")
        self._count = count
        self._pool = ProcessPoolExecutor(
            count,
            mp_context=context,
            initializer=_begin,
            initargs=(model, full_vocabulary, context.Barrier(count, timeout=START_LIMIT_S)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def train(self, way: Way, jobs: Sequence[Job], *, settings: AdaptationSettings) -> Trained:
        """Trains the jobs, each process its share of them; where there are fewer jobs than processes, some twice."""
        repeated = [jobs[number % len(jobs)] for number in range(max(self._count, len(jobs)))]
        shares = evenly(repeated, count=self._count)
        futures = [self._pool.submit(_train, way, [repeated[i] for i in share], settings) for share in shares]
        done = [future.result() for future in futures]
        losses = dict(
            pair
            for share, trained in zip(shares, done, strict=True)
            for pair in zip(share, trained.losses, strict=True)
        )
        return Trained(Timing.together([one.timing for one in done]), [losses[i] for i in range(len(repeated))])


def evenly(jobs: Sequence[Job], *, count: int) -> list[list[int]]:
    """Indices of the jobs in `count` shares of about as many tokens: the longest first, to whoever has least."""
    shares: list[list[int]] = [[] for _ in range(count)]
    tokens = [0] * count
    for index in sorted(range(len(jobs)), key=lambda i: -jobs[i].num_tokens):
        least = tokens.index(min(tokens))
        shares[least].append(index)
        tokens[least] += jobs[index].num_tokens
    return shares


def _begin(model: str, full_vocabulary: bool, barrier: Barrier) -> None:  # noqa: FBT001 - a pool passes by position
    keep_freed_memory()
    torch.set_num_threads(1)
    _here["model"] = load(model, device="cpu", full_vocabulary=full_vocabulary), barrier


def _train(way: Way, jobs: Sequence[Job], settings: AdaptationSettings) -> Trained:
    base, barrier = _here["model"]
    barrier.wait()
    return train(way, base, jobs, settings=settings)
