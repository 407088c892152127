"""The torch backend: samples and scores in this process, with the base model that it holds in memory."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import torch

from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.errors import EngineError, SamplerFailed
from arc_engine.sampling.protocol import (
    AdapterFolder,
    DepthFirst,
    Sampled,
    SampleRequest,
    Samples,
    Scored,
    ScoreRequest,
)
from arc_engine.sampling.torch_adapter import adapted
from arc_engine.sampling.torch_batches import BatchLimits
from arc_engine.sampling.torch_decoding import decode
from arc_engine.sampling.torch_depth_first import search_depth_first
from arc_engine.sampling.torch_scoring import score

Request = TypeVar("Request")
Result = TypeVar("Result")

DEFAULT_LIMITS: Final = BatchLimits()


class _OneBase:
    """Loads base models, and keeps one until another is asked for."""

    def __init__(self) -> None:
        self._loaded: LoadedBase | None = None

    def __call__(self, folder: Path) -> LoadedBase:
        if self._loaded is None or self._loaded.folder != folder:
            self._loaded = None  # free the old weights before the new ones are loaded
            self._loaded = load_base(folder)
        return self._loaded


class TorchSampler:
    """Works off requests one after another.

    `load` gives the base model, and is asked for it by every call: who keeps it, and for how long, is its business.
    Without it the sampler loads base models itself and keeps the last one. `clock` gives seconds, for time budgets; a
    request's begins when its adapter is in place.
    """

    def __init__(
        self,
        *,
        load: Callable[[Path], LoadedBase] | None = None,
        limits: BatchLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load or _OneBase()
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def start(self, *, lora_rank: int = 0) -> None:  # noqa: ARG002 - there is nothing to start
        return

    def max_positions(self, *, base: Path, lora_rank: int = 0) -> int | None:  # noqa: ARG002 - the model's own
        return None

    def sample(self, requests: Sequence[SampleRequest], *, base: Path) -> list[Sampled]:
        with self._lock:
            loaded = self._base(base)
            return [_under(request.adapter, loaded, self._sample, request) for request in requests]

    def score(self, requests: Sequence[ScoreRequest], *, base: Path) -> list[Scored]:
        with self._lock:
            loaded = self._base(base)
            return [_under(request.adapter, loaded, self._score, request) for request in requests]

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            self._load = load_base  # and lets go of what was kept

    def _sample(self, loaded: LoadedBase, request: SampleRequest) -> tuple[Samples, ...]:
        parameters, used_up = request.parameters, self._stopwatch(request.parameters.time_budget_s)
        method = parameters.method
        if isinstance(method, DepthFirst):
            return search_depth_first(
                loaded, request.prompts, parameters, method=method, limits=self._limits, used_up=used_up
            )
        return decode(loaded, request.prompts, parameters, method=method, limits=self._limits, used_up=used_up)

    def _score(self, loaded: LoadedBase, request: ScoreRequest) -> tuple[tuple[float, ...], ...]:
        return score(loaded, request.questions, limits=self._limits, go_on=self._check_open)

    def _stopwatch(self, budget_s: float | None) -> Callable[[], bool]:
        """Tells whether the budget is used up; raises `SamplerFailed` once the sampler is closed."""
        ends_at = math.inf if budget_s is None else self._clock() + budget_s

        def used_up() -> bool:
            self._check_open()
            return self._clock() >= ends_at

        return used_up

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise SamplerFailed("the sampler is closed")

    def _base(self, folder: Path) -> LoadedBase:
        self._check_open()
        return self._load(folder)


def _under(
    adapter: AdapterFolder | None,
    loaded: LoadedBase,
    work: Callable[[LoadedBase, Request], Result],
    request: Request,
) -> Result | EngineError:
    """What `work` makes of the request under its adapter, or why the request is refused or cannot be worked off."""
    try:
        with adapted(loaded, adapter), torch.inference_mode():
            return work(loaded, request)
    except SamplerFailed:
        raise
    except EngineError as error:
        return error
    except torch.OutOfMemoryError as error:
        failure = SamplerFailed(f"there is not enough memory on the device: {error}")
    torch.cuda.empty_cache()  # here, because the error held on to the frames, and these to their tensors
    return failure
