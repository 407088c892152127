"""The life of a job: real database, real PEFT training and torch sampling on a tiny model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from jobs.database import transaction
from jobs.doorbells import Queue
from jobs.repositories import (
    AdapterRepository,
    BaseModelRepository,
    CandidateRepository,
    ClaimRepository,
    JobRepository,
    OutboxRepository,
)
from jobs.states import Phase
from tests.worker.desk import QUICK, TASK, Desk
from tests.worker.outage import Outage
from tests.worker.watching import after_step
from worker.pipeline import adapt_job, sample_jobs
from worker.workshop import Workshop

LARGE = {
    "train": [{"input": [[1] * 20] * 20, "output": [[2] * 20] * 20}],
    "test": [{"input": [[1] * 20] * 20}],
}


def with_steps(number: int) -> dict[str, Any]:
    return {**QUICK, "adaptation": {**QUICK["adaptation"], "max_steps": number}}


ENDLESS = with_steps(100_000)


def cancel(desk: Desk, job_id: UUID) -> None:
    with transaction(desk.sessions) as session:
        JobRepository(session).request_cancel(job_id)


def test_a_job_is_adapted_then_answered(desk: Desk, workshop: Workshop):
    job_id = desk.submit()
    adapt_job(desk.claim_for_adapting(job_id), workshop=workshop)

    adapted = desk.job(job_id)
    assert adapted.phase is Phase.ADAPTED
    assert (adapted.step, adapted.max_steps, len(desk.losses(job_id))) == (5, 5, 5)
    assert adapted.usage["adapt_s"] > 0
    assert adapted.usage["train_tokens"] > 5 * 2 * 20
    assert 0 < adapted.usage["compute_s"] < adapted.usage["adapt_s"]
    assert (0 <= adapted.usage["padding"] < 1, adapted.usage["company"]) == (True, 1.0)
    with transaction(desk.sessions) as session:
        assert [row.queue for row in OutboxRepository(session).unsent()] == [Queue.ADAPT, Queue.SAMPLE]
        adapter = AdapterRepository(session).get(job_id)
    assert workshop.artifacts.path(adapter.artifact_key).stat().st_size == adapter.size_bytes
    assert adapter.config["r"] == 2

    sample_jobs([desk.claim_for_sampling(job_id)], workshop=workshop)
    answered = desk.job(job_id)
    assert answered.phase is Phase.SUCCEEDED
    assert answered.results is not None
    (result,) = answered.results["test"]
    assert result.keys() == {
        *("attempt_1", "attempt_2", "confidence", "confidences", "num_completions", "correct"),
    }
    assert result["confidence"] == pytest.approx(sum(result["confidences"]))
    assert result["num_completions"] == answered.usage["num_completions"] == 2
    assert {"cut_searches", "scored_answers", "dropped_pairs", "sampled_tokens"} < answered.usage.keys()
    assert result["correct"] in {True, False}
    with transaction(desk.sessions) as session:
        votes = sum(row.votes for row in CandidateRepository(session).list(job_id))
    assert votes + sum(answered.usage["refusals"].values()) == 2
    assert list(workshop.work_dir.iterdir()) == []


def test_adaptation_null_answers_with_the_base_model(desk: Desk, workshop: Workshop):
    job_id = desk.submit(settings={**QUICK, "adaptation": None})
    adapt_job(desk.claim_for_adapting(job_id), workshop=workshop)
    sample_jobs([desk.claim_for_sampling(job_id)], workshop=workshop)
    assert desk.job(job_id).phase is Phase.SUCCEEDED
    assert desk.job(job_id).adapter is None
    assert desk.losses(job_id) == []


def test_the_same_job_twice_has_the_same_losses_whatever_ran_between(desk: Desk, workshop: Workshop):
    first, other, second = desk.submit(), desk.submit(settings=QUICK | {"adaptation": {"max_steps": 3}}), desk.submit()
    for job_id in (first, other, second):
        adapt_job(desk.claim_for_adapting(job_id), workshop=workshop)
    assert desk.losses(first) == desk.losses(second)
    assert desk.losses(first)[:3] != desk.losses(other)


def test_test_outputs_that_the_client_sent_do_not_change_training(desk: Desk, workshop: Workshop):
    unsolved: dict[str, Any] = {**TASK, "test": [{"input": TASK["test"][0]["input"]}]}
    wrong: dict[str, Any] = {**TASK, "test": [{**TASK["test"][0], "output": [[9]]}]}
    curves = []
    for task in (TASK, unsolved, wrong):
        job_id = desk.submit(task=task)
        assert "output" not in desk.job(job_id).task["test"][0]
        record = desk.claim_for_adapting(job_id)
        assert not hasattr(record.job.task.test[0], "output")
        adapt_job(record, workshop=workshop)
        curves.append(desk.losses(job_id))
    assert len(curves[0]) == 5
    assert curves[0] == curves[1] == curves[2]


def test_a_cancel_stops_the_training(desk: Desk, workshop: Workshop):
    job_id = desk.submit(settings=ENDLESS)
    record = desk.claim_for_adapting(job_id)
    after_step(record, 2, lambda: cancel(desk, job_id))
    adapt_job(record, workshop=workshop)
    assert desk.job(job_id).phase is Phase.CANCELLED
    steps = [row.step for row in desk.steps(job_id)]
    assert steps == list(range(1, desk.job(job_id).step + 1))
    assert list(workshop.work_dir.iterdir()) == []


def test_a_cancel_that_was_seen_stops_within_one_step(desk: Desk, workshop: Workshop):
    job_id = desk.submit(settings=ENDLESS)
    record = desk.claim_for_adapting(job_id)

    def cancel_and_see() -> None:
        cancel(desk, job_id)
        assert record.steps is not None
        record.steps.settle()

    after_step(record, 2, cancel_and_see)
    adapt_job(record, workshop=workshop)
    assert (desk.job(job_id).phase, len(desk.steps(job_id))) == (Phase.CANCELLED, 2)


def test_a_shutdown_gives_the_job_back_and_the_next_worker_gets_the_same_losses(
    desk: Desk, workshop: Workshop, new_workshop: Callable[..., Workshop]
):
    undisturbed, job_id = desk.submit(), desk.submit()
    adapt_job(desk.claim_for_adapting(undisturbed), workshop=workshop)
    record = desk.claim_for_adapting(job_id)
    after_step(record, 2, workshop.shutting_down.set)
    adapt_job(record, workshop=workshop)
    assert (desk.job(job_id).phase, desk.job(job_id).requeues) == (Phase.QUEUED, 0)

    adapt_job(desk.claim_for_adapting(job_id), workshop=new_workshop())
    assert desk.losses(job_id) == desk.losses(undisturbed)


def test_a_worker_that_lost_its_lease_records_nothing_more(desk: Desk, workshop: Workshop):
    job_id = desk.submit()
    late = desk.claim_for_adapting(job_id)

    def hand_over() -> None:
        with transaction(desk.sessions) as session:
            ClaimRepository(session).release(late.claim)
        desk.claim_for_adapting(job_id)

    after_step(late, 2, hand_over)
    adapt_job(late, workshop=workshop)
    job = desk.job(job_id)
    assert (job.phase, job.attempt, job.adapter) == (Phase.ADAPTING, 2, None)
    assert desk.losses(job_id) == []


def test_what_a_worker_that_lost_its_lease_has_stored_is_removed(desk: Desk, workshop: Workshop, tmp_path: Path):
    job_id = desk.submit()
    late = desk.claim_for_adapting(job_id)
    finish = late.finish_adapting

    def finish_late(**report: Any) -> Phase:
        with transaction(desk.sessions) as session:
            ClaimRepository(session).release(late.claim)
        return finish(**report)

    late.finish_adapting = finish_late  # type: ignore[method-assign]
    adapt_job(late, workshop=workshop)
    assert desk.job(job_id).phase is Phase.QUEUED
    assert not list((tmp_path / "artifacts").rglob("*.zip"))


def test_a_database_that_is_away_for_a_while_costs_no_step(desk: Desk, workshop: Workshop, outage: Outage):
    undisturbed, job_id = (desk.submit(settings=with_steps(40)) for _ in range(2))
    adapt_job(desk.claim_for_adapting(undisturbed), workshop=workshop)
    record = desk.claim_for_adapting(job_id)
    after_step(record, 5, outage.begin)
    after_step(record, 30, outage.end)
    adapt_job(record, workshop=workshop)
    assert (desk.job(job_id).phase, desk.job(job_id).step) == (Phase.ADAPTED, 40)
    assert len(desk.losses(job_id)) == 40
    assert desk.losses(job_id) == desk.losses(undisturbed)


def test_a_worker_that_shuts_down_while_the_database_is_away_leaves_the_job_to_its_lease(
    desk: Desk, workshop: Workshop, outage: Outage
):
    job_id = desk.submit(settings=ENDLESS)
    record = desk.claim_for_adapting(job_id, lease_s=1.0)

    def shut_down() -> None:
        outage.begin()
        workshop.shutting_down.set()

    after_step(record, 5, shut_down)
    adapt_job(record, workshop=workshop)
    outage.end()
    assert desk.job(job_id).phase is Phase.ADAPTING  # whoever finds the lease run out takes it from here
    assert desk.job(job_id).error_code is None


def test_a_database_that_is_away_at_the_very_end_fails_no_job(desk: Desk, workshop: Workshop):
    job_id = desk.submit()
    record = desk.claim_for_adapting(job_id, lease_s=1.0)

    def database_is_away(**_: Any) -> Phase:
        raise OperationalError("UPDATE", {}, ConnectionError("gone"))

    record.finish_adapting = database_is_away  # type: ignore[method-assign]
    adapt_job(record, workshop=workshop)
    assert (desk.job(job_id).phase, desk.job(job_id).error_code) == (Phase.ADAPTING, None)


def test_a_base_model_registered_anew_does_not_change_a_job_under_way(desk: Desk, workshop: Workshop, tmp_path: Path):
    job_id = desk.submit()
    with transaction(desk.sessions) as session:
        BaseModelRepository(session).register("tiny", str(tmp_path / "another"))
    adapt_job(desk.claim_for_adapting(job_id), workshop=workshop)
    assert desk.job(job_id).phase is Phase.ADAPTED


def test_a_job_over_its_time_fails(desk: Desk, new_workshop: Callable[..., Workshop]):
    job_id = desk.submit(settings=ENDLESS)
    adapt_job(desk.claim_for_adapting(job_id), workshop=new_workshop(job_timeout_s=0.5))
    assert (desk.job(job_id).phase, desk.job(job_id).error_code) == (Phase.FAILED, "timed_out")


def test_an_engine_error_fails_the_job_with_its_code(desk: Desk, workshop: Workshop):
    job_id = desk.submit(settings=QUICK | {"adaptation": {"max_seq_len": 64}}, task=LARGE)
    adapt_job(desk.claim_for_adapting(job_id), workshop=workshop)
    assert (desk.job(job_id).phase, desk.job(job_id).error_code) == (Phase.FAILED, "task_too_long")


def test_a_task_that_could_not_be_answered_is_not_trained_on(desk: Desk, workshop: Workshop):
    full = [[1] * 30] * 30
    too_long = {"train": [{"input": full, "output": full}] * 2, "test": [{"input": full}]}
    sampling = {**QUICK["sampling"], "when_too_long": "fail"}
    job_id = desk.submit(settings=QUICK | {"sampling": sampling}, task=too_long)
    adapt_job(desk.claim_for_adapting(job_id), workshop=workshop)
    job = desk.job(job_id)
    assert (job.phase, job.error_code, job.adapter) == (Phase.FAILED, "task_too_long", None)
    assert "context is 4096" in str(job.error_message)
    assert desk.steps(job_id) == []


def test_a_base_model_whose_folder_is_gone_fails_the_job(desk: Desk, workshop: Workshop, tmp_path: Path):
    with transaction(desk.sessions) as session:
        BaseModelRepository(session).register("lost", str(tmp_path / "nowhere"))
    job_id = desk.submit(settings=QUICK | {"base_model": "lost"})
    adapt_job(desk.claim_for_adapting(job_id), workshop=workshop)
    assert (desk.job(job_id).phase, desk.job(job_id).error_code) == (Phase.FAILED, "base_model_error")


def test_a_damaged_adapter_archive_fails_the_job_and_the_next_one_succeeds(desk: Desk, workshop: Workshop):
    job_id, healthy = desk.submit(), desk.submit()
    for each in (job_id, healthy):
        adapt_job(desk.claim_for_adapting(each), workshop=workshop)
    adapter = desk.job(job_id).adapter
    assert adapter is not None
    workshop.artifacts.path(adapter.artifact_key).write_bytes(b"not a zip")
    for each in (job_id, healthy):
        sample_jobs([desk.claim_for_sampling(each)], workshop=workshop)
    assert (desk.job(job_id).phase, desk.job(job_id).error_code) == (Phase.FAILED, "invalid_adapter_zip")
    assert desk.job(healthy).phase is Phase.SUCCEEDED


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_process_gives_the_job_back(desk: Desk, workshop: Workshop, signal: type[BaseException]):
    job_id = desk.submit()
    record = desk.claim_for_adapting(job_id)

    def interrupt() -> None:
        raise signal

    after_step(record, 2, interrupt)
    with pytest.raises(signal):
        adapt_job(record, workshop=workshop)
    assert desk.job(job_id).phase is Phase.QUEUED
