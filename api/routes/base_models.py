"""The base models that jobs may name."""

from http import HTTPStatus

from fastapi import APIRouter, BackgroundTasks, Response
from structlog import get_logger

from api.base_model_requests import parse_base_model
from api.bodies import JsonBody
from api.dependencies import LinksDep, Services, ServicesDep, SessionDep
from api.documentation import BASE_MODEL_BODY
from api.problems import Fault, Problem
from api.schemas import BaseModelDetail, BaseModels
from arc_engine.settings import BUNDLED_BASE_MODELS
from jobs.database import transaction
from jobs.errors import BrokerUnavailable, UnknownBaseModel
from jobs.repositories import BaseModelRepository

router = APIRouter(prefix="/base-models", tags=["base models"])
log = get_logger()


@router.get("", summary="List base models")
def list_base_models(session: SessionDep) -> BaseModels:
    """By name; `settings.base_model` takes one of these names."""
    rows = BaseModelRepository(session).list()
    return BaseModels(items=[BaseModelDetail.model_validate(row) for row in rows])


@router.get("/{name:path}", summary="One base model")
def get_base_model(name: str, session: SessionDep) -> BaseModelDetail:
    """Where it comes from, and whether a worker has got it ready."""
    try:
        return BaseModelDetail.model_validate(BaseModelRepository(session).get(name))
    except UnknownBaseModel as error:  # elsewhere that is a fault of a body
        raise Problem("not_found", str(error)) from error


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    summary="Register a base model",
    openapi_extra={"requestBody": BASE_MODEL_BODY},
)
def register_base_model(
    *, body: JsonBody, services: ServicesDep, links: LinksDep, response: Response, background: BackgroundTasks
) -> BaseModelDetail:
    """Jobs may name it at once; a worker fetches it, merges its adapter and says in `merge_state` what came of it.

    A name that is taken means the new model from now on; jobs that were submitted before keep the old one. The names of
    the models that come with the package stay theirs.
    """
    request = parse_base_model(body, has_local_models=services.config.models_dir is not None)
    if request.name in BUNDLED_BASE_MODELS:
        # One of them is what everybody gets who names none: no client may change what that is for all the others.
        message = f"{request.name} comes with the package; register your model under another name"
        raise Problem("reserved_name", message, errors=[Fault("/name", message)])
    base = request.base()
    with transaction(services.sessions) as session:
        row = BaseModelRepository(session).register(
            request.name,
            base.source,
            revision=base.revision,
            adapter_source=base.adapter_source,
            adapter_revision=base.adapter_revision,
            checked=False,
        )
        answer = BaseModelDetail.model_validate(row)
    background.add_task(_ring, services, request.name)
    response.headers["Location"] = links.base_model(request.name)
    return answer


def _ring(services: Services, name: str) -> None:
    try:
        services.doorbell.prepare([name])
    except BrokerUnavailable as error:  # the clock rings for what still waits
        log.warning("doorbell_delayed", base_model=name, error=str(error))
