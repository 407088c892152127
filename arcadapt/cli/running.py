"""`arcadapt up`: runs the stack until somebody wants it to stop."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import structlog
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arcadapt.cli.output import progress
from arcadapt.stack.folder import StackFolder
from arcadapt.stack.stack import Say, Stack, StackOptions

TEND_EVERY_S: Final = 0.5
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_interrupted(*, host: str, port: int | None, num_workers: int) -> None:
    """Starts the stack in the working directory, looks after it, and stops it on Ctrl-C or SIGTERM."""
    console = progress()
    quiet_logs()
    with stop_signals() as stopping:
        console.print("starting the stack in .arcadapt/")
        options = StackOptions(host=host, port=port, num_workers=num_workers)
        with Stack(StackFolder.of(Path.cwd()), options=options, stopping=stopping, say=teller(console)) as stack:
            console.print(parts(stack))
            up = Text("\narcadapt is up", style="bold green")
            console.print(up, f"at {stack.running.url}  (documentation at /docs)")
            console.print("Ctrl-C stops it; jobs and adapters are kept.")
            while not stopping.wait(TEND_EVERY_S):
                stack.tend()
            console.print("stopping")
        console.print("stopped")


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and a closing terminal set, instead of breaking into whatever is running.

    A second Ctrl-C while the stack stops changes nothing: every step of stopping has a time limit.
    """
    stopping = threading.Event()

    def stop(_sign: int, _frame: FrameType | None) -> None:
        stopping.set()

    before = {sign: signal.signal(sign, stop) for sign in SIGNALS}
    try:
        yield stopping
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def parts(stack: Stack) -> Table:
    """The stack's children as a table."""
    table = Table("part", "pid", "log", box=None, header_style="bold", pad_edge=False)
    for child in stack.children:
        log = child.spec.log.relative_to(stack.folder.root.parent)
        table.add_row(child.spec.name, str(child.pid or ""), str(log))
    return table


def quiet_logs() -> None:
    """The service's own log lines belong into the children's files; here only warnings are worth a line."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def teller(console: Console) -> Say:
    """Prints the stack's messages as they are."""
    return lambda line: console.print(line, soft_wrap=True)
