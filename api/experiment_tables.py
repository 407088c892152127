"""An experiment's report as a table: CSV for programs, markdown for people."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from typing import Final

from api.experiment_schemas import ExperimentReport, JobReport, Statistic
from arc_engine.evaluation.metrics import METRICS, TITLES

STATISTICS: Final = ("final_loss", *METRICS, "seconds")
COUNTS: Final = ("num_jobs", "finished", "failed", "diverged", "cancelled")


def as_csv(table: ExperimentReport) -> str:
    """A header line and a line per cell; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    spread = [f"{name}_{part}" for name in STATISTICS for part in ("mean", "std")]
    writer.writerow(["cell", *COUNTS, *spread])
    for cell in table.cells:
        numbers = [getattr(getattr(cell, name), part) for name in STATISTICS for part in ("mean", "std")]
        writer.writerow([cell.name, *(getattr(cell, name) for name in COUNTS), *numbers])
    return text.getvalue()


def jobs_as_csv(jobs: Iterable[JobReport]) -> str:
    """A header line and a line per job; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(JobReport.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(job.model_dump(mode="json") for job in jobs)
    return text.getvalue()


def as_markdown(table: ExperimentReport) -> str:
    """The table for people: scores in percent, mean ± standard deviation over seeds."""
    header = ["cell", "finished", "failed", "diverged", "final loss", *TITLES.values(), "s per job"]
    lines = [
        f"# {table.name}",
        "",
        _caption(table),
        "",
        f"| {' | '.join(header)} |",
        f"|---|{'---:|' * (len(header) - 1)}",
    ]
    for cell in table.cells:
        row = [
            cell.name,
            f"{cell.finished}/{cell.num_jobs}",
            str(cell.failed),
            str(cell.diverged),
            _shown(cell.final_loss, "{:.3f}"),
            *(_shown(getattr(cell, name), "{:.1f}", scale=100) for name in METRICS),
            _shown(cell.seconds, "{:.1f}"),
        ]
        lines.append(f"| {' | '.join(row)} |")
    if table.failures:
        codes = Counter((failure.cell, failure.code) for failure in table.failures)
        lines += ["", "Failed jobs, counted as wrong:", ""]
        lines += [f"- {cell}: {num_jobs} `{code}`" for (cell, code), num_jobs in codes.items()]
    return "\n".join(lines) + "\n"


def _caption(table: ExperimentReport) -> str:
    seeds = ", ".join(map(str, table.seeds))
    spread = "mean ± standard deviation over seeds" if len(table.seeds) > 1 else "one seed"
    unfinished = "" if table.finished else " Not finished yet."
    return f"{table.num_tasks} tasks, seeds {seeds}; scores in %, {spread}.{unfinished}"


def _shown(statistic: Statistic, form: str, *, scale: float = 1.0) -> str:
    if statistic.mean is None:
        return ""
    mean_shown = form.format(statistic.mean * scale)
    return mean_shown if statistic.std is None else f"{mean_shown} ± {form.format(statistic.std * scale)}"
