"""Rows as clients see them."""

from collections import Counter
from collections.abc import Sequence

from api.answer_schemas import Results
from api.links import Links
from api.schemas import (
    BatchDetail,
    BatchJob,
    JobDetail,
    JobError,
    JobSummary,
    Progress,
    Scores,
    SolveResponse,
    SubmittedJob,
)
from jobs.models import Batch, Job
from jobs.repositories.batches import Standing
from jobs.states import TERMINAL, Status, status_of


def solve_response(batch: Batch, jobs: Sequence[Job], links: Links) -> SolveResponse:
    """What a submission is answered."""
    return SolveResponse(
        batch_id=batch.id,
        jobs=[
            SubmittedJob(
                id=job.id, task_id=job.task_id, status=status_of(job.phase), links=links.job(job.id, job.batch_id)
            )
            for job in jobs
        ],
        settings=batch.settings,
        links=links.batch(batch.id),
    )


def job_summary(job: Job, links: Links) -> JobSummary:
    """A job in a list."""
    return JobSummary(
        id=job.id,
        batch_id=job.batch_id,
        task_id=job.task_id,
        status=status_of(job.phase),
        phase=job.phase,
        progress=_progress(job),
        error=_error(job),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        links=links.job(job.id, job.batch_id),
    )


def job_detail(job: Job, links: Links) -> JobDetail:
    """Everything about a job."""
    return JobDetail(
        **dict(job_summary(job, links)),
        attempts=job.attempt,
        cancel_requested=job.cancel_requested,
        settings=job.settings,
        versions=job.versions,
        results=None if job.results is None else Results.model_validate(job.results),
        usage=job.usage,
        adapted_at=job.adapted_at,
    )


def batch_detail(batch: Batch, standings: Sequence[Standing], links: Links) -> BatchDetail:
    """A batch, its jobs, and how it scores."""
    jobs = [standing.job for standing in standings]
    num_jobs = Counter(status_of(job.phase) for job in jobs)
    return BatchDetail(
        id=batch.id,
        name=batch.name,
        created_at=batch.created_at,
        settings=batch.settings,
        counts={status: num_jobs[status] for status in Status},
        finished=all(job.phase in TERMINAL for job in jobs),
        scores=_scores(standings),
        jobs=[
            BatchJob(
                id=job.id,
                task_id=job.task_id,
                status=status_of(job.phase),
                phase=job.phase,
                progress=_progress(job),
                solved=_solved(standing),
                error=_error(job),
                links=links.job(job.id, job.batch_id),
            )
            for standing, job in zip(standings, jobs, strict=True)
        ],
        links=links.batch(batch.id),
    )


def _progress(job: Job) -> Progress:
    return Progress(step=job.step, max_steps=job.max_steps, eta_s=job.eta_s)


def _error(job: Job) -> JobError | None:
    return None if job.error_code is None else JobError(code=job.error_code, message=job.error_message or "")


def _solved(standing: Standing) -> bool | None:
    if not standing.correct or None in standing.correct:
        return None
    return all(standing.correct)


def _scores(standings: Sequence[Standing]) -> Scores | None:
    scored = [standing for standing in standings if standing.can_be_scored]
    if not scored:
        return None
    num_right = [list(standing.correct).count(True) for standing in scored]
    shares = [right / standing.num_test_inputs for right, standing in zip(num_right, scored, strict=True)]
    return Scores(
        num_tasks=len(scored),
        num_solved=sum(share == 1 for share in shares),
        num_test_inputs=sum(standing.num_test_inputs for standing in scored),
        num_correct=sum(num_right),
        score=sum(shares) / len(scored),
    )
