"""A stand-in for the worker: does to jobs what one does, without a model."""

import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID

from jobs.artifacts import ArtifactStore, adapter_key
from jobs.claims import AdapterRecord
from jobs.config import ServiceConfig
from jobs.database import SessionFactory, transaction
from jobs.repositories import ClaimRepository, JobRepository
from tests.fixtures.records import claim_adapting, claim_sampling, finish_adapting, finish_sampling, record_steps

LOSSES = [float(loss) for loss in range(30, 0, -1)]


class Desk:
    """Takes jobs through their life, one call per stage."""

    def __init__(self, database: SessionFactory, config: ServiceConfig, scratch: Path) -> None:
        self._database = database
        self._artifacts = ArtifactStore(config.artifacts_dir)
        self._scratch = scratch

    def adapt(self, job_id: UUID) -> None:
        claim = claim_adapting(self._database, job_id)
        record_steps(self._database, claim, LOSSES)
        archive = self._scratch / f"{job_id}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("adapter_model.safetensors", b"weights" * 1000)
        stored = self._artifacts.write(adapter_key(job_id, claim.attempt), archive)
        adapter = AdapterRecord(stored.key, stored.sha256, stored.size_bytes, {"r": 16})
        finish_adapting(self._database, claim, adapter=adapter)

    def succeed(self, job_id: UUID) -> None:
        self.adapt(job_id)
        finish_sampling(self._database, claim_sampling(self._database, job_id))

    def spend(self, job_id: UUID, usage: dict[str, Any]) -> None:
        """Writes down what a job took, in place of what it is said to have taken."""
        with transaction(self._database) as session:
            JobRepository(session).get(job_id).usage = usage

    def train(self, job_id: UUID, *, num_steps: int) -> None:
        record_steps(self._database, claim_adapting(self._database, job_id), LOSSES[:num_steps])

    def fail(self, job_id: UUID) -> None:
        claim = claim_adapting(self._database, job_id)
        with transaction(self._database) as session:
            ClaimRepository(session).fail(claim, code="diverged", message="step 3: loss nan")
