"""An evaluation on paper: `report.json`, `report.csv`, `report.md`, and pictures of every answer."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from arc_engine.evaluation.calibration import Reliability
from arc_engine.evaluation.metrics import METRICS, TITLES, Metrics
from arcadapt.errors import ArcadaptError
from arcadapt.evaluation import Evaluation, TaskResult
from arcadapt.evaluation_picture import write_pictures

DECIMALS: Final = 6
"""Enough to tell shares of thousands of pixels apart; the digits behind are floating point noise."""


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Writes all forms of the report into the folder, which is made if need be; returns the files."""
    texts = {
        "report.json": json.dumps(as_document(evaluation), indent=2) + "\n",
        "report.csv": as_csv(evaluation),
        "report.md": as_markdown(evaluation),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text)
        return [*(folder / name for name in texts), *write_pictures(evaluation, folder)]
    except OSError as error:
        raise ArcadaptError(f"{folder}: {error.strerror or error}") from error


def as_document(evaluation: Evaluation) -> dict[str, Any]:
    """The report as plain values, ready for JSON."""
    return {
        "name": evaluation.name,
        "batch_id": str(evaluation.batch_id),
        "num_tasks": len(evaluation.tasks),
        "num_failed": len(evaluation.failed),
        "metrics": _rounded(evaluation.metrics),
        "reliability": _reliability(evaluation.reliability),
        "tasks": [_task(task) for task in evaluation.tasks],
        "settings": evaluation.settings,
    }


def as_csv(evaluation: Evaluation) -> str:
    """One line per task."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("task", "status", "error", *METRICS, "last_loss", "adapt_s", "sample_s"))
    for task in evaluation.tasks:
        row = _task(task)
        error = task.error.code if task.error else ""
        measured = (row["metrics"][name] for name in METRICS)
        writer.writerow(
            (task.task_id, task.status.value, error, *measured, row["last_loss"], task.adapt_s, task.sample_s)
        )
    return text.getvalue()


def as_markdown(evaluation: Evaluation) -> str:
    """The means, the tasks, how reliable confidences are, what failed, and the settings."""
    failed = len(evaluation.failed)
    lines = [
        f"# {evaluation.name}",
        "",
        f"{len(evaluation.tasks)} tasks, {failed} without an answer (counted as wrong).",
        "",
        *_table(tuple(TITLES.values()), [_shares(evaluation.metrics)]),
        "",
        "## Tasks",
        "",
        *_table(
            ("task", "status", *TITLES.values(), "last loss", "seconds"),
            (
                (task.task_id, task.status.value, *_shares(task.metrics), _number(task.last_loss), seconds(task))
                for task in evaluation.tasks
            ),
        ),
    ]
    if evaluation.reliability.num_forecasts:
        lines += ["", "## Confidence", "", *_confidence(evaluation.reliability)]
    if failed:
        lines += ["", "## Without an answer", ""]
        lines += [f"- {task.task_id}: {why(task)}" for task in evaluation.failed]
    lines += ["", "## Settings", "", "```json", json.dumps(evaluation.settings, indent=2), "```", ""]
    return "\n".join(lines)


def why(task: TaskResult) -> str:
    """Why a task has no answer."""
    return task.status.value if task.error is None else f"{task.error.code}: {task.error.message}"


def seconds(task: TaskResult) -> str:
    """Seconds of adapting and sampling together."""
    return _number((task.adapt_s or 0) + (task.sample_s or 0), decimals=1)


def _task(task: TaskResult) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "job_id": str(task.job_id),
        "status": task.status.value,
        "error": None if task.error is None else task.error.model_dump(),
        "metrics": _rounded(task.metrics),
        "last_loss": None if task.last_loss is None else round(task.last_loss, DECIMALS),
        "adapt_s": task.adapt_s,
        "sample_s": task.sample_s,
        "tests": [
            {
                "attempt_1": test.attempts[0],
                "attempt_2": test.attempts[1],
                "confidences": test.confidences,
                "truth": test.truth,
                "metrics": _rounded(test.metrics),
            }
            for test in task.tests
        ],
    }


def _reliability(reliability: Reliability) -> dict[str, Any]:
    """Rounded, bins without forecasts included."""
    document = asdict(reliability)
    for part in (document, *document["bins"]):
        part.update({name: round(value, DECIMALS) for name, value in part.items() if isinstance(value, float)})
    return document


def _confidence(reliability: Reliability) -> list[str]:
    error, brier = _number(reliability.expected_calibration_error), _number(reliability.brier_score)
    summary = (
        f"{reliability.num_forecasts} attempts. Expected calibration error {error}, Brier score {brier}; 0 is best."
    )
    rows = (
        (
            f"{one.low:.0%} to {one.high:.0%}",
            str(one.count),
            f"{one.mean_confidence or 0:.1%}",
            f"{one.share_right or 0:.1%}",
        )
        for one in reliability.bins
        if one.count
    )
    return [summary, "", *_table(("confidence", "attempts", "mean", "right"), rows)]


def _rounded(metrics: Metrics) -> dict[str, float]:
    return {name: round(value, DECIMALS) for name, value in asdict(metrics).items()}


def _shares(metrics: Metrics) -> tuple[str, ...]:
    return tuple(f"{value:.1%}" for value in asdict(metrics).values())


def _number(value: float | None, *, decimals: int = 4) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(header), _row(["---"] * len(header)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
