"""What a job answers: attempts, and the candidates that they were chosen from."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api.task_schemas import GridModel

ViewNumber = Annotated[int, Field(description="0 shows the task as it is.")]


class TestAnswer(BaseModel):
    """The two attempts at one test input."""

    attempt_1: GridModel | None
    attempt_2: GridModel | None
    confidence: float = Field(
        examples=[0.75],
        description="Estimated probability that either attempt is right: the sum of `confidences`. For jobs of "
        "versions that did not say those, the share of completions that gave attempt_1.",
    )
    confidences: tuple[float, float] | None = Field(
        default=None,
        examples=[[0.6, 0.15]],
        description="Estimated probabilities that attempt_1 and attempt_2 are right; 0 for an attempt that is null. "
        "null for jobs of versions that did not say.",
    )
    num_completions: int | None = Field(
        default=None,
        examples=[16],
        description="Completions that were made for this test input, those without a grid included. null for jobs of "
        "versions that did not say.",
    )
    correct: bool | None = Field(description="Whether either attempt is right; null where the answer is not known.")


class Results(BaseModel):
    """One answer per test input."""

    test: list[TestAnswer]


class FindingModel(BaseModel):
    """That a view of the task led to the grid."""

    view: ViewNumber
    votes: int = Field(description="How many completions gave it.")
    log_probability: float | None = Field(description="Of the likeliest of them, in nats; null where it is not finite.")


class CandidateModel(BaseModel):
    """A distinct grid that sampling found, and what speaks for it."""

    model_config = ConfigDict(from_attributes=True)

    grid: GridModel
    votes: int = Field(description="How many completions gave it.")
    log_probability: float | None = Field(description="Of the likeliest of them, in nats; null where it is not finite.")
    score: float | None = Field(
        description="What the selection method gave it, more being better; null for -infinity, as where it was not "
        "scored again."
    )
    views: list[ViewNumber] = Field(description="Which views of the task produced it.")
    findings: list[FindingModel] = Field(description="The same view by view; empty for jobs of versions without it.")
    view_scores: list[float | None] = Field(
        description="Its log-probabilities under the scoring views, where the selection method scores again; null "
        "where one is not finite."
    )


class TestCandidates(BaseModel):
    """All distinct grids for one test input, best first."""

    candidates: list[CandidateModel]


class Candidates(BaseModel):
    """One list of candidates per test input."""

    test: list[TestCandidates]
