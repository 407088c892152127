"""The vLLM backend, as the worker sees it. Nothing of vLLM or torch is imported here: the engine has its own process.

Own process, because vLLM's engine leaks when it is deleted, can hang, and dies with some errors; a plain
`subprocess`, because vLLM cannot start its own children below Celery's daemonic ones.
"""

import itertools
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from arc_engine.errors import AdapterRefused, SamplerFailed
from arc_engine.sampling.acceptance import check_adapter
from arc_engine.sampling.engine_process import ENGINE_COMMAND, EngineDied, EngineProcess, Limits
from arc_engine.sampling.protocol import AdapterFolder, Completion, Prompt, SamplingParameters
from arc_engine.sampling.wire import AdapterName, EngineOptions, Request

log = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """How engines are started.

    `max_lora_rank` is where the engine starts; it grows when an adapter needs more. `kv_cache_gib` None: 1 on a CPU, 8
    on a GPU. `log_file` None: the engine writes to our standard error. `command` is what is run as the engine, for
    example below numactl; its options are appended.
    """

    max_lora_rank: int = 16
    max_num_seqs: int = 128
    kv_cache_gib: float | None = None
    log_file: Path | None = None
    limits: Limits = field(default_factory=Limits)
    command: tuple[str, ...] = ENGINE_COMMAND


class VllmSampler:
    """Samples with vLLM. The engine starts with `start`, is kept between requests, and restarted after a crash.

    A request during which the engine dies is repeated once on a new engine. An adapter of higher rank, or another base
    model, also costs a restart.
    """

    def __init__(self, base: Path, *, options: VllmOptions | None = None) -> None:
        self._options = options or VllmOptions()
        self._base = base.absolute()
        self._max_lora_rank = _allowed_rank(self._options.max_lora_rank)
        self._numbers = itertools.count(1)
        self._request_lock = threading.Lock()
        self._engine_lock = threading.Lock()
        self._engine: EngineProcess | None = None
        self._closed = False

    def start(self, *, lora_rank: int = 0) -> None:
        self._running_engine(self._base, lora_rank=lora_rank)

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        base: Path,
        adapter: AdapterFolder | None,
        parameters: SamplingParameters,
    ) -> list[list[Completion]]:
        rank = 0 if adapter is None else adapter.rank
        if adapter is not None:
            check_adapter(adapter)
        with self._request_lock:
            engine = self._running_engine(base.absolute(), lora_rank=rank)
            try:
                return engine.sample(self._request(prompts, adapter, parameters))
            except EngineDied as error:
                log.warning("%s; starting another and trying again", error)
            engine = self._running_engine(base.absolute(), lora_rank=rank)
            return engine.sample(self._request(prompts, adapter, parameters))

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

    def _request(
        self, prompts: Sequence[Prompt], adapter: AdapterFolder | None, parameters: SamplingParameters
    ) -> Request:
        # vLLM keeps prefixes by adapter name and path: a name that returned with other weights would be answered from
        # the old one's cache. So every request makes a name of its own, whatever its caller calls the adapter.
        number = next(self._numbers)
        if adapter is None:
            return Request(tuple(prompts), None, parameters)
        name = AdapterName(f"{adapter.name}#{number}", number, str(adapter.path.absolute()))
        return Request(tuple(prompts), name, parameters)

    def _running_engine(self, base: Path, *, lora_rank: int) -> EngineProcess:
        with self._engine_lock:
            if self._closed:
                raise SamplerFailed("the sampler is closed")
            fits = lora_rank <= self._max_lora_rank and base == self._base
            if self._engine is not None and self._engine.alive and fits:
                return self._engine
            if self._engine is not None:
                log.info("replacing the vLLM engine: %s", "it died" if fits else f"{base} with rank {lora_rank}")
                self._engine.close()
                self._engine = None
            self._max_lora_rank = max(self._max_lora_rank, _allowed_rank(lora_rank))
            self._base = base
            self._engine = self._new_engine()
            return self._engine

    def _new_engine(self) -> EngineProcess:
        options = self._options
        return EngineProcess(
            EngineOptions(
                base=str(self._base),
                max_lora_rank=self._max_lora_rank,
                max_num_seqs=options.max_num_seqs,
                kv_cache_gib=options.kv_cache_gib,
                parent_pid=os.getpid(),
            ),
            environment={**DEFAULTS, **os.environ, **ENVIRONMENT},
            limits=options.limits,
            log_file=options.log_file,
            command=options.command,
        )


def _allowed_rank(rank: int) -> int:
    """The smallest `max_lora_rank` that holds adapters of this rank."""
    for allowed in LORA_RANKS:
        if rank <= allowed:
            return allowed
    raise AdapterRefused(f"vLLM takes adapters of rank {LORA_RANKS[-1]} at most, this one has {rank}")
