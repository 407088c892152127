"""Turning a checked experiment into batches of queued jobs, all or nothing, in an order that suits the workers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID, uuid4

from pydantic import JsonValue
from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from arc_engine.settings import AdaptationSettings, SolveSettings
from arc_engine.tasks import Solution, Task
from jobs.errors import IdempotencyConflict
from jobs.models import Experiment
from jobs.submission import submit


class CellFields(Protocol):
    """One combination of settings, whose seeds are still open."""

    @property
    def name(self) -> str: ...
    @property
    def changes(self) -> Mapping[str, JsonValue]: ...
    @property
    def settings(self) -> SolveSettings: ...


def earlier_experiment(
    session: Session, idempotency_key: str | None, *, request_sha256: str | None
) -> Experiment | None:
    """What the same request under this key made before, if it did; raises `IdempotencyConflict` for another request."""
    if idempotency_key is None or (experiment := session.scalar(_with_key(idempotency_key))) is None:
        return None
    return _same_request(experiment, request_sha256)


def submit_experiment(
    session: Session,
    tasks: Mapping[str, tuple[Task, Solution]],
    *,
    name: str,
    cells: Sequence[CellFields],
    seeds: Sequence[int],
    document: Mapping[str, Any],
    experiment_id: UUID | None = None,
    idempotency_key: str | None = None,
    request_sha256: str | None = None,
    versions: Mapping[str, Any] | None = None,
) -> Experiment:
    """Stores an experiment and a batch of jobs per cell and seed in the caller's transaction.

    Keys and ids are treated as by `jobs.submission.submit`, but that a key which was used before is for the caller to
    look up first. Raises what that raises.
    """
    fields = {
        "name": name,
        "idempotency_key": idempotency_key,
        "request_sha256": request_sha256,
        "document": dict(document),
        "cells": [{"name": cell.name, "changes": dict(cell.changes)} for cell in cells],
        "seeds": list(seeds),
        "num_tasks": len(tasks),
    }
    statement = insert(Experiment).values(id=experiment_id or uuid4(), **fields)
    statement = statement.on_conflict_do_nothing(index_elements=["idempotency_key"])
    inserted = session.scalar(statement.returning(Experiment.id))
    if inserted is None:  # the key was taken since it was looked up
        return _same_request(session.scalars(_with_key(idempotency_key)).one(), request_sha256)
    for cell, seed in in_working_order(cells, seeds):
        batch = submit(session, tasks, seeded(cell.settings, seed), name=f"{name}: {cell.name}", versions=versions)
        batch.experiment_id, batch.cell, batch.seed = inserted, cell.name, seed
    return session.get_one(Experiment, inserted)


def seeded(settings: SolveSettings, seed: int) -> SolveSettings:
    """The same settings with `seed` as the seed of adaptation and of sampling."""
    adaptation = settings.adaptation
    if adaptation is not None:
        adaptation = adaptation.model_copy(update={"seed": seed})
    sampling = settings.sampling.model_copy(update={"seed": seed})
    return settings.model_copy(update={"adaptation": adaptation, "sampling": sampling})


def in_working_order(cells: Sequence[CellFields], seeds: Sequence[int]) -> Iterator[tuple[CellFields, int]]:
    """Every cell under every seed, in the order in which workers should take them.

    What shares a loaded model and a sampling engine comes together. Among those one seed follows the other, so that
    early on all cells can be compared; and the highest rank comes first, because an engine that was started for a
    lower one would have to be started again.
    """
    groups: dict[tuple[object, ...], list[CellFields]] = {}
    for cell in cells:
        groups.setdefault(_engine(cell.settings), []).append(cell)
    for group in groups.values():
        ranked = sorted(group, key=lambda cell: -_rank(cell.settings))
        yield from ((cell, seed) for seed in seeds for cell in ranked)


def _engine(settings: SolveSettings) -> tuple[object, ...]:
    """What jobs have in common that can follow one another without anything being loaded anew.

    It is finer than what jobs need to be answered together (`jobs.repositories.claimable`), so that packs are full.
    """
    adaptation = settings.adaptation or AdaptationSettings()  # without one: the base that new adapters start from
    on_unmerged_base = adaptation.start == "continue"
    sampling = settings.sampling
    return settings.base_model, sampling.backend, sampling.method == "dfs", on_unmerged_base, adaptation.precision


def _rank(settings: SolveSettings) -> int:
    """The rank of the adapter that is sampled with."""
    adaptation = settings.adaptation
    if adaptation is None:
        return 0
    return adaptation.lora_rank * (2 if adaptation.shifts_base else 1)


def _with_key(idempotency_key: str | None) -> Select[Experiment]:
    return select(Experiment).where(Experiment.idempotency_key == idempotency_key)


def _same_request(experiment: Experiment, request_sha256: str | None) -> Experiment:
    if experiment.request_sha256 != request_sha256:
        raise IdempotencyConflict(str(experiment.idempotency_key))
    return experiment
