"""Which of the waiting jobs a worker takes: one, or several that are worked on together."""

from pydantic import ValidationError

from arc_engine.errors import SamplerFailed
from arc_engine.sampling.backends import choose
from jobs.claims import ClaimedJob
from jobs.config import ServiceConfig
from jobs.database import SessionFactory, transaction
from jobs.repositories import ClaimRepository


class Claims:
    """Claims jobs for one worker, called `owner`.

    Where the first lost worker ends a job, none may end because of another one: there jobs are worked on alone.
    """

    def __init__(self, sessions: SessionFactory, *, owner: str, config: ServiceConfig) -> None:
        self._sessions = sessions
        self._owner = owner
        self._config = config

    @property
    def in_packs(self) -> bool:
        """Whether jobs may be worked on together."""
        return self._config.max_attempts > 1

    def to_adapt(self) -> ClaimedJob | None:
        """The queued job that has waited longest."""
        with transaction(self._sessions) as session:
            return ClaimRepository(session).claim_for_adapting(None, owner=self._owner, lease_s=self._config.lease_s)

    def to_adapt_with(self, first: ClaimedJob) -> ClaimedJob | None:
        """The one that has waited longest of those that can be trained together with `first`."""
        with transaction(self._sessions) as session:
            more = ClaimRepository(session).claim_more_for_adapting(
                first, limit=1, owner=self._owner, lease_s=self._config.lease_s
            )
        return next(iter(more), None)

    def to_sample(self, *, in_engine: bool | None = None) -> list[ClaimedJob]:
        """The adapted job that has waited longest, and up to `sample_pack` - 1 others where that pays: none if there is
        nothing to claim. With `in_engine` only jobs that vLLM answers where it is installed, or only others."""
        owner, lease_s = self._owner, self._config.lease_s
        with transaction(self._sessions) as session:
            claims = ClaimRepository(session)
            first = claims.claim_for_sampling(None, owner=owner, lease_s=lease_s, in_engine=in_engine)
            if first is None:
                return []
            if not self.in_packs or not _pays(first):
                return [first]
            limit = self._config.sample_pack - 1
            return [first, *claims.claim_more_for_sampling(first, limit=limit, owner=owner, lease_s=lease_s)]


def _pays(first: ClaimedJob) -> bool:
    """Only vLLM mixes adapters: torch takes one job after the other, so that in a pack they would all wait for the
    last."""
    try:
        return choose(first.settings.sampling) == "vllm"
    except (ValidationError, SamplerFailed):  # a fault of the job's, which the job's record is to hold
        return False
