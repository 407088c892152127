"""Live progress of jobs: a table that renews itself in a terminal, a line per change elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from arcadapt.cli.output import seconds, status_text
from arcadapt.following import JobSight
from jobs.states import Phase, Status

LINE_EVERY_S: Final = 10.0
"""Without a terminal, how often a training job is worth a line."""
MOST_ROWS: Final = 20


class LiveJobs:
    """Shows sights of jobs as they come in. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._last_phase: dict[str, Phase] = {}
        self._last_line_at = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, sights: Sequence[JobSight]) -> None:
        """Shows where the jobs are now."""
        if self._live is not None:
            self._live.update(_table(sights))
            return
        due = time.monotonic() - self._last_line_at > LINE_EVERY_S
        for sight in sights:
            changed = self._last_phase.get(str(sight.job.id)) != sight.job.phase
            if changed or (due and sight.loss is not None):
                self._last_phase[str(sight.job.id)] = sight.job.phase
                self._last_line_at = time.monotonic()
                self._console.print(_line(sight), soft_wrap=True)


def _table(sights: Sequence[JobSight]) -> Table:
    table = Table("task", "state", "", "step", "loss", "eta", box=None, header_style="bold", pad_edge=False)
    shown = [sight for sight in sights if sight.job.status is not Status.QUEUED or len(sights) <= MOST_ROWS][
        -MOST_ROWS:
    ]
    for sight in shown:
        progress = sight.job.progress
        bar = ProgressBar(total=progress.max_steps or 1, completed=progress.step, width=24)
        table.add_row(
            sight.label,
            status_text(sight.job.status, sight.job.phase),
            bar if progress.max_steps else "",
            f"{progress.step}/{progress.max_steps}" if progress.max_steps else "",
            "" if sight.loss is None else f"{sight.loss:.4f}",
            seconds(progress.eta_s) if sight.job.status is Status.RUNNING else "",
        )
    if len(shown) < len(sights):
        table.add_row(Text(f"and {len(sights) - len(shown)} more", style="dim"))
    return table


def _line(sight: JobSight) -> str:
    progress = sight.job.progress
    parts = [f"{sight.label}: {sight.job.phase.value}"]
    if sight.loss is not None:
        parts.append(f"step {progress.step}/{progress.max_steps}, loss {sight.loss:.4f}")
        parts += [f"eta {seconds(progress.eta_s)}"] if progress.eta_s is not None else []
    if sight.job.error is not None:
        parts.append(f"{sight.job.error.code}: {sight.job.error.message}")
    return ", ".join(parts)
