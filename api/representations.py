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


def batch_detail(batch: Batch, jobs: Sequence[Job], links: Links) -> BatchDetail:
    """A batch, its jobs, and how it scores."""
    num_jobs = Counter(status_of(job.phase) for job in jobs)
    return BatchDetail(
        id=batch.id,
        name=batch.name,
        created_at=batch.created_at,
        settings=batch.settings,
        counts={status: num_jobs[status] for status in Status},
        finished=all(job.phase in TERMINAL for job in jobs),
        scores=_scores(jobs),
        jobs=[
            BatchJob(
                id=job.id,
                task_id=job.task_id,
                status=status_of(job.phase),
                phase=job.phase,
                progress=_progress(job),
                solved=_solved(job),
                error=_error(job),
                links=links.job(job.id, job.batch_id),
            )
            for job in jobs
        ],
        links=links.batch(batch.id),
    )


def _progress(job: Job) -> Progress:
    return Progress(step=job.step, max_steps=job.max_steps, eta_s=job.eta_s)


def _error(job: Job) -> JobError | None:
    return None if job.error_code is None else JobError(code=job.error_code, message=job.error_message or "")


def _correct(job: Job) -> list[bool | None]:
    return [answer["correct"] for answer in job.results["test"]] if job.results else []


def _solved(job: Job) -> bool | None:
    correct = _correct(job)
    if not correct or None in correct:
        return None
    return all(correct)


def _scores(jobs: Sequence[Job]) -> Scores | None:
    scored = [job for job in jobs if None not in job.solution]
    if not scored:
        return None
    num_right = [_correct(job).count(True) for job in scored]
    shares = [right / len(job.solution) for right, job in zip(num_right, scored, strict=True)]
    return Scores(
        num_tasks=len(scored),
        num_solved=sum(share == 1 for share in shares),
        num_test_inputs=sum(len(job.solution) for job in scored),
        num_correct=sum(num_right),
        score=sum(shares) / len(scored),
    )
