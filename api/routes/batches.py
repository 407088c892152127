"""Batches: how far they are, how they score, and what to hand in."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.dependencies import LinksDep, SessionDep
from api.problems import Problem
from api.representations import batch_detail
from api.schemas import BatchDetail, SubmissionEntry
from api.submissions import kaggle_submission
from jobs.repositories import BatchRepository
from jobs.states import TERMINAL

MAX_NAMED: Final = 40
"""Places named in `X-Unanswered`: proxies refuse headers of more than a few kilobytes."""

router = APIRouter(prefix="/batches", tags=["batches"])


@router.get("/{batch_id}", summary="One batch")
def get_batch(batch_id: UUID, session: SessionDep, links: LinksDep) -> BatchDetail:
    """Its jobs in the order of the request, how many are in each status, and scores where the answers are known."""
    batches = BatchRepository(session)
    batch = batches.get(batch_id)
    return batch_detail(batch, batches.standings(batch_id), links)


@router.get("/{batch_id}/submission", summary="Kaggle's submission.json")
def get_submission(
    batch_id: UUID,
    session: SessionDep,
    response: Response,
    partial: Annotated[bool, Query(description="Answer even though jobs are unfinished.")] = False,  # noqa: FBT002
) -> dict[str, list[SubmissionEntry]]:
    """Two attempts per test input of every task; 409 `batch_unfinished` until every job is over, unless `partial`.

    A missing second attempt repeats the first. A test input without any answer (failed, cancelled, unfinished, or
    nothing readable sampled) holds `[[0]]`, because Kaggle takes no gaps. `X-Unanswered-Count` says how many there are,
    and `X-Unanswered` names them, the first of them where they are many.
    """
    batches = BatchRepository(session)
    batches.get(batch_id)
    jobs = batches.answers(batch_id)
    num_unfinished = sum(job.phase not in TERMINAL for job in jobs)
    if num_unfinished and not partial:
        detail = f"{num_unfinished} of {len(jobs)} jobs are not finished; ask again later, or with ?partial=true"
        raise Problem("batch_unfinished", detail)
    submission = kaggle_submission(jobs)
    response.headers["X-Unanswered-Count"] = str(len(submission.unanswered))
    response.headers["X-Unanswered"] = ",".join(submission.unanswered[:MAX_NAMED])
    return submission.document
