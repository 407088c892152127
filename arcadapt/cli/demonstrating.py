"""`arcadapt demo`: what is shown while the demo runs and after it."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arc_engine.datasets.sources import Split, TaskJson
from arc_engine.errors import InvalidTaskSource
from arcadapt.cli.exits import Exit
from arcadapt.cli.job_results import draw_answers
from arcadapt.cli.live import LiveJobs
from arcadapt.cli.output import print_json, progress, results, right, status_text
from arcadapt.cli.running import quiet_logs, stop_signals, teller
from arcadapt.demo import REPORT_NAME, DemoResult, TaskReport, choose_tasks, run_demo
from arcadapt.following import JobSight
from arcadapt.hosting import own_stack
from arcadapt.stack.folder import StackFolder
from arcadapt.stack.stack import StackOptions


def demonstrate(*, num_tasks: int, split: str, port: int | None, as_json: bool) -> None:
    """Runs the demo in the working directory. Exits with 1 unless every job succeeded."""
    started_at = time.monotonic()
    quiet_logs()
    console = progress() if as_json else results()
    known = _known_split(split)
    tasks = choose_tasks(known, num_tasks=num_tasks)
    console.print(
        f"The {len(tasks)} tasks of ARC-AGI-1's [bold]{known} split[/] with the shortest prompts, chosen by that rule "
        "alone, each answered with and without adaptation.",
        markup=True,
    )
    folder = StackFolder.of(Path.cwd())
    with stop_signals() as stopping:
        result = _run(folder, tasks, split=known, port=port, console=console, stopping=stopping, started_at=started_at)
    if as_json:
        print_json(asdict(result.report))
    else:
        _present(console, result, tasks, report=folder.root / REPORT_NAME)
    if not result.succeeded:
        raise typer.Exit(Exit.FAILED)


def _known_split(split: str) -> Split:
    for known in get_args(Split):
        if split == known:
            return known  # type: ignore[no-any-return]  # get_args has no types
    raise InvalidTaskSource(f"--split {split}: ARC-AGI-1 has the splits {' and '.join(get_args(Split))}")


def _run(
    folder: StackFolder,
    tasks: Mapping[str, TaskJson],
    *,
    split: Split,
    port: int | None,
    console: Console,
    stopping: threading.Event,
    started_at: float,
) -> DemoResult:
    options = StackOptions(port=port)
    with own_stack(folder, api_key=None, options=options, stopping=stopping, say=teller(console)) as host:
        with LiveJobs(console) as live:

            def show(sights: Sequence[JobSight]) -> None:
                host.look_after()
                live.show(sights)

            result = run_demo(host.client, tasks, split=split, show=show, started_at=started_at)
        result.report.write(folder.root / REPORT_NAME)
    return result


def _present(console: Console, result: DemoResult, tasks: Mapping[str, TaskJson], *, report: Path) -> None:
    for job in result.jobs:
        draw_answers(console, job, tasks[job.task_id])
    console.print()
    console.print(_table(result.report.tasks))
    solved = sum(task.solved is True for task in result.report.tasks)
    without = sum(task.solved_without_adaptation is True for task in result.report.tasks)
    console.print(
        f"\n{without} of {len(result.report.tasks)} right without adaptation, {solved} with it; "
        f"{result.report.total_s:.0f} s in all. Report: {os.path.relpath(report)}",
        soft_wrap=True,
    )
    for job in result.jobs:
        if job.error is not None:
            failure = Text.assemble((job.task_id, "red"), f" {job.error.code}: {job.error.message}")
            console.print(failure, soft_wrap=True)


def _table(tasks: tuple[TaskReport, ...]) -> Table:
    table = Table(
        "task", "loss first → last", "right without", "right with", "seconds", "status", box=None, pad_edge=False
    )
    for task in tasks:
        falls = task.first_loss is not None and task.last_loss is not None
        table.add_row(
            task.task_id,
            f"{task.first_loss:.3f} → {task.last_loss:.3f}" if falls else "",
            right(task.solved_without_adaptation),
            right(task.solved),
            f"{(task.adapt_s or 0) + (task.sample_s or 0):.1f}",
            status_text(task.status, ""),
        )
    return table
