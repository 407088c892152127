"""Getting base models ready for the jobs that will name them, and saying in the registry what became of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from arc_engine.errors import BaseModelError, BaseModelUnavailable
from jobs.claims import BaseModelSource
from jobs.database import SessionFactory, transaction
from jobs.repositories import BaseModelRepository
from worker.base_folders import BaseFolders
from worker.record import DATABASE_AWAY, JobRecord

MERGE_LEASE_S: Final = 1800.0
"""A merge that has not ended by then is somebody else's to try again."""

log = structlog.get_logger()


def prepare(name: str, *, sessions: SessionFactory, bases: BaseFolders) -> None:
    """Looks at the base model of this name, and merges its adapter into it, unless another worker does or has."""
    with transaction(sessions) as session:
        base = BaseModelRepository(session).begin_merge(name, lease_s=MERGE_LEASE_S)
    if base is None:
        log.info("nothing to prepare", base_model=name)
        return
    try:
        with _recorded_failure(name, base, sessions=sessions):
            _merge(name, base, sessions=sessions, bases=bases)
    except DATABASE_AWAY:
        raise  # whoever finds the time over takes it from here
    except Exception as error:  # noqa: BLE001 - it is recorded, and the worker has other things to do
        log.warning("base model cannot be used", base_model=name, error=str(error))


def base_folder(record: JobRecord, *, bases: BaseFolders) -> Path:
    """What a job loads, trains on and samples from: the base model with its own adapter folded in, unless the job
    trains that one further. Raises `BaseModelError`."""
    job, adaptation = record.job, record.job.settings.adaptation
    if adaptation is not None and adaptation.start == "continue":
        return bases.unmerged(job.base_model)
    return merged_folder(job.settings.base_model, job.base_model, sessions=record.sessions, bases=bases)


def merged_folder(name: str, base: BaseModelSource, *, sessions: SessionFactory, bases: BaseFolders) -> Path:
    """The base model with its adapter folded in: now, if nobody has done it here. Raises `BaseModelError`.

    What comes of it is recorded, so that who registered the base model need not look for it in a job's error.
    """
    if base.adapter_source is None:
        return bases.merged(base)
    with _recorded_failure(name, base, sessions=sessions):
        if not bases.is_merged(base):
            _merge(name, base, sessions=sessions, bases=bases)
        return bases.merged(base)


def _merge(name: str, base: BaseModelSource, *, sessions: SessionFactory, bases: BaseFolders) -> None:
    adapter_config, manifest = bases.describe(base)
    with transaction(sessions) as session:
        BaseModelRepository(session).end_merge(name, base, adapter_config=adapter_config, manifest=manifest)


@contextmanager
def _recorded_failure(name: str, base: BaseModelSource, *, sessions: SessionFactory) -> Iterator[None]:
    try:
        yield
    except DATABASE_AWAY:
        raise
    except Exception as error:
        is_final = isinstance(error, BaseModelError) and not isinstance(error, BaseModelUnavailable)
        message = str(error) if isinstance(error, BaseModelError) else f"{type(error).__name__}: {error}"
        with transaction(sessions) as session:
            BaseModelRepository(session).fail_merge(name, base, error=message, may_pass=not is_final)
        raise
