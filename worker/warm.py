"""What a worker keeps from job to job: the merged base model, its tokenizer, and the samplers.

One base model is warm at a time: a GPU rarely holds two, and the jobs of a batch share one. It has a sampler per
backend: jobs that only torch can answer do not cost the others their engine.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

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

_Key: TypeAlias = tuple[Path, Backend]

log = structlog.get_logger()


class WarmModels:
    """Loads on first use and keeps until another base model is asked for.

    One thread may train, and sample with torch, while another samples with vLLM. `interrupt` and `close` may come from
    any thread.
    """

    def __init__(self, *, vllm: VllmOptions | None = None) -> None:
        self._vllm = vllm
        self._base: LoadedBase | None = None
        self._readings = threading.local()  # tokenizers are not for two threads at a time
        self._samplers: dict[_Key, Sampler] = {}
        self._in_use: dict[int, _Key] = {}  # by thread
        self._lock = threading.Lock()

    @property
    def device(self) -> str | None:
        """Where the base model lives that was loaded last; None: none was."""
        return self._base.device if self._base is not None else None

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
        reading: BaseReading | None = getattr(self._readings, "latest", None)
        if reading is None or reading.folder != folder:
            reading = self._readings.latest = read_base(folder)
        return reading

    def warm_up(self, folder: Path, *, settings: SamplingSettings, lora_rank: int = 0) -> None:
        """Lets the sampler that these settings ask for start up, for adapters of up to `lora_rank`.

        Not while another thread samples: that would cost it an engine that has another model, or takes lower ranks.
        Raises `SamplerFailed` if the settings ask for one that is not installed.
        """
        wanted = (folder, choose(settings))
        with self._lock:
            if not self._in_use:
                self._sampler(wanted).start(lora_rank=lora_rank)

    @contextmanager
    def sampling(self, folder: Path, *, settings: SamplingSettings) -> Iterator[Sampler]:
        """The sampler that these settings ask for, with the model in `folder`, perhaps still starting; this thread's
        for as long as the context lasts."""
        wanted, thread = (folder, choose(settings)), threading.get_ident()
        with self._lock:
            sampler = self._sampler(wanted)
            self._in_use[thread] = wanted
        try:
            yield sampler
        finally:
            with self._lock:
                del self._in_use[thread]

    def interrupt(self, thread: int) -> None:
        """Ends the sampler that this thread is sampling with, and so its call; others stay warm."""
        with self._lock:
            in_use = self._in_use.get(thread)
            if in_use is not None and in_use in self._samplers:
                self._samplers.pop(in_use).close()

    def close(self) -> None:
        """Ends the samplers, in mid-request if need be."""
        with self._lock:
            while self._samplers:
                self._samplers.popitem()[1].close()

    def _sampler(self, wanted: _Key) -> Sampler:
        """Kept or made anew; those with another model that nobody uses are closed first."""
        folder, backend = wanted
        used = set(self._in_use.values())
        for other in [key for key in self._samplers if key[0] != folder and key not in used]:
            self._samplers.pop(other).close()
        if wanted not in self._samplers:
            self._samplers[wanted] = make_sampler(backend, base=folder, load=self.base, options=self._vllm)
        return self._samplers[wanted]


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
