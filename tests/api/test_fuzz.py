"""Whatever is made of a valid body: never a 5xx, and a 4xx stores nothing."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from api.app import create_app
from arc_engine.settings import SolveSettings
from jobs.config import ServiceConfig
from jobs.database import SessionFactory, make_engine, make_session_factory, transaction
from jobs.models import Batch, EventRow, Job, OutboxRow

TABLES = (Batch, Job, OutboxRow, EventRow)
VALID = {
    "tasks": {
        "a": {
            "train": [{"input": [[1, 0], [0, 0]], "output": [[0, 1], [0, 0]]}, {"input": [[2]], "output": [[3, 3]]}],
            "test": [{"input": [[5]], "output": [[6]]}, {"input": [[7]]}],
        },
        "b": {"train": [{"input": [[0]], "output": [[0]]}], "test": [{"input": [[9]]}]},
    },
    "settings": SolveSettings().model_dump(mode="json"),
    "name": "fuzzed",
}

# Values that parsers and databases trip over, beside whatever hypothesis thinks of.
AWKWARD = st.sampled_from(
    [
        None,
        True,
        -1,
        10,
        31,
        1.0,
        1e308,
        -0.0,
        2**31,
        2**63,
        10**400,
        "",
        "\0",
        "\ud800",
        "a" * 300,
        "../..",
        [],
        {},
        [[]],
    ]
)
LEAVES = AWKWARD | st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for token, child in children:
        yield from places(child, (*path, token))


PLACES = sorted(places(VALID), key=str)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid body in which a few places were replaced, removed, added or renamed."""
    root = {"body": copy.deepcopy(VALID)}
    for path in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        parent: Any = root
        whole = ("body", *path)
        try:
            for token in whole[:-1]:
                parent = parent[token]
            _mutate(draw, parent, whole[-1])
        except (KeyError, IndexError, TypeError):
            continue  # an earlier mutation took this place away
    return root.get("body")


def _mutate(draw: st.DrawFn, parent: Any, token: Any) -> None:
    match draw(st.sampled_from(["replace", "remove", "add", "repeat"])):
        case "replace":
            parent[token] = draw(VALUES)
        case "remove":
            del parent[token]
        case "add" if isinstance(parent[token], dict):
            parent[token][draw(st.text())] = draw(VALUES)
        case "add" if isinstance(parent[token], list):
            parent[token].append(draw(VALUES))
        case _ if isinstance(parent, list):
            parent.extend([parent[token]] * draw(st.integers(1, 31)))


@pytest.fixture(scope="module")
def fuzzed(new_database: Callable[..., str], tmp_path_factory: Any) -> Iterator[tuple[TestClient, SessionFactory]]:
    url = new_database()
    folder: Path = tmp_path_factory.mktemp("fuzz")
    config = ServiceConfig(database_url=url, broker_url="memory://", artifacts_dir=folder, work_dir=folder, max_tasks=5)
    engine = make_engine(url)
    with TestClient(create_app(config), raise_server_exceptions=False) as client:
        yield client, make_session_factory(engine)
    engine.dispose()


def stored(database: SessionFactory) -> list[int | None]:
    with transaction(database) as session:
        return [session.scalar(select(func.count()).select_from(table)) for table in TABLES]


def check(fuzzed: tuple[TestClient, SessionFactory], content: bytes) -> int:
    client, database = fuzzed
    before = stored(database)
    answer = client.post("/solve", content=content, headers={"Content-Type": "application/json"})
    if answer.status_code == 202:
        assert stored(database) != before
        return answer.status_code
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"]
    assert stored(database) == before
    return answer.status_code


def test_the_body_that_is_mutated_is_valid(fuzzed: tuple[TestClient, SessionFactory]):
    assert check(fuzzed, json.dumps(VALID).encode()) == 202


@given(body=mutated())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_mutated_body_is_taken_or_refused(fuzzed: tuple[TestClient, SessionFactory], body: Any):
    check(fuzzed, json.dumps(body).encode())


@given(content=st.binary(max_size=200) | st.text(alphabet='{}[]",:\\u0123\t naulifNI', max_size=60).map(str.encode))
@example(content=b'{"tasks":' * 3000)
@example(content=b'"\\ud800"')
@settings(max_examples=200, deadline=None)
def test_noise_is_refused(fuzzed: tuple[TestClient, SessionFactory], content: bytes):
    assert check(fuzzed, content) in {400, 422}


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_cut_or_garbled_json_is_taken_or_refused(fuzzed: tuple[TestClient, SessionFactory], data: st.DataObject):
    content = bytearray(json.dumps(VALID).encode())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=5))
    check(fuzzed, bytes(content))


@given(
    query=st.fixed_dictionaries(
        {},
        optional={
            name: VALUES.filter(lambda value: not isinstance(value, list | dict)).map(str) | st.datetimes().map(str)
            for name in ("status", "batch_id", "task_id", "created_after", "created_before", "cursor", "limit")
        },
    )
)
@example(query={"created_after": "0001-01-01T00:00:00+14:00"})
@example(query={"created_before": "9999-12-31T23:59:59-14:00"})
@example(query={"created_after": "99999999999"})
@example(query={"cursor": "MDAwMS0wMS0wMVQwMDowMDowMCsxNDowMCAwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDA"})
@settings(max_examples=200, deadline=None)
def test_no_query_breaks_the_list(fuzzed: tuple[TestClient, SessionFactory], query: dict[str, str]):
    printable = {name: value.encode("utf-8", "replace") for name, value in query.items()}
    answer = fuzzed[0].get("/jobs", params=printable)
    assert answer.status_code in {200, 400, 422}, answer.text
