"""The vLLM backend, as the worker sees it. Nothing of vLLM or torch is imported here: the engine has its own process.

Own process, because vLLM's engine leaks when it is deleted, can hang, and dies with some errors; a plain
`subprocess`, because vLLM cannot start its own children below Celery's daemonic ones.
"""

import itertools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from arc_engine.errors import AdapterRefused, EngineError, MethodUnsupported, SamplerFailed
from arc_engine.sampling.acceptance import check_adapter
from arc_engine.sampling.engine_process import ENGINE_COMMAND, EngineDied, EngineLost, EngineProcess, Limits
from arc_engine.sampling.protocol import AdapterFolder, DepthFirst, Sampled, SampleRequest, Scored, ScoreRequest
from arc_engine.sampling.wire import AdapterName, EngineOptions, SampleJob, ScoreJob

log = logging.getLogger(__name__)

RequestT = TypeVar("RequestT", SampleRequest, ScoreRequest)
T = TypeVar("T")

LORA_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for `max_lora_rank`."""

ENVIRONMENT: Final = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: no grandchildren to lose
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",  # the base is a folder
}
DEFAULTS: Final = {
    # It warns of chat templates and thread counts, with tracebacks; what ends it, it raises.
    "VLLM_LOGGING_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",
    # Only used on a CPU: one thread, which may run anywhere. vLLM would pin threads to all cores and let them wait for
    # each other in every operation: next to a process that trains, that took 25 times as long for a small model.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
"""What our own environment may set otherwise."""
OVERRIDING: Final = frozenset({"VLLM_CPU_KVCACHE_SPACE"})
"""What would win over the options that engines are started with."""


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """How engines are started.

    `max_lora_rank` is where the engine starts; it grows when an adapter needs more. `max_loras` is how many adapters
    can be in memory and in a batch at a time, `max_num_seqs` how many sequences. `kv_cache_gib` None: 1 on a CPU, 8 on
    a GPU. `log_file` None: the engine writes to our standard error. `command` is what is run as the engine, for example
    below numactl; its options are appended.
    """

    max_lora_rank: int = 16
    max_loras: int = 4
    max_num_seqs: int = 128
    kv_cache_gib: float | None = None
    log_file: Path | None = None
    limits: Limits = field(default_factory=Limits)
    command: tuple[str, ...] = ENGINE_COMMAND


class VllmSampler:
    """Samples with vLLM. The engine starts with `start`, is kept between calls, and restarted after a crash or a hang.

    A call during which the engine dies, or hangs and is killed, is repeated once on a new engine, and then request by
    request: one that ends its engine alone has `SamplerFailed` in the place of its result. Where all do, the engine is
    what is broken, and the call raises. An engine that dies while it starts up is replaced once, at no request's
    expense. An adapter of higher rank, or another base model, also costs a restart.
    """

    def __init__(self, base: Path, *, options: VllmOptions | None = None) -> None:
        self._options = options or VllmOptions()
        self._base = base.absolute()
        self._max_lora_rank = _allowed_rank(self._options.max_lora_rank)
        self._numbers = itertools.count(1)
        self._call_lock = threading.Lock()
        self._engine_lock = threading.Lock()
        self._engine: EngineProcess | None = None
        self._closed = False

    def start(self, *, lora_rank: int = 0) -> None:
        self._running_engine(self._base, lora_rank=lora_rank)

    def sample(self, requests: Sequence[SampleRequest], *, base: Path) -> list[Sampled]:
        def call(engine: EngineProcess, requests: Sequence[SampleRequest]) -> list[Sampled]:
            return engine.sample(
                [SampleJob(request.prompts, self._named(request.adapter), request.parameters) for request in requests]
            )

        return self._call(requests, base=base.absolute(), call=call)

    def score(self, requests: Sequence[ScoreRequest], *, base: Path) -> list[Scored]:
        def call(engine: EngineProcess, requests: Sequence[ScoreRequest]) -> list[Scored]:
            return engine.score([ScoreJob(request.questions, self._named(request.adapter)) for request in requests])

        return self._call(requests, base=base.absolute(), call=call)

    def max_positions(self, *, base: Path, lora_rank: int = 0) -> int | None:
        with self._call_lock:
            rank = lora_rank if lora_rank <= LORA_RANKS[-1] else 0  # what is above is refused, and needs no engine
            return self._ready_engine(base.absolute(), lora_rank=rank)[1]

    def close(self) -> None:
        with self._engine_lock:
            self._closed = True
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    @property
    def engine_pid(self) -> int | None:
        """Process id of the engine, None where there is none."""
        with self._engine_lock:
            return self._engine.pid if self._engine is not None else None

    @property
    def num_cached_tokens(self) -> int:
        """How many prompt tokens the engine there is did not have to compute, because they were in its prefix cache."""
        with self._engine_lock:
            return self._engine.num_cached_tokens if self._engine is not None else 0

    def _call(
        self,
        requests: Sequence[RequestT],
        *,
        base: Path,
        call: Callable[[EngineProcess, Sequence[RequestT]], list[T | EngineError]],
    ) -> list[T | EngineError]:
        """Results of the requests that are not refused here already, and those refusals, each in its place."""
        refusals = [_refusal(request, base=base) for request in requests]
        accepted = [request for request, refusal in zip(requests, refusals, strict=True) if refusal is None]
        with self._call_lock:
            results = iter(self._results(accepted, base=base, call=call) if accepted else [])
        return [next(results) if refusal is None else refusal for refusal in refusals]

    def _results(
        self,
        requests: Sequence[RequestT],
        *,
        base: Path,
        call: Callable[[EngineProcess, Sequence[RequestT]], list[T | EngineError]],
    ) -> list[T | EngineError]:
        rank = max(request.adapter.rank if request.adapter else 0 for request in requests)
        engine, _ = self._ready_engine(base, lora_rank=rank)
        try:
            return call(engine, requests)
        except EngineLost as error:
            log.warning("%s; starting another and trying again", error)
        engine, _ = self._ready_engine(base, lora_rank=rank)
        try:
            return call(engine, requests)
        except EngineLost as error:
            if len(requests) == 1:
                raise
            log.warning("%s; trying every request by itself", error)
        return self._results_one_by_one(requests, base=base, rank=rank, call=call)

    def _results_one_by_one(
        self,
        requests: Sequence[RequestT],
        *,
        base: Path,
        rank: int,
        call: Callable[[EngineProcess, Sequence[RequestT]], list[T | EngineError]],
    ) -> list[T | EngineError]:
        """Results of requests that have ended engines together, the guilty ones' errors in their places."""
        results: list[T | EngineError] = []
        for request in requests:
            try:
                engine, _ = self._ready_engine(base, lora_rank=rank)
            except SamplerFailed as error:  # there is no engine for the rest of them either
                if self._closed or not results:
                    raise
                return results + [error] * (len(requests) - len(results))
            try:
                results += call(engine, [request])
            except EngineLost as error:
                results.append(error)
        last = results[-1]
        if isinstance(last, EngineLost) and all(isinstance(result, EngineLost) for result in results):
            raise last
        return results

    def _ready_engine(self, base: Path, *, lora_rank: int) -> tuple[EngineProcess, int]:
        """An engine that has started up, and the longest sequence that it takes.

        One that dies before is replaced once: whoever is waiting for it has not even asked yet.
        """
        try:
            engine = self._running_engine(base, lora_rank=lora_rank)
            return engine, engine.wait_until_ready()
        except EngineDied as error:
            log.warning("%s; starting another", error)
        engine = self._running_engine(base, lora_rank=lora_rank)
        return engine, engine.wait_until_ready()

    def _named(self, adapter: AdapterFolder | None) -> AdapterName | None:
        # vLLM keeps prefixes by adapter name and path: a name that returned with other weights would be answered from
        # the old one's cache. So every request makes a name of its own, whatever its caller calls the adapter.
        if adapter is None:
            return None
        number = next(self._numbers)
        return AdapterName(f"{adapter.name}#{number}", number, str(adapter.path.absolute()))

    def _running_engine(self, base: Path, *, lora_rank: int) -> EngineProcess:
        with self._engine_lock:
            if self._closed:
                raise SamplerFailed("the sampler is closed")
            allowed = _allowed_rank(lora_rank)  # one that is refused must not cost the engine there is
            fits = lora_rank <= self._max_lora_rank and base == self._base
            if self._engine is not None and self._engine.alive and fits:
                return self._engine
            if self._engine is not None:
                log.info("replacing the vLLM engine: %s", "it died" if fits else f"{base} with rank {lora_rank}")
                self._engine.close()
                self._engine = None
            self._max_lora_rank = max(self._max_lora_rank, allowed)
            self._base = base
            self._engine = self._new_engine()
            return self._engine

    def _new_engine(self) -> EngineProcess:
        options = self._options
        return EngineProcess(
            EngineOptions(
                base=str(self._base),
                max_lora_rank=self._max_lora_rank,
                max_loras=options.max_loras,
                max_num_seqs=options.max_num_seqs,
                kv_cache_gib=options.kv_cache_gib,
                parent_pid=os.getpid(),
            ),
            environment={**DEFAULTS, **_inherited_environment(), **ENVIRONMENT},
            limits=options.limits,
            log_file=options.log_file,
            command=options.command,
        )


def _inherited_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in OVERRIDING}


def _refusal(request: SampleRequest | ScoreRequest, *, base: Path) -> EngineError | None:
    """Why the engine need not see this request, if so."""
    if isinstance(request, SampleRequest) and isinstance(request.parameters.method, DepthFirst):
        return MethodUnsupported("vLLM cannot search depth first; the torch backend can")
    try:
        if request.adapter is not None:
            _allowed_rank(request.adapter.rank)
            check_adapter(request.adapter, base=base)
    except EngineError as error:  # of the adapter, or of the base model that it is compared with
        return error
    return None


def _allowed_rank(rank: int) -> int:
    """The smallest `max_lora_rank` that holds adapters of this rank."""
    for allowed in LORA_RANKS:
        if rank <= allowed:
            return allowed
    raise AdapterRefused(f"vLLM takes adapters of rank {LORA_RANKS[-1]} at most, this one has {rank}")
