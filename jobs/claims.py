"""What a worker holds while it works on a job, and the shapes in which it reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from arc_engine.grids import Grid, parse_grid
from arc_engine.settings import SolveSettings
from arc_engine.tasks import Solution, Task, parse_task
from jobs.models import AdapterRow, BaseModelRow, Job
from jobs.states import Phase, Stage


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write about a job, good for as long as nobody was given a later attempt."""

    job_id: UUID
    attempt: int
    owner: str
    phase: Phase


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """An adapter's archive as it lies in the artifact store."""

    artifact_key: str
    sha256: str
    size_bytes: int
    config: Mapping[str, Any]

    @classmethod
    def of(cls, row: AdapterRow) -> "AdapterRecord":
        """The record in a row."""
        return cls(row.artifact_key, row.sha256, row.size_bytes, row.config)


@dataclass(frozen=True, slots=True)
class BaseModelSource:
    """Where the base model and its own adapter came from when the job was submitted."""

    source: str
    revision: str | None = None
    adapter_source: str | None = None
    adapter_revision: str | None = None

    @classmethod
    def of(cls, row: BaseModelRow) -> "BaseModelSource":
        """Where it comes from as it is registered now."""
        return cls(row.source, row.revision, row.adapter_source, row.adapter_revision)


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job just claimed.

    Task and settings are parsed when asked for, so that a fault in them is the worker's to record.
    """

    claim: Claim
    task_id: str
    batch_id: UUID
    group_index: int | None
    """Which of the batch's common adaptations the job takes part in."""
    max_steps: int
    requeues: int
    """How often a worker was lost over it, or let go of it because of company that took too long."""
    adapter: AdapterRecord | None
    base_model: BaseModelSource
    created_at: datetime
    task_json: Mapping[str, Any]
    solution_json: Sequence[Any]
    settings_json: Mapping[str, Any]

    @classmethod
    def of(cls, job: Job, claim: Claim) -> "ClaimedJob":
        """The worker's view of a row."""
        return cls(
            claim=claim,
            task_id=job.task_id,
            batch_id=job.batch_id,
            group_index=job.group_index,
            max_steps=job.max_steps,
            requeues=job.requeues,
            adapter=AdapterRecord.of(job.adapter) if job.adapter else None,
            base_model=BaseModelSource(**job.versions["base_model"]),
            created_at=job.created_at,
            task_json=job.task,
            solution_json=job.solution,
            settings_json=job.settings,
        )

    @property
    def task(self) -> Task:
        """The task; raises `InvalidTask` if the row is damaged."""
        return parse_task(self.task_json, pointer="/task")[0]

    @property
    def solution(self) -> Solution:
        """What the answers are scored against."""
        return parse_solution(self.solution_json)

    @property
    def settings(self) -> SolveSettings:
        """The resolved settings; raises pydantic's `ValidationError` if the row is damaged."""
        return SolveSettings.model_validate(self.settings_json)


def parse_solution(rows: Sequence[Any]) -> Solution:
    """Reads what `Solution.to_json` wrote."""
    return Solution(
        tuple(None if grid is None else parse_grid(grid, pointer=f"/solution/{i}") for i, grid in enumerate(rows))
    )


class StepFields(Protocol):
    """A training step as the engine reports it."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def grad_norm(self) -> float: ...
    @property
    def tokens(self) -> int: ...
    @property
    def elapsed_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class ClaimedStep:
    """A training step of a job that is held.

    One that is not to be kept is progress only: the job's losses do not show it.
    """

    claim: Claim
    step: StepFields
    eta_s: float | None = None
    stage: Stage = Stage.TASK
    keep: bool = True


class FindingFields(Protocol):
    """That a view found a grid, as the engine reports it."""

    @property
    def view(self) -> int: ...
    @property
    def votes(self) -> int: ...
    @property
    def log_probability(self) -> float | None: ...


class CandidateFields(Protocol):
    """A distinct grid as the engine reports it; scores need not be finite."""

    @property
    def grid(self) -> Grid: ...
    @property
    def votes(self) -> int: ...
    @property
    def log_probability(self) -> float | None: ...
    @property
    def score(self) -> float: ...
    @property
    def views(self) -> tuple[int, ...]: ...
    @property
    def findings(self) -> Sequence[FindingFields]: ...
    @property
    def view_scores(self) -> tuple[float, ...]: ...
