"""Adapters whose first matrices come out of the base's weights leave that base to the next job as it was."""

from collections.abc import Callable

import pytest

from jobs.states import Phase
from tests.worker.desk import QUICK, Desk
from worker.pipeline import adapt_job, sample_jobs
from worker.warm import WarmModels
from worker.workshop import Workshop


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora", "orthogonal", "gaussian"])
def test_the_next_job_on_the_worker_is_as_on_a_fresh_one(desk: Desk, new_workshop: Callable[..., Workshop], init: str):
    used, fresh = new_workshop(models=WarmModels()), new_workshop(models=WarmModels())
    before = desk.submit(settings={**QUICK, "adaptation": {**QUICK["adaptation"], "init": init}})
    adapt_job(desk.claim_for_adapting(before), workshop=used)
    assert desk.job(before).phase is Phase.ADAPTED

    after, alone = desk.submit(), desk.submit()
    adapt_job(desk.claim_for_adapting(after), workshop=used)
    adapt_job(desk.claim_for_adapting(alone), workshop=fresh)
    assert desk.losses(after) == desk.losses(alone)
    assert desk.losses(after) != desk.losses(before)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_their_adapters_are_of_twice_the_rank_and_can_be_sampled_from(desk: Desk, workshop: Workshop, init: str):
    job_id = desk.submit(settings={**QUICK, "adaptation": {**QUICK["adaptation"], "init": init}})
    adapt_job(desk.claim_for_adapting(job_id), workshop=workshop)
    adapter = desk.job(job_id).adapter
    assert adapter is not None
    assert adapter.config["r"] == 4
    sample_jobs([desk.claim_for_sampling(job_id)], workshop=workshop)
    assert desk.job(job_id).phase is Phase.SUCCEEDED
