"""Jobs that are trained together: real database, real training of a tiny model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from jobs.claims import ClaimedJob
from jobs.database import transaction
from jobs.repositories import ClaimRepository, JobRepository
from jobs.states import Phase
from tests.worker.desk import QUICK, Desk
from tests.worker.outage import Outage
from tests.worker.watching import after_step
from worker import adapting_pack
from worker.pipeline import adapt_job, sample_jobs
from worker.record import JobRecord
from worker.workshop import Workshop

ENDLESS = 100_000


def settings(**adaptation: Any) -> dict[str, Any]:
    return {**QUICK, "adaptation": {**QUICK["adaptation"], **adaptation}}


@dataclass
class Pack:
    """Jobs of a desk, trained by one worker as a pack."""

    desk: Desk
    workshop: Workshop
    watched: dict[UUID, Callable[[JobRecord], None]] = field(default_factory=dict)
    """What is done with a job's record when it is claimed."""

    def adapt(self, first: UUID, *, lease_s: float = 30.0) -> None:
        record = self.desk.claim_for_adapting(first, lease_s=lease_s)
        self._watch(record)
        claim_more = self.desk.claim_more(record, watch=self._watch)
        adapt_job(record, workshop=self.workshop, claim_more=claim_more)

    def after_step(self, job_id: UUID, step: int, do: Callable[[JobRecord], object]) -> None:
        self.watched[job_id] = lambda record: after_step(record, step, lambda: do(record))

    def _watch(self, record: JobRecord) -> None:
        self.watched.get(record.claim.job_id, lambda _: None)(record)


@pytest.fixture
def new_pack(desk: Desk, new_workshop: Callable[..., Workshop]) -> Callable[..., Pack]:
    def create(size: int | None = 3, **workshop: Any) -> Pack:
        return Pack(desk, new_workshop(adapt_pack=size, **workshop))

    return create


def phases(desk: Desk, jobs: list[UUID]) -> list[Phase]:
    return [desk.job(job_id).phase for job_id in jobs]


def check_adapted(desk: Desk, job_id: UUID, *, num_steps: int) -> None:
    """All of it is on record, in order, and the adapter is its own."""
    job = desk.job(job_id)
    assert (job.phase, job.step, job.error_message) == (Phase.ADAPTED, num_steps, None)
    assert [row.step for row in desk.steps(job_id)] == list(range(1, num_steps + 1))
    assert job.adapter is not None
    assert str(job_id) in job.adapter.artifact_key


def cancel(desk: Desk, job_id: UUID) -> None:
    with transaction(desk.sessions) as session:
        JobRepository(session).request_cancel(job_id)


def test_each_job_of_a_pack_ends_with_its_own_losses_and_adapter(desk: Desk, new_pack: Callable[..., Pack]):
    kinds: list[Mapping[str, Any]] = [
        {"lora_rank": 2, "max_steps": 7},
        {"lora_rank": 5, "max_steps": 3, "learning_rate": 0.01, "seed": 3, "batch_size": 1},
        {"lora_rank": 1, "max_steps": 11, "logging_steps": 1, "target_modules": ["q_proj", "v_proj"]},
        {"lora_rank": 3, "max_steps": 5, "init": "pissa", "lora_dropout": 0.2},
    ]
    alone, together = ([desk.submit(settings=settings(**kind)) for kind in kinds] for _ in range(2))
    for job_id in alone:
        new_pack(size=1).adapt(job_id)
    pack = new_pack(size=3)
    pack.adapt(together[0])
    for job_id, lonely, kind in zip(together, alone, kinds, strict=True):
        check_adapted(desk, job_id, num_steps=kind["max_steps"])
        assert desk.losses(job_id) == pytest.approx(desk.losses(lonely), rel=1e-3)
        adapter, its = desk.job(job_id).adapter, desk.job(lonely).adapter
        assert adapter is not None
        assert its is not None
        assert adapter.config == its.config
        usage = desk.job(job_id).usage
        assert usage["train_tokens"] == desk.job(lonely).usage["train_tokens"]
        assert 1 < usage["company"] <= 3
        assert 0 < usage["compute_s"] <= usage["adapt_s"]
        assert desk.job(lonely).usage["company"] == 1
    for job_id in together:
        sample_jobs([desk.claim_for_sampling(job_id)], workshop=pack.workshop)
    assert phases(desk, together) == [Phase.SUCCEEDED] * 4
    assert list(pack.workshop.work_dir.iterdir()) == []


def test_a_slot_that_is_free_is_taken_while_the_others_go_on_and_who_ends_is_passed_on_at_once(
    desk: Desk, new_pack: Callable[..., Pack]
):
    long, short, later = (desk.submit(settings=settings(max_steps=steps)) for steps in (ENDLESS, 3, 4))
    passed_on: list[tuple[UUID, Phase, Phase]] = []

    def pass_on(job: ClaimedJob) -> None:
        passed_on.append((job.claim.job_id, desk.job(job.claim.job_id).phase, desk.job(long).phase))
        if job.claim.job_id == later:
            cancel(desk, long)

    new_pack(size=2, pass_on=pass_on).adapt(long)
    assert passed_on == [
        (short, Phase.ADAPTED, Phase.ADAPTING),
        (later, Phase.ADAPTED, Phase.ADAPTING),
        (long, Phase.CANCELLED, Phase.CANCELLED),
    ]
    check_adapted(desk, short, num_steps=3)
    check_adapted(desk, later, num_steps=4)


def test_a_cancel_is_one_jobs_own(desk: Desk, new_pack: Callable[..., Pack]):
    first, cancelled, third = (desk.submit(settings=settings(max_steps=steps)) for steps in (60, ENDLESS, 60))
    pack = new_pack()
    pack.after_step(cancelled, 2, lambda _: cancel(desk, cancelled))
    pack.adapt(first)
    assert (desk.job(cancelled).phase, desk.job(cancelled).adapter) == (Phase.CANCELLED, None)
    for job_id in (first, third):
        check_adapted(desk, job_id, num_steps=60)


def test_a_job_that_diverges_or_does_not_fit_fails_alone(desk: Desk, new_pack: Callable[..., Pack]):
    large = {"train": [{"input": [[1] * 20] * 20, "output": [[2] * 20] * 20}], "test": [{"input": [[1] * 20] * 20}]}
    diverging = desk.submit(settings=settings(learning_rate=1, divergence_norm=20, max_steps=200))
    too_large = desk.submit(settings=settings(max_seq_len=64), task=large)
    good = [desk.submit(settings=settings(max_steps=20)) for _ in range(2)]
    new_pack().adapt(diverging)
    assert (desk.job(diverging).phase, desk.job(diverging).error_code) == (Phase.FAILED, "diverged")
    assert f"step {desk.job(diverging).step + 1}:" in str(desk.job(diverging).error_message)
    assert len(desk.steps(diverging)) == desk.job(diverging).step
    assert (desk.job(too_large).phase, desk.job(too_large).error_code) == (Phase.FAILED, "task_too_long")
    for job_id in good:
        check_adapted(desk, job_id, num_steps=20)
    assert desk.losses(good[0]) == pytest.approx(desk.losses(good[1]), rel=1e-3)


def test_a_job_that_another_worker_took_is_dropped_and_no_other(
    desk: Desk, new_pack: Callable[..., Pack], tmp_path: Any
):
    first, lost, third = (desk.submit(settings=settings(max_steps=steps)) for steps in (60, ENDLESS, 60))

    def hand_over(record: JobRecord) -> None:
        with transaction(desk.sessions) as session:
            ClaimRepository(session).release(record.claim)
        desk.claim_for_adapting(lost)

    pack = new_pack()
    pack.after_step(lost, 2, hand_over)
    pack.adapt(first)
    job = desk.job(lost)
    assert (job.phase, job.attempt, job.adapter, desk.losses(lost)) == (Phase.ADAPTING, 2, None, [])
    for job_id in (first, third):
        check_adapted(desk, job_id, num_steps=60)
    assert len(list((tmp_path / "artifacts").rglob("*.zip"))) == 2


def test_a_database_that_is_away_for_a_while_costs_no_step_of_any_job(
    desk: Desk, new_pack: Callable[..., Pack], outage: Outage
):
    jobs = [desk.submit(settings=settings(max_steps=steps)) for steps in (60, 15, 40)]
    pack = new_pack()
    pack.after_step(jobs[0], 5, lambda _: outage.begin())
    pack.after_step(jobs[2], 35, lambda _: outage.end())
    pack.adapt(jobs[0])
    for job_id, num_steps in zip(jobs, (60, 15, 40), strict=True):
        check_adapted(desk, job_id, num_steps=num_steps)


def test_a_shutdown_gives_all_back_and_takes_no_more(desk: Desk, new_pack: Callable[..., Pack]):
    jobs = [desk.submit(settings=settings(max_steps=steps)) for steps in (ENDLESS, ENDLESS, 4, 3)]
    pack = new_pack()
    pack.after_step(jobs[2], 2, lambda _: pack.workshop.shutting_down.set())
    pack.adapt(jobs[0])
    assert phases(desk, jobs) == [Phase.QUEUED] * 4
    assert [desk.job(job_id).requeues for job_id in jobs] == [0] * 4
    assert [desk.events(job_id)[-1] for job_id in jobs] == ["released"] * 3 + ["queued"]


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_process_gives_all_back(desk: Desk, new_pack: Callable[..., Pack], signal: type[BaseException]):
    def interrupt(_: JobRecord) -> None:
        raise signal

    jobs = [desk.submit(settings=settings(max_steps=ENDLESS)) for _ in range(3)]
    pack = new_pack()
    pack.after_step(jobs[1], 2, interrupt)
    with pytest.raises(signal):
        pack.adapt(jobs[0])
    assert phases(desk, jobs) == [Phase.QUEUED] * 3
    assert [desk.job(job_id).requeues for job_id in jobs] == [0] * 3


def test_a_job_over_its_time_in_company_fails_only_when_it_was_alone(desk: Desk, new_pack: Callable[..., Pack]):
    jobs = [desk.submit(settings=settings(max_steps=ENDLESS)) for _ in range(2)]
    pack = new_pack(size=2, job_timeout_s=0.8)
    pack.adapt(jobs[0])
    assert phases(desk, jobs) == [Phase.QUEUED] * 2
    assert [(desk.job(job_id).requeues, desk.events(job_id)[-1]) for job_id in jobs] == [(1, "released")] * 2
    pack.adapt(jobs[0])
    assert (desk.job(jobs[0]).phase, desk.job(jobs[0]).error_code) == (Phase.FAILED, "timed_out")
    assert desk.job(jobs[1]).attempt == 1  # and nobody was taken along


def test_a_job_that_lost_a_worker_is_trained_alone(desk: Desk, new_pack: Callable[..., Pack]):
    troubled, other = (desk.submit(settings=settings(max_steps=20)) for _ in range(2))
    record = desk.claim_for_adapting(troubled)
    record.release(alone=True)
    new_pack().adapt(troubled)
    check_adapted(desk, troubled, num_steps=20)
    assert desk.job(troubled).usage["company"] == 1
    assert desk.job(other).phase is Phase.QUEUED


def test_jobs_of_other_settings_are_left_for_later(desk: Desk, new_pack: Callable[..., Pack]):
    first, checkpointed, shared, plain, alike = (
        desk.submit(settings=each)
        for each in (
            settings(max_steps=30),
            settings(gradient_checkpointing=True),
            settings(scope="shared"),
            {**QUICK, "adaptation": None},
            settings(max_steps=30),
        )
    )
    new_pack().adapt(first)
    assert phases(desk, [first, alike]) == [Phase.ADAPTED] * 2
    assert phases(desk, [checkpointed, shared, plain]) == [Phase.QUEUED] * 3


@pytest.mark.parametrize("size", [1, None], ids=["of one", "as a processor has it"])
def test_a_pack_of_one_takes_nobody_along(desk: Desk, new_pack: Callable[..., Pack], size: int | None):
    jobs = [desk.submit() for _ in range(2)]
    new_pack(size=size).adapt(jobs[0])
    assert phases(desk, jobs) == [Phase.ADAPTED, Phase.QUEUED]


def test_a_turn_is_over_after_a_while(desk: Desk, new_pack: Callable[..., Pack], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(adapting_pack, "TURN_S", 0.0)
    jobs = [desk.submit() for _ in range(2)]
    new_pack().adapt(jobs[0])
    assert phases(desk, jobs) == [Phase.ADAPTED, Phase.QUEUED]


def test_where_nothing_waits_the_database_is_not_asked_between_every_two_steps(
    desk: Desk, new_pack: Callable[..., Pack], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(adapting_pack, "LOOK_AGAIN_AFTER_S", 1000.0)
    pack, asked = new_pack(), 0

    def nothing_waits() -> None:
        nonlocal asked
        asked += 1

    job_id = desk.submit(settings=settings(max_steps=50))
    adapt_job(desk.claim_for_adapting(job_id), workshop=pack.workshop, claim_more=nothing_waits)
    assert (desk.job(job_id).phase, asked) == (Phase.ADAPTED, 1)


def test_a_claim_that_goes_wrong_is_no_matter_of_those_in_training(desk: Desk, new_pack: Callable[..., Pack]):
    def fail() -> None:
        raise RuntimeError("no more jobs")

    job_id = desk.submit()
    adapt_job(desk.claim_for_adapting(job_id), workshop=new_pack().workshop, claim_more=fail)
    check_adapted(desk, job_id, num_steps=5)


def test_a_fault_of_the_trainer_is_looked_for_job_by_job(
    desk: Desk, new_pack: Callable[..., Pack], monkeypatch: pytest.MonkeyPatch
):
    def fail(_: object, admit: Callable[[], object], **__: object) -> None:
        while admit() is not None:
            pass
        raise RuntimeError("whose fault?")

    monkeypatch.setattr(adapting_pack, "train_together", fail)
    jobs = [desk.submit() for _ in range(2)]
    pack = new_pack()
    pack.adapt(jobs[0])
    assert [(desk.job(job_id).phase, desk.job(job_id).requeues) for job_id in jobs] == [(Phase.QUEUED, 1)] * 2
    pack.adapt(jobs[0])
    assert (desk.job(jobs[0]).phase, desk.job(jobs[0]).error_code) == (Phase.FAILED, "internal_error")
