"""Every way of training adapters behind one function."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from arc_engine.base_models.loading import LoadedBase
from arc_engine.settings import AdaptationSettings
from benchmarks.adapting_clock import Timing
from benchmarks.adapting_jobs import Job
from benchmarks.adapting_ours import train_ours
from benchmarks.adapting_peers import train_with_loop, train_with_trainer
from benchmarks.adapting_plan import Kind, Way


@dataclass(frozen=True, slots=True)
class Trained:
    """What training all jobs took, and the loss of every step of every job, in the order of the jobs."""

    timing: Timing
    losses: list[list[float]]


def train(way: Way, base: LoadedBase, jobs: Sequence[Job], *, settings: AdaptationSettings) -> Trained:
    """Trains an adapter for every job; the base is then what it was."""
    trainers: dict[Kind, Callable[..., tuple[Timing, list[list[float]]]]] = {
        "trainer": train_with_trainer,
        "loop": partial(train_with_loop, autocast=way.autocast),
        "ours": partial(train_ours, pack=way.pack),
    }
    gc.collect()
    if base.device.startswith("cuda"):
        torch.cuda.empty_cache()
    try:
        return Trained(*trainers[way.kind](base, jobs, settings=settings))
    finally:
        base.model.eval()
