"""`arcadapt evaluate`: what is shown while the evaluation runs and after it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from arc_engine.datasets.sources import TaskJson
from arc_engine.evaluation.metrics import TITLES, Metrics
from arcadapt.cli.exits import Exit
from arcadapt.cli.live import LiveJobs
from arcadapt.cli.output import print_json, progress, results, status_text
from arcadapt.cli.running import quiet_logs, stop_signals, teller
from arcadapt.evaluation import Evaluation, evaluate, require_truth
from arcadapt.evaluation_report import as_document, seconds, why, write_report
from arcadapt.following import JobSight
from arcadapt.hosting import hosted
from arcadapt.stack.folder import StackFolder
from arcadapt.stack.stack import StackOptions


def run(
    tasks: Mapping[str, TaskJson],
    *,
    settings: Mapping[str, Any],
    name: str,
    out: Path | None,
    again: bool,
    timeout_s: float | None,
    num_workers: int,
    as_json: bool,
    url: str | None,
    api_key: str | None,
) -> None:
    """Evaluates, prints or writes the report. Exits with 1 unless every job succeeded."""
    require_truth(tasks)  # before a stack is started for nothing
    quiet_logs()
    console, folder = progress(), StackFolder.of(Path.cwd())
    options = StackOptions(num_workers=num_workers)
    with (
        stop_signals() as stopping,
        hosted(folder, url=url, api_key=api_key, stopping=stopping, say=teller(console), options=options) as host,
        LiveJobs(console) as live,
    ):

        def show(sights: Sequence[JobSight]) -> None:
            host.look_after()
            live.show(sights)

        evaluation = evaluate(
            host.client, tasks, settings=settings, name=name, show=show, again=again, timeout_s=timeout_s
        )
    files = [] if out is None else write_report(evaluation, out)
    if as_json:
        print_json(as_document(evaluation))
    else:
        _present(results(), evaluation, files)
    if evaluation.failed:
        raise typer.Exit(Exit.FAILED)


def _present(console: Console, evaluation: Evaluation, files: Sequence[Path]) -> None:
    table = Table("task", "status", *TITLES.values(), "seconds", box=None, header_style="bold", pad_edge=False)
    for task in evaluation.tasks:
        table.add_row(task.task_id, status_text(task.status, ""), *_shares(task.metrics), seconds(task))
    table.add_section()
    table.add_row("mean", "", *_shares(evaluation.metrics), style="bold")
    console.print(table)
    for task in evaluation.failed:
        console.print(f"{task.task_id} counts as wrong: {why(task)}", style="red", soft_wrap=True)
    if files:
        console.print(f"written: {', '.join(map(str, files))}", soft_wrap=True)


def _shares(metrics: Metrics) -> tuple[str, ...]:
    return tuple(f"{value:.0%}" for value in asdict(metrics).values())
