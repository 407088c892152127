"""What a worker does about messages: real database, broker and training, an engine process that follows a script."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from arc_engine.sampling.vllm_sampler import VllmOptions
from jobs.config import ServiceConfig
from jobs.database import transaction
from jobs.doorbells import Doorbell, celery_app, relay_outbox
from jobs.repositories import ClaimRepository, JobRepository
from jobs.states import Phase
from tests.arc_engine.sampling import scripted_engine
from tests.worker.desk import QUICK, Desk
from tests.worker.test_lease import eventually
from worker.listener import Listener
from worker.warm import WarmModels
from worker.workshop import Workshop

BOTH = ("adapt", "sample", "prepare")
ENDLESS = 100_000


def settings(backend: str = "vllm", **adaptation: Any) -> dict[str, Any]:
    return {
        **QUICK,
        "adaptation": {**QUICK["adaptation"], **adaptation},
        "sampling": {**QUICK["sampling"], "backend": backend},
    }


class Worker:
    """A worker without Celery: its listener, and what it has to work with."""

    def __init__(self, desk: Desk, workshop: Workshop, broker_url: str, *, queues: tuple[str, ...], **config: Any):
        self.workshop = workshop
        self.doorbell = Doorbell(celery_app(broker_url))
        self.listener = Listener(
            workshop,
            sessions=desk.sessions,
            doorbell=self.doorbell,
            owner="test",
            config=ServiceConfig("", "", Path(), Path(), **config),
            queues=lambda: queues,
        )


@pytest.fixture
def new_worker(
    desk: Desk, new_workshop: Callable[..., Workshop], broker_url: str, tmp_path: Path
) -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def create(*, engine: str = "answer", queues: tuple[str, ...] = BOTH, size: int = 2, **config: Any) -> Worker:
        (tmp_path / "starts").mkdir(exist_ok=True)
        command = (sys.executable, scripted_engine.__file__, engine, str(tmp_path / "starts"))
        models = WarmModels(vllm=VllmOptions(command=command, log_file=tmp_path / "engine.log"))
        workshop = new_workshop(models=models, adapt_pack=size)
        made.append(Worker(desk, workshop, broker_url, queues=queues, **config))
        return made[-1]

    yield create
    for worker in made:
        worker.listener.close()


def phase(desk: Desk, job_id: UUID) -> Phase:
    return desk.job(job_id).phase


def cancel(desk: Desk, job_id: UUID) -> None:
    with transaction(desk.sessions) as session:
        JobRepository(session).request_cancel(job_id)


def waiting_to_be_answered(desk: Desk, workshop: Workshop, backend: str) -> UUID:
    job_id = desk.submit(settings={**settings(backend), "adaptation": None})
    record = desk.claim_for_adapting(job_id)
    record.finish_adapting(adapter=None, usage={})
    return job_id


def test_a_job_is_answered_while_another_one_still_trains(desk: Desk, new_worker: Callable[..., Worker]):
    worker = new_worker(overlap=True)
    long, short = (desk.submit(settings=settings(max_steps=steps)) for steps in (ENDLESS, 3))
    with ThreadPoolExecutor(1) as main_thread:
        adapting = main_thread.submit(worker.listener.adapt, "x")
        eventually(lambda: phase(desk, short) is Phase.SUCCEEDED)
        assert phase(desk, long) is Phase.ADAPTING
        cancel(desk, long)
        adapting.result(timeout=30)
    assert phase(desk, long) is Phase.CANCELLED
    assert desk.job(short).adapter is not None


def test_a_message_to_sample_wakes_the_thread_beside_and_answers_the_jobs_of_torch_itself(
    desk: Desk, new_worker: Callable[..., Worker]
):
    worker = new_worker(overlap=True)
    of_vllm, of_torch = (waiting_to_be_answered(desk, worker.workshop, backend) for backend in ("vllm", "torch"))
    worker.listener.sample("x")
    assert phase(desk, of_torch) is Phase.SUCCEEDED
    eventually(lambda: phase(desk, of_vllm) is Phase.SUCCEEDED)
    again = waiting_to_be_answered(desk, worker.workshop, "vllm")
    worker.listener.sample("x")
    eventually(lambda: phase(desk, again) is Phase.SUCCEEDED)


@pytest.mark.parametrize(
    "how",
    [
        {"overlap": False},
        {},
        {"overlap": True, "queues": ("adapt", "prepare")},
        {"overlap": True, "queues": ("sample",)},
    ],
    ids=["off", "on a processor", "one that does not sample", "one that does not train"],
)
def test_otherwise_the_two_take_turns(desk: Desk, new_worker: Callable[..., Worker], how: Mapping[str, Any]):
    worker = new_worker(**how)
    jobs = [desk.submit(settings=settings(max_steps=3)) for _ in range(2)]
    worker.listener.adapt("x")
    assert [phase(desk, job_id) for job_id in jobs] == [Phase.ADAPTED] * 2
    worker.listener.sample("x")
    assert [phase(desk, job_id) for job_id in jobs] == [Phase.SUCCEEDED] * 2


def test_a_worker_that_trains_on_a_gpu_overlaps_by_itself(
    desk: Desk, new_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(WarmModels, "device", "cuda:0")  # which this machine does not have
    worker = new_worker()
    job_id = desk.submit(settings=settings(max_steps=3))
    worker.listener.adapt("x")
    eventually(lambda: phase(desk, job_id) is Phase.SUCCEEDED)


def test_a_shutdown_ends_the_call_beside_the_training_and_gives_its_jobs_back(
    desk: Desk, new_worker: Callable[..., Worker]
):
    worker = new_worker(overlap=True, engine="hang")
    jobs = [waiting_to_be_answered(desk, worker.workshop, "vllm") for _ in range(2)]
    worker.listener.sample("x")
    eventually(lambda: phase(desk, jobs[1]) is Phase.SAMPLING)
    worker.listener.close()
    assert [(phase(desk, job_id), desk.job(job_id).requeues) for job_id in jobs] == [(Phase.ADAPTED, 0)] * 2


def test_a_call_that_loses_its_lease_is_no_matter_of_the_training_and_neither_the_other_way_round(
    desk: Desk, new_worker: Callable[..., Worker], tmp_path: Path
):
    worker = new_worker(overlap=True, engine="hang once", lease_s=1.0)
    sampled = waiting_to_be_answered(desk, worker.workshop, "vllm")
    trained, lost = (desk.submit(settings=settings(max_steps=ENDLESS)) for _ in range(2))

    def take_from_it(job_id: UUID) -> None:
        job = desk.job(job_id)
        with transaction(desk.sessions) as session:
            job = session.merge(job)
            job.attempt += 1

    with ThreadPoolExecutor(1) as main_thread:
        worker.listener.sample("x")
        adapting = main_thread.submit(worker.listener.adapt, "x")
        eventually(lambda: phase(desk, sampled) is Phase.SAMPLING and desk.job(lost).step > 2)
        take_from_it(lost)
        before = desk.job(lost).step
        eventually(lambda: desk.job(trained).step > before + 2)
        assert phase(desk, sampled) is Phase.SAMPLING
        assert len(list((tmp_path / "starts").iterdir())) == 1, "the engine that hangs is still there"
        take_from_it(sampled)  # which ends the call, and the engine with it
        another = waiting_to_be_answered(desk, worker.workshop, "vllm")
        worker.listener.sample("x")
        eventually(lambda: phase(desk, another) is Phase.SUCCEEDED)
        assert phase(desk, trained) is Phase.ADAPTING
        cancel(desk, trained)
        adapting.result(timeout=30)
    assert phase(desk, trained) is Phase.CANCELLED


def test_whoever_comes_next_hears_of_every_job_as_soon_as_it_is_over(desk: Desk, new_worker: Callable[..., Worker]):
    worker = new_worker(overlap=False)
    jobs = [desk.submit(settings=settings(max_steps=steps)) for steps in (ENDLESS, 3)]
    relay_outbox(desk.sessions, worker.doorbell)
    with ThreadPoolExecutor(1) as main_thread:
        adapting = main_thread.submit(worker.listener.adapt, "x")
        eventually(lambda: worker.doorbell.num_waiting("sample") == 1)
        assert phase(desk, jobs[0]) is Phase.ADAPTING
        worker.workshop.shutting_down.set()
        adapting.result(timeout=30)
    assert phase(desk, jobs[0]) is Phase.QUEUED
    assert worker.doorbell.num_waiting("adapt") == 3  # once more for the one that was given back


def test_where_a_job_may_not_pay_for_another_one_none_has_company(desk: Desk, new_worker: Callable[..., Worker]):
    worker = new_worker(overlap=False, max_attempts=1)
    jobs = [desk.submit(settings=settings(max_steps=3)) for _ in range(2)]
    worker.listener.adapt("x")
    assert [phase(desk, job_id) for job_id in jobs] == [Phase.ADAPTED, Phase.QUEUED]


def test_messages_for_which_there_is_nothing_left_to_do_are_harmless(desk: Desk, new_worker: Callable[..., Worker]):
    worker = new_worker(overlap=True)
    worker.listener.adapt("x")
    worker.listener.sample("x")
    job_id = desk.submit(settings=settings(max_steps=3))
    with transaction(desk.sessions) as session:
        assert ClaimRepository(session).claim_for_adapting(job_id, owner="other", lease_s=30) is not None
    worker.listener.adapt("x")
    assert desk.job(job_id).attempt == 1


def test_a_thread_that_was_never_used_needs_no_end(new_worker: Callable[..., Worker]):
    worker = new_worker(overlap=True)
    num_threads = threading.active_count()
    worker.listener.close()
    assert threading.active_count() == num_threads
