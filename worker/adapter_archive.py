"""Adapters on their way between the engine and the artifact store."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arc_engine.adaptation.adapter import Adapter
from arc_engine.sampling.protocol import AdapterFolder
from jobs.adapter_zip import pack, unpack
from jobs.claims import AdapterRecord, ClaimedJob
from worker.workshop import Workshop


def store(adapter: Adapter, key: str, *, manifest: Mapping[str, Any], workshop: Workshop) -> AdapterRecord:
    """Puts an adapter into the store; the manifest says what somebody who finds the archive later needs to know."""
    with tempfile.TemporaryDirectory(dir=workshop.work_dir) as scratch:
        folder = Path(scratch) / "adapter"
        adapter.save(folder)
        archive = Path(scratch) / "adapter.zip"
        pack(folder, archive, manifest=manifest)
        stored = workshop.artifacts.write(key, archive)
    return AdapterRecord(stored.key, stored.sha256, stored.size_bytes, adapter.config)


@contextmanager
def unpacked(adapter: AdapterRecord, *, name: str, workshop: Workshop) -> Iterator[Path]:
    """A folder called `name` with the stored adapter, for as long as the context lasts."""
    with tempfile.TemporaryDirectory(dir=workshop.work_dir) as scratch:
        unpack(workshop.artifacts.path(adapter.artifact_key), Path(scratch) / name)
        yield Path(scratch) / name


def load(adapter: AdapterRecord, *, workshop: Workshop) -> Adapter:
    """The stored adapter in memory."""
    with unpacked(adapter, name="adapter", workshop=workshop) as folder:
        return Adapter.load(folder)


@contextmanager
def fetched(job: ClaimedJob, *, workshop: Workshop) -> Iterator[AdapterFolder | None]:
    """The job's adapter for the sampler, under a name and path of this attempt's own: vLLM's prefix cache goes by
    them."""
    if job.adapter is None or job.settings.adaptation is None:
        yield None
        return
    name = f"{job.claim.job_id}-{job.claim.attempt}"
    with unpacked(job.adapter, name=name, workshop=workshop) as folder:
        yield AdapterFolder(name=name, path=folder, rank=job.adapter.config["r"])
