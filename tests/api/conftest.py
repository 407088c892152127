"""The real application on a database of the test's own, and a stand-in for the worker that writes what one writes."""

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete

from api.app import create_app
from arc_engine.grids import Grid
from jobs.artifacts import ArtifactStore, adapter_key
from jobs.claims import AdapterRecord, ClaimedJob, ClaimedStep
from jobs.config import ServiceConfig
from jobs.database import SessionFactory, make_engine, transaction
from jobs.models import BaseModelRow, Batch, Experiment
from jobs.repositories import ClaimRepository
from tests.fixtures import records

OWNER = "test-worker"
MIGRATED = ("arc-mini", "arc-mini-ft")
"""The base models that every database has."""
GRID: Grid = ((0, 0), (0, 7))
TASK = {
    "train": [
        {"input": [[1, 0], [0, 0]], "output": [[0, 1], [0, 0]]},
        {"input": [[0, 0], [3, 0]], "output": [[0, 0], [0, 3]]},
    ],
    "test": [{"input": [[0, 0], [7, 0]], "output": [[0, 0], [0, 7]]}],
}


@dataclass(frozen=True)
class Step:
    step: int
    loss: float
    learning_rate: float = 1e-3
    grad_norm: float = 0.5
    tokens: int = 100
    elapsed_s: float = 1.5


@dataclass(frozen=True)
class Found(records.Found):
    grid: Grid = GRID
    log_probability: float | None = -0.25
    views: tuple[int, ...] = (0, 1, 2)


class Worker:
    """Takes jobs through their life as the worker does, without the model."""

    def __init__(self, sessions: SessionFactory, artifacts: ArtifactStore, scratch: Path) -> None:
        self._sessions = sessions
        self._artifacts = artifacts
        self._scratch = scratch

    def claim(self, job_id: str) -> ClaimedJob:
        with transaction(self._sessions) as session:
            claimed = ClaimRepository(session).claim_for_adapting(UUID(job_id), owner=OWNER, lease_s=60)
        assert claimed is not None
        return claimed

    def train(self, job: ClaimedJob, losses: Sequence[float]) -> None:
        steps = [ClaimedStep(job.claim, Step(number, loss), eta_s=12.5) for number, loss in enumerate(losses, start=1)]
        with transaction(self._sessions) as session:
            ClaimRepository(session).record_steps(steps, lease_s=60)

    def finish_adapting(self, job: ClaimedJob, *, adapter: bool = True) -> None:
        record = self._store(job) if adapter else None
        with transaction(self._sessions) as session:
            ClaimRepository(session).finish_adapting(job.claim, adapter=record, usage={"adapt_s": 2.5, "device": "cpu"})

    def claim_for_sampling(self, job_id: str) -> ClaimedJob:
        with transaction(self._sessions) as session:
            claimed = ClaimRepository(session).claim_for_sampling(UUID(job_id), owner=OWNER, lease_s=60)
        assert claimed is not None
        return claimed

    def finish_sampling(
        self,
        job: ClaimedJob,
        answers: Sequence[dict[str, Any]] | None = None,
        *,
        candidates: Sequence[Sequence[Found]] | None = None,
    ) -> None:
        answers = answers or [
            {
                "attempt_1": GRID,
                "attempt_2": None,
                "confidence": 0.75,
                "confidences": [0.75, 0.0],
                "num_completions": 16,
                "correct": True,
            }
        ]
        with transaction(self._sessions) as session:
            ClaimRepository(session).finish_sampling(
                job.claim,
                candidates=candidates or [[Found(), Found(((5,),), 1, None, -math.inf, (3,))] for _ in answers],
                results={"test": answers},
                usage={"sample_s": 1.5, "refusals": {"ragged": 2}},
            )

    def fail(self, job: ClaimedJob, *, code: str = "diverged", message: str = "step 3: loss nan") -> None:
        with transaction(self._sessions) as session:
            ClaimRepository(session).fail(job.claim, code=code, message=message)

    def cancel(self, job: ClaimedJob) -> None:
        with transaction(self._sessions) as session:
            ClaimRepository(session).cancel(job.claim)

    def succeed(self, job_id: str, answers: Sequence[dict[str, Any]] | None = None, *, adapter: bool = True) -> None:
        job = self.claim(job_id)
        self.train(job, [0.9, 0.4, 0.1])
        self.finish_adapting(job, adapter=adapter)
        self.finish_sampling(self.claim_for_sampling(job_id), answers)

    def _store(self, job: ClaimedJob) -> AdapterRecord:
        # Stands for the archive that the worker packs; the API serves bytes and looks into none of them.
        archive = self._scratch / f"{job.claim.job_id}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("adapter_config.json", json.dumps({"r": 16}))
            file.writestr("adapter_model.safetensors", b"weights" * 100)
            file.writestr("manifest.json", "{}")
        stored = self._artifacts.write(adapter_key(job.claim.job_id, job.claim.attempt), archive)
        return AdapterRecord(stored.key, stored.sha256, stored.size_bytes, {"r": 16})


@pytest.fixture(scope="session")
def shared_database(new_database: Callable[..., str]) -> Iterator[tuple[str, Engine]]:
    url = new_database()
    engine = make_engine(url)
    yield url, engine
    engine.dispose()


@pytest.fixture
def database_url(shared_database: tuple[str, Engine]) -> str:
    """One database for all tests of the API, emptied before each: far cheaper than a hundred databases."""
    url, engine = shared_database
    with engine.begin() as connection:
        connection.execute(delete(Batch))  # everything else but the registry goes with it
        connection.execute(delete(Experiment))
        connection.execute(delete(BaseModelRow).where(BaseModelRow.name.not_in(MIGRATED)))
    return url


@pytest.fixture
def config(database_url: str, broker_url: str, tmp_path: Path) -> ServiceConfig:
    return ServiceConfig(
        database_url=database_url,
        broker_url=broker_url,
        artifacts_dir=tmp_path / "artifacts",
        work_dir=tmp_path / "work",
        max_tasks=5,
        max_body_bytes=100_000,
    )


@pytest.fixture
def open_client() -> Iterator[Callable[[ServiceConfig], TestClient]]:
    """Makes clients of applications with a configuration of the test's own."""
    opened: list[TestClient] = []

    def open_(config: ServiceConfig) -> TestClient:
        client = TestClient(create_app(config), raise_server_exceptions=False)
        opened.append(client.__enter__())
        return client

    yield open_
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(open_client: Callable[[ServiceConfig], TestClient], config: ServiceConfig) -> TestClient:
    return open_client(config)


@pytest.fixture
def worker(database: SessionFactory, config: ServiceConfig, tmp_path: Path) -> Worker:
    return Worker(database, ArtifactStore(config.artifacts_dir), tmp_path)


@pytest.fixture
def task() -> dict[str, Any]:
    return json.loads(json.dumps(TASK))


@pytest.fixture
def submit(client: TestClient, task: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Submits the sample task under each name given and returns the answer."""

    def submit(*names: str, **body: Any) -> dict[str, Any]:
        answer = client.post("/solve", json={"tasks": dict.fromkeys(names or ("a",), task), **body})
        assert answer.status_code == 202, answer.text
        return answer.json()

    return submit
