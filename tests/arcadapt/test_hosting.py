"""Which server a command works on. Starting a stack of its own is tested with `arcadapt evaluate` as a whole."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from arcadapt.errors import Interrupted, ServerUnreachable
from arcadapt.hosting import hosted
from arcadapt.stack.folder import RunningStack, StackFolder

Hosted = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackFolder:
    monkeypatch.delenv("ARCADAPT_URL", raising=False)
    folder = StackFolder.of(tmp_path)
    folder.create()
    return folder


@pytest.fixture
def host_of(folder: StackFolder) -> Hosted:
    """The URL of the server that a command with these options would work on; starts none."""

    def host_of(url: str | None = None) -> str:
        never = threading.Event()
        with hosted(folder, url=url, api_key=None, stopping=never, say=pytest.fail) as host:
            host.look_after()
            return host.client.base_url

    return host_of


def announce(folder: StackFolder, url: str) -> None:
    folder.announce(RunningStack(url=url, database_url="", pid=1))


def test_the_option_goes_before_the_environment_and_that_before_the_folder(
    host_of: Hosted, folder: StackFolder, server_url: str, monkeypatch: pytest.MonkeyPatch, closed_port: int
):
    nowhere = f"http://127.0.0.1:{closed_port}"
    announce(folder, server_url)
    assert host_of() == server_url
    monkeypatch.setenv("ARCADAPT_URL", nowhere)
    with pytest.raises(ServerUnreachable):
        host_of()
    assert host_of(server_url) == server_url
    monkeypatch.setenv("ARCADAPT_URL", server_url)
    with pytest.raises(ServerUnreachable):
        host_of(nowhere)


def test_waiting_ends_when_somebody_wants_it_to(folder: StackFolder, server_url: str):
    stopping = threading.Event()
    with hosted(folder, url=server_url, api_key=None, stopping=stopping, say=pytest.fail) as host:
        host.look_after()
        stopping.set()
        with pytest.raises(Interrupted):
            host.look_after()


def test_a_stack_that_is_gone_is_not_taken_for_one_that_runs(folder: StackFolder, closed_port: int):
    # Interrupted at once, so that the start of the command's own stack, which is what follows, costs nothing.
    announce(folder, f"http://127.0.0.1:{closed_port}")
    stopping, said = threading.Event(), list[str]()
    stopping.set()
    with (
        pytest.raises(Interrupted, match="while starting"),
        hosted(folder, url=None, api_key=None, stopping=stopping, say=said.append),
    ):
        pytest.fail("there is no server")
    assert said == ["starting the stack in .arcadapt/"]
