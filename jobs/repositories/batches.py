"""Reading batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Select, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH
from sqlalchemy.orm import load_only

from jobs.errors import NotFound
from jobs.models import Batch, Job
from jobs.repositories.base import Repository
from jobs.repositories.jobs import HOW_FAR
from jobs.states import Phase, Status, status_of

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a job of a batch is, and what it scores, without the grids that this comes from.

    `correct` says per test input whether an attempt is right, None where that is not known; it is empty before the job
    has succeeded. A job `can_be_scored` if the client sent all test outputs.
    """

    job: Job
    correct: Sequence[bool | None]
    num_test_inputs: int
    can_be_scored: bool


@dataclass(frozen=True, slots=True)
class Answers:
    """What a job of a batch has answered: per test input what `Job.results` says, None before it has succeeded."""

    task_id: str
    phase: Phase
    test: Sequence[Mapping[str, Any]] | None
    num_test_inputs: int


class BatchRepository(Repository):
    """The jobs of one request, together."""

    def get(self, batch_id: UUID) -> Batch:
        """The batch; raises `NotFound`."""
        batch = self._session.get(Batch, batch_id)
        if batch is None:
            raise NotFound("batch", batch_id)
        return batch

    def counts(self, batch_id: UUID) -> dict[Status, int]:
        """How many of its jobs are in each status; every status is there."""
        counts = dict.fromkeys(Status, 0)
        rows = self._session.execute(
            select(Job.phase, func.count()).where(Job.batch_id == batch_id).group_by(Job.phase)
        )
        for phase, num_jobs in rows:
            counts[status_of(phase)] += num_jobs
        return counts

    def jobs(self, batch_id: UUID) -> Sequence[Job]:
        """Its jobs in the order of the request, and how far they are; the rest is loaded on access."""
        return self._session.scalars(_in_order(select(Job).options(load_only(*HOW_FAR)), batch_id)).all()

    def standings(self, batch_id: UUID) -> list[Standing]:
        """Its jobs in the order of the request, and what they score."""
        correct = func.jsonb_path_query_array(Job.results, cast("$.test[*].correct", JSONPATH), type_=JSONB)
        unknown = func.jsonb_path_exists(Job.solution, cast("$[*] ? (@ == null)", JSONPATH))
        columns = (Job, correct, func.jsonb_array_length(Job.solution), ~unknown)
        statement = _in_order(select(*columns).options(load_only(*HOW_FAR)), batch_id)
        return [
            Standing(job, rights or (), num_test_inputs=num_test_inputs, can_be_scored=can_be_scored)
            for job, rights, num_test_inputs, can_be_scored in self._session.execute(statement)
        ]

    def answers(self, batch_id: UUID) -> list[Answers]:
        """The answers to its tasks in the order of the request."""
        columns = (Job.task_id, Job.phase, Job.results["test"], func.jsonb_array_length(Job.solution))
        return [Answers(*row) for row in self._session.execute(_in_order(select(*columns), batch_id))]


def _in_order(statement: Select[S], batch_id: UUID) -> Select[S]:
    return statement.where(Job.batch_id == batch_id).order_by(Job.position)
