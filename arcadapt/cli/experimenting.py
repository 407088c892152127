"""`arcadapt experiment`: what is shown while an experiment runs and after it."""

import os
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from api.experiment_schemas import CellReport, ExperimentDetail, ExperimentReport, Statistic
from arc_engine.evaluation.metrics import TITLES
from arcadapt.cli.connecting import connect
from arcadapt.cli.exits import Exit
from arcadapt.cli.live_cells import LiveCells
from arcadapt.cli.output import print_json, progress, results
from arcadapt.cli.running import quiet_logs, stop_signals, teller
from arcadapt.errors import Interrupted
from arcadapt.experiments import RESULTS, follow, read_experiment, start, went_well, write_results
from arcadapt.hosting import Host, hosted
from arcadapt.stack.folder import StackFolder
from arcadapt.stack.stack import StackOptions

MOST_COLUMNS: Final = 1000
SCORES: Final = ("pass_at_2", "vote_2", "pass_n", "accuracy")
"""The metrics that there is room for."""


def submit_only(file: Path, *, retry_failed: bool, as_json: bool, url: str | None, api_key: str | None) -> None:
    """Submits the experiment to a server that runs already, and leaves it there."""
    document = read_experiment(file)
    with connect(url, api_key) as client:
        experiment = start(client, document, retry_failed=retry_failed)
    if as_json:
        print_json(experiment)
    else:
        results().print(f"experiment {experiment.id}: {_size(experiment)}", soft_wrap=True)


def run(
    file: Path,
    out: Path | None,
    *,
    retry_failed: bool,
    num_workers: int,
    as_json: bool,
    url: str | None,
    api_key: str | None,
) -> None:
    """Runs the experiment to its end and writes its results. Exits with 1 where jobs failed other than by diverging."""
    quiet_logs()
    document = read_experiment(file)
    folder = out or file.parent / RESULTS
    console = progress()
    with stop_signals() as stopping:
        here = StackFolder.of(Path.cwd())
        options = StackOptions(num_workers=num_workers)
        with hosted(here, url=url, api_key=api_key, stopping=stopping, say=teller(console), options=options) as host:
            report = _run(host, document, folder, retry_failed=retry_failed, console=console)
    if as_json:
        print_json(report)
    else:
        _print_whole(_table(report))
        results().print(f"\nresults: {os.path.relpath(folder)}", soft_wrap=True)
    for failure in report.failures:
        where = f", {failure.cell}, seed {failure.seed}: {failure.code}: {failure.message}"
        console.print(Text.assemble((failure.task_id, "red"), where), soft_wrap=True)
    if not went_well(report):
        raise typer.Exit(Exit.FAILED)


def _run(
    host: Host, document: dict[str, Any], folder: Path, *, retry_failed: bool, console: Console
) -> ExperimentReport:
    experiment = start(host.client, document, retry_failed=retry_failed)
    console.print(f"experiment {experiment.id}: {_size(experiment)}", soft_wrap=True)
    try:
        _watch(host, experiment.id, console)
    except Interrupted:
        console.print("interrupted; the same command goes on with what is missing")
        raise
    return write_results(host.client, experiment.id, folder)


def _watch(host: Host, experiment_id: UUID, console: Console) -> None:
    with LiveCells(console) as live:

        def show(experiment: ExperimentDetail) -> None:
            host.look_after()
            live.show(experiment)

        follow(host.client, experiment_id, show=show)


def _size(experiment: ExperimentDetail) -> str:
    return (
        f"{experiment.num_cells} cells, {len(experiment.seeds)} seeds, {experiment.num_tasks} tasks: "
        f"{sum(experiment.counts.values())} jobs"
    )


def _table(report: ExperimentReport) -> Table:
    table = Table("cell", "failed", "final loss", *(TITLES[score] for score in SCORES), "s per job")
    table.box, table.pad_edge, table.header_style = None, False, "bold"
    for cell in report.cells:
        table.add_row(
            cell.name,
            _failures(cell),
            _shown(cell.final_loss, digits=3),
            *(_shown(getattr(cell, score), digits=1, scale=100) for score in SCORES),
            _shown(cell.seconds, digits=1),
        )
    return table


def _print_whole(table: Table) -> None:
    """Prints the table as wide as it is: numbers that are broken over lines cannot be compared."""
    console = results()
    width = Measurement.get(console, console.options.update(max_width=MOST_COLUMNS), table).maximum
    console.print(table, width=max(width, console.width), crop=False, no_wrap=True)


def _failures(cell: CellReport) -> str:
    if not cell.failed:
        return ""
    return f"{cell.failed} ({cell.diverged} diverged)" if cell.diverged else str(cell.failed)


def _shown(statistic: Statistic, *, digits: int, scale: float = 1.0) -> str:
    if statistic.mean is None:
        return ""
    mean = f"{statistic.mean * scale:.{digits}f}"
    return mean if statistic.std is None else f"{mean} ± {statistic.std * scale:.{digits}f}"
