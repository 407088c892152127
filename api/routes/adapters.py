"""The trained adapter as a download."""

from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from api.dependencies import ServicesDep, SessionDep
from api.downloads import download
from jobs.repositories import AdapterRepository, JobRepository

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get(
    "/{job_id}/adapter",
    summary="Download the adapter",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The range asked for."},
        304: {"description": "The client's copy, named by If-None-Match, is current."},
    },
)
def get_adapter(job_id: UUID, request: Request, session: SessionDep, services: ServicesDep) -> Response:
    """A zip of `adapter_config.json`, `adapter_model.safetensors` and `manifest.json`; unpacked, plain PEFT loads it.

    The ETag is the zip's sha256. There is none (404 `no_adapter`) before the job is adapted, or where the settings say
    `"adaptation": null`.
    """
    job = JobRepository(session).get(job_id)
    adapter = AdapterRepository(session).get(job_id)
    return download(
        request,
        services.artifacts.path(adapter.artifact_key),
        filename=f"{job.task_id}-{job.id}.zip",
        media_type="application/zip",
        sha256=adapter.sha256,
    )
