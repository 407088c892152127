"""Our way, on the real stack."""

import pytest

from arcadapt.client import Client
from arcadapt.stack.folder import FolderLock, StackFolder
from benchmarks.pipeline_plan import Plan
from benchmarks.pipeline_record import right_tasks
from benchmarks.pipeline_service import ServiceFailed, local_stack, request_to_submission
from tests.benchmarks.test_sampling_task import TASK


@pytest.fixture
def plan(tiny_base):
    return Plan("tiny", tiny_base, ("one", "two"), steps=2, num_views=2, max_new_tokens=8, num_workers=1, seed=0)


def test_a_request_is_followed_to_its_submission(service, plan):
    tasks = dict.fromkeys(plan.task_ids, TASK)
    with Client(service.url) as client:
        timed, submission = request_to_submission(client, tasks, settings=plan.settings())
    assert list(timed.stages) == ["start", "queue", "training", "answering", "download"]
    assert all(seconds >= 0 for seconds in timed.stages.values())
    assert timed.stages["start"] == 0
    assert sum(timed.stages.values()) == pytest.approx(timed.seconds)
    assert (timed.counts["steps"], timed.counts["completions"]) == (2 * 2, 2 * 2)
    assert timed.counts["train_tokens"] > 0
    assert set(timed.last_losses) == set(tasks)
    assert right_tasks(submission, tasks) in ([], ["one", "two"])  # equal tasks, equal answers


def test_a_job_that_fails_is_no_measurement(service, plan):
    settings = plan.settings()
    too_short = settings.model_copy(update={"adaptation": settings.adaptation.model_copy(update={"max_seq_len": 64})})
    large = {"input": [[1] * 30] * 30, "output": [[1] * 30] * 30}
    tasks = {"one": {"train": [large, large], "test": [large]}}
    with Client(service.url) as client, pytest.raises(ServiceFailed, match="one: failed"):
        request_to_submission(client, tasks, settings=too_short)


def test_a_stack_is_there_for_the_time_of_the_block(tmp_path):
    with local_stack(tmp_path, num_workers=2) as url, Client(url) as client:
        assert client.ready().status == "ready"
        assert {"worker-1", "worker-2"} <= StackFolder.of(tmp_path).announced().children.keys()
    assert StackFolder.of(tmp_path).announced() is None


def test_a_stack_that_does_not_come_up_is_an_error(tmp_path):
    folder = StackFolder.of(tmp_path)
    folder.create()
    with FolderLock(folder), pytest.raises(ServiceFailed, match=r"up\.log"), local_stack(tmp_path, num_workers=1):
        pass
    assert "already running" in (tmp_path / "up.log").read_text()
