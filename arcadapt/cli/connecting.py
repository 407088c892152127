"""How a command finds its server."""

import os
from pathlib import Path

from arcadapt.client import Client
from arcadapt.connection import DEFAULT_URL
from arcadapt.stack.folder import StackFolder


def connect(url: str | None, api_key: str | None) -> Client:
    """A client for the server that the options, the environment or the folder name."""
    return Client(find_server(url), api_key=api_key)


def find_server(url: str | None) -> str:
    """The server's URL: as given, else of the environment, else of the stack in this folder, else the usual one."""
    chosen = url or os.environ.get("ARCADAPT_URL")
    if chosen:
        return chosen
    running = StackFolder.of(Path.cwd()).announced()
    return DEFAULT_URL if running is None else running.url
