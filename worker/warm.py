"""What a worker keeps from job to job: the merged base model, its tokenizer, and the samplers.

One base model is warm at a time: a GPU rarely holds two, and the jobs of a batch share one. It has a sampler per
backend: jobs that only torch can answer do not cost the others their engine.
"""

import threading
from dataclasses import replace
from pathlib import Path

import structlog

from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.base_models.precision import resolve_precision
from arc_engine.base_models.reading import BaseReading, read_base
from arc_engine.sampling.backends import Backend, choose, make_sampler
from arc_engine.sampling.engine_process import Limits
from arc_engine.sampling.protocol import Sampler
from arc_engine.sampling.vllm_sampler import VllmOptions
from arc_engine.settings import Precision, SamplingSettings
from jobs.config import VllmConfig

log = structlog.get_logger()


class WarmModels:
    """Loads on first use and keeps until another base model is asked for."""

    def __init__(self, *, vllm: VllmOptions | None = None) -> None:
        self._vllm = vllm
        self._base: LoadedBase | None = None
        self._reading: BaseReading | None = None
        self._samplers: dict[tuple[Path, Backend], Sampler] = {}
        self._in_use: tuple[Path, Backend] | None = None
        self._lock = threading.Lock()  # close() comes from the thread that handles the shutdown signal

    def base(self, folder: Path, *, precision: Precision = "auto") -> LoadedBase:
        """The model in `folder`, ready to be adapted."""
        if self._base is None or not _is(self._base, folder, precision=precision):
            self._base = None  # free the old weights before the new ones are loaded
            self._base = load_base(folder, precision=precision)
            loaded = self._base
            log.info("base model loaded", folder=str(folder), device=loaded.device, precision=loaded.precision)
        return self._base

    def reading(self, folder: Path) -> BaseReading:
        """Its tokenizer and limits, without its weights."""
        if self._reading is None or self._reading.folder != folder:
            self._reading = read_base(folder)
        return self._reading

    def sampler(self, folder: Path, *, settings: SamplingSettings) -> Sampler:
        """The sampler that these settings ask for, with the model in `folder`, perhaps still starting.

        Samplers with another model are closed first.
        """
        wanted = (folder, choose(settings))
        with self._lock:
            for other in [kept for kept in self._samplers if kept[0] != folder]:
                self._samplers.pop(other).close()
            if wanted not in self._samplers:
                self._samplers[wanted] = make_sampler(wanted[1], base=folder, load=self.base, options=self._vllm)
            self._in_use = wanted
            return self._samplers[wanted]

    def interrupt(self) -> None:
        """Ends the sampler that was asked for last, and with it what it is doing; others are idle and stay warm."""
        with self._lock:
            if self._in_use in self._samplers:
                self._samplers.pop(self._in_use).close()

    def close(self) -> None:
        """Ends the samplers, in mid-request if need be."""
        with self._lock:
            while self._samplers:
                self._samplers.popitem()[1].close()


def vllm_options(config: VllmConfig) -> VllmOptions:
    """How engines are started here: as the installation says, and where it says nothing as the backend has it."""
    plain = VllmOptions()
    return replace(
        plain,
        kv_cache_gib=config.kv_cache_gib or plain.kv_cache_gib,
        max_num_seqs=config.max_num_seqs or plain.max_num_seqs,
        max_loras=config.max_loras or plain.max_loras,
        limits=Limits(
            startup_s=config.startup_limit_s or plain.limits.startup_s,
            request_s=config.request_limit_s or plain.limits.request_s,
        ),
    )


def _is(loaded: LoadedBase, folder: Path, *, precision: Precision) -> bool:
    return loaded.folder == folder and loaded.precision == resolve_precision(precision, device=loaded.device)
