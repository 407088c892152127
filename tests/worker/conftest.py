"""A worker's workshop over a real database, with a tiny model, without Celery around it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arc_engine.adaptation.adapt import adapt
from arc_engine.base_models.loading import load_base
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import parse_task
from jobs.artifacts import ArtifactStore
from jobs.database import SessionFactory, transaction
from jobs.repositories import BaseModelRepository
from tests.worker.desk import TASK, Desk
from tests.worker.outage import Outage
from worker.warm import WarmModels
from worker.workshop import Workshop

BASE_ADAPTER = AdaptationSettings(
    lora_rank=3, lora_alpha=6, target_modules=("q_proj", "v_proj"), max_steps=3, learning_rate=0.05, seed=7
)


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
    def create(*, job_timeout_s: float = 600.0, models: WarmModels = models, **more: Any) -> Workshop:
        work_dir = tmp_path / "work"
        work_dir.mkdir(exist_ok=True)
        return Workshop(
            models=models,
            artifacts=ArtifactStore(tmp_path / "artifacts"),
            work_dir=work_dir,
            job_timeout_s=job_timeout_s,
            shutting_down=threading.Event(),
            **more,
        )

    return create


@pytest.fixture
def workshop(new_workshop: Callable[..., Workshop]) -> Workshop:
    return new_workshop()


@pytest.fixture
def outage(postgres_url: str, database_url: str) -> Iterator[Outage]:
    """Takes the test's own database away for a while."""
    outage = Outage(postgres_url, database_url)
    yield outage
    outage.end()


@pytest.fixture(scope="session")
def base_adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a LoRA adapter that was trained on the tiny base. Read only."""
    task = parse_task(TASK)[0]
    adaptation = adapt(
        load_base(tiny_base), [task], settings=BASE_ADAPTER, prompt=PromptSettings(), observe=lambda _: None
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-adapter"
    adaptation.adapter.save(folder)
    return folder
