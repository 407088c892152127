"""What users touch: the Python client, the command line, and the local stack.

>>> from arcadapt import Client
>>> with Client() as client:  # doctest: +SKIP
...     accepted = client.solve(task)
...     for job in client.wait(job.id for job in accepted.jobs):
...         print(job.task_id, job.results)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from arcadapt.client import Client
    from arcadapt.errors import ApiError, ArcadaptError, ServerUnreachable, UnexpectedAnswer, WaitTimedOut

__all__ = ["ApiError", "ArcadaptError", "Client", "ServerUnreachable", "UnexpectedAnswer", "WaitTimedOut"]

_HOME: Final = dict.fromkeys(__all__, "arcadapt.errors") | {"Client": "arcadapt.client"}


def __getattr__(name: str) -> object:
    # Loaded when asked for: the command line lives in this package too, and its --help must not wait for the client.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
