"""Cells of the experiment compared task by task: `python docs/studies/decoupling/compare.py`, after it has run.

Seeds of a task are averaged, because tasks differ much more than seeds do; the interval is a bootstrap over tasks. It
says how certain a difference is on tasks like these, which the spread over seeds in the report does not.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESULTS: Final = Path(__file__).parent / "results"
NUM_RESAMPLES: Final = 10_000
BASELINE: Final = "continue r32 learning_rate=0.002"
PAIRS: Final = (
    # Can a new LoRA match the continued one?
    ("new r1 learning_rate=0.008", BASELINE),
    ("new r8 learning_rate=0.002", BASELINE),
    ("new r32 learning_rate=0.002", BASELINE),
    ("new r128 learning_rate=0.002", BASELINE),
    ("new r32 learning_rate=0.0005", "continue r32 learning_rate=0.0005"),
    # What do pissa and olora bring?
    ("pissa r32 learning_rate=0.0005", "new r32 learning_rate=0.0005"),
    ("olora r32 learning_rate=0.0005", "new r32 learning_rate=0.0005"),
    ("pissa r32 learning_rate=0.002", "new r32 learning_rate=0.002"),
    ("olora r32 learning_rate=0.002", "new r32 learning_rate=0.002"),
    # Does a common warm-up help?
    ("warm r32 learning_rate=0.0005", "new r32 learning_rate=0.0005"),
    ("warm r32 learning_rate=0.002", "new r32 learning_rate=0.002"),
)


def main() -> None:
    """Writes comparisons.md."""
    with (RESULTS / "jobs.csv").open(newline="", encoding="utf-8") as file:
        scores = by_task(list(csv.DictReader(file)))
    lines = ["| cell | against | difference in pass@2, points | 95% interval |", "|---|---|---:|---:|"]
    for cell, other in PAIRS:
        difference, low, high = (round(number, 1) + 0.0 for number in compared(scores[cell], scores[other]))  # no -0.0
        lines.append(f"| {cell} | {other} | {difference:+.1f} | {low:+.1f} to {high:+.1f} |")
    text = "\n".join(lines) + "\n"
    (RESULTS / "comparisons.md").write_text(text, encoding="utf-8")
    print(text, end="")


def by_task(jobs: Sequence[dict[str, str]]) -> dict[str, dict[str, float]]:
    """Mean pass@2 in percent of every task, over seeds, by cell."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for job in jobs:
        found[job["cell"]][job["task_id"]].append(100 * float(job["pass_at_2"]))
    return {cell: {task: fmean(seeds) for task, seeds in tasks.items()} for cell, tasks in found.items()}


def compared(scores: dict[str, float], others: dict[str, float]) -> tuple[float, float, float]:
    """The mean difference over tasks, and the ends of its 95% bootstrap interval."""
    differences: NDArray[np.float64] = np.array([scores[task] - others[task] for task in sorted(scores)])
    drawn = np.random.default_rng(0).integers(len(differences), size=(NUM_RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


if __name__ == "__main__":
    main()
