"""What the routes answer, and the body of POST /solve."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from api.answer_schemas import Results
from api.task_schemas import GridModel, TaskDocument, TaskId
from arc_engine.settings import SolveSettings
from jobs.states import Phase, Stage, Status

StoredSettings = Annotated[
    dict[str, Any],
    Field(description="SolveSettings with every default filled in, as it was when the job was submitted."),
]


class SolveRequest(BaseModel):
    """One task or many, and how they are to be solved."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    task: TaskDocument = Field(default=None, description="One task; or else `tasks`.")
    task_id: TaskId = Field(default="task", description="The name of `task`.")
    tasks: dict[TaskId, TaskDocument] = Field(
        default_factory=dict, min_length=1, description="Tasks by name; or else `task`."
    )
    settings: SolveSettings = Field(default_factory=SolveSettings)
    name: str | None = Field(default=None, min_length=1, max_length=200, description="What people call this batch.")

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        if ("task" in self.model_fields_set) == ("tasks" in self.model_fields_set):
            raise ValueError("send either `task` or `tasks`")
        if "task_id" in self.model_fields_set and "tasks" in self.model_fields_set:
            raise ValueError("`task_id` goes with `task`; `tasks` has its own names")
        return self


class SubmittedJob(BaseModel):
    """One job of a batch, in short."""

    id: UUID
    task_id: str
    status: Status
    links: dict[str, str]


class SolveResponse(BaseModel):
    """The accepted batch."""

    batch_id: UUID
    jobs: list[SubmittedJob]
    settings: StoredSettings
    links: dict[str, str]


class Progress(BaseModel):
    """How far adaptation is."""

    step: int = Field(examples=[42], description="The last recorded optimizer step.")
    max_steps: int = Field(examples=[100])
    eta_s: float | None = Field(examples=[12.5], description="Seconds until adaptation ends, where that can be said.")


class JobError(BaseModel):
    """Why a job failed."""

    code: str = Field(examples=["diverged"])
    message: str


class JobSummary(BaseModel):
    """A job in a list."""

    id: UUID
    batch_id: UUID
    task_id: str = Field(examples=["00d62c1b"])
    status: Status = Field(description="succeeded, failed and cancelled are terminal.")
    phase: Phase
    progress: Progress
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


class JobDetail(JobSummary):
    """Everything about a job but its rows of losses and candidates."""

    attempts: int = Field(
        description="How often a worker has taken up this job: once for each half that runs undisturbed."
    )
    cancel_requested: bool
    settings: StoredSettings
    versions: dict[str, JsonValue]
    results: Results | None
    usage: dict[str, JsonValue] = Field(
        examples=[{"adapt_s": 21.4, "sample_s": 6.1, "device": "cpu", "train_tokens": 240_000, "num_completions": 16}],
        description="What the job took. Jobs that were answered by one call share its seconds, `sample_s`, by the "
        "tokens that they generated.",
    )
    adapted_at: datetime | None


class JobPage(BaseModel):
    """Jobs, newest first; `next_cursor` is null on the last page."""

    items: list[JobSummary]
    next_cursor: str | None


class StepModel(BaseModel):
    """One optimizer step."""

    model_config = ConfigDict(from_attributes=True)

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    elapsed_s: float
    stage: Stage = Field(description="common: shared with other jobs of the batch; task: the job's own.")


class Losses(BaseModel):
    """Recorded steps in order. Ask again with `?after=<last_step>` for what came since, or for the next page.

    A job that lost its worker starts over and, by its seed, repeats its steps; `last_step` then goes back.
    """

    items: list[StepModel]
    last_step: int


class Scores(BaseModel):
    """How many answers are right, among the tasks whose every answer the client sent along. Not finished: not right."""

    num_tasks: int
    num_solved: int = Field(description="Tasks with every test input right.")
    num_test_inputs: int
    num_correct: int = Field(description="Test inputs with a right attempt.")
    score: float = Field(
        examples=[0.5], description="Mean over the tasks of the share of test inputs that are right, ARC's own score."
    )


class BatchJob(BaseModel):
    """One job of a batch."""

    id: UUID
    task_id: str
    status: Status
    phase: Phase
    progress: Progress
    solved: bool | None = Field(description="Whether every test input is right; null where that is not known.")
    error: JobError | None
    links: dict[str, str]


class BatchDetail(BaseModel):
    """A batch with its jobs in the order of the request."""

    id: UUID
    name: str | None
    created_at: datetime
    settings: StoredSettings
    counts: dict[Status, int]
    finished: bool = Field(description="Whether every job is in a terminal status.")
    scores: Scores | None = Field(description="null where the client sent no test outputs.")
    jobs: list[BatchJob]
    links: dict[str, str]


class SubmissionEntry(BaseModel):
    """Two attempts at one test input, as Kaggle wants them."""

    attempt_1: GridModel
    attempt_2: GridModel


class BaseModelDetail(BaseModel):
    """A registered base model."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(examples=["arc-mini"])
    source: str = Field(examples=["bundled:arc-mini"])
    revision: str | None
    adapter_source: str | None
    adapter_revision: str | None
    adapter_config: dict[str, JsonValue] | None = Field(
        description="What PEFT says of the adapter; null until a worker has read it."
    )
    merge_state: Literal["needs_merge", "merging", "merged", "failed"] = Field(
        description="merged: ready, whether or not there was an adapter to merge."
    )
    error: str | None = Field(description="Why it cannot be used.")
    created_at: datetime


class BaseModels(BaseModel):
    """All base models that jobs may name."""

    items: list[BaseModelDetail]


class Health(BaseModel):
    """The process answers."""

    status: str = Field(examples=["ok"])


class Readiness(BaseModel):
    """Each thing the service stands on, and `ok` or what is wrong with it."""

    status: str = Field(examples=["ready"])
    checks: dict[str, str] = Field(examples=[{"database": "ok", "migrations": "ok", "broker": "ok"}])
