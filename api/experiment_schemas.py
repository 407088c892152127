"""The body of POST /experiments, and what the routes about experiments answer."""

import re
from datetime import datetime
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from api.task_schemas import TaskDocument, TaskId
from arc_engine.settings import Seed
from jobs.states import Status

MAX_SEEDS: Final = 100
MAX_VARIED: Final = 50
"""Most settings that one grid varies; there are hardly more."""
_SETTING: Final = re.compile(r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*$")

Setting = Annotated[str, StringConstraints(pattern=_SETTING, max_length=100)]
Values = Annotated[list[JsonValue], Field(min_length=1, max_length=1000)]
Grid = Annotated[
    dict[Setting, Values],
    Field(
        max_length=MAX_VARIED,
        description="Values to try for each setting, named by its dotted path; every combination is a cell.",
        examples=[{"adaptation.lora_rank": [1, 8, 32], "adaptation.learning_rate": [0.0005, 0.002]}],
    ),
]


class Family(BaseModel):
    """Cells that belong together: what all of them set, and what varies among them."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(min_length=1, max_length=100, pattern=r"^[^\r\n|]+$", examples=["new adapter"])
    set: dict[Setting, JsonValue] = Field(
        default_factory=dict,
        description="Settings of all its cells, by dotted path.",
        examples=[{"adaptation.init": "pissa"}],
    )
    grid: Grid = Field(default_factory=dict)


class ExperimentRequest(BaseModel):
    """Settings, what varies among them, seeds and tasks. Every combination is a job."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(min_length=1, max_length=200, description="What people call this experiment.")
    tasks: dict[TaskId, TaskDocument] = Field(min_length=1, description="Tasks by name.")
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="SolveSettings that all cells share, without seeds."
    )
    seeds: list[Seed] = Field(
        default=[0],
        min_length=1,
        max_length=MAX_SEEDS,
        description="Each cell runs once per seed, which becomes the seed of adaptation and of sampling.",
    )
    cells: list[Family] = Field(default_factory=list, description="Families of cells; or else `grid`.")
    grid: Grid = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_ambiguity(self) -> Self:
        if self.cells and self.grid:
            raise ValueError("send either `cells` or `grid`; a family in `cells` may have a grid of its own")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("`seeds` names a seed twice")
        return self


class CellBatch(BaseModel):
    """One cell under one seed."""

    id: UUID
    seed: int
    links: dict[str, str]


class CellDetail(BaseModel):
    """One cell: a combination of settings."""

    name: str = Field(examples=["new adapter lora_rank=8 learning_rate=0.002"])
    changes: dict[str, JsonValue] = Field(description="What it sets, by dotted path, its family's settings included.")
    counts: dict[Status, int] = Field(description="Its jobs over all seeds, by status.")
    steps: int = Field(description="Optimizer steps done, over all jobs.")
    max_steps: int
    batches: list[CellBatch]


class ExperimentSummary(BaseModel):
    """An experiment in a list."""

    id: UUID
    name: str
    created_at: datetime
    num_cells: int
    num_tasks: int
    seeds: list[int]
    counts: dict[Status, int]
    finished: bool = Field(description="Whether every job is in a terminal status.")
    links: dict[str, str]


class ExperimentDetail(ExperimentSummary):
    """An experiment with its cells in the order of the request."""

    document: dict[str, Any] = Field(description="The request, without its tasks.")
    cells: list[CellDetail]


class Experiments(BaseModel):
    """Experiments, newest first; `next_cursor` is null on the last page."""

    items: list[ExperimentSummary]
    next_cursor: str | None


class Statistic(BaseModel):
    """A number per seed (mean over tasks), their mean, and their standard deviation.

    `std` is that of a sample (n - 1) and null for a single seed; all is null where nothing is known yet.
    """

    mean: float | None
    std: float | None
    seeds: list[float | None] = Field(description="In the order of the experiment's seeds.")


class CellReport(BaseModel):
    """One row of the report. Scores are of finished jobs whose answers are known; a failed job counts as wrong."""

    name: str
    changes: dict[str, JsonValue]
    num_jobs: int
    finished: int = Field(description="Succeeded or failed. Cancelled jobs are not part of the scores.")
    failed: int
    diverged: int = Field(description="Those of the failed that failed with code `diverged`.")
    cancelled: int
    final_loss: Statistic = Field(description="Mean training loss of the last 10 recorded steps, of succeeded jobs.")
    accuracy: Statistic
    pass_n: Statistic
    vote_1: Statistic
    vote_2: Statistic
    pass_at_2: Statistic
    correct_size: Statistic
    correct_pixels: Statistic
    unanswered: Statistic
    seconds: Statistic = Field(
        description="Adapting and sampling, per succeeded job; what jobs train in common is divided among them."
    )


class FailedJob(BaseModel):
    """A job that failed, and why."""

    id: UUID
    cell: str
    seed: int
    task_id: str
    code: str
    message: str


class ExperimentReport(BaseModel):
    """The table: a row per cell."""

    id: UUID
    name: str
    created_at: datetime
    finished: bool
    num_tasks: int
    seeds: list[int]
    cells: list[CellReport]
    failures: list[FailedJob] = Field(description="At most 1000.")


class JobReport(BaseModel):
    """One job of an experiment, for whoever compares cells task by task.

    Scores are null where the job is not over, was cancelled, or its task came without answers.
    """

    id: UUID
    cell: str
    seed: int
    task_id: str
    status: Status
    error_code: str | None
    final_loss: float | None = Field(description="Mean training loss of the last 10 recorded steps.")
    accuracy: float | None
    pass_n: float | None
    vote_1: float | None
    vote_2: float | None
    pass_at_2: float | None
    correct_size: float | None
    correct_pixels: float | None
    unanswered: float | None
    seconds: float | None = Field(description="Adapting and sampling, of a succeeded job.")


class JobReports(BaseModel):
    """All jobs of an experiment, in the order in which their batches were queued."""

    items: list[JobReport]


class CurvePoint(BaseModel):
    """Mean training loss at a step: over tasks, then over seeds."""

    step: int
    loss: float
    std: float | None = Field(description="Over seeds; null where only one has come this far.")
    num_jobs: int = Field(description="Jobs that have recorded this step.")


class CellCurve(BaseModel):
    """The loss of one cell over its steps."""

    name: str
    points: list[CurvePoint]


class ExperimentCurves(BaseModel):
    """Loss curves of all cells. Long runs are thinned: a point then is the mean over `steps_per_point` steps."""

    id: UUID
    name: str
    steps_per_point: int
    cells: list[CellCurve]
