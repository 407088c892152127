"""What a worker keeps from job to job: the merged base model, its tokenizer, and the sampling engine.

One base model is warm at a time: a GPU rarely holds two, and the jobs of a batch share one.
"""

import threading
from pathlib import Path

import structlog

from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.base_models.precision import resolve_precision
from arc_engine.base_models.reading import BaseReading, read_base
from arc_engine.sampling.backends import Backend, choose, make_sampler
from arc_engine.sampling.protocol import Sampler
from arc_engine.settings import BackendSetting, Precision

log = structlog.get_logger()


class WarmModels:
    """Loads on first use and keeps until another base model is asked for."""

    def __init__(self) -> None:
        self._base: LoadedBase | None = None
        self._reading: BaseReading | None = None
        self._sampler: tuple[Path, Backend, Sampler] | None = None
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

    def sampler(self, folder: Path, *, backend: BackendSetting) -> Sampler:
        """The sampler for the model in `folder`, perhaps still starting; another one's engine is closed first."""
        chosen = choose(backend)
        with self._lock:
            if self._sampler is not None and self._sampler[:2] == (folder, chosen):
                return self._sampler[2]
            if self._sampler is not None:
                self._sampler[2].close()
            sampler = make_sampler(chosen, base=folder, load=self.base)
            self._sampler = (folder, chosen, sampler)
            return sampler

    def close(self) -> None:
        """Ends the sampling engine, in mid-request if need be."""
        with self._lock:
            if self._sampler is not None:
                self._sampler[2].close()
                self._sampler = None


def _is(loaded: LoadedBase, folder: Path, *, precision: Precision) -> bool:
    return loaded.folder == folder and loaded.precision == resolve_precision(precision, device=loaded.device)
