"""Whether this process lives, and whether it can do its work."""

from collections.abc import Callable
from typing import Final

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError
from structlog import get_logger

from api.dependencies import Services, ServicesDep
from api.problems import Fault, Problem
from api.schemas import Health, Readiness
from jobs import migrating
from jobs.database import ping
from jobs.errors import JobsError

router = APIRouter(tags=["health"])
log = get_logger()

OK: Final = "ok"


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Health:
    """Asks nothing of anybody else: a restart of this process cures what this one finds."""
    return Health(status=OK)


@router.get("/readyz", summary="Can it do its work?")
def readyz(services: ServicesDep) -> Readiness:
    """Database, migrations and broker; 503 `not_ready` names what is down."""
    checks = {name: _outcome(name, check, services) for name, check in _CHECKS.items()}
    faults = [Fault(name, outcome) for name, outcome in checks.items() if outcome != OK]
    if faults:
        detail = "; ".join(f"{fault.pointer}: {fault.message}" for fault in faults)
        raise Problem("not_ready", detail, errors=faults, headers={"Retry-After": "5"}, extra={"checks": checks})
    return Readiness(status="ready", checks=checks)


def _outcome(name: str, check: Callable[[Services], str], services: Services) -> str:
    try:
        return check(services)
    except (SQLAlchemyError, JobsError) as error:
        log.warning("not_ready", check=name, error=str(error))
        # The full text names hosts and users; it is for the log.
        return "does not answer"


def _database(services: Services) -> str:
    ping(services.engine)
    return OK


def _migrations(services: Services) -> str:
    current, head = migrating.current_revision(services.engine), migrating.head_revision()
    return OK if current == head else f"the database is at {current}, this release needs {head}"


def _broker(services: Services) -> str:
    services.doorbell.ping()
    return OK


_CHECKS: Final = {"database": _database, "migrations": _migrations, "broker": _broker}
