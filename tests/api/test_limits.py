"""The body limit on a real server: what a client on a socket sees, and what is read of its body."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from api.app import create_app
from jobs.config import ServiceConfig


@pytest.fixture
def address(config: ServiceConfig) -> Iterator[tuple[str, int]]:
    server = uvicorn.Server(uvicorn.Config(create_app(config), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert server.started
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join(timeout=20)


@pytest.fixture
def url(address: tuple[str, int]) -> str:
    return f"http://{address[0]}:{address[1]}"


def test_a_whole_submission_over_a_socket(url: str, task: dict[str, Any]):
    with httpx.Client(base_url=url) as client:
        answer = client.post("/solve", json={"task": task})
        assert answer.status_code == 202
        assert client.get(answer.headers["location"]).json()["counts"]["queued"] == 1


@pytest.mark.parametrize("num_bytes", [101_000, 30_000_000])
@pytest.mark.parametrize("as_stream", [False, True])
def test_a_large_body_gets_its_413(url: str, num_bytes: int, *, as_stream: bool):
    # httpx sends an iterator in chunks, without Content-Length.
    content = (b" " * 1000 for _ in range(num_bytes // 1000)) if as_stream else b" " * num_bytes
    answer = httpx.post(f"{url}/solve", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_declared_body_is_refused_before_it_is_sent(address: tuple[str, int]):
    head = b"POST /solve HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999999999\r\n\r\n"
    assert _exchange(address, head).startswith(b"HTTP/1.1 413 ")


def test_a_body_at_the_limit_is_read(url: str, task: dict[str, Any], config: ServiceConfig):
    content = httpx.Request("POST", url, json={"task": task}).content
    padded = content + b" " * (config.max_body_bytes - len(content))
    headers = {"Content-Type": "application/json"}
    assert httpx.post(f"{url}/solve", content=padded, headers=headers).status_code == 202
    assert httpx.post(f"{url}/solve", content=padded + b" ", headers=headers).status_code == 413


def test_a_client_that_hangs_up_leaves_nothing(address: tuple[str, int], url: str, task: dict[str, Any]):
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(
            b"POST /solve HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
        )
    with httpx.Client(base_url=url) as client:
        assert client.get("/jobs").json()["items"] == []
        assert client.post("/solve", json={"task": task}).status_code == 202


def _exchange(address: tuple[str, int], request: bytes) -> bytes:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))
