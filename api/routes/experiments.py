"""Experiments: a grid of settings over tasks and seeds becomes jobs, and the jobs become a table."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, BackgroundTasks, Query, Response
from sqlalchemy.orm import Session

from api.bodies import REPLAYED, IdempotencyKey, JsonBody
from api.dependencies import LinksDep, Services, ServicesDep, SessionDep
from api.documentation import EXPERIMENT_BODY
from api.experiment_cells import Cell
from api.experiment_reports import job_reports, report
from api.experiment_representations import experiment_curves, experiment_detail, experiment_summary
from api.experiment_requests import ExperimentSubmission, parse_experiment
from api.experiment_schemas import ExperimentCurves, ExperimentDetail, ExperimentReport, Experiments, JobReports
from api.experiment_tables import as_csv, as_markdown, jobs_as_csv
from api.links import Links
from api.problems import MAX_ERRORS, Fault, invalid_request
from api.ringing import ring
from api.version import VERSION
from jobs.database import transaction
from jobs.errors import SettingsConflict, UnknownBaseModel
from jobs.experiments import earlier_experiment, submit_experiment
from jobs.models import Experiment
from jobs.repositories import BaseModelRepository, ExperimentRepository
from jobs.repositories.jobs import MAX_PAGE
from jobs.resolving import resolve_settings

router = APIRouter(prefix="/experiments", tags=["experiments"])

MAX_POINTS: Final = 500
"""Points per curve: more than a plot can show."""
_TABLES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}, "text/markdown": {"schema": {"type": "string"}}}}
}
_JOBS_TABLE: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    summary="Submit an experiment",
    responses={200: {"model": ExperimentDetail, "description": "The same request was accepted before."}},
    openapi_extra={"requestBody": EXPERIMENT_BODY},
)
def create_experiment(
    *,
    body: JsonBody,
    services: ServicesDep,
    links: LinksDep,
    response: Response,
    background: BackgroundTasks,
    idempotency_key: IdempotencyKey = None,
) -> ExperimentDetail:
    """Stores one batch per cell and seed, all of them or none, and answers at once."""
    submission = parse_experiment(body, max_jobs=services.config.max_experiment_jobs)
    new_id = uuid4()
    with transaction(services.sessions) as session:
        # Before the registry is asked: what was accepted once is not refused for what has changed since.
        experiment = earlier_experiment(session, idempotency_key, request_sha256=submission.sha256)
        if experiment is None:
            experiment = _submit(session, submission, new_id, idempotency_key=idempotency_key)
        answer = _detail(experiment, session, links)
    response.headers["Location"] = answer.links["self"]
    if answer.id == new_id:
        background.add_task(_ring_for_experiment, services, new_id)
    else:
        response.status_code = HTTPStatus.OK
        response.headers[REPLAYED] = "true"
    return answer


@router.get("", summary="List experiments, newest first")
def list_experiments(
    *,
    session: SessionDep,
    links: LinksDep,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> Experiments:
    """Pages keep their place while new experiments arrive."""
    repository = ExperimentRepository(session)
    page = repository.list(cursor=cursor, limit=limit)
    totals = repository.totals([listed.experiment.id for listed in page.items])
    items = [
        experiment_summary(listed.experiment, links, num_cells=listed.num_cells, totals=totals[listed.experiment.id])
        for listed in page.items
    ]
    return Experiments(items=items, next_cursor=page.next_cursor)


@router.get("/{experiment_id}", summary="One experiment")
def get_experiment(experiment_id: UUID, session: SessionDep, links: LinksDep) -> ExperimentDetail:
    """Its cells, and how far each of them is."""
    return _detail(ExperimentRepository(session).get(experiment_id), session, links)


@router.get("/{experiment_id}/report", summary="The table", responses=_TABLES, response_model=ExperimentReport)
def get_report(
    experiment_id: UUID,
    session: SessionDep,
    format: Annotated[Literal["json", "csv", "markdown"], Query()] = "json",  # noqa: A002  the name in the URL
) -> ExperimentReport | Response:
    """Per cell: jobs, failures, final training loss, scores, seconds; mean and standard deviation over seeds.

    It can be asked for at any time; jobs that are not finished count for nothing yet.
    """
    repository = ExperimentRepository(session)
    table = report(repository.get(experiment_id), repository)
    if format == "csv":
        name = f'attachment; filename="{experiment_id}.csv"'
        return Response(as_csv(table), media_type="text/csv", headers={"Content-Disposition": name})
    if format == "markdown":
        return Response(as_markdown(table), media_type="text/markdown")
    return table


@router.get(
    "/{experiment_id}/jobs", summary="Every job with its scores", responses=_JOBS_TABLE, response_model=JobReports
)
def get_jobs(
    experiment_id: UUID,
    session: SessionDep,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002  the name in the URL
) -> JobReports | Response:
    """What the report's numbers are means of, to compare cells task by task."""
    repository = ExperimentRepository(session)
    jobs = job_reports(repository.get(experiment_id), repository)
    if format == "csv":
        name = f'attachment; filename="{experiment_id}-jobs.csv"'
        return Response(jobs_as_csv(jobs), media_type="text/csv", headers={"Content-Disposition": name})
    return JobReports(items=jobs)


@router.get("/{experiment_id}/curves", summary="Loss curves of all cells")
def get_curves(experiment_id: UUID, session: SessionDep) -> ExperimentCurves:
    """Mean training loss by step, over tasks and then over seeds; jobs that failed are left out."""
    repository = ExperimentRepository(session)
    experiment = repository.get(experiment_id)
    steps_per_point = max(1, -(-repository.max_steps(experiment_id) // MAX_POINTS))
    means = repository.curves(experiment_id, steps_per_point=steps_per_point)
    return experiment_curves(experiment, means, steps_per_point=steps_per_point)


@router.post("/{experiment_id}/cancel", status_code=HTTPStatus.ACCEPTED, summary="Stop an experiment")
def cancel_experiment(experiment_id: UUID, session: SessionDep, links: LinksDep) -> ExperimentDetail:
    """Waiting jobs are cancelled at once, running ones within a step; finished ones stay as they are."""
    repository = ExperimentRepository(session)
    repository.cancel(experiment_id)
    return _detail(repository.get(experiment_id), session, links)


@router.post("/{experiment_id}/resume", status_code=HTTPStatus.ACCEPTED, summary="Go on with what is missing")
def resume_experiment(
    *,
    experiment_id: UUID,
    services: ServicesDep,
    links: LinksDep,
    background: BackgroundTasks,
    failed: Annotated[
        Literal["lost", "all"], Query(description="Which failed jobs: those that lost their workers, or all.")
    ] = "lost",
) -> ExperimentDetail:
    """Puts fresh jobs into the places of those that were cancelled or lost their workers; the old ones are deleted.

    Where nothing is missing, nothing changes.
    """
    with transaction(services.sessions) as session:
        repository = ExperimentRepository(session)
        replaced = repository.offer_again(experiment_id, all_failed=failed == "all")
        answer = _detail(repository.get(experiment_id), session, links)
    for key in replaced.artifacts:
        services.artifacts.delete(key)
    background.add_task(ring, services, replaced.job_ids)
    return answer


def _submit(
    session: Session, submission: ExperimentSubmission, experiment_id: UUID, *, idempotency_key: str | None
) -> Experiment:
    _check(session, submission.cells)
    experiment = submit_experiment(
        session,
        submission.tasks,
        name=submission.name,
        cells=submission.cells,
        seeds=submission.seeds,
        document=submission.document,
        experiment_id=experiment_id,
        idempotency_key=idempotency_key,
        request_sha256=submission.sha256,
        versions={"arcadapt": VERSION},
    )
    session.flush()
    return experiment


def _check(session: Session, cells: Sequence[Cell]) -> None:
    """Finds the faults that only the registry of base models knows of, in all cells."""
    faults: list[Fault] = []
    for cell in cells:
        try:
            base_model = BaseModelRepository(session).get(cell.settings.base_model)
            resolve_settings(cell.settings, base_model)
        except UnknownBaseModel as error:
            faults.append(Fault(cell.pointer(("base_model",)), str(error)))
        except SettingsConflict as error:
            faults += [Fault(cell.pointer(_path(pointer)), message) for pointer, message in error.faults]
    if faults:
        raise invalid_request(list(dict.fromkeys(faults))[:MAX_ERRORS])


def _path(pointer: str) -> tuple[str, ...]:
    """`/settings/adaptation/start` as a path in the settings."""
    return tuple(pointer.split("/")[2:])


def _detail(experiment: Experiment, session: Session, links: Links) -> ExperimentDetail:
    repository = ExperimentRepository(session)
    return experiment_detail(experiment, repository.batches(experiment.id), repository.counts(experiment.id), links)


def _ring_for_experiment(services: Services, experiment_id: UUID) -> None:
    with transaction(services.sessions) as session:
        job_ids = ExperimentRepository(session).job_ids(experiment_id)
    ring(services, job_ids)
