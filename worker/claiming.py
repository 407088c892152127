"""Which of the waiting jobs a worker takes to be answered by one call to the sampler."""

from pydantic import ValidationError

from arc_engine.errors import SamplerFailed
from arc_engine.sampling.backends import choose
from jobs.claims import ClaimedJob
from jobs.config import ServiceConfig
from jobs.database import SessionFactory, transaction
from jobs.repositories import ClaimRepository


def claim_pack(sessions: SessionFactory, *, owner: str, config: ServiceConfig) -> list[ClaimedJob]:
    """The adapted job that has waited longest, and up to `config.sample_pack` - 1 others where that pays: none if there
    is nothing to claim."""
    with transaction(sessions) as session:
        claims = ClaimRepository(session)
        first = claims.claim_for_sampling(None, owner=owner, lease_s=config.lease_s)
        if first is None:
            return []
        if not _pays(first, config=config):
            return [first]
        limit = config.sample_pack - 1
        return [first, *claims.claim_more_for_sampling(first, limit=limit, owner=owner, lease_s=config.lease_s)]


def _pays(first: ClaimedJob, *, config: ServiceConfig) -> bool:
    """Only vLLM mixes adapters: torch takes one job after the other, so that in a pack they would all wait for the
    last. Where the first lost worker ends a job, none may end because of another one."""
    if config.max_attempts == 1:
        return False
    try:
        return choose(first.settings.sampling) == "vllm"
    except (ValidationError, SamplerFailed):  # a fault of the job's, which the job's record is to hold
        return False
