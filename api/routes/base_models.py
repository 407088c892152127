"""The base models that jobs may name."""

from fastapi import APIRouter

from api.dependencies import SessionDep
from api.schemas import BaseModelDetail, BaseModels
from jobs.repositories import BaseModelRepository

router = APIRouter(prefix="/base-models", tags=["base models"])


@router.get("", summary="List base models")
def list_base_models(session: SessionDep) -> BaseModels:
    """By name; `settings.base_model` takes one of these names."""
    rows = BaseModelRepository(session).list()
    return BaseModels(items=[BaseModelDetail.model_validate(row) for row in rows])
