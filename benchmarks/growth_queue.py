"""What a job costs while more and more of them are queued."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import UUID

from arc_engine.datasets.sources import TaskJson
from benchmarks.growth_desk import Desk, Stopwatch
from benchmarks.growth_rows import finish_jobs
from benchmarks.growth_servers import Database, Servers

LENGTHS: Final = (1, 10, 100, 1000, 10_000)
MIN_JOBS: Final = 50
"""So many jobs are measured at least: a short queue is filled and worked off again and again."""
WARM_UP_JOBS: Final = 10
NUM_LOOKS: Final = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What is queued: requests for all of `tasks`, or for some of them where fewer are left to queue."""

    tasks: Mapping[str, TaskJson]
    num_steps: int
    sample: int
    """Most jobs that are worked off one by one, at either end of the queue."""

    def requests(self, num_jobs: int) -> Iterator[dict[str, Any]]:
        """Bodies of `POST /solve` that make so many jobs between them."""
        names = list(self.tasks)
        for first in range(0, num_jobs, len(names)):
            chosen = names[: num_jobs - first]
            yield {
                "tasks": {name: self.tasks[name] for name in chosen},
                "settings": {"adaptation": {"max_steps": self.num_steps}},
            }


@dataclass(slots=True)
class Account:
    """What some jobs have cost."""

    num_jobs: int = 0
    database_s: float = 0.0
    watch: Stopwatch = field(default_factory=Stopwatch)

    def ms(self, seconds: float) -> float:
        """Per job."""
        return 1000 * seconds / self.num_jobs


def measure_queues(servers: Servers, plan: Plan, *, lengths: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """For each length what a job costs at the front of the queue; and where not all jobs are worked off one by one,
    what the last ones cost, all others being over."""
    rows: list[dict[str, Any]] = []
    for length in lengths:
        with (
            servers.database(f"queue_{length}") as database,
            Desk(database.url, servers.broker_url, folder=folder) as desk,
        ):
            for row in _Queue(database, desk, plan).measure(length):
                counts = f"{row['queued']} queued, {row['finished']} finished"
                print(f"{counts}: {row['ms']} ms a job, the database's {row['database_ms']} ms", flush=True)
                rows.append(row)
    return rows


class _Queue:
    """The queue of one database."""

    def __init__(self, database: Database, desk: Desk, plan: Plan) -> None:
        self._database = database
        self._desk = desk
        self._plan = plan

    def measure(self, length: int) -> Iterator[dict[str, Any]]:
        """One row, or two."""
        self._submit(Account(), WARM_UP_JOBS)
        self._work_off(Account(), WARM_UP_JOBS)
        submission, work = Account(), Account()
        sample = min(length, self._plan.sample)
        for _ in range(-(-MIN_JOBS // length)):
            self._submit(submission, length)
            self._work_off(work, sample)
        yield self._row(submission, work, queued=length, finished=0)
        finished = length - sample
        if not finished:
            return
        last = min(sample, finished)
        finish_jobs(self._database.url, num_jobs=finished - last, seconds_apart=0.01)
        self._database.tidy()
        work = Account()
        self._work_off(work, last)
        yield self._row(submission, work, queued=last, finished=length - last)

    def _submit(self, account: Account, num_jobs: int) -> None:
        with self._charged(account, num_jobs):
            for body in self._plan.requests(num_jobs):
                with account.watch.on("submission"):
                    self._desk.submit(body)

    def _work_off(self, account: Account, num_jobs: int) -> None:
        with self._charged(account, num_jobs):
            for _ in range(num_jobs):
                self._desk.live(account.watch)

    @contextmanager
    def _charged(self, account: Account, num_jobs: int) -> Iterator[None]:
        before = self._spent_s()
        yield
        account.database_s += self._spent_s() - before
        account.num_jobs += num_jobs

    def _spent_s(self) -> float:
        self._desk.settle()
        return self._database.active_s()

    def _row(self, submission: Account, work: Account, *, queued: int, finished: int) -> dict[str, Any]:
        """Milliseconds per job; `stages` are what `ms` is the sum of."""
        stages = {
            name: account.ms(seconds)
            for account in (submission, work)
            for name, seconds in account.watch.seconds.items()
        }
        odd_one = self._queue_odd_one()
        unheard = [1000 * self._desk.look_for_unheard_s() for _ in range(NUM_LOOKS)]
        company = [1000 * self._desk.look_for_company_s(odd_one) for _ in range(NUM_LOOKS)]
        self._desk.submit({}, route=f"/jobs/{odd_one}/cancel")
        return {
            "queued": queued,
            "finished": finished,
            "measured": work.num_jobs,
            "ms": round(sum(stages.values()), 2),
            "database_ms": round(submission.ms(submission.database_s) + work.ms(work.database_s), 2),
            "submission_database_ms": round(submission.ms(submission.database_s), 2),
            "unheard_ms": round(median(unheard), 2),
            "company_ms": round(median(company), 2),
            "stages": {name: round(ms, 2) for name, ms in stages.items()},
        }

    def _queue_odd_one(self) -> UUID:
        """A job that cannot be trained beside the others."""
        task_id, task = next(iter(self._plan.tasks.items()))
        settings = {"adaptation": {"max_steps": self._plan.num_steps, "precision": "bfloat16"}}
        return UUID(self._desk.submit({"tasks": {task_id: task}, "settings": settings})["jobs"][0]["id"])
