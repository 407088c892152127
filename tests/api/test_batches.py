"""Batches: progress, scores, and the file for Kaggle."""

import copy
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from fastapi.testclient import TestClient

Submit = Callable[..., dict[str, Any]]
ONE, TWO = [[1]], [[2, 2]]


def answer(first: Any = None, second: Any = None, *, correct: bool | None = None) -> dict[str, Any]:
    return {"attempt_1": first, "attempt_2": second, "confidence": 0.5, "correct": correct}


def with_tests(task: dict[str, Any], *outputs: Any) -> dict[str, Any]:
    changed = copy.deepcopy(task)
    changed["test"] = [{"input": [[1]]} | ({"output": output} if output else {}) for output in outputs]
    return changed


def post(client: TestClient, **tasks: dict[str, Any]) -> dict[str, Any]:
    return client.post("/solve", json={"tasks": tasks}).json()


def test_a_batch_counts_its_jobs_in_the_order_of_the_request(client: TestClient, submit: Submit, worker: Any):
    batch = submit("z", "b", "a", name="monday")
    worker.succeed(batch["jobs"][0]["id"])
    worker.fail(worker.claim(batch["jobs"][1]["id"]))
    seen = client.get(batch["links"]["self"]).json()
    assert (seen["id"], seen["name"], seen["finished"]) == (batch["batch_id"], "monday", False)
    assert seen["counts"] == {"queued": 1, "running": 0, "succeeded": 1, "failed": 1, "cancelled": 0}
    assert [(job["task_id"], job["status"], job["solved"]) for job in seen["jobs"]] == [
        ("z", "succeeded", True),
        ("b", "failed", None),
        ("a", "queued", None),
    ]
    assert seen["jobs"][1]["error"]["code"] == "diverged"
    client.post(batch["jobs"][2]["links"]["cancel"])
    assert client.get(batch["links"]["self"]).json()["finished"] is True


def test_scores_are_arcs_own(client: TestClient, worker: Any, task: dict[str, Any]):
    batch = post(
        client,
        half=with_tests(task, ONE, TWO),
        right=with_tests(task, ONE),
        failed=with_tests(task, ONE),
        unknown=with_tests(task, None),
        partly=with_tests(task, ONE, None),
    )
    half, right, failed, unknown, partly = (job["id"] for job in batch["jobs"])
    worker.succeed(half, [answer(ONE, correct=True), answer(ONE, correct=False)])
    worker.succeed(right, [answer(TWO, ONE, correct=True)])
    worker.fail(worker.claim(failed))
    worker.succeed(unknown, [answer(ONE)])
    worker.succeed(partly, [answer(ONE, correct=True), answer(ONE)])
    seen = client.get(batch["links"]["self"]).json()
    assert seen["scores"] == {"num_tasks": 3, "num_solved": 1, "num_test_inputs": 4, "num_correct": 2, "score": 0.5}
    assert [job["solved"] for job in seen["jobs"]] == [False, True, None, None, None]


def test_there_is_no_score_where_no_answer_is_known(client: TestClient, task: dict[str, Any]):
    batch = post(client, a=with_tests(task, None))
    assert client.get(batch["links"]["self"]).json()["scores"] is None


def test_the_submission_is_kaggles(client: TestClient, worker: Any, task: dict[str, Any]):
    batch = post(client, two=with_tests(task, None, None), one=with_tests(task, ONE), failed=with_tests(task, ONE, ONE))
    two, one, failed = (job["id"] for job in batch["jobs"])
    worker.succeed(two, [answer(ONE, TWO), answer(TWO)])
    worker.succeed(one, [answer()])
    worker.fail(worker.claim(failed))
    got = client.get(batch["links"]["submission"])
    assert got.status_code == 200
    assert got.json() == {
        "two": [{"attempt_1": ONE, "attempt_2": TWO}, {"attempt_1": TWO, "attempt_2": TWO}],
        "one": [{"attempt_1": [[0]], "attempt_2": [[0]]}],
        "failed": [{"attempt_1": [[0]], "attempt_2": [[0]]}] * 2,
    }
    assert got.headers["x-unanswered"] == "one/0,failed/0,failed/1"
    assert got.headers["x-unanswered-count"] == "3"


def test_an_unfinished_submission_must_be_asked_for(client: TestClient, submit: Submit, worker: Any):
    batch = submit("a", "b")
    worker.succeed(batch["jobs"][0]["id"])
    refused = client.get(batch["links"]["submission"])
    assert (refused.status_code, refused.json()["code"]) == (409, "batch_unfinished")
    partial = client.get(batch["links"]["submission"], params={"partial": "true"})
    assert partial.json()["a"] == [{"attempt_1": [[0, 0], [0, 7]], "attempt_2": [[0, 0], [0, 7]]}]
    assert partial.headers["x-unanswered"] == "b/0"


def test_unknown_batches_are_not_found(client: TestClient):
    for path in ("", "/submission"):
        refused = client.get(f"/batches/{uuid4()}{path}")
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
