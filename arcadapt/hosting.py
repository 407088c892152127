"""A server for the time of one command: the one that is named or runs here, else a local stack of the command's own."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from arcadapt.client import Client
from arcadapt.errors import Interrupted, ServerUnreachable, StackError, UnexpectedAnswer
from arcadapt.stack.folder import StackFolder
from arcadapt.stack.stack import Say, Stack, StackOptions
from jobs.config import parse_api_keys


@dataclass(frozen=True, slots=True)
class Host:
    """A client of a server that answers, and what keeps that server going."""

    client: Client
    look_after: Callable[[], None]
    """To be called every second or so while waiting. Raises `Interrupted` once somebody wants the command to stop, and
    `StackError` when the command's own stack cannot go on."""


@contextmanager
def hosted(
    folder: StackFolder,
    *,
    url: str | None,
    api_key: str | None,
    stopping: threading.Event,
    say: Say,
    options: StackOptions | None = None,
) -> Iterator[Host]:
    """The server under `url` or $ARCADAPT_URL, or the stack that runs in the folder, or one that is started there.

    What is started is stopped on the way out; its state is kept. `stopping` is set by signal handlers. Raises
    `ServerUnreachable` if a server was named and does not answer, and what starting a stack raises.
    """
    server = url or os.environ.get("ARCADAPT_URL") or _running_in(folder)
    if server is not None:
        with Client(server, api_key=api_key) as client:
            client.ready()
            yield Host(client, lambda: _heed(stopping))
    else:
        with own_stack(folder, api_key=api_key, options=options or StackOptions(), stopping=stopping, say=say) as host:
            yield host


@contextmanager
def own_stack(
    folder: StackFolder, *, api_key: str | None, options: StackOptions, stopping: threading.Event, say: Say
) -> Iterator[Host]:
    """A local stack for the time of the block. Raises `AlreadyRunning` where another process runs it, `StackError`."""
    say("starting the stack in .arcadapt/")
    key = api_key or next(iter(parse_api_keys(os.environ.get("ARCADAPT_API_KEYS", ""))), None)
    with (
        Stack(folder, options=options, stopping=stopping, say=say) as stack,
        Client(stack.running.url, api_key=key) as client,
    ):
        say(f"the stack is up at {stack.running.url}; logs are in .arcadapt/logs/")

        def look_after() -> None:
            _heed(stopping)
            stack.tend()
            hopeless = stack.hopeless()
            if hopeless is not None:
                raise StackError(f"{hopeless.spec.name} dies again and again:\n{hopeless.log_tail()}")

        yield Host(client, look_after)
        say("stopping the stack")


def _heed(stopping: threading.Event) -> None:
    if stopping.is_set():
        raise Interrupted("interrupted")


def _running_in(folder: StackFolder) -> str | None:
    running = folder.announced()
    if running is None:
        return None
    with Client(running.url) as client:
        try:
            client.ready()
        except (ServerUnreachable, UnexpectedAnswer):
            # A stack that was killed leaves its announcement behind, and its port may have gone to something else.
            return None
    return running.url
