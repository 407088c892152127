"""Turning a checked request into a batch of queued jobs, all or nothing."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Select, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from arc_engine.settings import SolveSettings
from arc_engine.tasks import Solution, Task
from jobs.claims import BaseModelSource
from jobs.errors import IdempotencyConflict
from jobs.models import Batch, EventRow, Job
from jobs.repositories.base import Queue
from jobs.repositories.base_models import BaseModelRepository
from jobs.repositories.common_adaptations import CommonAdaptationRepository
from jobs.repositories.outbox import ring
from jobs.resolving import group_index, max_steps, num_groups, resolve_settings


def submit(
    session: Session,
    tasks: Mapping[str, tuple[Task, Solution]],
    settings: SolveSettings,
    *,
    batch_id: UUID | None = None,
    name: str | None = None,
    idempotency_key: str | None = None,
    request_sha256: str | None = None,
    versions: Mapping[str, Any] | None = None,
) -> Batch:
    """Stores a batch, its jobs and their doorbells in the caller's transaction.

    A key that was used before for the same request gives the batch of then. A caller who must know whether the batch is
    new gives the `batch_id` that a new one shall have. Doorbells that still wait are those that were not sent. Raises
    `IdempotencyConflict` for a key of a different request, `UnknownBaseModel`, and `SettingsConflict`.
    """
    # Before the registry is asked: a request that was accepted once is not refused for what has changed since.
    if idempotency_key is not None and (earlier := session.scalar(_with_key(idempotency_key))) is not None:
        return _same_request(earlier, request_sha256)
    base_model = BaseModelRepository(session).get(settings.base_model)
    settings = resolve_settings(settings, base_model)
    resolved = settings.model_dump(mode="json")
    inserted = _insert_batch(
        session,
        batch_id or uuid4(),
        {"name": name, "idempotency_key": idempotency_key, "request_sha256": request_sha256, "settings": resolved},
    )
    if inserted is None:
        return _same_request(session.scalars(_with_key(idempotency_key)).one(), request_sha256)
    CommonAdaptationRepository(session).add(inserted, num_groups=num_groups(settings, num_tasks=len(tasks)))
    job_ids = [uuid4() for _ in tasks]
    jobs = [
        {
            "id": job_id,
            "batch_id": inserted,
            "position": position,
            "group_index": group_index(settings, position=position),
            "task_id": task_id,
            "task": task.to_json(),
            "solution": solution.to_json(),
            "settings": resolved,
            "versions": {
                **(versions or {}),
                # As it is now: a name that is registered anew must not change a job that is under way.
                "base_model": asdict(BaseModelSource.of(base_model)),
            },
            "max_steps": max_steps(settings),
        }
        for position, (job_id, (task_id, (task, solution))) in enumerate(zip(job_ids, tasks.items(), strict=True))
    ]
    session.execute(insert(Job), jobs)
    session.execute(
        insert(EventRow), [{"job_id": job_id, "attempt": 0, "kind": "queued", "data": {}} for job_id in job_ids]
    )
    ring(session, job_ids, Queue.ADAPT)
    return session.get_one(Batch, inserted)


def _insert_batch(session: Session, batch_id: UUID, fields: Mapping[str, Any]) -> UUID | None:
    """The new batch's id, or None if its key is taken. Waits for a transaction that is just taking the same key."""
    statement = upsert(Batch).values(id=batch_id, **fields)
    statement = statement.on_conflict_do_nothing(index_elements=["idempotency_key"])
    return session.scalar(statement.returning(Batch.id))


def _with_key(idempotency_key: str | None) -> Select[Batch]:
    return select(Batch).where(Batch.idempotency_key == idempotency_key)


def _same_request(batch: Batch, request_sha256: str | None) -> Batch:
    if batch.request_sha256 != request_sha256:
        raise IdempotencyConflict(str(batch.idempotency_key))
    return batch
