"""Jobs as a client follows them, from queued to an answer or an error."""

import csv
import io
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert, text

from jobs.database import SessionFactory, transaction
from jobs.models import StepRow
from tests.api.conftest import Found

Submit = Callable[..., dict[str, Any]]


@pytest.fixture
def job(submit: Submit) -> dict[str, Any]:
    return submit("a")["jobs"][0]


def detail(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    answer = client.get(job["links"]["self"])
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_job_is_followed_to_its_answer(client: TestClient, worker: Any, job: dict[str, Any]):
    seen = detail(client, job)
    assert (seen["status"], seen["phase"], seen["attempts"]) == ("queued", "queued", 0)
    assert seen["results"] is seen["error"] is seen["started_at"] is None

    claimed = worker.claim(job["id"])
    worker.train(claimed, [0.9, 0.5])
    seen = detail(client, job)
    assert (seen["status"], seen["phase"], seen["attempts"]) == ("running", "adapting", 1)
    assert seen["progress"] == {"step": 2, "max_steps": 100, "eta_s": 12.5}

    worker.finish_adapting(claimed)
    seen = detail(client, job)
    assert (seen["status"], seen["phase"]) == ("running", "adapted")
    assert seen["usage"] == {"adapt_s": 2.5, "device": "cpu"}

    worker.finish_sampling(worker.claim_for_sampling(job["id"]))
    seen = detail(client, job)
    assert (seen["status"], seen["phase"]) == ("succeeded", "succeeded")
    assert seen["results"] == {
        "test": [
            {
                "attempt_1": [[0, 0], [0, 7]],
                "attempt_2": None,
                "confidence": 0.75,
                "confidences": [0.75, 0.0],
                "num_completions": 16,
                "correct": True,
            }
        ]
    }
    assert seen["usage"]["refusals"] == {"ragged": 2}
    times = [datetime.fromisoformat(seen[name]) for name in ("created_at", "started_at", "adapted_at", "finished_at")]
    assert times == sorted(times)
    assert all(time.tzinfo for time in times)


def test_a_failure_says_why(client: TestClient, worker: Any, job: dict[str, Any]):
    worker.fail(worker.claim(job["id"]))
    seen = detail(client, job)
    assert seen["status"] == "failed"
    assert seen["error"] == {"code": "diverged", "message": "step 3: loss nan"}


def test_every_link_of_a_finished_job_leads_somewhere(client: TestClient, worker: Any, job: dict[str, Any]):
    worker.succeed(job["id"])
    for name, link in job["links"].items():
        answer = client.post(link) if name == "cancel" else client.get(link)
        assert answer.status_code == (409 if name == "cancel" else 200), name


@pytest.mark.parametrize("path", ["", "/losses", "/candidates", "/adapter", "/cancel"])
def test_an_unknown_job_is_not_found(client: TestClient, path: str):
    method = "POST" if path == "/cancel" else "GET"
    answer = client.request(method, f"/jobs/{uuid4()}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_losses_come_in_order_and_from_where_one_was(client: TestClient, worker: Any, job: dict[str, Any]):
    link = job["links"]["losses"]
    assert client.get(link).json() == {"items": [], "last_step": 0}
    worker.train(worker.claim(job["id"]), [0.9, 0.5, 0.25])
    everything = client.get(link).json()
    assert [(item["step"], item["loss"]) for item in everything["items"]] == [(1, 0.9), (2, 0.5), (3, 0.25)]
    assert everything["last_step"] == 3
    first = client.get(link, params={"limit": 2}).json()
    rest = client.get(link, params={"after": first["last_step"]}).json()
    assert first["items"] + rest["items"] == everything["items"]
    assert client.get(link, params={"after": 3}).json() == {"items": [], "last_step": 3}


def test_a_follower_notices_that_a_job_starts_over(client: TestClient, job: dict[str, Any]):
    assert client.get(job["links"]["losses"], params={"after": 40}).json()["last_step"] == 0


def test_the_last_of_as_many_steps_as_a_job_can_have_can_be_read(
    client: TestClient, submit: Submit, database: SessionFactory
):
    most = 100_000  # of the warm-up, and of the task
    adaptation = {"start": "warm", "warmup": {"steps": most}, "max_steps": most}
    job = submit(settings={"adaptation": adaptation})["jobs"][0]
    assert client.get(f"/jobs/{job['id']}").json()["progress"]["max_steps"] == 2 * most
    numbers = dict.fromkeys(("attempt", "loss", "learning_rate", "grad_norm", "tokens", "elapsed_s"), 1)
    with transaction(database) as session:
        session.execute(
            insert(StepRow), [{"job_id": UUID(job["id"]), "step": step, **numbers} for step in (2 * most - 1, 2 * most)]
        )
    losses = client.get(job["links"]["losses"], params={"after": 2 * most - 1, "limit": 2 * most}).json()
    assert (losses["last_step"], len(losses["items"])) == (2 * most, 1)


def test_losses_as_csv_hold_the_same_numbers(client: TestClient, worker: Any, job: dict[str, Any]):
    worker.train(worker.claim(job["id"]), [0.9, 1 / 3])
    answer = client.get(job["links"]["losses"], params={"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    items = client.get(job["links"]["losses"]).json()["items"]
    assert {row["stage"] for row in rows} == {item.pop("stage") for item in items} == {"task"}
    assert [{name: float(value) for name, value in row.items() if name != "stage"} for row in rows] == items


def test_candidates_are_listed_best_first(client: TestClient, worker: Any, job: dict[str, Any]):
    assert client.get(job["links"]["candidates"]).json() == {"test": [{"candidates": []}]}
    worker.succeed(job["id"])
    (test,) = client.get(job["links"]["candidates"]).json()["test"]
    first, second = test["candidates"]
    assert first == {
        "grid": [[0, 0], [0, 7]],
        "votes": 3,
        "log_probability": -0.25,
        "score": 3.0,
        "views": [0, 1, 2],
        "findings": [
            {"view": 0, "votes": 1, "log_probability": -0.25},
            {"view": 1, "votes": 1, "log_probability": None},
            {"view": 2, "votes": 1, "log_probability": None},
        ],
        "view_scores": [],
    }
    assert (second["grid"], second["votes"], second["score"]) == ([[5]], 1, None)


def test_log_probabilities_that_are_not_finite_are_null(client: TestClient, worker: Any, job: dict[str, Any]):
    claimed = worker.claim(job["id"])
    worker.finish_adapting(claimed)
    scored = Found(score=-math.inf, view_scores=(-1.5, -math.inf))
    worker.finish_sampling(worker.claim_for_sampling(job["id"]), candidates=[[scored]])
    [candidate] = client.get(job["links"]["candidates"]).json()["test"][0]["candidates"]
    assert (candidate["score"], candidate["view_scores"]) == (None, [-1.5, None])


def test_what_an_earlier_version_did_not_say_is_null(
    client: TestClient, worker: Any, job: dict[str, Any], database: SessionFactory
):
    answer = {"attempt_1": [[1]], "attempt_2": None, "confidence": 0.5, "correct": None}
    worker.succeed(job["id"], [answer])
    with transaction(database) as session:  # as migration 0005 leaves the rows that it finds
        session.execute(text("UPDATE candidates SET findings = DEFAULT, view_scores = DEFAULT"))
    [seen] = detail(client, job)["results"]["test"]
    assert seen == {**answer, "confidences": None, "num_completions": None}
    candidates = client.get(job["links"]["candidates"]).json()["test"][0]["candidates"]
    assert [(found["findings"], found["view_scores"]) for found in candidates] == [([], [])] * 2


def test_a_waiting_job_is_cancelled_at_once_and_again(client: TestClient, job: dict[str, Any]):
    first = client.post(job["links"]["cancel"])
    again = client.post(job["links"]["cancel"])
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["status"] == "cancelled"
    assert again.json() == first.json() == detail(client, job)


def test_a_running_job_is_asked_to_stop(client: TestClient, worker: Any, job: dict[str, Any]):
    worker.claim(job["id"])
    answer = client.post(job["links"]["cancel"])
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["cancel_requested"]) == ("running", True)


def test_a_finished_job_cannot_be_cancelled(client: TestClient, worker: Any, job: dict[str, Any]):
    worker.succeed(job["id"])
    answer = client.post(job["links"]["cancel"])
    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_transition")
    assert detail(client, job)["status"] == "succeeded"


def test_pages_hold_every_job_once_newest_first(client: TestClient, submit: Submit):
    submitted = [job["id"] for names in (("a", "b"), ("c",), ("d", "e")) for job in submit(*names)["jobs"]]
    seen: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = client.get("/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(job["id"] for job in seen) == sorted(submitted)
    assert [job["created_at"] for job in seen] == sorted((job["created_at"] for job in seen), reverse=True)


def test_jobs_are_filtered(client: TestClient, submit: Submit, worker: Any):
    first, second = submit("a", "b"), submit("a")
    worker.claim(first["jobs"][0]["id"])

    def ids(**filters: str) -> set[str]:
        return {job["id"] for job in client.get("/jobs", params=filters).json()["items"]}

    running, waiting, other = first["jobs"][0]["id"], first["jobs"][1]["id"], second["jobs"][0]["id"]
    assert ids(status="running") == {running}
    assert ids(status="queued") == {waiting, other}
    assert ids(batch_id=first["batch_id"]) == {running, waiting}
    assert ids(task_id="a") == {running, other}
    assert ids(task_id="a", status="queued") == {other}
    created = client.get(f"/jobs/{other}").json()["created_at"]
    assert ids(created_before=created) == {running, waiting}
    assert ids(created_after=created) == {other}
