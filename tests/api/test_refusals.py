"""Bad input: a 4xx problem document that names the place, and nothing stored."""

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from jobs.config import ServiceConfig
from jobs.database import SessionFactory, transaction
from jobs.models import Batch, Job, OutboxRow


@pytest.fixture(autouse=True)
def _nothing_is_stored(database: SessionFactory):
    yield
    with transaction(database) as session:
        for table in (Batch, Job, OutboxRow):
            assert session.scalar(select(func.count()).select_from(table)) == 0


def check_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:arcadapt:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    return problem


def faults(answer: Any) -> dict[str, str]:
    problem = check_problem(answer, 422, "invalid_request")
    return {fault["pointer"]: fault["message"] for fault in problem["errors"]}


def replaced(task: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(task)
    place: Any = changed
    for token in path[:-1]:
        place = place[token]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "pointer", "message"),
    [
        (("train", 0, "input", 1, 0), 12, "/train/0/input/1/0", "12 is not in 0..9"),
        (("train", 0, "input", 1, 0), -1, "/train/0/input/1/0", "-1 is not in 0..9"),
        (("train", 0, "input", 1, 0), True, "/train/0/input/1/0", "True is not an integer"),
        (("train", 0, "input", 1, 0), 1.0, "/train/0/input/1/0", "1.0 is not an integer"),
        (("train", 0, "input", 1, 0), "1", "/train/0/input/1/0", "'1' is not an integer"),
        (("train", 0, "input", 1, 0), None, "/train/0/input/1/0", "None is not an integer"),
        (("train", 0, "input", 1, 0), 10**300, "/train/0/input/1/0", "a very large number is not in 0..9"),
        (("train", 1, "output", 1), [0], "/train/1/output/1", "row has 1 cells, the first row has 2"),
        (("train", 1, "output"), [], "/train/1/output", "a grid has 1 to 30 rows, this one has 0"),
        (("train", 1, "output"), [[0]] * 31, "/train/1/output", "a grid has 1 to 30 rows, this one has 31"),
        (("train", 1, "output"), [[0] * 31], "/train/1/output/0", "a row has 1 to 30 cells, this one has 31"),
        (("test", 0, "output"), [[10]], "/test/0/output/0/0", "10 is not in 0..9"),
        (("test",), [], "/test", "a task has 1 to 10 test inputs, this one has 0"),
        (("test",), [{"input": [[0]]}] * 11, "/test", "a task has 1 to 10 test inputs, this one has 11"),
        (("test",), [{}], "/test/0/input", "is missing"),
        (("train",), [], "/train", "a task has 1 to 30 demonstration pairs, this one has 0"),
        (("train",), [{"input": [[0]], "output": [[0]]}] * 31, "/train", "this one has 31"),
        (("train",), {}, "/train", "expected a list of demonstration pairs"),
        (("tra/in~",), 1, "/tra~1in~0", "is not a field of an ARC task"),
    ],
)
def test_faults_of_a_task_are_located(
    client: TestClient, task: dict[str, Any], path: tuple[str | int, ...], value: Any, pointer: str, message: str
):
    bad = replaced(task, path, value)
    many = faults(client.post("/solve", json={"tasks": {"abc": bad}}))
    assert message in many[f"/tasks/abc{pointer}"]
    one = faults(client.post("/solve", json={"task": bad}))
    assert message in one[f"/task{pointer}"]


@pytest.mark.parametrize(
    ("settings", "pointer", "message"),
    [
        ({"steps": 3}, "/settings/steps", "Extra inputs are not permitted"),
        ({"adaptation": {"max_steps": 0}}, "/settings/adaptation/max_steps", "greater than or equal to 1"),
        ({"adaptation": {"max_steps": "9"}}, "/settings/adaptation/max_steps", "valid integer"),
        ({"adaptation": {"max_steps": True}}, "/settings/adaptation/max_steps", "valid integer"),
        ({"adaptation": {"lora_rank": 513}}, "/settings/adaptation/lora_rank", "less than or equal to 512"),
        ({"adaptation": {"learning_rate": 10**400}}, "/settings/adaptation/learning_rate", "number"),
        ({"adaptation": {"examples": {"loss_on": "x"}}}, "/settings/adaptation/examples/loss_on", "'later_outputs'"),
        ({"adaptation": {"augmentation": {"a/b": 1}}}, "/settings/adaptation/augmentation/a~1b", "not permitted"),
        ({"sampling": {"samples_per_view": 4}}, "/settings/sampling", "greedy answers once per view"),
        (
            {"sampling": {"method": "sample", "num_views": 1024, "samples_per_view": 5}},
            "/settings/sampling",
            "num_views times samples_per_view is at most 4096",
        ),
        ({"prompt": {"grid_encoder": "eval('1')"}}, "/settings/prompt/grid_encoder", ""),
        ({"base_model": ""}, "/settings/base_model", "pattern"),
        ({"base_model": "a\0b"}, "/settings/base_model", "NUL"),
        (None, "/settings", "valid dictionary"),
        ([], "/settings", "valid dictionary"),
    ],
)
def test_faults_of_the_settings_are_located(
    client: TestClient, task: dict[str, Any], settings: Any, pointer: str, message: str
):
    found = faults(client.post("/solve", json={"task": task, "settings": settings}))
    assert message in found[pointer]
    assert "Value error" not in found[pointer]


def test_an_unknown_base_model_is_named(client: TestClient, task: dict[str, Any]):
    answer = client.post("/solve", json={"task": task, "settings": {"base_model": "gpt-9"}})
    problem = check_problem(answer, 422, "unknown_base_model")
    assert problem["errors"] == [{"pointer": "/settings/base_model", "message": "there is no base model gpt-9"}]


def test_all_faults_come_at_once(client: TestClient, task: dict[str, Any]):
    body = {
        "tasks": {"good": task, "bad": replaced(task, ("test",), []), "b/d": task, "": 5},
        "settings": {"steps": 1, "adaptation": {"max_steps": 0, "batch_size": 0}},
        "name": "x" * 201,
        "what": 1,
    }
    assert set(faults(client.post("/solve", json=body))) == {
        "/tasks/bad/test",
        "/tasks/b~1d",
        "/tasks/",
        "/settings/steps",
        "/settings/adaptation/max_steps",
        "/settings/adaptation/batch_size",
        "/name",
        "/what",
    }


@pytest.mark.parametrize(
    ("body", "pointer", "message"),
    [
        ({}, "", "either `task` or `tasks`"),
        ([], "", "expected an object"),
        ("solve", "", "expected an object"),
        (None, "", "expected an object"),
        ({"task": {}, "tasks": {}}, "/tasks", "at least 1 item"),
        ({"tasks": {}}, "/tasks", "at least 1 item"),
        ({"tasks": []}, "/tasks", "valid dictionary"),
        ({"tasks": None}, "/tasks", "valid dictionary"),
        ({"task": None}, "/task", "expected an object with train, test"),
        ({"task": 3, "task_id": "x" * 101}, "/task_id", "at most 100 characters"),
        ({"task": 3, "task_id": "x\n"}, "/task_id", "pattern"),
        ({"task": 3, "task_id": "../x"}, "/task_id", "pattern"),
        ({"task": 3, "task_id": None}, "/task_id", "valid string"),
        ({"task": 3, "name": ""}, "/name", "at least 1 character"),
        ({"task": 3, "name": "a\0"}, "/name", "NUL"),
    ],
)
def test_faults_of_the_envelope_are_located(client: TestClient, body: Any, pointer: str, message: str):
    answer = client.post("/solve", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert message in faults(answer)[pointer]


def test_a_task_and_tasks_cannot_both_be_sent(client: TestClient, task: dict[str, Any]):
    found = faults(client.post("/solve", json={"task": task, "tasks": {"a": task}}))
    assert found == {"": "send either `task` or `tasks`"}
    found = faults(client.post("/solve", json={"task_id": "x", "tasks": {"a": task}}))
    assert "goes with `task`" in found[""]


def test_too_many_tasks_are_refused(client: TestClient, task: dict[str, Any]):
    found = faults(client.post("/solve", json={"tasks": {str(n): task for n in range(6)}}))
    assert found == {"/tasks": "a request has at most 5 tasks, this one has 6"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value at line 1, column 1"),
        (b"{", "line 1, column 2"),
        (b"task=1", "is not JSON"),
        (b'{"task": NaN}', "NaN is not a JSON number"),
        (b'{"task": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"task": 1e999}', "too large a number"),
        (b'{"task": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"task": {}, "task": {}}', "'task' stands twice"),
        (b'{"name": "\xff"}', "not UTF-8"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"name": "\x00"}', "Invalid control character"),
        (b"[" * 90_000, "nested deeper than 32 levels"),
        (b'{"a":' * 15_000, "nested deeper than 32 levels"),
        (b'{"task": ' + b"[" * 40 + b"]" * 40 + b"}", "nested deeper than 32 levels"),
    ],
)
def test_what_is_not_json_is_refused(client: TestClient, content: bytes, message: str):
    answer = client.post("/solve", content=content, headers={"Content-Type": "application/json"})
    assert message in check_problem(answer, 400, "invalid_json")["detail"]


def test_half_a_surrogate_pair_is_refused(client: TestClient):
    content = b'{"name": "\\ud800", "tasks": {"\\udc00": {"train": "\\u0000"}}}'
    answer = client.post("/solve", content=content, headers={"Content-Type": "application/json"})
    assert set(faults(answer)) == {"/name", "/tasks/?"}


def test_other_media_types_are_refused_with_a_hint(client: TestClient):
    answer = client.post("/solve", data={"task": "x"})
    assert "--json" in check_problem(answer, 415, "unsupported_media_type")["detail"]


@pytest.mark.parametrize("key", ["", "x" * 201, "two words", "caf\xe9", "\0"])
def test_keys_that_cannot_be_kept_are_refused(client: TestClient, task: dict[str, Any], key: str):
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    answer = client.post("/solve", json={"task": task}, headers=headers)
    problem = check_problem(answer, 422, "invalid_parameter")
    assert problem["errors"][0]["pointer"].lower() == "header/idempotency-key"


def test_a_body_over_the_limit_is_refused(client: TestClient, task: dict[str, Any]):
    big = json.dumps({"task": task, "name": "x"}) + " " * 100_000
    answer = client.post("/solve", content=big, headers={"Content-Type": "application/json"})
    check_problem(answer, 413, "body_too_large")


def test_a_chunked_body_over_the_limit_is_refused(client: TestClient):
    chunks = (b" " * 1000 for _ in range(200))  # an iterator is sent without Content-Length
    answer = client.post("/solve", content=chunks, headers={"Content-Type": "application/json"})
    check_problem(answer, 413, "body_too_large")


def test_unknown_places_and_methods_are_problems(client: TestClient):
    check_problem(client.get("/nothing"), 404, "not_found")
    check_problem(client.get("/solve/"), 404, "not_found")
    refused = client.get("/solve")
    check_problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/jobs/1", "/jobs/%00", "/batches/x/submission", "/jobs/a%2Fb/losses"])
def test_an_id_that_is_none_is_not_found(client: TestClient, path: str):
    check_problem(client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "status=done", "batch_id=7", "task_id=%00", "created_after=2026-01-01T00:00:00"]
)
def test_bad_parameters_are_named(client: TestClient, query: str):
    problem = check_problem(client.get(f"/jobs?{query}"), 422, "invalid_parameter")
    assert problem["errors"][0]["pointer"] == f"query/{query.partition('=')[0]}"


@pytest.mark.parametrize("cursor", ["x", "%00", "%ff%fe", "YWJj", "4pi6", "MjAyNi0wMS0wMSB4"])
def test_a_bad_cursor_is_a_bad_request(client: TestClient, cursor: str):
    check_problem(client.get(f"/jobs?cursor={cursor}"), 400, "invalid_cursor")


def test_a_database_that_is_down_is_a_503(open_client: Callable[[ServiceConfig], TestClient], config: ServiceConfig):
    client = open_client(dataclasses.replace(config, database_url="postgresql://nobody@127.0.0.1:1/none"))
    answer = client.get("/jobs")
    check_problem(answer, 503, "database_unavailable")
    assert answer.headers["retry-after"]
    assert "nobody" not in answer.text
