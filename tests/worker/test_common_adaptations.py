"""What jobs of a batch share: one warm-up, or one adapter, whichever of their workers trains it."""

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from jobs.database import transaction
from jobs.errors import StaleCommonClaim
from jobs.models import CommonAdaptationRow
from jobs.repositories import JobRepository
from jobs.states import Phase
from tests.worker.desk import QUICK, TASK, Desk
from tests.worker.watching import after_step
from worker.pipeline import adapt_job, sample_jobs
from worker.record import JobRecord
from worker.warm import WarmModels
from worker.workshop import Workshop

LARGE = {
    "train": [{"input": [[1] * 20] * 20, "output": [[2] * 20] * 20}],
    "test": [{"input": [[1] * 20] * 20}],
}
OTHER = {**TASK, "train": TASK["train"][:2]}
TASKS = {"a": TASK, "b": OTHER}
WARM = {"start": "warm", "warmup": {"steps": 3, "batch_size": 4}, "max_steps": 2, "batch_size": 2, "lora_rank": 2}
SHARED = {"scope": "shared", "max_steps": 4, "batch_size": 2, "lora_rank": 2}


def settings(adaptation: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**QUICK, "adaptation": {**adaptation, **more}}


def adapt_all(desk: Desk, jobs: list[UUID], workshop: Workshop) -> None:
    for job_id in jobs:
        adapt_job(desk.claim_for_adapting(job_id), workshop=workshop)


def claim_common(record: JobRecord) -> bool:
    """As a worker does that is about to train, and then hangs."""
    assert record.common is not None
    return record.common.claim()


def common_of(desk: Desk, job_id: UUID) -> CommonAdaptationRow:
    job = desk.job(job_id)
    with transaction(desk.sessions) as session:
        return session.get_one(CommonAdaptationRow, (job.batch_id, job.group_index))


def curve(desk: Desk, job_id: UUID) -> list[tuple[int, str, float]]:
    return [(row.step, row.stage, row.loss) for row in desk.steps(job_id)]


def test_a_warm_start_trains_once_on_all_tasks_then_each_on_its_own(desk: Desk, workshop: Workshop):
    jobs = desk.submit_batch(TASKS, settings=settings(WARM))
    adapt_all(desk, jobs, workshop)
    first, second = (curve(desk, job_id) for job_id in jobs)
    assert [step[:2] for step in first] == [(1, "common"), (2, "common"), (3, "common"), (4, "task"), (5, "task")]
    assert first[:3] == second[:3]
    assert first[3:] != second[3:]

    for job_id in jobs:
        job = desk.job(job_id)
        assert (job.phase, job.step, job.max_steps) == (Phase.ADAPTED, 5, 5)
        assert job.usage["common"]["num_steps"] == 3
        assert (job.usage["num_steps"], job.usage["stopped_by"]) == (2, "max_steps")
        elapsed = [row.elapsed_s for row in desk.steps(job_id)]
        assert elapsed == sorted(elapsed)
    assert common_of(desk, jobs[0]).attempt == 1
    keys = {job.adapter.artifact_key for job in map(desk.job, jobs) if job.adapter}
    assert len(keys) == 2


def test_the_losses_do_not_depend_on_who_comes_first_or_what_else_ran(
    desk: Desk, workshop: Workshop, new_workshop: Callable[..., Workshop]
):
    one, two = (desk.submit_batch(TASKS, settings=settings(WARM)) for _ in range(2))
    adapt_all(desk, one, workshop)
    adapt_all(desk, [desk.submit(settings=settings({"max_steps": 1, "seed": 5}))], workshop)
    adapt_all(desk, two[::-1], new_workshop())
    assert [curve(desk, job_id) for job_id in one] == [curve(desk, job_id) for job_id in two]


def test_a_warm_start_is_not_a_cold_one(desk: Desk, workshop: Workshop):
    warm, cold = (desk.submit_batch(TASKS, settings=settings(WARM, **more)) for more in ({}, {"start": "new"}))
    adapt_all(desk, [warm[0], cold[0]], workshop)
    assert curve(desk, warm[0])[3][2] != curve(desk, cold[0])[0][2]


def test_a_shared_adapter_is_that_of_all_jobs(desk: Desk, workshop: Workshop):
    jobs = desk.submit_batch(TASKS, settings=settings(SHARED))
    adapt_all(desk, jobs, workshop)
    assert curve(desk, jobs[0]) == curve(desk, jobs[1])
    assert [step[1] for step in curve(desk, jobs[0])] == ["common"] * 4
    adapters = [desk.job(job_id).adapter for job_id in jobs]
    assert adapters[0] is not None
    assert adapters[1] is not None
    assert adapters[0].artifact_key == adapters[1].artifact_key == common_of(desk, jobs[0]).artifact_key
    for job_id in jobs:
        sample_jobs([desk.claim_for_sampling(job_id)], workshop=workshop)
        assert desk.job(job_id).phase is Phase.SUCCEEDED


def test_groups_share_among_themselves(desk: Desk, workshop: Workshop):
    tasks = {"a": TASK, "b": OTHER, "c": TASK}
    jobs = desk.submit_batch(tasks, settings=settings(SHARED, scope="groups", group_size=2))
    adapt_all(desk, jobs, workshop)
    assert [desk.job(job_id).group_index for job_id in jobs] == [0, 0, 1]
    assert curve(desk, jobs[0]) == curve(desk, jobs[1]) != curve(desk, jobs[2])


def test_only_every_nth_step_is_recorded_and_the_last(desk: Desk, workshop: Workshop):
    warm = {**WARM, "warmup": {"steps": 5, "batch_size": 1}, "max_steps": 6, "logging_steps": 4}
    jobs = desk.submit_batch(TASKS, settings=settings(warm))
    adapt_all(desk, jobs, workshop)
    for job_id in jobs:
        assert [row.step for row in desk.steps(job_id)] == [1, 4, 5, 6, 9, 11]
        assert desk.job(job_id).step == 11


def test_a_task_that_does_not_fit_fails_alone(desk: Desk, workshop: Workshop):
    jobs = desk.submit_batch({**TASKS, "large": LARGE}, settings=settings(SHARED, max_seq_len=100))
    adapt_all(desk, jobs, workshop)
    assert [desk.job(job_id).phase for job_id in jobs] == [Phase.ADAPTED, Phase.ADAPTED, Phase.FAILED]
    assert desk.job(jobs[2]).error_code == "task_too_long"
    assert desk.job(jobs[0]).usage["common"]["left_out"] == ["large"]


def test_a_diverged_common_run_fails_every_job_of_the_group(desk: Desk, workshop: Workshop):
    jobs = desk.submit_batch(TASKS, settings=settings(SHARED, divergence_norm=1e-9))
    adapt_all(desk, jobs, workshop)
    for job_id in jobs:
        job = desk.job(job_id)
        assert (job.phase, job.error_code) == (Phase.FAILED, "diverged")
        assert "step 1" in (job.error_message or "")
    assert common_of(desk, jobs[0]).attempt == 1  # nobody tried again


def test_a_task_stage_that_diverges_names_the_step_of_the_job(desk: Desk, workshop: Workshop):
    # The first own step begins where the warm-up's first one did not diverge: only the learning rate is another.
    jobs = desk.submit_batch(TASKS, settings=settings(WARM))
    record = desk.claim_for_adapting(jobs[0])
    record.job.settings_json["adaptation"]["divergence_norm"] = 1e-9  # type: ignore[index]
    trained = desk.claim_for_adapting(jobs[1])
    adapt_job(trained, workshop=workshop)
    adapt_job(record, workshop=workshop)
    assert "step 4:" in (desk.job(jobs[0]).error_message or "")


def test_a_cancel_of_the_job_that_trains_leaves_the_others_to_go_on(desk: Desk, workshop: Workshop):
    first, second = desk.submit_batch(TASKS, settings=settings(SHARED))
    record = desk.claim_for_adapting(first)

    def cancel() -> None:
        with transaction(desk.sessions) as session:
            JobRepository(session).request_cancel(first)
        assert record.steps is not None
        record.steps.settle()  # and hears of it

    after_step(record, 2, cancel)
    adapt_job(record, workshop=workshop)
    assert desk.job(first).phase is Phase.CANCELLED
    assert common_of(desk, second).state == "waiting"
    adapt_job(desk.claim_for_adapting(second), workshop=workshop)
    assert desk.job(second).phase is Phase.ADAPTED
    assert len(curve(desk, second)) == 4


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_process_gives_both_back(desk: Desk, workshop: Workshop, signal: type[BaseException]):
    first, _ = desk.submit_batch(TASKS, settings=settings(SHARED))
    record = desk.claim_for_adapting(first)

    def interrupt() -> None:
        raise signal

    after_step(record, 2, interrupt)
    with pytest.raises(signal):
        adapt_job(record, workshop=workshop)
    assert desk.job(first).phase is Phase.QUEUED
    assert common_of(desk, first).state == "waiting"


def test_a_worker_waits_for_the_one_that_trains(desk: Desk, workshop: Workshop, new_workshop: Callable[..., Workshop]):
    first, second = desk.submit_batch(TASKS, settings=settings(SHARED))
    trainer, waiter = desk.claim_for_adapting(first), desk.claim_for_adapting(second)
    waiting = threading.Thread(target=adapt_job, args=(waiter,), kwargs={"workshop": new_workshop(models=WarmModels())})
    after_step(trainer, 1, waiting.start)
    adapt_job(trainer, workshop=workshop)
    waiting.join(timeout=60)
    assert (desk.job(first).phase, desk.job(second).phase) == (Phase.ADAPTED, Phase.ADAPTED)
    assert common_of(desk, first).attempt == 1
    assert curve(desk, first) == curve(desk, second)


def test_a_waiting_job_can_be_cancelled(desk: Desk, workshop: Workshop):
    first, second = desk.submit_batch(TASKS, settings=settings(SHARED))
    held = claim_common(desk.claim_for_adapting(first))
    waiter = desk.claim_for_adapting(second)
    with transaction(desk.sessions) as session:
        JobRepository(session).request_cancel(second)
    adapt_job(waiter, workshop=workshop)
    assert desk.job(second).phase is Phase.CANCELLED
    assert common_of(desk, first).attempt == 1
    assert held


def test_a_trainer_that_was_lost_is_replaced_and_records_nothing(desk: Desk, new_workshop: Callable[..., Workshop]):
    first, second = desk.submit_batch(TASKS, settings=settings(SHARED))
    lost = desk.claim_for_adapting(first, lease_s=0.2)  # nobody renews it
    assert claim_common(lost)
    adapt_job(desk.claim_for_adapting(second), workshop=new_workshop(job_timeout_s=60))
    assert desk.job(second).phase is Phase.ADAPTED
    assert common_of(desk, first).attempt == 2
    assert lost.common is not None
    with pytest.raises(StaleCommonClaim):
        lost.common.fail("late", "too late")
    assert common_of(desk, first).state == "trained"


def test_a_lost_trainer_cannot_write_while_another_trains(desk: Desk):
    jobs = desk.submit_batch(TASKS, settings=settings(SHARED))
    lost, trainer = (desk.claim_for_adapting(job_id, lease_s=0.2) for job_id in jobs)
    assert claim_common(lost)
    while not claim_common(trainer):  # as soon as the lease is over
        pass
    assert lost.common is not None
    lost.common.renew()
    for write in (lost.common.check, lost.common.release, lambda: lost.common.fail("late", "too late")):
        with pytest.raises(StaleCommonClaim):
            write()
    assert common_of(desk, jobs[0]).attempt == 2
    assert trainer.common is not None
    trainer.common.renew()


def test_both_leases_are_kept_while_the_adapter_is_trained(desk: Desk, workshop: Workshop):
    first, _ = desk.submit_batch(TASKS, settings=settings(SHARED))
    record = desk.claim_for_adapting(first, lease_s=0.8)
    ends = []

    def wait_for_a_renewal() -> None:
        before = common_of(desk, first).lease_expires_at
        assert before is not None
        for _ in range(200):
            now = common_of(desk, first).lease_expires_at
            assert now is not None
            if now > before:
                ends.append(now)
                return
            threading.Event().wait(0.05)

    after_step(record, 1, wait_for_a_renewal)
    adapt_job(record, workshop=workshop)
    assert ends
    assert desk.job(first).phase is Phase.ADAPTED
