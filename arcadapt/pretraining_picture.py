"""The log of a pretraining run as a picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

WIDTH_IN: Final = 9.0
HEIGHT_IN: Final = 7.0
DPI: Final = 130
SMOOTHED: Final = 0.9
"""Of the loss that is drawn, the share that is that of the point before."""
EXACT: Final = {
    "synthetic_exact": "fresh synthetic tasks",
    "unseen_exact": "unseen families",
    "arc_exact": "ARC training tasks, held out",
}


def draw_run(log: Path, path: Path) -> None:
    """Writes a PNG: the loss and the learning rate by step, and below them the shares of held-out tasks answered."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = [record for record in records if record["kind"] == "step"]
    validations = [record for record in records if record["kind"] == "validation"]
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    numbers = [record["step"] for record in steps]
    upper.plot(numbers, _smooth([record["loss"] for record in steps]), linewidth=1.3, label="loss, smoothed")
    upper.plot(numbers, [record["learning_rate_factor"] for record in steps], ":", label="learning rate / its peak")
    upper.set_ylim(bottom=0)
    upper.set_ylabel("nats per token")
    for name, label in EXACT.items():
        lower.plot(*_shares(validations, name), ".-", label=label)
    lower.set_ylim(0, 1)
    lower.set_ylabel("answered exactly, greedy, one view")
    lower.set_xlabel("step")
    for axes in (upper, lower):
        axes.grid(visible=True, alpha=0.2)
        axes.legend(frameon=False)
    figure.savefig(path)


def _smooth(values: Sequence[float]) -> list[float]:
    found: list[float] = []
    for value in values:
        found.append(SMOOTHED * found[-1] + (1 - SMOOTHED) * value if found else value)
    return found


def _shares(validations: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    known = [record for record in validations if name in record]
    return [record["step"] for record in known], [record[name] for record in known]
