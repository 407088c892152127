"""What goes wrong while a common adapter is trained is one job's trouble, or every job's, but never an endless one."""

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import update

from jobs.database import transaction
from jobs.errors import StaleCommonClaim
from jobs.models import CommonAdaptationRow
from jobs.repositories.base import lease_until
from jobs.repositories.common_adaptations import MAX_LOSSES
from jobs.states import Phase
from tests.worker.desk import Desk
from tests.worker.test_common_adaptations import (
    SHARED,
    TASKS,
    adapt_all,
    claim_common,
    common_of,
    curve,
    settings,
)
from tests.worker.watching import after_step
from worker.pipeline import adapt_job
from worker.record import JobRecord
from worker.warm import WarmModels
from worker.workshop import Workshop

FOUR_TASKS = {f"{task_id}{number}": task for number in range(2) for task_id, task in TASKS.items()}


def expire_common(desk: Desk) -> None:
    """As if its trainer had not been heard of for long."""
    with transaction(desk.sessions) as session:
        session.execute(
            update(CommonAdaptationRow)
            .where(CommonAdaptationRow.state == "training")
            .values(lease_expires_at=lease_until(-1.0))
        )


def test_a_training_that_takes_too_long_is_not_begun_again_by_every_job(
    desk: Desk, new_workshop: Callable[..., Workshop]
):
    jobs = desk.submit_batch(TASKS, settings=settings(SHARED, max_steps=1000))
    workshop = new_workshop(job_timeout_s=2.0)
    record = desk.claim_for_adapting(jobs[0])
    after_step(record, 1, lambda: time.sleep(2.1))
    adapt_job(record, workshop=workshop)
    adapt_job(desk.claim_for_adapting(jobs[1]), workshop=workshop)
    assert [desk.job(job_id).error_code for job_id in jobs] == ["timed_out", "timed_out"]
    assert common_of(desk, jobs[0]).attempt == 1


def test_waiting_for_another_worker_does_not_use_up_the_jobs_time(
    desk: Desk, workshop: Workshop, new_workshop: Callable[..., Workshop]
):
    first, second = desk.submit_batch(TASKS, settings=settings(SHARED))
    trainer, waiter = desk.claim_for_adapting(first), desk.claim_for_adapting(second)
    hurried = new_workshop(job_timeout_s=5.0, models=WarmModels())  # time enough to load a model, not to wait
    waiting = threading.Thread(target=adapt_job, args=(waiter,), kwargs={"workshop": hurried})

    def be_slow() -> None:
        waiting.start()
        time.sleep(6.5)

    after_step(trainer, 1, be_slow)
    adapt_job(trainer, workshop=workshop)
    waiting.join(timeout=60)
    assert (desk.job(second).phase, desk.job(second).error_message) == (Phase.ADAPTED, None)


def test_a_training_that_loses_every_worker_is_given_up(desk: Desk, workshop: Workshop):
    jobs = desk.submit_batch(FOUR_TASKS, settings=settings(SHARED))
    for job_id in jobs[:MAX_LOSSES]:
        assert claim_common(desk.claim_for_adapting(job_id))
        expire_common(desk)
    adapt_all(desk, jobs[MAX_LOSSES:], workshop)
    last = desk.job(jobs[-1])
    assert (last.phase, last.error_code) == (Phase.FAILED, "worker_lost")
    assert f"{MAX_LOSSES} workers were lost" in (last.error_message or "")
    assert (common_of(desk, jobs[0]).state, common_of(desk, jobs[0]).attempt) == ("failed", MAX_LOSSES)


def test_a_workers_own_trouble_is_not_that_of_the_group(
    desk: Desk, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    first, second = desk.submit_batch(TASKS, settings=settings(SHARED))
    with monkeypatch.context() as patch:
        patch.setattr("worker.common_adaptation.store", _disk_full)
        adapt_job(desk.claim_for_adapting(first), workshop=workshop)
    assert desk.job(first).error_code == "internal_error"
    adapt_job(desk.claim_for_adapting(second), workshop=workshop)
    assert desk.job(second).phase is Phase.ADAPTED


def test_a_trouble_that_every_worker_has_is_that_of_the_group(
    desk: Desk, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("worker.common_adaptation.store", _disk_full)
    jobs = desk.submit_batch(FOUR_TASKS, settings=settings(SHARED))
    adapt_all(desk, jobs, workshop)
    common = common_of(desk, jobs[0])
    assert (common.state, common.error_code, common.attempt) == ("failed", "internal_error", MAX_LOSSES)
    assert "No space" in (desk.job(jobs[-1]).error_message or "")


def test_a_healthy_job_survives_the_loss_of_the_common_lease(desk: Desk, workshop: Workshop):
    first, second = desk.submit_batch(TASKS, settings=settings(SHARED, max_steps=40))
    record, other = desk.claim_for_adapting(first, lease_s=4.0), desk.claim_for_adapting(second)
    taken_over_at: list[int] = []

    def take_over() -> None:
        if taken_over_at:
            return
        expire_common(desk)
        assert claim_common(other)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not _knows_of_its_loss(record):
            time.sleep(0.05)
        assert record.steps is not None
        record.steps.settle()
        taken_over_at.append(len(desk.steps(first)))
        threading.Timer(1.5, expire_common, [desk]).start()  # and the other one is lost in turn

    after_step(record, 2, take_over)
    adapt_job(record, workshop=workshop)
    assert taken_over_at == [2]
    assert (desk.job(first).phase, desk.job(first).error_message) == (Phase.ADAPTED, None)
    assert [step for step, _, _ in curve(desk, first)] == list(range(1, 41))
    assert common_of(desk, first).attempt == 3


def _knows_of_its_loss(record: JobRecord) -> bool:
    assert record.common is not None
    try:
        record.common.check()
    except StaleCommonClaim:
        return True
    return False


def _disk_full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")
