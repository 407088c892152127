"""Live progress of an experiment: a table of its cells that renews itself in a terminal, else a line now and then."""

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api.experiment_schemas import CellDetail, ExperimentDetail
from jobs.states import FINISHED, Status

LINE_EVERY_S: Final = 30.0
"""Without a terminal, how often progress is worth a line."""


class LiveCells:
    """Shows an experiment as it is looked at. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None
        self._last_line_at = -LINE_EVERY_S

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, experiment: ExperimentDetail) -> None:
        """Shows how far the experiment is."""
        if self._live is not None:
            self._live.update(_table(experiment, height=self._console.height))
        elif experiment.finished or time.monotonic() - self._last_line_at >= LINE_EVERY_S:
            self._last_line_at = time.monotonic()
            self._console.print(_line(experiment), soft_wrap=True)


def _table(experiment: ExperimentDetail, *, height: int) -> Table:
    table = Table("cell", "", "finished", "running", "failed", box=None, header_style="bold", pad_edge=False)
    room = max(1, height - 4)
    # What is finished, then what is not, scrolls away when there is no room for all.
    waiting = [cell for cell in experiment.cells if _finished(cell) < _jobs(cell)]
    shown = experiment.cells if len(experiment.cells) <= room else (waiting or experiment.cells)[:room]
    for cell in shown:
        bar = ProgressBar(total=_jobs(cell), completed=_finished(cell), width=24)
        failed = Text(str(cell.counts[Status.FAILED] or ""), style="red")
        running = str(cell.counts[Status.RUNNING] or "")
        table.add_row(cell.name, bar, f"{_finished(cell)}/{_jobs(cell)}", running, failed)
    if len(shown) < len(experiment.cells):
        table.add_row(Text(f"and {len(experiment.cells) - len(shown)} more", style="dim"))
    return table


def _line(experiment: ExperimentDetail) -> str:
    finished = sum(_finished(cell) for cell in experiment.cells)
    parts = [f"{finished} of {sum(experiment.counts.values())} jobs finished"]
    if experiment.counts[Status.FAILED]:
        parts.append(f"{experiment.counts[Status.FAILED]} failed")
    running = [cell.name for cell in experiment.cells if cell.counts[Status.RUNNING]]
    if running:
        parts.append(f"running: {', '.join(running)}")
    return "; ".join(parts)


def _finished(cell: CellDetail) -> int:
    return sum(cell.counts[status] for status in FINISHED)


def _jobs(cell: CellDetail) -> int:
    return sum(cell.counts.values())
