"""Telling workers, once the answer is on its way, that jobs wait for them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from structlog import get_logger

from api.dependencies import Services
from jobs.doorbells import relay_outbox
from jobs.errors import BrokerUnavailable

log = get_logger()


def ring(services: Services, job_ids: Sequence[UUID]) -> None:
    """Rings for jobs whose rows are committed; the relay rings for what stays in the outbox."""
    try:
        relay_outbox(services.sessions, services.doorbell, job_ids=job_ids, limit=len(job_ids))
    except (BrokerUnavailable, SQLAlchemyError) as error:
        log.warning("doorbells_delayed", num_jobs=len(job_ids), error=str(error))
