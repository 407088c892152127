"""POST /solve: tasks become jobs."""

from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID, uuid4

from fastapi import APIRouter, BackgroundTasks, Depends, Header, Request, Response
from sqlalchemy.exc import SQLAlchemyError
from structlog import get_logger

from api.dependencies import LinksDep, Services, ServicesDep
from api.documentation import SOLVE_BODY
from api.problems import Problem
from api.representations import solve_response
from api.requests import Submission, parse_submission
from api.schemas import SolveResponse
from api.version import VERSION
from jobs.database import transaction
from jobs.doorbells import relay_outbox
from jobs.errors import BrokerUnavailable
from jobs.repositories import BatchRepository
from jobs.submission import submit

router = APIRouter(tags=["solve"])
log = get_logger()

REPLAYED: Final = "Idempotency-Replayed"


async def _json_body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        detail = f"send the body as application/json, not {media_type:.100}; with curl: --json @file"
        raise Problem("unsupported_media_type", detail, headers={"Accept": "application/json"})
    return await request.body()


@router.post(
    "/solve",
    status_code=HTTPStatus.ACCEPTED,
    summary="Submit tasks",
    responses={
        200: {"model": SolveResponse, "description": "The same request under this Idempotency-Key was accepted before."}
    },
    openapi_extra={"requestBody": SOLVE_BODY},
)
def solve(
    *,
    body: Annotated[bytes, Depends(_json_body)],
    services: ServicesDep,
    links: LinksDep,
    response: Response,
    background: BackgroundTasks,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            pattern="^[!-~]+$",
            description="Any text of your own. Sent again with the same body, it gives the batch of the first time.",
        ),
    ] = None,
) -> SolveResponse:
    """Stores one batch with one job per task, and answers at once; workers take the jobs from there."""
    submission = parse_submission(body, max_tasks=services.config.max_tasks)
    new_id = uuid4()
    answer = _store(submission, new_id, idempotency_key=idempotency_key, services=services, links=links)
    background.add_task(_ring, services, [job.id for job in answer.jobs])
    response.headers["Location"] = answer.links["self"]
    if answer.batch_id != new_id:
        response.status_code = HTTPStatus.OK
        response.headers[REPLAYED] = "true"
    return answer


def _store(
    submission: Submission, batch_id: UUID, *, idempotency_key: str | None, services: Services, links: LinksDep
) -> SolveResponse:
    # Committed here and not in a dependency, because doorbells must not ring before the jobs can be seen.
    with transaction(services.sessions) as session:
        batch = submit(
            session,
            submission.tasks,
            submission.settings,
            batch_id=batch_id,
            name=submission.name,
            idempotency_key=idempotency_key,
            request_sha256=submission.sha256,
            versions={"arcadapt": VERSION},
        )
        return solve_response(batch, BatchRepository(session).jobs(batch.id), links)


def _ring(services: Services, job_ids: list[UUID]) -> None:
    try:
        relay_outbox(services.sessions, services.doorbell, job_ids=job_ids, limit=len(job_ids))
    except (BrokerUnavailable, SQLAlchemyError) as error:  # the relay rings for what stays in the outbox
        log.warning("doorbells_delayed", num_jobs=len(job_ids), error=str(error))
