"""How long a task of middling length takes that has the whole processor to itself.

    python -m benchmarks.quality_median

`benchmarks.quality` measures tasks beside each other, one thread each, where the same job takes longer. Here the
evaluation tasks of ARC-AGI-1 in the middle of the order of length are asked one after the other by the same settings,
with as many threads as torch takes. Nothing else may run. Writes `benchmarks/results/quality-median.json`.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.machine import machine, versions
from benchmarks.quality import WHOLE, planned_tasks, quality_arguments
from benchmarks.quality_task import WAYS, Asked, Record, measure
from benchmarks.results import QUALITY_MEDIAN, write

NUM_TASKS: Final = 11


def main() -> None:
    """Measures and writes."""
    arguments = _arguments()
    asked = list(planned_tasks(quality_arguments(["--datasets", WHOLE])))
    with TemporaryDirectory() as folder:
        records = [measure(one, folder=Path(folder)) for one in middle(asked, num_tasks=arguments.tasks)]
    rows = [_row(record) for record in records]
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.quality_median", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "figures": figures(rows),
        "rows": rows,
    }
    write(document, arguments.out)


def middle(asked: Sequence[Asked], *, num_tasks: int) -> Sequence[Asked]:
    """So many around the median, of an order from the shortest to the longest."""
    begin = max(0, (len(asked) - num_tasks) // 2)
    return asked[begin : begin + num_tasks]


def figures(rows: Sequence[Record]) -> dict[str, Any]:
    """The median and the longest, in seconds."""
    adapted = [row["adapted_s"] for row in rows]
    return {
        "num_tasks": len(rows),
        "median_task_s": median(adapted),
        "longest_task_s": max(adapted),
        "median_adapt_s": median(row["adapt_s"] for row in rows),
        "median_base_s": median(row["base_s"] for row in rows),
    }


def _row(record: Record) -> Record:
    base, adapted = (record[way] for way in WAYS)
    return {
        "task_id": record["task_id"],
        "base_s": base["seconds"],
        "adapt_s": adapted["adapt_s"],
        "adapted_s": adapted["seconds"],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=NUM_TASKS, help="around the median")
    parser.add_argument("--out", type=Path, default=QUALITY_MEDIAN)
    return parser.parse_args()


if __name__ == "__main__":
    main()
