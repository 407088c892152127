"""POST /solve: tasks become jobs."""

from http import HTTPStatus
from uuid import UUID, uuid4

from fastapi import APIRouter, BackgroundTasks, Response

from api.bodies import REPLAYED, IdempotencyKey, JsonBody
from api.dependencies import LinksDep, Services, ServicesDep
from api.documentation import SOLVE_BODY
from api.representations import solve_response
from api.requests import Submission, parse_submission
from api.ringing import ring
from api.schemas import SolveResponse
from api.version import VERSION
from jobs.database import transaction
from jobs.repositories import BatchRepository
from jobs.submission import submit

router = APIRouter(tags=["solve"])


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
    body: JsonBody,
    services: ServicesDep,
    links: LinksDep,
    response: Response,
    background: BackgroundTasks,
    idempotency_key: IdempotencyKey = None,
) -> SolveResponse:
    """Stores one batch with one job per task, and answers at once; workers take the jobs from there."""
    submission = parse_submission(body, max_tasks=services.config.max_tasks)
    new_id = uuid4()
    answer = _store(submission, new_id, idempotency_key=idempotency_key, services=services, links=links)
    background.add_task(ring, services, [job.id for job in answer.jobs])
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
