"""A worker's workshop over a real database, with a tiny model, without Celery around it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.artifacts import ArtifactStore
from jobs.database import SessionFactory, transaction
from jobs.repositories import BaseModelRepository
from tests.worker.desk import Desk
from worker.warm import WarmModels
from worker.workshop import Workshop


@pytest.fixture
def desk(database: SessionFactory, tiny_base: Path) -> Desk:
    with transaction(database) as session:
        BaseModelRepository(session).register("tiny", str(tiny_base))
    return Desk(database)


@pytest.fixture(scope="session")
def models() -> Iterator[WarmModels]:
    models = WarmModels()
    yield models
    models.close()


@pytest.fixture
def new_workshop(models: WarmModels, tmp_path: Path) -> Callable[..., Workshop]:
    def create(*, job_timeout_s: float = 600.0) -> Workshop:
        work_dir = tmp_path / "work"
        work_dir.mkdir(exist_ok=True)
        return Workshop(
            models=models,
            artifacts=ArtifactStore(tmp_path / "artifacts"),
            work_dir=work_dir,
            job_timeout_s=job_timeout_s,
            shutting_down=threading.Event(),
        )

    return create


@pytest.fixture
def workshop(new_workshop: Callable[..., Workshop]) -> Workshop:
    return new_workshop()
