"""Jobs for worker tests: submitted to a real database, claimed, looked at."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from arc_engine.settings import SolveSettings
from arc_engine.tasks import parse_task
from jobs.database import SessionFactory, transaction
from jobs.models import Job, StepRow
from jobs.repositories import ClaimRepository, EventRepository, JobRepository, StepRepository
from jobs.submission import submit
from worker.record import JobRecord

LEASE_S = 30.0
TASK = {
    "train": [
        {"input": [[1, 0], [0, 2]], "output": [[0, 1], [2, 0]]},
        {"input": [[3, 3], [0, 4]], "output": [[3, 3], [4, 0]]},
        {"input": [[0, 5], [6, 0]], "output": [[5, 0], [0, 6]]},
    ],
    "test": [{"input": [[7, 0], [0, 8]], "output": [[0, 7], [8, 0]]}],
}
QUICK = {
    "base_model": "tiny",
    "adaptation": {"max_steps": 5, "batch_size": 2, "lora_rank": 2},
    "sampling": {"backend": "torch", "num_views": 2, "max_new_tokens": 8},
}


Watch: TypeAlias = Callable[[JobRecord], None]


def _nothing(_: JobRecord) -> None:
    return


class Desk:
    """Submits jobs to the test's database, claims them, and reads what became of them."""

    def __init__(self, sessions: SessionFactory) -> None:
        self.sessions = sessions

    def submit(self, *, task: dict[str, Any] = TASK, settings: dict[str, Any] = QUICK) -> UUID:
        with transaction(self.sessions) as session:
            batch = submit(session, {"t": parse_task(task)}, SolveSettings.model_validate(settings))
            return batch.jobs[0].id

    def submit_batch(self, tasks: Mapping[str, dict[str, Any]], *, settings: dict[str, Any]) -> list[UUID]:
        with transaction(self.sessions) as session:
            parsed = {task_id: parse_task(task) for task_id, task in tasks.items()}
            return [job.id for job in submit(session, parsed, SolveSettings.model_validate(settings)).jobs]

    def steps(self, job_id: UUID) -> Sequence[StepRow]:
        with transaction(self.sessions) as session:
            return StepRepository(session).after(job_id)

    def losses(self, job_id: UUID) -> list[float]:
        return [row.loss for row in self.steps(job_id)]

    def claim_for_adapting(self, job_id: UUID, *, lease_s: float = LEASE_S) -> JobRecord:
        with transaction(self.sessions) as session:
            claimed = ClaimRepository(session).claim_for_adapting(job_id, owner="test", lease_s=lease_s)
        assert claimed is not None
        return JobRecord(claimed, sessions=self.sessions, lease_s=lease_s)

    def claim_more(self, first: JobRecord, *, watch: Watch = _nothing) -> Callable[[], JobRecord | None]:
        """Claims what a worker would train together with `first`, one by one; `watch` sees each record first."""

        def claim() -> JobRecord | None:
            with transaction(self.sessions) as session:
                more = ClaimRepository(session).claim_more_for_adapting(
                    first.job, limit=1, owner="test", lease_s=first.lease_s
                )
            if not more:
                return None
            record = JobRecord(more[0], sessions=self.sessions, lease_s=first.lease_s)
            watch(record)
            return record

        return claim

    def events(self, job_id: UUID) -> list[str]:
        with transaction(self.sessions) as session:
            return [row.kind for row in EventRepository(session).list(job_id)]

    def claim_for_sampling(self, job_id: UUID, *, lease_s: float = LEASE_S) -> JobRecord:
        with transaction(self.sessions) as session:
            claimed = ClaimRepository(session).claim_for_sampling(job_id, owner="test", lease_s=lease_s)
        assert claimed is not None
        return JobRecord(claimed, sessions=self.sessions, lease_s=lease_s)

    def job(self, job_id: UUID) -> Job:
        with transaction(self.sessions) as session:
            return JobRepository(session).get(job_id)
