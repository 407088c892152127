"""Jobs: the list, one of them, its losses, its candidates, and stopping it."""

import csv
import io
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from itertools import groupby
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from api.answer_schemas import CandidateModel, Candidates, TestCandidates
from api.dependencies import LinksDep, SessionDep
from api.representations import job_detail, job_summary
from api.schemas import JobDetail, JobPage, Losses, StepModel
from api.task_schemas import TaskId
from jobs.errors import InvalidTransition
from jobs.models import Job, StepRow
from jobs.repositories import CandidateRepository, JobFilters, JobRepository, StepRepository
from jobs.repositories.jobs import MAX_PAGE
from jobs.states import TERMINAL, Phase, Status

router = APIRouter(prefix="/jobs", tags=["jobs"])

MAX_STEPS: Final = 200_000
"""As many as a job can have: those of a warm-up, and its own."""
_CSV: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


@router.get("", summary="List jobs, newest first")
def list_jobs(
    *,
    session: SessionDep,
    links: LinksDep,
    status: Status | None = None,
    batch_id: UUID | None = None,
    task_id: TaskId | None = None,
    created_after: Annotated[AwareDatetime | None, Query(description="Inclusive; with an offset or Z.")] = None,
    created_before: Annotated[AwareDatetime | None, Query(description="Exclusive; with an offset or Z.")] = None,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> JobPage:
    """Pages keep their place while new jobs arrive."""
    filters = JobFilters(status, batch_id, task_id, created_after, created_before)
    page = JobRepository(session).list(filters, cursor=cursor, limit=limit)
    return JobPage(items=[job_summary(job, links) for job in page.items], next_cursor=page.next_cursor)


@router.get("/{job_id}", summary="One job")
def get_job(job_id: UUID, session: SessionDep, links: LinksDep) -> JobDetail:
    """Status, progress, settings, results and usage."""
    return job_detail(JobRepository(session).get(job_id), links)


@router.get("/{job_id}/losses", summary="Every recorded training step", responses=_CSV, response_model=Losses)
def get_losses(
    job_id: UUID,
    session: SessionDep,
    after: Annotated[int, Query(ge=0, le=MAX_STEPS, description="Only steps after this one.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_STEPS)] = MAX_STEPS,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002  the parameter's name in the URL
) -> Losses | Response:
    """Steps appear while the job still trains."""
    job = JobRepository(session).get(job_id)
    steps = StepRepository(session).after(job_id, after=after, limit=limit)
    if format == "csv":
        name = f'attachment; filename="{job.task_id}-losses.csv"'
        return Response(_csv(steps), media_type="text/csv", headers={"Content-Disposition": name})
    last_step = steps[-1].step if steps else min(after, job.step)
    return Losses(items=[StepModel.model_validate(step) for step in steps], last_step=last_step)


@router.get("/{job_id}/candidates", summary="Every distinct grid that was found")
def get_candidates(job_id: UUID, session: SessionDep) -> Candidates:
    """Per test input, best first; empty until the job has succeeded."""
    job = JobRepository(session).get(job_id)
    return Candidates(test=list(_candidates(job, CandidateRepository(session))))


@router.post("/{job_id}/cancel", status_code=HTTPStatus.ACCEPTED, summary="Stop a job")
def cancel_job(job_id: UUID, session: SessionDep, links: LinksDep) -> JobDetail:
    """A waiting job is cancelled at once, a running one within a step.

    Cancelling a cancelled job changes nothing and is answered alike; one that succeeded or failed answers 409.
    """
    job = JobRepository(session).request_cancel(job_id)
    if job.phase in TERMINAL - {Phase.CANCELLED}:
        raise InvalidTransition(job.id, job.phase, Phase.CANCELLED)
    return job_detail(job, links)


def _csv(steps: Sequence[StepRow]) -> str:
    columns = list(StepModel.model_fields)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([getattr(step, column) for column in columns] for step in steps)
    return text.getvalue()


def _candidates(job: Job, repository: CandidateRepository) -> Iterator[TestCandidates]:
    rows = repository.list(job.id)
    found = {index: list(group) for index, group in groupby(rows, key=lambda row: row.test_index)}
    for index in range(len(job.solution)):
        yield TestCandidates(candidates=[CandidateModel.model_validate(row) for row in found.get(index, [])])
