"""Jobs that are answered by one call: real database, real torch sampling on a tiny model."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from arc_engine.errors import SamplerFailed
from arc_engine.sampling.protocol import Sampled, Sampler, SampleRequest, Scored, ScoreRequest
from jobs.database import transaction
from jobs.repositories import CandidateRepository, ClaimRepository, EventRepository
from jobs.states import Phase
from tests.worker.desk import QUICK, TASK, Desk
from worker import pipeline, warm
from worker.pipeline import adapt_job, sample_jobs
from worker.record import JobRecord
from worker.warm import WarmModels
from worker.workshop import Workshop

DRAWN = {**QUICK, "sampling": {**QUICK["sampling"], "method": "sample", "samples_per_view": 8, "temperature": 1.0}}
RESCORED = {**DRAWN, "selection": {"method": "product_of_experts", "num_scoring_views": 2}}
PLAIN = {**QUICK, "adaptation": None}
FULL = [[1] * 30] * 30
TOO_LONG = {"train": [{"input": FULL, "output": FULL}] * 2, "test": [{"input": FULL}]}
UNCUT = {**PLAIN, "sampling": {**QUICK["sampling"], "when_too_long": "fail"}}
SHORT_S = 0.8


class Disturbed:
    """The real sampler, to which something happens in the middle of a call."""

    def __init__(self, sampler: Sampler, disturb: Callable[[], object], *, until_closed: bool) -> None:
        self._sampler = sampler
        self._disturb = disturb
        self._until_closed = until_closed
        self._closed = threading.Event()
        self.num_requests: list[int] = []
        self.num_scored = 0

    def start(self, *, lora_rank: int = 0) -> None:
        self._sampler.start(lora_rank=lora_rank)

    def max_positions(self, *, base: Path, lora_rank: int = 0) -> int | None:
        return self._sampler.max_positions(base=base, lora_rank=lora_rank)

    def sample(self, requests: Sequence[SampleRequest], *, base: Path) -> list[Sampled]:
        self.num_requests.append(len(requests))
        self._disturb()
        if self._until_closed:
            assert self._closed.wait(20), "nobody interrupted the call"
        return self._sampler.sample(requests, base=base)

    def score(self, requests: Sequence[ScoreRequest], *, base: Path) -> list[Scored]:
        self.num_scored += len(requests)
        return self._sampler.score(requests, base=base)

    def close(self) -> None:
        self._sampler.close()
        self._closed.set()


@pytest.fixture
def disturbed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Disturbed]]:
    """Makes samplers ones that are disturbed; gives the list that they will be in."""

    def disturb(what: Callable[[], object] = lambda: None, *, until_closed: bool = False) -> list[Disturbed]:
        made: list[Disturbed] = []
        make = warm.make_sampler

        def make_disturbed(backend: warm.Backend, **how: Any) -> Disturbed:
            made.append(Disturbed(make(backend, **how), what, until_closed=until_closed))
            return made[-1]

        monkeypatch.setattr(warm, "make_sampler", make_disturbed)
        return made

    return disturb


def adapted(desk: Desk, workshop: Workshop, *settings: dict[str, Any], task: dict[str, Any] = TASK) -> list[UUID]:
    """A job for each of these settings, waiting to be answered."""
    jobs = [desk.submit(settings=each, task=task) for each in settings]
    for job_id in jobs:
        adapt_job(desk.claim_for_adapting(job_id), workshop=workshop)
    return jobs


def claimed(desk: Desk, jobs: Sequence[UUID], *, lease_s: float = 30.0) -> list[JobRecord]:
    return [desk.claim_for_sampling(job_id, lease_s=lease_s) for job_id in jobs]


def phases(desk: Desk, jobs: Sequence[UUID]) -> list[Phase]:
    return [desk.job(job_id).phase for job_id in jobs]


def said(desk: Desk, job_id: UUID) -> tuple[Any, ...]:
    """What a client sees of the answer."""
    job = desk.job(job_id)
    usage = {name: value for name, value in job.usage.items() if not name.endswith("_s")}
    with transaction(desk.sessions) as session:
        rows = CandidateRepository(session).list(job_id)
        found = [(row.grid, row.votes, row.score, row.findings, row.view_scores) for row in rows]
    return job.phase, job.results, usage, found


def events(desk: Desk, job_id: UUID) -> list[str]:
    with transaction(desk.sessions) as session:
        return [row.kind for row in EventRepository(session).list(job_id)]


def test_an_answer_does_not_depend_on_its_company(
    desk: Desk, new_workshop: Callable[..., Workshop], disturbed: Callable[..., list[Disturbed]]
):
    made = disturbed()
    workshop = new_workshop(models=WarmModels())
    other = {**DRAWN, "adaptation": {**QUICK["adaptation"], "seed": 3, "learning_rate": 0.02}}
    alone = adapted(desk, workshop, DRAWN, other, PLAIN, RESCORED)
    together = adapted(desk, workshop, DRAWN, other, PLAIN, RESCORED)
    for record in claimed(desk, alone):
        sample_jobs([record], workshop=workshop)
    sample_jobs(claimed(desk, together), workshop=workshop)
    assert [said(desk, job_id) for job_id in together] == [said(desk, job_id) for job_id in alone]
    assert phases(desk, together) == [Phase.SUCCEEDED] * 4
    assert said(desk, together[0])[1:] != said(desk, together[1])[1:], "each under its own adapter"
    assert [sampler.num_requests for sampler in made] == [[1, 1, 1, 1, 4]]
    assert list(workshop.work_dir.iterdir()) == []


def test_a_job_has_its_share_of_the_seconds(desk: Desk, workshop: Workshop):
    few, many = adapted(desk, workshop, QUICK, DRAWN)
    sample_jobs(claimed(desk, [few, many]), workshop=workshop)
    shares = [desk.job(job_id).usage for job_id in (few, many)]
    tokens = [1 + usage["sampled_tokens"] for usage in shares]
    seconds = [usage["sample_s"] for usage in shares]
    assert seconds[1] / sum(seconds) == pytest.approx(tokens[1] / sum(tokens), abs=0.05)


def test_what_is_wrong_with_one_job_is_not_the_others(desk: Desk, workshop: Workshop):
    damaged, healthy = adapted(desk, workshop, QUICK, QUICK)
    [too_long] = adapted(desk, workshop, UNCUT, task=TOO_LONG)
    adapter = desk.job(damaged).adapter
    assert adapter is not None
    workshop.artifacts.path(adapter.artifact_key).write_bytes(b"not a zip")
    jobs = [damaged, too_long, healthy]
    sample_jobs(claimed(desk, jobs), workshop=workshop)
    assert [(desk.job(job_id).phase, desk.job(job_id).error_code) for job_id in jobs] == [
        (Phase.FAILED, "invalid_adapter_zip"),
        (Phase.FAILED, "task_too_long"),
        (Phase.SUCCEEDED, None),
    ]


def test_a_pack_of_which_no_job_can_be_asked_about_ends(desk: Desk, workshop: Workshop):
    [job_id] = adapted(desk, workshop, QUICK)
    adapter = desk.job(job_id).adapter
    assert adapter is not None
    workshop.artifacts.delete(adapter.artifact_key)
    sample_jobs(claimed(desk, [job_id]), workshop=workshop)
    assert phases(desk, [job_id]) == [Phase.FAILED]


def test_a_record_that_cannot_be_written_leaves_the_others_theirs(desk: Desk, workshop: Workshop):
    jobs = adapted(desk, workshop, QUICK, QUICK)
    records = claimed(desk, jobs)

    def database_is_away(**_: Any) -> None:
        raise OperationalError("INSERT", {}, ConnectionError("gone"))

    records[0].finish_sampling = database_is_away  # type: ignore[method-assign]
    sample_jobs(records, workshop=workshop)
    assert phases(desk, jobs) == [Phase.SAMPLING, Phase.SUCCEEDED]  # the first is taken over when its lease is out
    assert desk.job(jobs[0]).error_code is None


def test_a_lost_lease_gives_the_others_back(
    desk: Desk, new_workshop: Callable[..., Workshop], disturbed: Callable[..., list[Disturbed]]
):
    lost, kept = adapted(desk, new_workshop(), QUICK, QUICK)
    records = claimed(desk, [lost, kept], lease_s=SHORT_S)

    def hand_over() -> None:
        with transaction(desk.sessions) as session:
            ClaimRepository(session).release(records[0].claim)
        desk.claim_for_sampling(lost)

    disturbed(hand_over, until_closed=True)
    sample_jobs(records, workshop=new_workshop(models=WarmModels()))
    assert phases(desk, [lost, kept]) == [Phase.SAMPLING, Phase.ADAPTED]
    assert (desk.job(lost).attempt, desk.job(kept).attempt) == (3, 2)
    assert (desk.job(kept).requeues, events(desk, kept)[-1]) == (0, "released")


def test_a_shutdown_gives_all_back(
    desk: Desk, new_workshop: Callable[..., Workshop], disturbed: Callable[..., list[Disturbed]]
):
    jobs = adapted(desk, new_workshop(), QUICK, QUICK)
    workshop = new_workshop(models=WarmModels())
    disturbed(workshop.shutting_down.set, until_closed=True)
    sample_jobs(claimed(desk, jobs), workshop=workshop)
    assert phases(desk, jobs) == [Phase.ADAPTED] * 2
    assert [events(desk, job_id)[-1] for job_id in jobs] == ["released"] * 2


def test_a_sampler_that_fails_fails_them_all(
    desk: Desk, new_workshop: Callable[..., Workshop], disturbed: Callable[..., list[Disturbed]]
):
    def fail() -> None:
        raise SamplerFailed("the engine does not start")

    jobs = adapted(desk, new_workshop(), QUICK, QUICK)
    disturbed(fail)
    sample_jobs(claimed(desk, jobs), workshop=new_workshop(models=WarmModels()))
    assert [(desk.job(job_id).phase, desk.job(job_id).error_code) for job_id in jobs] == [
        (Phase.FAILED, "sampler_failed")
    ] * 2


def test_of_a_call_that_takes_too_long_no_job_has_failed_before_it_was_alone(
    desk: Desk, new_workshop: Callable[..., Workshop], disturbed: Callable[..., list[Disturbed]]
):
    slow, quick = adapted(desk, new_workshop(), QUICK, QUICK)
    made = disturbed(until_closed=True)
    impatient = new_workshop(job_timeout_s=0.3, models=WarmModels())
    sample_jobs(claimed(desk, [slow, quick]), workshop=impatient)
    assert phases(desk, [slow, quick]) == [Phase.ADAPTED] * 2
    assert [desk.job(job_id).requeues for job_id in (slow, quick)] == [1, 1]
    assert [events(desk, job_id)[-1] for job_id in (slow, quick)] == ["released"] * 2
    sample_jobs(claimed(desk, [slow]), workshop=impatient)
    assert (desk.job(slow).phase, desk.job(slow).error_code) == (Phase.FAILED, "timed_out")
    assert [sampler.num_requests for sampler in made] == [[2], [1]]
    sample_jobs(claimed(desk, [quick]), workshop=new_workshop())
    assert phases(desk, [quick]) == [Phase.SUCCEEDED]


def test_a_fault_of_nobody_knows_which_job_is_looked_for_job_by_job(
    desk: Desk, new_workshop: Callable[..., Workshop], disturbed: Callable[..., list[Disturbed]]
):
    calls = iter([RuntimeError("in the pack"), RuntimeError("alone"), None])

    def fail_twice() -> None:
        error = next(calls)
        if error is not None:
            raise error

    jobs = adapted(desk, new_workshop(), QUICK, QUICK)
    made = disturbed(fail_twice)
    sample_jobs(claimed(desk, jobs), workshop=new_workshop(models=WarmModels()))
    assert [(desk.job(job_id).phase, desk.job(job_id).error_code) for job_id in jobs] == [
        (Phase.FAILED, "internal_error"),
        (Phase.SUCCEEDED, None),
    ]
    assert "alone" in str(desk.job(jobs[0]).error_message)
    assert [sampler.num_requests for sampler in made] == [[2, 1, 1]]


def test_a_fault_after_which_time_is_up_is_looked_for_no_further(
    desk: Desk, new_workshop: Callable[..., Workshop], disturbed: Callable[..., list[Disturbed]]
):
    jobs = adapted(desk, new_workshop(), QUICK, QUICK)
    workshop = new_workshop(models=WarmModels())

    def fail_at_shutdown() -> None:
        workshop.shutting_down.set()
        raise RuntimeError

    made = disturbed(fail_at_shutdown)
    sample_jobs(claimed(desk, jobs), workshop=workshop)
    assert phases(desk, jobs) == [Phase.ADAPTED] * 2
    assert [sampler.num_requests for sampler in made] == [[2]]


def test_a_worker_that_shuts_down_asks_nothing_more(
    desk: Desk, new_workshop: Callable[..., Workshop], disturbed: Callable[..., list[Disturbed]]
):
    jobs = adapted(desk, new_workshop(), QUICK, QUICK)
    workshop = new_workshop(models=WarmModels())
    made = disturbed()
    workshop.shutting_down.set()
    sample_jobs(claimed(desk, jobs), workshop=workshop)
    assert phases(desk, jobs) == [Phase.ADAPTED] * 2
    assert made == []


def test_what_was_sampled_is_not_scored_when_the_worker_shuts_down(
    desk: Desk, new_workshop: Callable[..., Workshop], disturbed: Callable[..., list[Disturbed]]
):
    jobs = adapted(desk, new_workshop(), RESCORED, RESCORED)
    workshop = new_workshop(models=WarmModels())
    made = disturbed(workshop.shutting_down.set)
    sample_jobs(claimed(desk, jobs), workshop=workshop)
    assert phases(desk, jobs) == [Phase.ADAPTED] * 2
    assert [sampler.num_scored for sampler in made] == [0]


def test_a_fault_of_the_workers_own_ends_every_job_of_the_pack(
    desk: Desk, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("not a job's")

    jobs = adapted(desk, workshop, QUICK, QUICK)
    monkeypatch.setattr(pipeline, "answered", fail)
    sample_jobs(claimed(desk, jobs), workshop=workshop)
    assert [(desk.job(job_id).phase, desk.job(job_id).error_code) for job_id in jobs] == [
        (Phase.FAILED, "internal_error")
    ] * 2


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_process_gives_all_back(
    desk: Desk,
    new_workshop: Callable[..., Workshop],
    disturbed: Callable[..., list[Disturbed]],
    signal: type[BaseException],
):
    def interrupt() -> None:
        raise signal

    jobs = adapted(desk, new_workshop(), QUICK, QUICK)
    disturbed(interrupt)
    with pytest.raises(signal):
        sample_jobs(claimed(desk, jobs), workshop=new_workshop(models=WarmModels()))
    assert phases(desk, jobs) == [Phase.ADAPTED] * 2
